"""
What the database says when it is scraped, on connections of its own: no request waits for that, nor it for requests.

It is asked once a second at most by each process, and nobody waits for the answer longer than TIMEOUT for each host: of
a database that is away there is `database_up 0`, and nothing else.
"""

import platform
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import django
import psycopg
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from apps.core.database.session import Session, open_monitor_session, open_session

from . import activity, tables
from .questions import Sample

FRESH = 1.0  # seconds for which an answer is given again
TIMEOUT = 2.0  # seconds, of each host; libpq knows no shorter one
WAY: dict[str, Any] = {"connect_timeout": int(TIMEOUT), "application_name": "metrics"}
STATEMENT_TIMEOUT = 500  # milliseconds, of three groups of questions

DOWN = [Sample("database_up", 0)]

HELP = {
    "database_backup_timestamp_seconds": "When the last backup was made, 0 for never.",
    "database_connections_max": "Sessions that the server admits of roles that are no superusers.",
    "database_connections_used": "Sessions that the server has.",
    "database_info": "The server's version, and whether it is primary or standby.",
    "database_locks_waiting": "Sessions of this database that wait for a lock.",
    "database_migrations_pending": "Migrations of the code that are not applied.",
    "database_probe_seconds": "How long it took to log in and have a question answered.",
    "database_replica_lag_bytes": "What a standby has not replayed yet.",
    "database_replica_lag_seconds": "How long ago that was written which a standby has not replayed yet.",
    "database_replicas": "Standbys that follow.",
    "database_replicas_expected": "Standbys that should follow, DB_EXPECTED_REPLICAS.",
    "database_restore_verified_timestamp_seconds": "When a backup was last restored for a proof, 0 for never.",
    "database_sessions": "Sessions that the server has, by what they do; hidden without pg_monitor.",
    "database_size_bytes": "The database's size.",
    "database_standby_lag_seconds": "How far the server itself is behind, where it is a standby.",
    "database_up": "Whether the database answers.",
    "django_info": "The versions of Django and Python.",
}


class DatabaseCollector(Collector):
    """Asks the database on behalf of all who scrape this process."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self.lock = threading.Lock()
        self.asked = float("-inf")
        self.answer: Future[list[Sample]] = Future()
        self.answer.set_result(DOWN)

    def collect(self) -> Iterator[Metric]:
        """Yield what the database says, or that it does not."""
        versions = Sample("django_info", 1, {"version": django.__version__, "python": platform.python_version()})
        metrics: dict[str, Metric] = {}
        for name, value, labels in [versions, *self.read()]:
            metric = metrics.setdefault(name, Metric(name, HELP[name], "gauge"))
            metric.add_sample(name, dict(labels), value)
        yield from metrics.values()

    def read(self) -> list[Sample]:
        """Return an answer of the last second, or a new one; a question that hangs is not put a second time."""
        with self.lock:
            if self.answer.done() and time.monotonic() > self.asked + FRESH:
                self.asked, self.answer = time.monotonic(), Future()
                threading.Thread(target=fulfil, args=[self.answer], name="figures", daemon=True).start()
            answer = self.answer
        with suppress(TimeoutError):
            return answer.result(find_patience())
        return DOWN


def find_patience() -> float:
    """Return the seconds for which who scrapes waits: of several hosts all but the last may be silent."""
    return TIMEOUT * len(connections[DEFAULT_DB_ALIAS].settings_dict["HOST"].split(","))


def fulfil(answer: Future[list[Sample]]) -> None:
    """Ask, and have the answer, which for a database that is not usable is that."""
    try:
        answer.set_result(list(ask(connections[DEFAULT_DB_ALIAS])))
    except psycopg.Error:
        answer.set_result(DOWN)
    except Exception as error:
        answer.set_exception(error)
        raise


def ask(connection: BaseDatabaseWrapper) -> Iterator[Sample]:
    """Yield what there is to say; raises what psycopg raises."""
    begin = time.perf_counter()
    with open_session(connection, **WAY) as session:
        session.execute("SELECT 1")
        yield Sample("database_up", 1)
        yield Sample("database_probe_seconds", time.perf_counter() - begin)
        yield from ask_within(session, tables.ask)
        if not settings.DB_MONITOR_PASSWORD:
            yield from ask_about_server(session)
    if settings.DB_MONITOR_PASSWORD:
        with log_in_as_monitor(connection) as session:
            yield from ask_about_server(session)
    yield Sample("database_replicas_expected", settings.DB_EXPECTED_REPLICAS)


def log_in_as_monitor(connection: BaseDatabaseWrapper) -> Session:
    """Return a session that sees what all others do; of DB_USER where there is no such role, or pgbouncer has none."""
    try:
        return open_monitor_session(connection, **WAY)
    except psycopg.OperationalError:
        return open_session(connection, **WAY)


def ask_about_server(session: Session) -> Iterator[Sample]:
    """Yield what is not in tables; the size, which takes long where there are many files, does not cost the others."""
    yield from ask_within(session, activity.ask)
    yield from ask_within(session, activity.ask_size)


def ask_within(session: Session, ask: Callable[[Session], Iterable[Sample]]) -> list[Sample]:
    """Return what a group of questions comes to, nothing where that takes too long; behind pgbouncer, too."""
    try:
        with session.transaction():
            session.execute(
                "SELECT set_config('transaction_read_only', 'on', true), set_config('statement_timeout', %s, true)",
                [str(STATEMENT_TIMEOUT)],
            )
            return list(ask(session))
    except psycopg.errors.QueryCanceled:
        return []
