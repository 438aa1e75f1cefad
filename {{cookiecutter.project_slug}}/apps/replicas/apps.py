"""Reads from the standbys that have caught up."""

from django.apps import AppConfig


class ReplicasConfig(AppConfig):
    """Registers the checks; the app has no models."""

    name = "apps.replicas"

    def ready(self) -> None:
        """Register the checks."""
        from . import checks  # noqa: F401, PLC0415  importing it registers them
