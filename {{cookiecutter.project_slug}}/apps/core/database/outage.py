"""
Whether the database is away, found out once for all requests of this process.

A request that meets a silent database would hold its thread until the system gives up, and so would the next. So one
thread asks in their place as soon as a request fails or takes long. While the database is away, requests that need it
are refused at once, those that wait for it in vain are cut off, and that thread sees it return.
"""

import gc
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from config import process, server

from .causes import Cause
from .connection import ask_behind, drop_if_lost, let_go, read_timeout, shut_down
from .diagnosis import Diagnosis, diagnose, is_unavailable
from .health import FAILURES
from .hosts import OF_PRIMARY, Place, abandoned, find_primary, forget_primary, is_elsewhere, name_hosts
from .probe import probe, seeks

logger = logging.getLogger(__name__)

# Nobody can use a database that is away, whatever their password and however few they are.
AWAY = frozenset(
    {
        Cause.CONNECTION_LOST,
        Cause.DATABASE_MISSING,  # for a moment, while another one takes its name
        Cause.HOST_UNKNOWN,
        Cause.READ_ONLY,  # until another server is the primary
        Cause.REFUSED,
        Cause.STARTING_OR_STOPPING,
        Cause.TIMEOUT,
        Cause.UNREACHABLE,
    }
)

PASSING = AWAY | {Cause.TERMINATED}  # for which requests wait
SUSPICIOUS = PASSING | {Cause.POOL_EXHAUSTED}

# Seconds.
INTERVAL = 0.1  # between two questions while it is away
LINE_INTERVAL = 1.0  # between two lines of the log
PATIENCE = 1.0  # for which requests wait that leave too few threads for pages without data
PROOF = 0.25  # for which a query that succeeded proves that the database is there
SLOW = 0.8  # after which a request raises suspicion

CROWD = 0.75  # of the threads of a process, from which on requests wait no longer than PATIENCE


class Outage(NamedTuple):
    """Since when, by the monotonic clock, and why the database is away."""

    began: float
    diagnosis: Diagnosis


