"""The infrastructure of the project: its database and its own pages."""

from django.apps import AppConfig


class CoreConfig(AppConfig):
    """Registers the app; it has no models."""

    name = "apps.core"
