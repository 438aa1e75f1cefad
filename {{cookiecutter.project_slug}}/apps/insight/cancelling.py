"""Cancelling the query that a session runs, and no other that may have come in its place meanwhile."""

from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import LiteralString

from django.db import connections
from psycopg.rows import class_row

from apps.core.database.literals import blank_literals
from apps.core.database.session import open_session

LOGGED_IN = "SET LOCAL ROLE NONE"  # since the owner as whom a role acts may see less of that role's sessions
# When a session began is hidden from a role that may not cancel its query, which leaves that without an identity.
FIND: LiteralString = """
    SELECT pid, usename AS user, application_name AS application, state, query_start AS since, query,
        extract(epoch FROM backend_start) || '/' || extract(epoch FROM query_start) AS identity
    FROM pg_stat_activity
    WHERE pid = %s AND datname = current_database() AND usename IS NOT NULL
"""
CANCEL: LiteralString = """
    SELECT pg_cancel_backend(pid) FROM pg_stat_activity
    WHERE pid = %s AND datname = current_database() AND state = 'active'
    AND extract(epoch FROM backend_start) || '/' || extract(epoch FROM query_start) = %s
"""


@dataclass(frozen=True)
class Running:
    """What a session of this database is at; `identity` tells its query from all others, before and after."""

    pid: int
    user: str
    application: str
    state: str | None
    since: datetime | None
    query: str
    identity: str | None

    @property
    def refusal(self) -> str:
        """Say why there is nothing to cancel for this project, "" where there is."""
        if not self.identity:
            return (
                f"It is a session of '{self.user}', whose queries this project may not cancel. "
                f"An administrator may: SELECT pg_cancel_backend({self.pid})"
            )
        if self.state != "active":
            return (
                "It runs no query now, so there is none to cancel. What it locked stays locked until its transaction "
                f"ends; an administrator ends that with the session: SELECT pg_terminate_backend({self.pid})"
            )
        return ""


def find_running(using: str, pid: int) -> Running | None:
    """Return what a process of PostgreSQL is at, or None where it has ended or belongs to another database."""
    with closing(open_session(connections[using])) as session, session.transaction():
        session.execute(LOGGED_IN)
        found = session.cursor(row_factory=class_row(Running)).execute(FIND, [pid]).fetchone()
    return found and replace(found, query=blank_literals(found.query))


def cancel(using: str, pid: int, identity: str) -> bool:
    """
    Ask PostgreSQL to cancel a query; return whether it still ran.

    Raises InsufficientPrivilege where DB_USER may see the query, but not cancel it.
    """
    with closing(open_session(connections[using])) as session, session.transaction():
        session.execute(LOGGED_IN)
        return session.execute(CANCEL, [pid, identity]).fetchone() is not None
