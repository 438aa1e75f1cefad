"""The infrastructure of the project: its database and its own pages."""

from django.apps import AppConfig


class CoreConfig(AppConfig):
    """Registers the system checks; the app has no models."""

    name = "apps.core"

    def ready(self) -> None:
        """Register the checks."""
        from . import checks  # noqa: F401, PLC0415  importing them registers them
