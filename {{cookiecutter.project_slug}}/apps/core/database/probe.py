"""One bounded question to one database: whether it answers, and what it is."""

import re
import selectors
import threading
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from django.db import NotSupportedError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import DatabaseError, OperationalError, conninfo, errors, pq
from psycopg_pool import PoolTimeout

from .deadline import remaining, too_late, wait
from .hosts import OF_PRIMARY, SESSIONS, name_hosts, read_place, remember_primary
from .lookup import resolve

# Of psycopg's and Django's, which libpq does not know.
NOT_OF_LIBPQ = {"autocommit", "context", "cursor_factory", "prepare_threshold", "row_factory"}
LEAST_SHARE = 0.1  # of its own timeout, which a caller that waited for another caller's probe still needs
OLDEST_SERVER = 15
NO_PRIMARY = re.compile("session is read-only|server is in hot standby mode")  # what libpq says of a standby
SAID = "FATAL: "  # what precedes a server's own words
SILENCE = 3  # the share of the rest of the time, its inverse, that silent hosts are given once there is a standby
QUESTION = b"SELECT pg_is_in_recovery(), extract(epoch FROM now() - pg_postmaster_start_time())"
# Everybody may count sessions, though not see what those of other roles are. A standby that has replayed all that it
# received is not behind, however long ago the primary wrote something.
QUESTION_ABOUT_DETAILS = b"""
    SELECT standby, count(*), current_setting('max_connections'),
        CASE WHEN standby THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END - '0/0',
        CASE WHEN standby AND pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
            WHEN standby THEN extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) END
    FROM pg_is_in_recovery() standby, pg_stat_activity
    WHERE datid IS NOT NULL AND usesysid IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend'
    GROUP BY standby
"""

_asking: dict[str, threading.Lock] = {}


class Answer(NamedTuple):
    """
    What a database that answered told about itself.

    Its version such as 180006, where it is, whether it is a standby and whether the connection uses TLS. Where details
    were asked for: how many connections the server has and may have, up to which byte of the write-ahead log it has
    written or, a standby, replayed it, and by how many seconds a standby is behind what it has received.
    """

    version: int
    host: str
    port: str
    standby: bool
    tls: bool
    product: str = ""  # of a database that is not PostgreSQL, in place of all others
    connections: tuple[int, int] | None = None
    position: int | None = None
    lag: float | None = None
    age: float = 0.0  # seconds for which the server has run, unless details were asked for


def probe(using: str, timeout: float, *, details: bool = False, pooled: bool = True) -> Answer:
    """
    Ask the database with the alias `using` a question, and return what it is within `timeout` seconds.

    An idle connection of this thread is used again, and replaced once where it is broken; otherwise one of the pool's
    is, unless `pooled` is false, or a new one is made and closed. A transaction in progress is left alone. One caller
    at a time asks each database. Raises what psycopg raises, ConnectionTimeout when the time is over,
    ReadOnlySqlTransaction for a standby where the primary is meant, and NotSupportedError for a server older than
    version 15.
    """
    if connections[using].vendor != "postgresql":
        return probe_other(connections[using])
    deadline = time.monotonic() + timeout
    asking = _asking.setdefault(using, threading.Lock())
    if not asking.acquire(timeout=timeout):
        raise too_late()
    try:
        if remaining(deadline) < timeout * LEAST_SHARE:
            raise too_late()
        connection = connections[using]
        question = QUESTION_ABOUT_DETAILS if details else QUESTION
        answer = ask_idle(connection, question, deadline)
        if answer is None and pooled:
            answer = ask_pool(connection, question, deadline)
        answer = answer or ask_anew(connection, question, deadline)
    finally:
        asking.release()
    if answer.version < OLDEST_SERVER * 10_000:
        raise NotSupportedError(f"PostgreSQL {OLDEST_SERVER} or later is required (found {answer.version // 10_000})")
    if answer.standby and wants_primary(connection):
        raise errors.ReadOnlySqlTransaction("session is read-only")
    return answer


