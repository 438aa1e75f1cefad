"""When a database is told which environment it belongs to."""

from django.conf import settings
from django.db import connections

from apps.core.database.environment import mark_environment


def mark_database(using: str, **_: object) -> None:
    """Mark the database that has just been migrated as ENVIRONMENT's, unless it is marked."""
    mark_environment(connections[using], settings.ENVIRONMENT)
