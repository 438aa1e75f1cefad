"""A session beside Django's own connection: by another role, to another database, or for a question meanwhile."""

from typing import Any

import psycopg
from django.conf import settings
from django.core.management.base import CommandError
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.rows import TupleRow

Session = psycopg.Connection[TupleRow]

NOT_OF_PSYCOPG = {"context", "cursor_factory"}  # but Django's, for its own queries


def open_session(connection: BaseDatabaseWrapper, **changes: Any) -> Session:
    """
    Return a new session with the server that `connection` leads to, in autocommit; the caller closes it.

    `changes` are libpq's parameters in place of the connection's, such as `user` and `password`, or `dbname`. Raises
    what psycopg raises, and CommandError for a database of another kind.
    """
    if connection.vendor != "postgresql":
        raise CommandError(f"Database '{connection.alias}' is {connection.display_name}, but this needs PostgreSQL.")
    parameters = {k: v for k, v in connection.get_connection_params().items() if k not in NOT_OF_PSYCOPG}
    return psycopg.connect(**{**parameters, "autocommit": True, **changes})


def open_monitor_session(connection: BaseDatabaseWrapper, **changes: Any) -> Session:
    """Return a new session likewise, of the role that watches the server and sees what all others do."""
    monitor = {"user": name_monitor(connection), "password": settings.DB_MONITOR_PASSWORD}
    return open_session(connection, **changes, **monitor)


def name_monitor(connection: BaseDatabaseWrapper) -> str:
    """Return the name of that role, as `database_roles` makes it."""
    return f"{connection.settings_dict['NAME']}_monitor"
