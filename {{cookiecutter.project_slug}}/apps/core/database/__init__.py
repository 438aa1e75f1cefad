"""The persistence layer: what the rest of the project may ask about its databases."""

from .connection import release_connections
from .health import (
    DatabaseHealthCheck,
    check_database_connection,
    ensure_database_connection,
    explain,
    get_database_status,
)

__all__ = [
    "DatabaseHealthCheck",
    "check_database_connection",
    "ensure_database_connection",
    "explain",
    "get_database_status",
    "release_connections",
]
