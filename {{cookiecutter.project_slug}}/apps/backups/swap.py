"""
The swap of names by which one database takes the place of another while that is in use.

PostgreSQL renames a database that nobody uses. While it waits for that, who wants to connect waits, too, and is then
told once that there is no such database: `apps.core.database.outage` tries again. So sessions are ended during the
wait, those without a transaction at once and the others after GRACE. Both renames are one transaction: whatever
happens, there is a database of that name, and it is whole.
"""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import psycopg
from django.core.management.base import CommandError
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import sql

from apps.core.database.session import Session

from .neighbours import maintain

# Seconds.
GRACE = 0.5  # for which transactions may end by themselves; requests wait for a connection twice as long
INTERVAL = 0.005  # between two looks at who is connected
LIMIT = 3  # after which the swap is given up, since nobody can connect meanwhile
PATIENCE = 5.0  # for what may not be ended, before anybody has to wait

# Whoever may not see what a session does gets no state, and has to wait as for one that is busy.
SESSIONS = """
FROM pg_stat_activity AS session
    JOIN pg_roles AS their ON their.oid = session.usesysid
    JOIN pg_roles AS my ON my.rolname = current_user
    CROSS JOIN LATERAL (SELECT
        (my.rolsuper OR NOT their.rolsuper)
        AND (pg_has_role(their.oid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE')) AS endable
    ) AS allowed
WHERE session.datname = %(database)s AND session.pid <> pg_backend_pid()
"""
END = f"SELECT pg_terminate_backend(session.pid) {SESSIONS} AND endable AND (state = 'idle' OR %(busy)s)"
FIND_LASTING = f"""
SELECT format('process %%s of user %%s', session.pid, session.usename) {SESSIONS} AND NOT endable
UNION ALL
SELECT format('prepared transaction %%s of user %%s', gid, owner) FROM pg_prepared_xacts WHERE database = %(database)s
"""  # noqa: S608  of constants

Renames = Sequence[tuple[str, str]]


def swap(connection: BaseDatabaseWrapper, renames: Renames) -> float:
    """
    Rename databases one after the other, all or none, ending the sessions of the first; return the seconds it took.

    That is how long nobody could connect to it. Raises CommandError, with everything as before, where it is in use by
    what this role may not end.
    """
    database = renames[0][0]
    with maintain(connection) as renaming, maintain(connection) as ending:
        # The role that logs in may see more than the owner that it acts as.
        ending.execute("SET ROLE NONE")
        wait_for_lasting(ending, database)
        done = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(end_sessions, ending, database, done)
            try:
                return rename(renaming, renames)
            except psycopg.errors.QueryCanceled:
                users = find_lasting(ending, database) or "what does not end"
                raise CommandError(f"Database '{database}' stayed in use by {users} for {LIMIT} s.") from None
            finally:
                done.set()


def wait_for_lasting(session: Session, database: str) -> None:
    """Wait for what uses a database and may not be ended; raise CommandError where that does not end in time."""
    deadline = time.monotonic() + PATIENCE
    while lasting := find_lasting(session, database):
        if time.monotonic() > deadline:
            raise CommandError(f"Database '{database}' is in use by {lasting}: that has to end first.")
        time.sleep(INTERVAL)


def find_lasting(session: Session, database: str) -> str:
    """Return what uses a database and may not be ended, empty if nothing does."""
    return ", ".join(name for (name,) in session.execute(FIND_LASTING, {"database": database}))


def end_sessions(session: Session, database: str, done: threading.Event) -> None:
    """End the sessions of a database until it is renamed, first those that are idle."""
    begin = time.monotonic()
    while not done.wait(INTERVAL):
        session.execute(END, {"database": database, "busy": time.monotonic() > begin + GRACE})


def rename(session: Session, renames: Renames) -> float:
    """Rename databases in one transaction; return the seconds it took."""
    begin = time.monotonic()
    with session.transaction():
        session.execute(f"SET LOCAL statement_timeout = '{LIMIT}s'")
        for old, new in renames:
            names = sql.Identifier(old), sql.Identifier(new)
            session.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(*names))
    return time.monotonic() - begin
