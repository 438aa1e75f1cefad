"""What the database is doing, as a page of the admin and a command."""

from django.apps import AppConfig


class InsightConfig(AppConfig):
    """Brings `inspect_database`, the page, and the checks of what comes to its end slowly."""

    name = "apps.insight"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the checks."""
        from . import checks  # noqa: F401, PLC0415  importing them registers them
