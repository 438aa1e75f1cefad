"""The advisory lock that `migrate` holds on its database while it changes the schema; others wait for it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from django.core.management.base import CommandError
from django.db.backends.base.base import BaseDatabaseWrapper

from .blockers import LOGGED_IN, REPEAT_INTERVAL, SESSION

KEYS = [int.from_bytes(b"djan"), int.from_bytes(b"migr")]  # of one database: another has its own
POLL_INTERVAL = 0.2  # seconds
LOST = "The lock of migrate was lost, so that another may run: migrate again to go on."

# A session has held it since it began or somewhat later; between two migrations it is in no transaction.
HOLDER = f"""
    SELECT {SESSION.replace("xact_start", "backend_start")}
    FROM pg_locks JOIN pg_database ON pg_database.oid = database JOIN pg_stat_activity USING (pid, datname)
    WHERE datname = current_database() AND locktype = 'advisory' AND granted
    AND classid = %s::int::oid AND objid = %s::int::oid AND objsubid = 2
"""  # noqa: S608
HELD = f"{HOLDER} AND pid = pg_backend_pid()"
RECORDS = "SELECT FROM django_migrations WHERE app = %s AND name = %s"


@contextmanager
def hold(connection: BaseDatabaseWrapper, tell: Callable[[str], None]) -> Iterator[psycopg.Connection]:
    """
    Hold the lock of the connection's database inside the block, after waiting for it for as long as it takes.

    Yields the connection's own session, which holds it: what ends the lock ends the migration, too. After a reconnect
    each query raises CommandError. Raises CommandError behind a pgbouncer.
    """
    if connection.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS"):
        raise CommandError("DB_PGBOUNCER is on, and takes no lock of a session: set DB_DIRECT_HOST to PostgreSQL.")
    connection.ensure_connection()
    session = connection.connection

    def refuse_another_session(execute: Callable[..., Any], *arguments: Any) -> Any:
        if connection.connection is not session:
            raise CommandError(LOST)
        return execute(*arguments)

    with connection.wrap_database_errors:
        wait(session, tell)
        session.execute("SET idle_session_timeout = 0")  # a migration may compute for long
    try:
        with connection.execute_wrapper(refuse_another_session):
            yield session
    finally:
        with suppress(psycopg.Error):  # it is lost, and the lock with it
            session.execute("RESET idle_session_timeout")
            session.execute("SELECT pg_advisory_unlock(%s, %s)", KEYS)


def wait(session: psycopg.Connection, tell: Callable[[str], None]) -> None:
    """Return once the session has the lock; say who has it before, and again now and then."""
    next_telling = 0.0
    # One that waited inside a statement would have a snapshot, for whose end CREATE INDEX CONCURRENTLY waits.
    while session.execute("SELECT pg_try_advisory_lock(%s, %s)", KEYS).fetchone() != (True,):
        if time.monotonic() >= next_telling:
            tell(f"Waiting for another migrate to end: {find_holder(session)}.")
            next_telling = time.monotonic() + REPEAT_INTERVAL
        time.sleep(POLL_INTERVAL)


def ensure_held(session: psycopg.Connection) -> None:
    """Raise CommandError where the session has lost the lock: it has ended, or a migration gave the lock away."""
    with suppress(psycopg.Error):
        if session.execute(HELD, KEYS).rowcount:
            return
    raise CommandError(LOST)


def find_holder(session: psycopg.Connection) -> str:
    """Return who has the lock, in words."""
    with session.transaction(force_rollback=True):
        session.execute(LOGGED_IN)
        holder = session.execute(HOLDER, KEYS).fetchone()
    return str(holder[0]) if holder else "one that has just ended"
