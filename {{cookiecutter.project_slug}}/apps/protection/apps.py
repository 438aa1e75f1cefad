"""What belongs to production is not destroyed by a command typed in the wrong terminal."""

from django.apps import AppConfig, apps
from django.conf import settings
from django.db import connections
from django.db.models.signals import post_migrate

from apps.core.database.environment import mark_environment


class ProtectionConfig(AppConfig):
    """Marks databases after `migrate`, and brings commands that refuse in Django's place; the app has no models."""

    name = "apps.protection"

    def ready(self) -> None:
        """Connect the signal and register the check."""
        from . import checks  # noqa: F401, PLC0415  importing them registers them

        # Django tells each app that has models; one of them is enough, and that of the users is always there.
        users, _, _ = settings.AUTH_USER_MODEL.partition(".")
        post_migrate.connect(mark_database, sender=apps.get_app_config(users))


def mark_database(using: str, **_: object) -> None:
    """Mark the database that has just been migrated as ENVIRONMENT's, unless it is marked."""
    mark_environment(connections[using], settings.ENVIRONMENT)