def probe_other(connection: BaseDatabaseWrapper) -> Answer:
    """Return what a database is that is not PostgreSQL; raises what Django raises."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT 1{connection.features.bare_select_suffix}")
    product = f"{connection.display_name} {'.'.join(map(str, connection.get_database_version()))}"
    return Answer(0, "", "", standby=False, tls=False, product=product)


def wants_primary(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether a connection must lead to the primary; behind a pgbouncer libpq did not see to that."""
    return seeks(connection, OF_PRIMARY) or bool(connection.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS"))


def is_replica(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether a connection is for reading from a standby."""
    return seeks(connection, {"standby"})


def seeks(connection: BaseDatabaseWrapper, sessions: set[str]) -> bool:
    """Tell whether libpq looks for such a server among the hosts."""
    return connection.settings_dict["OPTIONS"].get(SESSIONS) in sessions


def ask_idle(connection: BaseDatabaseWrapper, question: bytes, deadline: float) -> Answer | None:
    """Ask on the open connection; return None where there is none to use, closing it where it is broken."""
    if connection.connection is None or connection.in_atomic_block:
        return None
    opened = connection.connection.pgconn
    try:
        if opened.transaction_status == pq.TransactionStatus.IDLE:
            answer = read_answer(opened, ask(opened, question, deadline))
            if not answer.standby or not wants_primary(connection):
                return answer
            broken = True
        else:
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
            return read_answer(pooled.pgconn, ask(pooled.pgconn, question, deadline))
    except PoolTimeout:
        ask_anew(connection, question, deadline)
        raise


def ask_anew(connection: BaseDatabaseWrapper, question: bytes, deadline: float) -> Answer:
    """Ask on a new connection, of several hosts to the primary."""
    fresh = connect(list_conninfos(connection, deadline), deadline)
    try:
        answer = read_answer(fresh, ask(fresh, question, deadline))
        if seeks(connection, OF_PRIMARY):
            remember_primary(*name_hosts(connection), fresh)
        return answer
    finally:
        fresh.finish()


def ask(connection: pq.abc.PGconn, question: bytes, deadline: float) -> list[str | None]:
    """Put the question on an open, idle connection, and return the row that answers it; close it after an error."""
    connection.send_query(question)
    while connection.flush():
        wait(connection.socket, deadline, writing=True)
    row = list[str | None]()
    while True:
        while connection.is_busy():  # before each result and the end, or libpq would block the whole process
            wait(connection.socket, deadline)
            connection.consume_input()
        if not (result := connection.get_result()):
            return row
        if result.status != pq.ExecStatus.TUPLES_OK:
            raise errors.error_from_result(result)
        values = (result.get_value(0, column) for column in range(result.nfields))
        row = [None if value is None else value.decode() for value in values]


def read_answer(connection: pq.abc.PGconn, row: list[str | None]) -> Answer:
    """Return what a question's row and the connection itself tell about a database."""
    standby, *details = row
    answer = Answer(connection.server_version, *read_place(connection), standby == "t", bool(connection.ssl_in_use))
    if not details[1:]:
        return answer._replace(age=float(details[0] or 0))
    used, maximum, position, lag = details
    connections = int(used or 0), int(maximum or 0)
    return answer._replace(connections=connections, position=int(position or 0), lag=float(lag) if lag else None)


def list_conninfos(connection: BaseDatabaseWrapper, deadline: float) -> list[bytes]:
    """Return what libpq connects with, for each address; raises ProgrammingError for an option it does not know."""
    parameters = {k: v for k, v in connection.get_connection_params().items() if k not in NOT_OF_LIBPQ}
    return [conninfo.make_conninfo(**place).encode() for place in resolve(parameters, deadline)]


def connect(conninfos: Iterable[bytes], deadline: float) -> pq.abc.PGconn:
    """
    Return a new connection to the first of some addresses that is what was asked for.

    All are asked at once, so that a silent one keeps nobody waiting; libpq would wait for each longer than it is told,
    and psycopg for ever.
    """
    begun = [pq.PGconn.connect_start(each) for each in conninfos]
    made = None
    try:
        made = finish_first(begun, deadline)
        return made
    finally:
        for connection in begun:
            if connection is not made:
                connection.finish()


def finish_first(begun: Iterable[pq.abc.PGconn], deadline: float) -> pq.abc.PGconn:
    """Carry connections on until one of them is made; where all fail, raise what a server has said before the rest."""
    progress: dict[pq.abc.PGconn, int] = dict.fromkeys(begun, pq.PollingStatus.WRITING)
    failures: list[OperationalError] = []
    while progress:
        for connection in wait_for_any(progress, deadline):
            progress[connection] = advance(connection)
            if progress[connection] == pq.PollingStatus.OK:
                connection.nonblocking = 1  # or libpq would wait for room to send
                return connection
            if progress[connection] == pq.PollingStatus.FAILED:
                del progress[connection]
                failures.append(OperationalError(connection.get_error_message()))
                if NO_PRIMARY.search(str(failures[-1])):
                    deadline = min(deadline, time.monotonic() + remaining(deadline) / SILENCE)
    raise max(failures, key=lambda failure: SAID in str(failure))


def wait_for_any(progress: Mapping[pq.abc.PGconn, int], deadline: float) -> list[pq.abc.PGconn]:
    """Return the connections that can go on; raise ConnectionTimeout when the time is over."""
    if broken := [connection for connection in progress if connection.status == pq.ConnStatus.BAD]:
        return broken
    with selectors.DefaultSelector() as selector:
        for connection, state in progress.items():
            event = selectors.EVENT_WRITE if state == pq.PollingStatus.WRITING else selectors.EVENT_READ
            selector.register(connection.socket, event, connection)
        if (left := remaining(deadline)) and (ready := selector.select(left)):
            return [key.data for key, _ in ready]
    raise too_late()


def advance(connection: pq.abc.PGconn) -> int:
    """Return what a connection waits for next, or how it ended."""
    if connection.status == pq.ConnStatus.BAD:
        return pq.PollingStatus.FAILED
    return connection.connect_poll()
