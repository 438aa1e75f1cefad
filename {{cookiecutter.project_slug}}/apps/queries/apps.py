"""What queries cost, where they come from, and which are repeated."""

from django.apps import AppConfig
from django.db.backends.signals import connection_created


class QueriesConfig(AppConfig):
    """Watches every connection; the app has no models."""

    name = "apps.queries"

    def ready(self) -> None:
        """Register the check, and have connections watched from their first query on."""
        from . import checks  # noqa: F401, PLC0415  importing it registers it
        from .observer import attach  # noqa: PLC0415  not before the settings are there

        connection_created.connect(attach)