class Watch:
    """What the requests of this process know of the database `using`, and the thread that finds it out."""

    level = logging.ERROR  # of the line that tells of requests without the database

    def __init__(self, using: str) -> None:
        """Suspect nothing."""
        self.using = using
        self.lock = threading.Lock()
        self.waiting: dict[BaseDatabaseWrapper, float] = {}  # who uses the database, since when
        self.last_success_at = self.asked = self.probed_at = self.logged = float("-inf")
        self.server_started_at = self.collected_at = float("-inf")
        self.suspicion = threading.Event()
        self.reason: Diagnosis | None = None  # of the last question that failed
        self.outage: Outage | None = None
        self.primary: Place | None = None  # of several hosts, the one that answered last
        self.refused = 0  # requests, since the last line of the log
        self.thread: threading.Thread | None = None

    # What requests call.

    def admit(self, connection: BaseDatabaseWrapper) -> Diagnosis | None:
        """
        Connect for a request that begins; return why that cannot be.

        Waits for a database that has gone no longer than DB_FAILOVER_WAIT ago: nothing of the request is lost yet.
        """
        begin = time.monotonic()
        patience = self.read_patience(connection)
        self.enter(connection)
        while (diagnosis := self.connect(connection)) and diagnosis.cause in PASSING:
            began = self.outage.began if self.outage else begin
            if time.monotonic() > began + patience:
                break
            self.suspicion.set()
            time.sleep(INTERVAL / 2)
        return diagnosis

    def enter(self, connection: BaseDatabaseWrapper) -> None:
        """Note that a request uses the database, and have the thread that watches it."""
        connection.was_ended = False  # type: ignore[attr-defined]
        with self.lock:
            self.waiting[connection] = time.monotonic()
            if self.thread is None or not self.thread.is_alive():  # as after a fork
                self.thread = threading.Thread(target=self.run, name=f"watch-{self.using}", daemon=True)
                self.thread.start()

    def attend(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        """Execute a query of a request, which may not have been admitted since it may have needed none."""
        connection = context["connection"]
        if connection not in self.waiting:
            if (outage := self.outage) and outage.diagnosis.cause == Cause.TIMEOUT:
                raise OperationalError("connection timeout expired")
            self.enter(connection)
        result = let_go(execute, sql, params, many, context)
        self.last_success_at = time.monotonic()
        return result

    def read_patience(self, connection: BaseDatabaseWrapper) -> float:
        """Return the seconds for which a request waits; under ASGI, threads are made as they are needed."""
        others = len(self.waiting.keys() - {connection})
        if process.role != process.Role.ASGI and others >= server.threads * CROWD:
            return min(PATIENCE, float(settings.DB_FAILOVER_WAIT))
        return float(settings.DB_FAILOVER_WAIT)

    def connect(self, connection: BaseDatabaseWrapper) -> Diagnosis | None:
        """Make sure that the request has a connection that works; return why it cannot have one."""
        if (outage := self.outage) and (connection.connection is None or outage.diagnosis.cause == Cause.TIMEOUT):
            return outage.diagnosis
        try:
            drop_if_lost(connection)
            if (outage := self.outage) and connection.connection is None:  # it was cut off
                return outage.diagnosis
            connection.ensure_connection()
            if connection.settings_dict["DISABLE_SERVER_SIDE_CURSORS"]:
                ask_behind(connection)
        except FAILURES as error:
            if not is_unavailable(error):
                raise
            return self.explain(error)
        return None

    def explain(self, error: BaseException) -> Diagnosis:
        """Return why a request failed; a pool does not tell, so that is what a question of our own is told."""
        diagnosis = diagnose(error, connections[self.using].settings_dict)
        if diagnosis.cause != Cause.POOL_EXHAUSTED:
            return diagnosis
        begin = time.monotonic()
        # Who is ready to wait for another server may as well wait for the answer.
        longest = min(settings.DB_FAILOVER_WAIT - PATIENCE, read_timeout(connections[self.using]))
        deadline = begin + max(PROOF, longest)
        self.suspicion.set()
        while not self.reason and self.probed_at < begin and time.monotonic() < deadline:
            time.sleep(INTERVAL / 4)
        return self.reason or diagnosis

    def has_gone(self) -> bool:
        """Tell whether the server went, or only a session that ended just now; the next probe fails then, or waits."""
        begin = time.monotonic()
        deadline = begin + read_timeout(connections[self.using]) + SLOW
        self.suspicion.set()
        while not self.outage and self.probed_at < begin and time.monotonic() < deadline:
            time.sleep(INTERVAL / 4)
        away = self.outage or (self.reason and self.is_away(self.reason))
        return bool(away) or self.server_started_at > begin - SLOW

    def leave(self, connection: BaseDatabaseWrapper) -> None:
        """Note that a request does not use the database any more."""
        with self.lock:
            self.waiting.pop(connection, None)

    def refuse(self, connection: BaseDatabaseWrapper, diagnosis: Diagnosis) -> None:
        """Note that a request cannot be answered; log it unless that was done within the last second."""
        now = time.monotonic()
        with self.lock:
            self.waiting.pop(connection, None)
            self.refused += 1
            if now < self.logged + LINE_INTERVAL:
                count = 0
            else:
                count, self.refused, self.logged = self.refused, 0, now
        if diagnosis.cause in SUSPICIOUS:
            self.suspicion.set()
        if count:
            fields = {"cause": str(diagnosis.cause), "requests": count}
            logger.log(self.level, "Database %s: %s", self.using, diagnosis, extra=fields)

    # What the thread does.

    def run(self) -> None:
        """Ask whenever there is a reason to."""
        while True:
            if self.outage or self.suspicion.wait(INTERVAL) or self.is_slow():
                self.suspicion.clear()
                self.ask()
                time.sleep(self.read_interval())
            self.reclaim_connections()

    def read_interval(self) -> float:
        """Return the seconds until the next question of a database that is away."""
        return INTERVAL

    def reclaim_connections(self) -> None:
        """Have the pool replace the connections of threads that ended; find them at once where requests wait for it."""
        pool = getattr(connections[self.using], "pool", None)
        if pool and pool.get_stats()["requests_waiting"] and time.monotonic() > self.collected_at + LINE_INTERVAL:
            self.collected_at = time.monotonic()
            gc.collect()
        while not abandoned.empty():
            connection = abandoned.get()
            connection.close()
            connection._pool.putconn(connection)  # type: ignore[union-attr]  # noqa: SLF001  as Django does

    def is_slow(self) -> bool:
        """Tell whether a request takes long while no query succeeds, and no probe has begun."""
        with self.lock:
            begun = min(self.waiting.values(), default=float("inf"))
            return max(begun, self.last_success_at, self.asked) < time.monotonic() - SLOW

    def ask(self) -> None:
        """Find out whether the database is there, and act on it."""
        self.asked = time.monotonic()
        connection = connections[self.using]
        try:
            answer = probe(self.using, read_timeout(connection), pooled=False)
        except FAILURES as error:
            self.reason = diagnose(error, connection.settings_dict)
            if self.is_away(self.reason) and self.last_success_at < self.asked - PROOF:
                began = self.outage.began if self.outage else self.asked
                self.outage = Outage(began, self.reason)
                if seeks(connection, OF_PRIMARY):
                    forget_primary(*name_hosts(connection))
            if self.outage and self.reason.cause == Cause.TIMEOUT:
                self.cut_off()
        else:
            self.reason, self.server_started_at = None, time.monotonic() - answer.age
            self.welcome(connection)
        self.probed_at = self.asked

    def is_away(self, reason: Diagnosis) -> bool:
        """Tell whether nobody can use a database of which a question is told this."""
        # From a pool, whatever is wrong comes as a timeout: where waiting does not help, be refused at once.
        pooled = "pool" in connections[self.using].settings_dict["OPTIONS"]
        return reason.cause in AWAY or (pooled and not reason.waiting_helps)

    def welcome(self, connection: BaseDatabaseWrapper) -> None:
        """Let requests in, and have the pool connect for those who wait for it."""
        outage, self.outage = self.outage, None
        primary, self.primary = self.primary, find_primary(*name_hosts(connection))
        moved = self.primary != primary
        if moved:
            self.cut_off(elsewhere=True)
        pool = getattr(connection, "pool", None)
        if pool and not pool.closed:
            if outage or moved:
                pool.drain()
            if not pool.get_stats()["pool_available"]:  # or the pool would ask those, and wait for what froze meanwhile
                pool.check()
        if outage:
            seconds = time.monotonic() - outage.began
            logger.warning("Database %s is usable again after %.1f s.", self.using, seconds)

    def cut_off(self, *, elsewhere: bool = False) -> None:
        """
        End the connections of requests that have waited since before the last question, which was not answered.

        Where another host is the primary now, that are those `elsewhere`: what froze answers nobody.
        """
        with self.lock:  # so none of them leaves meanwhile, and its file becomes another's
            for connection, begun in self.waiting.items():
                if begun >= self.asked or not (kept := connection.connection):
                    continue
                if not elsewhere or is_elsewhere(*name_hosts(connection), kept.pgconn):
                    shut_down(kept.pgconn)


watch = Watch(DEFAULT_DB_ALIAS)
