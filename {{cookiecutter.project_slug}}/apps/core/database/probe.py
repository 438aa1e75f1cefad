"""One bounded question to one database: whether it answers, and what it is."""

import threading
import time
from typing import NamedTuple

from django.db import NotSupportedError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import DatabaseError, OperationalError, conninfo, errors, pq
from psycopg_pool import PoolTimeout

from .deadline import remaining, too_late, wait
from .lookup import resolve

# Of psycopg's and Django's, which libpq does not know.
NOT_OF_LIBPQ = {"autocommit", "context", "cursor_factory", "prepare_threshold", "row_factory"}
LEAST_SHARE = 0.1  # of its time, which who waited for somebody else's question still needs to put one
OLDEST_SERVER = 15
QUESTION = b"SELECT 1"
# Everybody may count sessions, though not see what those of other roles are.
QUESTION_ABOUT_CONNECTIONS = b"""
    SELECT count(*), current_setting('max_connections') FROM pg_stat_activity
    WHERE datid IS NOT NULL AND usesysid IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend'
"""

_asking: dict[str, threading.Lock] = {}


class Answer(NamedTuple):
    """
    What a database that answered told about itself.

    Its version such as 180006, whether it is a standby, whether the connection uses TLS and, where that was asked for,
    how many connections the server has and may have.
    """

    version: int
    standby: bool
    tls: bool
    connections: tuple[int, int] | None


def probe(using: str, timeout: float, *, details: bool = False, pooled: bool = True) -> Answer:
    """
    Ask the database with the alias `using` a question, and return what it is within `timeout` seconds.

    An idle connection of this thread is used again, and replaced once where it is broken; otherwise one of the pool's
    is, unless `pooled` is false, or a new one is made and closed. A transaction in progress is left alone. One caller
    at a time asks each database. Raises what psycopg raises, ConnectionTimeout when the time is over, and
    NotSupportedError for a server older than version 15.
    """
    deadline = time.monotonic() + timeout
    asking = _asking.setdefault(using, threading.Lock())
    if not asking.acquire(timeout=timeout):
        raise too_late()
    try:
        if remaining(deadline) < timeout * LEAST_SHARE:
            raise too_late()
        connection = connections[using]
        question = QUESTION_ABOUT_CONNECTIONS if details else QUESTION
        answer = ask_idle(connection, question, deadline)
        if answer is None and pooled:
            answer = ask_pool(connection, question, deadline)
        answer = answer or ask_anew(connection, question, deadline)
    finally:
        asking.release()
    if answer.version < OLDEST_SERVER * 10_000:
        raise NotSupportedError(f"PostgreSQL {OLDEST_SERVER} or later is required (found {answer.version // 10_000})")
    return answer


def ask_idle(connection: BaseDatabaseWrapper, question: bytes, deadline: float) -> Answer | None:
    """Ask on the open connection; return None where there is none to use, closing it where it is broken."""
    if connection.connection is None or connection.in_atomic_block:
        return None
    opened = connection.connection.pgconn
    try:
        if opened.transaction_status == pq.TransactionStatus.IDLE:
            return ask(opened, question, deadline)
        broken = opened.status != pq.ConnStatus.OK
    except errors.ConnectionTimeout:
        connection.close()
        raise
    except DatabaseError:  # also of no class of its own, where the server went without a word
        broken = True
    if broken:
        connection.close()
    return None


def ask_pool(connection: BaseDatabaseWrapper, question: bytes, deadline: float) -> Answer | None:
    """Ask on a connection of the pool's, or None where none is in use; an exhausted one does not tell why."""
    pool = getattr(connection, "pool", None)
    if not pool or pool.closed:  # one that is not in use yet is opened by the process that will use it, after a fork
        return None
    try:
        with pool.connection(timeout=remaining(deadline) / 2) as pooled:
            return ask(pooled.pgconn, question, deadline)
    except PoolTimeout:
        ask_anew(connection, question, deadline)
        raise


def ask_anew(connection: BaseDatabaseWrapper, question: bytes, deadline: float) -> Answer:
    """Ask on a new connection."""
    fresh = connect(build_conninfo(connection, deadline), deadline)
    try:
        return ask(fresh, question, deadline)
    finally:
        fresh.finish()


def ask(connection: pq.abc.PGconn, question: bytes, deadline: float) -> Answer:
    """Put the question on an open, idle connection and wait for the answer."""
    connection.send_query(question)
    while connection.flush():
        wait(connection.socket, deadline, writing=True)
    while connection.is_busy():
        wait(connection.socket, deadline)
        connection.consume_input()
    failure = counted = None
    while result := connection.get_result():
        if result.status != pq.ExecStatus.TUPLES_OK and not failure:  # a second one only tells that the server is gone
            failure = errors.error_from_result(result)
        elif result.nfields > 1:
            counted = int(result.get_value(0, 0) or 0), int(result.get_value(0, 1) or 0)
    if failure:
        raise failure
    standby = connection.parameter_status(b"in_hot_standby") == b"on"
    return Answer(connection.server_version, standby, bool(connection.ssl_in_use), counted)


def build_conninfo(connection: BaseDatabaseWrapper, deadline: float) -> bytes:
    """Return what libpq connects with; raises ProgrammingError for an option that it does not know."""
    parameters = {k: v for k, v in connection.get_connection_params().items() if k not in NOT_OF_LIBPQ}
    return conninfo.make_conninfo(**resolve(parameters, deadline)).encode()


def connect(parameters: bytes, deadline: float) -> pq.abc.PGconn:
    """Return a new connection; libpq would wait longer than it is told, and psycopg for ever."""
    connection = pq.PGconn.connect_start(parameters)
    try:
        finish_connecting(connection, deadline)
    except BaseException:
        connection.finish()
        raise
    return connection


def finish_connecting(connection: pq.abc.PGconn, deadline: float) -> None:
    """Carry a connection that was begun to its end."""
    progress: int = pq.PollingStatus.WRITING
    while progress != pq.PollingStatus.OK:
        if connection.status == pq.ConnStatus.BAD or progress == pq.PollingStatus.FAILED:
            raise OperationalError(connection.get_error_message())
        wait(connection.socket, deadline, writing=progress == pq.PollingStatus.WRITING)
        progress = connection.connect_poll()
