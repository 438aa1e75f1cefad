"""One connection of a request: whether it is lost, and how to be rid of one that is."""

import contextlib
import os
import selectors
import socket
import time
from collections.abc import Callable
from typing import Any

from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import Connection, pq
from psycopg import Error as PsycopgError

from .probe import QUESTION, ask

CHECK_TIMEOUT = 2.0  # seconds


def is_quiet(connection: Connection) -> bool:
    """
    Tell whether an open connection has nothing to read, so that it need not be asked whether it still works.

    A server that ends it says so or hangs up, and the system hangs up for one that left the network: see keepalives.
    """
    with selectors.DefaultSelector() as selector:
        selector.register(connection.fileno(), selectors.EVENT_READ)
        return not selector.select(0)


def check_pooled(connection: Connection) -> None:
    """Raise what psycopg raises unless the connection works; the pool's own check could wait for ever."""
    try:
        if not is_quiet(connection):
            ask(connection.pgconn, QUESTION, time.monotonic() + CHECK_TIMEOUT)
    except PsycopgError:
        # The others are likely to be lost, too, and for each but the first the pool would wait a second.
        if pool := connection._pool:  # noqa: SLF001  as Django does
            pool.drain()  # type: ignore[attr-defined]
        raise


def drop_if_lost(connection: BaseDatabaseWrapper) -> None:
    """Close the connection that the thread has kept, if it has one, where that is lost; asks only where in doubt."""
    kept = connection.connection
    if kept and not kept.closed and is_quiet(kept):
        connection.health_check_done = True  # type: ignore[attr-defined]  # Django's, which is a round trip
    connection.close_if_health_check_failed()


def ask_behind(connection: BaseDatabaseWrapper) -> None:
    """Raise what psycopg raises unless pgbouncer has a server: it accepts and keeps clients when it has none, too."""
    try:
        ask(connection.connection.pgconn, QUESTION, time.monotonic() + read_timeout(connection))
    except PsycopgError:
        connection.close()
        raise


def read_timeout(connection: BaseDatabaseWrapper) -> float:
    """Return the seconds for which DB_CONNECT_TIMEOUT waits for a server that does not answer."""
    return float(connection.settings_dict["OPTIONS"].get("connect_timeout", CHECK_TIMEOUT))


def let_go(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
    """
    Execute a query; close the connection where the query has lost it.

    Otherwise Django would connect anew at the end of the request's transaction, only to find nothing to end.
    """
    try:
        return execute(sql, params, many, context)
    except Error:
        connection = context["connection"]
        if connection.connection and connection.connection.closed:
            connection.close()
        raise


def shut_down(connection: pq.abc.PGconn) -> None:
    """Make who waits for an answer on this connection see it as lost; one on which nobody waits is left alone."""
    if connection.transaction_status == pq.TransactionStatus.ACTIVE:
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.socket)) as copy:
            copy.shutdown(socket.SHUT_RDWR)
