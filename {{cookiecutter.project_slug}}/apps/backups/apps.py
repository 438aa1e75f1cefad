"""Backups that are proven by restoring them."""

from django.apps import AppConfig


class BackupsConfig(AppConfig):
    """Brings the commands `backup_database`, `restore_database` and `verify_backup`."""

    name = "apps.backups"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the checks."""
        from . import checks  # noqa: F401, PLC0415  importing them registers them
