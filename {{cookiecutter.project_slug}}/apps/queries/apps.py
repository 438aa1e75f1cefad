"""What queries cost, where they come from, and which are repeated."""

from django.apps import AppConfig


class QueriesConfig(AppConfig):
    """Watches every connection."""

    name = "apps.queries"
