"""What the database is doing, as a page of the admin and a command."""

from django.apps import AppConfig


class InsightConfig(AppConfig):
    """Brings `inspect_database` and the page."""

    name = "apps.insight"
    default_auto_field = "django.db.models.BigAutoField"
