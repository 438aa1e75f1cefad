"""Who holds the lock that a migration waits for, told while it waits."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Self

import psycopg
from django.db.backends.base.base import BaseDatabaseWrapper

# Seconds.
INTERVAL = 0.5
REPEAT_INTERVAL = 30.0

LOGGED_IN = "SET LOCAL ROLE NONE"  # since the owner as whom a role acts may see less of other sessions
# A row of pg_stat_activity in words: which session it is and, where one may see that, how old its transaction is.
SESSION = r"""
    concat(
        'pid ' || pid, ' (' || nullif(concat_ws(', ', coalesce(usename, backend_type), application_name), '') || ')',
        ', begun ' || extract(epoch FROM clock_timestamp() - xact_start)::int || ' s ago'
    )
"""
# What it does, without what comes after the first quote or dollar sign of its query: that may be a secret.
ACTIVITY = r"""
    concat(
        ', ' || state,
        CASE query WHEN '<insufficient privilege>' THEN ', with a query that only pg_read_all_stats may see' ELSE
        ': ' || regexp_replace(regexp_replace(query, '\s+', ' ', 'g'), '^([^''$]{100}|[^''$]*(?=[''$])).*', '\1…') END
    )
"""
BLOCKERS = f"""
    SELECT pid, CASE pid WHEN 0 THEN 'a prepared transaction, see pg_prepared_xacts' ELSE {SESSION} || {ACTIVITY} END
    FROM unnest(pg_blocking_pids(%s)) AS blocker (pid) LEFT JOIN pg_stat_activity USING (pid)
    ORDER BY xact_start DESC
"""  # noqa: S608


class BlockerWatch(threading.Thread):
    """Asks every half second, on a connection of its own, who is in the way of another connection."""

    last = "a session that was not seen"  # who was in the way

    def __init__(self, watched: BaseDatabaseWrapper, tell: Callable[[str], None]) -> None:
        """Ask about the `watched` connection, and `tell` who is in its way, and again now and then."""
        super().__init__(name="blockers", daemon=True)
        self.watched, self.tell = watched, tell
        self.parameters = watched.get_connection_params()
        self.over = threading.Event()

    def __enter__(self) -> Self:
        """Begin to watch."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End watching."""
        self.over.set()
        self.join()

    def run(self) -> None:
        """Watch until told to end; what is over sooner costs no connection, and one that fails only the news."""
        if self.over.wait(INTERVAL):
            return
        with suppress(psycopg.Error), psycopg.connect(**self.parameters, autocommit=True) as session:
            next_telling: dict[int, float] = {}
            while not self.over.is_set():
                for pid, blocker in self.find_blockers(session):
                    self.last = blocker
                    if time.monotonic() >= next_telling.get(pid, 0.0):
                        next_telling[pid] = time.monotonic() + REPEAT_INTERVAL
                        self.tell(f"Waiting for a lock of {blocker}.")
                self.over.wait(INTERVAL)

    def find_blockers(self, session: psycopg.Connection) -> list[tuple[int, str]]:
        """Return who is in the way: the process ids, and what to call them."""
        connection = self.watched.connection
        if not connection or connection.closed:
            return []
        pid = connection.info.backend_pid
        with session.transaction():  # a short one, or CREATE INDEX CONCURRENTLY would wait for it
            session.execute(LOGGED_IN)
            return session.execute(BLOCKERS, [pid]).fetchall()
