"""Who may do what in the database."""

from django.apps import AppConfig


class RolesConfig(AppConfig):
    """Brings the commands `database_roles` and `prepare_database`; the app has no models."""

    name = "apps.roles"
