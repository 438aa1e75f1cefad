"""The right to change the schema of a database: one process has it, and the others wait for it."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import psycopg
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import IsolationLevel

from .blockers import LOGGED_IN, REPEAT_INTERVAL, SESSION

KEYS = [int.from_bytes(b"djan"), int.from_bytes(b"migr")]  # of one database: another has its own

POLL_INTERVAL = 0.2  # seconds

# Whatever would end a transaction that takes long; PostgreSQL 15 does not know all of these.
UNLIMIT = """
    SELECT set_config(name, '0', true) FROM pg_settings WHERE name IN
    ('idle_in_transaction_session_timeout', 'lock_timeout', 'statement_timeout', 'transaction_timeout')
"""
HOLDER = f"""
    SELECT {SESSION}
    FROM pg_locks JOIN pg_database ON pg_database.oid = database JOIN pg_stat_activity USING (pid, datname)
    WHERE datname = current_database() AND locktype = 'advisory' AND granted
    AND classid = %s::int::oid AND objid = %s::int::oid AND objsubid = 2
"""  # noqa: S608


@contextmanager
def hold(connection: BaseDatabaseWrapper, tell: Callable[[str], None]) -> Iterator[psycopg.Connection]:
    """
    Hold the lock of the connection's database inside the block, after waiting for it for as long as it takes.

    Yields the connection in whose transaction the lock is; however that ends, the lock is free. It must not be asked
    anything while a statement runs: CREATE INDEX CONCURRENTLY waits for the end of a transaction that it saw at work.
    """
    with connection.wrap_database_errors:
        session = psycopg.connect(**connection.get_connection_params())
    with closing(session):
        with connection.wrap_database_errors:
            wait(session, connection, tell)
        yield session


def wait(session: psycopg.Connection, connection: BaseDatabaseWrapper, tell: Callable[[str], None]) -> None:
    """Return once the session has the lock; say who has it before, and again now and then."""
    # Under any other, its transaction has a snapshot, for whose end CREATE INDEX CONCURRENTLY waits.
    session.isolation_level = IsolationLevel.READ_COMMITTED
    next_telling = 0.0
    while not take(session):
        if time.monotonic() >= next_telling:
            tell(f"Waiting for another migrate to end: {find_holder(session)}.")
            next_telling = time.monotonic() + REPEAT_INTERVAL
            if not connection.in_atomic_block:
                connection.close()  # any number may wait, but connections are few
        session.rollback()
        time.sleep(POLL_INTERVAL)


def take(session: psycopg.Connection) -> bool:
    """
    Begin a transaction, and tell whether it got the lock.

    A lock of the session would not be safe behind pgbouncer, and a statement that waits for one has a snapshot.
    """
    session.execute(UNLIMIT)
    return session.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", KEYS).fetchone() == (True,)


def is_held(session: psycopg.Connection) -> bool:
    """Tell whether the lock is still there."""
    try:
        session.execute("SELECT 1")
    except psycopg.Error:
        return False
    return True


def find_holder(session: psycopg.Connection) -> str:
    """Return who has the lock, in words."""
    session.execute(LOGGED_IN)
    holder = session.execute(HOLDER, KEYS).fetchone()
    return str(holder[0]) if holder else "one that has just ended"
