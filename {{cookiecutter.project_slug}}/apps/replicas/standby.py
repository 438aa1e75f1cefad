"""The replicas, as far as this process knows them: whether they can be read from, and why not."""

import logging
import time
from collections.abc import Mapping
from functools import cache
from weakref import WeakKeyDictionary

from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import Connection, OperationalError
from psycopg import Error as PsycopgError

from apps.core.database.causes import Cause
from apps.core.database.connection import read_timeout
from apps.core.database.diagnosis import Diagnosis
from apps.core.database.health import FAILURES
from apps.core.database.outage import INTERVAL, LINE_INTERVAL, Watch
from apps.core.database.probe import ask, is_replica

from .primary import primary

QUESTION = b"SELECT pg_is_in_recovery(), pg_last_wal_replay_lsn() - '0/0', current_database()"
FRESH = 1.0  # seconds until a session has to say again in which database it is: a rename does not end it
REPLACED = -1  # in place of a position: of a session whose database restore_database has replaced

LONGEST_INTERVAL = 5.0  # seconds between two questions to a replica that has been away for long

logger = logging.getLogger(__name__)


class Replica(Watch):
    """
    What the requests of this process know of one replica.

    Its host may be a load balancer, behind which each connection leads to another server: how far one has got is known
    of a connection, and holds for as long as that is open, since no server goes back.
    """

    level = logging.WARNING

    def __init__(self, using: str) -> None:
        """Know nothing."""
        super().__init__(using)
        self.replayed: WeakKeyDictionary[Connection, tuple[int, float]] = WeakKeyDictionary()
        self.behind = False

    def accept(self, connection: BaseDatabaseWrapper, floor: int, position: int) -> bool:
        """
        Tell whether a request may read on this connection, which is opened where need be; `leave` ends that.

        Its server must have replayed the primary's log up to both positions; one that is not at `floor` is logged.
        """
        self.enter(connection)
        try:
            diagnosis = self.connect(connection)
            replayed = 0 if diagnosis else self.read_replayed(connection, max(floor, position))
        except FAILURES as error:
            diagnosis = self.explain(error)
        if diagnosis:
            self.refuse(connection, diagnosis)
            return False
        self.note_lag(behind=REPLACED < replayed < floor)
        if replayed >= max(floor, position):
            return True
        self.leave(connection)
        return False

    def read_replayed(self, connection: BaseDatabaseWrapper, needed: int) -> int:
        """Return how far the server has got, asking it in doubt; REPLACED for a connection that is closed therefore."""
        session = connection.connection
        (known, asked), now = self.replayed.get(session, (0, 0.0)), time.monotonic()
        if known >= needed and asked > now - FRESH:
            return known
        try:
            standby, position, database = ask(session.pgconn, QUESTION, now + read_timeout(connection))
            if standby != "t":
                raise OperationalError("server is not in hot standby mode")
        except PsycopgError:
            session.close()  # or a pool would give it to the next request
            connection.close()
            raise
        if database != primary.database:
            session.close()
            connection.close()
            return REPLACED
        self.replayed[session] = int(position or 0), now
        return int(position or 0)

    def note_lag(self, *, behind: bool) -> None:
        """Log that the replica is too far behind, or no longer, unless something was logged within the last second."""
        now = time.monotonic()
        with self.lock:
            if not (self.behind or behind) or now < self.logged + LINE_INTERVAL:
                return
            self.behind, self.logged = behind, now
        if behind:
            limit = settings.DB_REPLICA_MAX_LAG
            logger.warning("Database %s is left out: it is more than %g s behind the primary.", self.using, limit)
        else:
            logger.warning("Database %s has caught up, and is read from again.", self.using)

    def refuse(self, connection: BaseDatabaseWrapper, diagnosis: Diagnosis) -> None:
        """Note that a request cannot use the replica; nothing is wrong where it is the primary for the time being."""
        self.suspicion.set()
        if diagnosis.cause == Cause.NO_STANDBY:
            with self.lock:
                self.waiting.pop(connection, None)
        else:
            super().refuse(connection, diagnosis)

    def is_away(self, _reason: Diagnosis) -> bool:
        """Leave it out whatever the reason is: there are others."""
        return True

    def read_interval(self) -> float:
        """Return the seconds until the next question: a tenth of those for which it has been away already."""
        away = time.monotonic() - self.outage.began if self.outage else 0.0
        return min(LONGEST_INTERVAL, max(INTERVAL, away / 10))


@cache
def find_replicas() -> Mapping[str, Replica]:
    """Return the replicas of DATABASES by their aliases."""
    return {alias: Replica(alias) for alias in connections if is_replica(connections[alias])}
