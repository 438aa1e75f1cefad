"""One connection of a request: whether it is lost, and how to be rid of one that is."""

import contextlib
import os
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import Connection, OperationalError, errors, pq
from psycopg import Error as PsycopgError

from .hosts import PooledConnection, is_elsewhere, name_hosts
from .probe import QUESTION, ask, read_answer, wants_primary

CHECK_TIMEOUT = 0.5  # seconds; a probe for readiness, which takes a connection from the pool, has twice as many


def is_quiet(connection: Connection) -> bool:
    """
    Tell whether an open connection has nothing to read, so that it need not be asked whether it still works.

    A server that ends it says so or hangs up, and the system hangs up for one that left the network: see keepalives.
    """
    with selectors.DefaultSelector() as selector:
        selector.register(connection.fileno(), selectors.EVENT_READ)
        return not selector.select(0)


def check_pooled(connection: PooledConnection) -> None:
    """Raise what psycopg raises unless the connection works; the pool's own check could wait for ever."""
    pool = connection._pool  # noqa: SLF001  as Django does
    try:
        if is_elsewhere(*connection.hosts, connection.pgconn):
            raise OperationalError("the connection is lost: another host is the primary")
        if not is_quiet(connection):
            ask(connection.pgconn, QUESTION, time.monotonic() + CHECK_TIMEOUT)
    except PsycopgError:
        # The others are likely to be lost, too, and for each but the first the pool would wait a second.
        if pool:
            pool.drain()  # type: ignore[attr-defined]
        raise


def spare_health_check(connection: BaseDatabaseWrapper) -> None:
    """Have Django not query a kept connection that is quiet, since nothing would bound that; close one elsewhere."""
    kept = connection.connection
    if kept and is_elsewhere(*name_hosts(connection), kept.pgconn):
        connection.close()
    elif kept and not kept.closed and is_quiet(kept):
        connection.health_check_done = True  # type: ignore[attr-defined]  # Django's, which is a round trip


def drop_if_lost(connection: BaseDatabaseWrapper) -> None:
    """Close the connection that the thread has kept, if it has one, where that is lost; asks only where in doubt."""
    spare_health_check(connection)
    connection.close_if_health_check_failed()


def ask_behind(connection: BaseDatabaseWrapper) -> None:
    """
    Raise what psycopg raises unless pgbouncer has a server that is the primary.

    It accepts and keeps clients when it has none, too, and goes on with those of a primary that became a standby.
    """
    opened = connection.connection.pgconn
    try:
        answer = read_answer(opened, ask(opened, QUESTION, time.monotonic() + read_timeout(connection)))
        if answer.standby and wants_primary(connection):
            raise errors.ReadOnlySqlTransaction("session is read-only")
    except PsycopgError:
        connection.close()
        raise


def read_timeout(connection: BaseDatabaseWrapper) -> float:
    """Return the seconds for which DB_CONNECT_TIMEOUT waits for a server that does not answer."""
    return float(connection.settings_dict["OPTIONS"].get("connect_timeout", 2))


def let_go(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
    """
    Execute a query; close the connection where the query has lost it, or found that it may not write there.

    Otherwise Django would connect anew at the end of the request's transaction, only to find nothing to end, or go on
    with a server that is the primary no longer.
    """
    try:
        return execute(sql, params, many, context)
    except Error as error:
        connection, origin = context["connection"], error.__cause__
        if isinstance(origin, PsycopgError) and origin.diag.severity_nonlocalized == "FATAL":
            connection.was_ended = True  # which no later error tells
        if isinstance(origin, errors.ReadOnlySqlTransaction) and connection.connection:
            connection.connection.close()
        if connection.connection and connection.connection.closed:
            connection.close()
        raise


@contextlib.contextmanager
def release_connections() -> Iterator[None]:
    """Close this thread's connections that are in no transaction, or give them back to the pool, when a block ends."""
    try:
        yield
    finally:
        for connection in connections.all(initialized_only=True):
            if not connection.in_atomic_block:
                connection.close()


class ReleasingExecutor(ThreadPoolExecutor):
    """Threads that hold no database connection between two jobs."""

    def submit[**P, T](self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have a thread call the function, and release the connections that it has opened; return its future."""
        return super().submit(release_connections()(function), *args, **kwargs)


def shut_down(connection: pq.abc.PGconn) -> None:
    """Make who waits for an answer on this connection see it as lost; one on which nobody waits is left alone."""
    if connection.transaction_status == pq.TransactionStatus.ACTIVE:
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.socket)) as copy:
            copy.shutdown(socket.SHUT_RDWR)
