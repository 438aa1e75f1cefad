"""How far the primary's write-ahead log has got, in bytes: all that a replica is measured by."""

import threading
import time
from collections import deque
from typing import NamedTuple

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import Error, pq

from apps.core.database.connection import read_timeout
from apps.core.database.health import FAILURES
from apps.core.database.probe import ask, connect, list_conninfos

# After all that was written so far. At the beginning of a page that is behind the page's header, of at most 40 bytes,
# where no replica gets before something else is written.
QUESTION = b"""
    SELECT position - CASE WHEN position % page <= 40 THEN position % page ELSE 0 END
    FROM (SELECT pg_current_wal_insert_lsn() - '0/0', current_setting('wal_block_size')::int) _ (position, page)
"""
# What is not flushed yet no replica can have: a transaction in progress may keep it so.
QUESTION_ABOUT_FLUSHED = b"SELECT pg_current_wal_flush_lsn() - '0/0', current_database()"

UNKNOWN = 2**64  # a position that no server reaches

# Seconds.
INTERVAL = 1.0  # between two samples, or a tenth of DB_REPLICA_MAX_LAG where that is less
LEAST_INTERVAL = 0.05


class Sample(NamedTuple):
    """How far the primary had got at a moment of the monotonic clock, or shortly after."""

    taken: float
    position: int


class Primary:
    """What this process knows of the primary's log, and the thread that asks for it on a session of its own."""

    def __init__(self) -> None:
        """Know nothing."""
        self.lock = threading.Lock()
        self.samples: deque[Sample] = deque()
        self.known = threading.Event()
        self.database: str | None = None  # by the name that the server gives to it
        self.thread: threading.Thread | None = None

    def read_floor(self, patience: float = 0.0) -> int | None:
        """
        Return the position that a replica has passed if it is not behind by more than DB_REPLICA_MAX_LAG.

        None where nothing is known, even after `patience` seconds. Of a primary that has gone, the last one is meant.
        """
        with self.lock:
            if self.thread is None or not self.thread.is_alive():  # as after a fork
                self.thread = threading.Thread(target=self.run, name="primary", daemon=True)
                self.thread.start()
        self.known.wait(patience)
        oldest = time.monotonic() - settings.DB_REPLICA_MAX_LAG
        with self.lock:
            while len(self.samples) > 1 and self.samples[1].taken <= oldest:
                self.samples.popleft()
            return self.samples[0].position if self.samples else None

    def run(self) -> None:
        """Ask again and again, whatever happens; who finds no answer uses the last one."""
        session: pq.abc.PGconn | None = None
        while True:
            begin = time.monotonic()
            connection = connections[DEFAULT_DB_ALIAS]
            deadline = begin + read_timeout(connection)
            try:
                session = session or connect(list_conninfos(connection, deadline), deadline)
                position, self.database = ask(session, QUESTION_ABOUT_FLUSHED, deadline)
                self.note(Sample(begin, int(position or 0)))
            except FAILURES:
                if session:
                    session.finish()
                session = None
            time.sleep(max(LEAST_INTERVAL, min(INTERVAL, settings.DB_REPLICA_MAX_LAG / 10)))

    def note(self, sample: Sample) -> None:
        """Keep a sample; another server that took over may not have got as far, and what was before means nothing."""
        with self.lock:
            if self.samples and sample.position < self.samples[-1].position:
                self.samples.clear()
            self.samples.append(sample)
        self.known.set()


def read_position(connection: BaseDatabaseWrapper) -> int:
    """Return how far the primary got by what a request wrote on its connection, UNKNOWN where it does not say."""
    session = connection.connection
    if session is None or session.pgconn.transaction_status != pq.TransactionStatus.IDLE:
        return UNKNOWN
    try:
        (position,) = ask(session.pgconn, QUESTION, time.monotonic() + read_timeout(connection))
    except Error:
        session.close()  # it may still be answering
        connection.close()
        return UNKNOWN
    return int(position or UNKNOWN)


primary = Primary()
