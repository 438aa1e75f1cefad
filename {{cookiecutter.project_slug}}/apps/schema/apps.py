"""Changing the schema of a database that others use meanwhile."""

from django.apps import AppConfig


class SchemaConfig(AppConfig):
    """Brings the command `migrate`, which takes Django's place; the app has no models."""

    name = "apps.schema"
