"""Whom an inspection asks as: the monitor, who sees everybody's sessions, and DB_USER, who may read the data."""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from typing import Any, NamedTuple

import psycopg
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections
from psycopg import errors, sql
from psycopg.rows import dict_row

from apps.core.database.diagnosis import diagnose
from apps.core.database.session import Session, name_monitor, open_monitor_session, open_session

from .question import Question, Row
from .report import Section

VERSION_17 = 170_000

# Seconds.
QUESTION_LIMIT = 2.0
INSPECTION_LIMIT = 10.0
MONTH = 30 * 86_400

ROWS = 20  # of a section

# For the transaction alone, since behind pgbouncer the session is somebody else's afterwards. Compiling such queries
# takes longer than they do.
LIMITS = """
SELECT set_config(name, setting, true)
FROM (VALUES
    ('statement_timeout', %s), ('lock_timeout', '200ms'), ('search_path', 'pg_catalog'), ('jit', 'off'),
    ('max_parallel_workers_per_gather', '0'), ('stats_fetch_consistency', 'none')
) AS limits (name, setting)
"""

SERVER = """
SELECT current_database() AS database, current_setting('server_version') AS version,
    current_setting('server_version_num')::int AS number, current_user AS user,
    pg_has_role('pg_read_all_stats', 'USAGE') AS sees_all,
    (SELECT coalesce(jsonb_object_agg(extname, nspname), '{{}}')
        FROM pg_extension JOIN pg_namespace AS n ON n.oid = extnamespace) AS extensions
"""

REASONS = {
    errors.QueryCanceled: "It took longer than the 2 seconds that a question may take.",
    errors.LockNotAvailable: "Somebody holds a lock that it would have to wait for.",
    errors.UndefinedTable: "This server, or its extension, is of a version that does not have all of it.",
    errors.UndefinedColumn: "This server, or its extension, is of a version that does not have all of it.",
    errors.UndefinedFunction: "This server, or its extension, is of a version that does not have all of it.",
    errors.ObjectNotInPrerequisiteState: (
        "The server did not load the extension: name it in shared_preload_libraries, and restart the server."
    ),
}


class Server(NamedTuple):
    """Who was asked, and as whom."""

    database: str
    version: str
    number: int  # such as 180006
    user: str
    sees_all: bool
    extensions: Mapping[str, str]  # the schema of each


class Sessions(NamedTuple):
    """Two sessions, which are one where there is no monitor; the caller closes them."""

    monitor: Session
    user: Session
    server: Server
    notes: list[str]
    deadline: float
    parameters: Mapping[str, Any]

    def ask(self, question: Question) -> Section:
        """Return the section that answers the question, or says why it cannot."""
        session = self.user if question.as_user else self.monitor
        if question.extension and question.extension not in self.server.extensions:
            return question.miss(f"The extension is not there: CREATE EXTENSION {question.extension}.")
        seconds = min(QUESTION_LIMIT, self.deadline - time.monotonic())
        if seconds <= 0:
            return question.miss("The other questions took all of the 10 seconds that an inspection may take.")
        try:
            return question.answer(read(session, self.choose(question), self.parameters, seconds))
        except psycopg.Error as error:
            return question.miss(self.explain(error, session))

    def choose(self, question: Question) -> sql.Composed:
        """Return the query for this server."""
        old = question.query_before_17 if self.server.number < VERSION_17 else ""
        schema = self.server.extensions.get(question.extension, "")
        return sql.SQL(old or question.query).format(schema=sql.Identifier(schema))

    def explain(self, error: psycopg.Error, session: Session) -> str:
        """Return in a sentence why there is no answer."""
        if session.closed:
            return "The connection was lost."
        if isinstance(error, errors.InsufficientPrivilege):
            return f"The role {session.info.user} may not read it: GRANT pg_monitor to it, or set DB_MONITOR_PASSWORD."
        found = (reason for kind, reason in REASONS.items() if isinstance(error, kind))
        return next(found, f"PostgreSQL refused it (SQLSTATE {error.sqlstate}).")


@contextmanager
def open_sessions(using: str) -> Iterator[Sessions]:
    """Log in for the time of the block; raises what psycopg raises where DB_USER cannot."""
    notes: list[str] = []
    with ExitStack() as stack:
        user = stack.enter_context(closing(open_session(connections[using])))
        monitor = stack.enter_context(closing(log_in(using, notes) or user))
        user.read_only = monitor.read_only = True
        server = Server(**read(monitor, sql.SQL(SERVER).format(), {}, INSPECTION_LIMIT)[0])
        if not server.sees_all:
            notes.append(
                f"{server.user} is no member of pg_monitor: what other roles do is not seen. "
                "Set DB_MONITOR_PASSWORD, or GRANT pg_monitor to it."
            )
        parameters = {"limit": ROWS, "month": MONTH, "slow": settings.DB_SLOW_QUERY}
        yield Sessions(monitor, user, server, notes, time.monotonic() + INSPECTION_LIMIT, parameters)


def log_in(using: str, notes: list[str]) -> Session | None:
    """Return a session of the monitor, None where there is none; a note tells where it cannot log in."""
    connection = connections[using]
    if not settings.DB_MONITOR_PASSWORD or settings.DB_EMBEDDED or using != DEFAULT_DB_ALIAS:
        return None
    try:
        return open_monitor_session(connection)
    except psycopg.Error as error:
        diagnosis = diagnose(error, {**connection.settings_dict, "USER": name_monitor(connection)})
        notes.append(f"The monitor cannot log in, so that {connection.settings_dict['USER']} asks. {diagnosis.message}")
    return None


def read(session: Session, query: sql.Composed, parameters: Mapping[str, Any], seconds: float) -> list[Row]:
    """Return the rows of a query, which may take as many seconds."""
    with session.transaction(), session.cursor(row_factory=dict_row) as cursor:
        cursor.execute(LIMITS, [f"{math.ceil(seconds * 1000)}ms"])  # of which none would mean no limit
        return cursor.execute(query, parameters).fetchall()
