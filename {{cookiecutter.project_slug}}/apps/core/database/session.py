"""A session beside Django's own connection: by another role, to another database, or for a question meanwhile."""

from typing import Any

import psycopg
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.rows import TupleRow

Session = psycopg.Connection[TupleRow]

NOT_OF_PSYCOPG = {"context", "cursor_factory"}  # but Django's, for its own queries


def open_session(connection: BaseDatabaseWrapper, **changes: Any) -> Session:
    """
    Return a new session with the server that `connection` leads to, in autocommit; the caller closes it.

    `changes` are libpq's parameters in place of the connection's, such as `user` and `password`, or `dbname`. Raises
    what psycopg raises.
    """
    parameters = {k: v for k, v in connection.get_connection_params().items() if k not in NOT_OF_PSYCOPG}
    return psycopg.connect(**{**parameters, "autocommit": True, **changes})
