"""Writes through Django that go on whatever becomes of the primary, and what the database has of them afterwards."""

import itertools
import threading
import time
from typing import Self

import psycopg
from django.db import Error, connection
from psycopg import sql

TABLE = "cluster_ledger"
PACE = 0.005  # seconds from one write to the next


class Ledger:
    """Numbers that a thread writes inside the block, one after the other, and when each was acknowledged."""

    def __init__(self, owner: psycopg.Connection, role: str) -> None:
        """Make the table for the role that the project logs in as."""
        table = sql.Identifier(TABLE)
        owner.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table))
        owner.execute(sql.SQL("CREATE TABLE {} (number bigint PRIMARY KEY)").format(table))
        owner.execute(sql.SQL("GRANT SELECT, INSERT ON {} TO {}").format(table, sql.Identifier(role)))
        self.acknowledged: dict[int, float] = {}  # each number, and when
        self.failed = 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.work)

    def __enter__(self) -> Self:
        """Begin to write."""
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Have the last write be acknowledged, or fail."""
        self.over.set()
        self.thread.join()

    def work(self) -> None:
        """Write one number after the other, each once, on a connection that is replaced when it breaks."""
        number = 0
        while not self.over.wait(PACE):
            number += 1
            try:
                with connection.cursor() as cursor:
                    cursor.execute(f"INSERT INTO {TABLE} VALUES (%s)", [number])  # noqa: S608  a constant
            except Error:
                # Whether it was written nobody knows: the next attempt is another number.
                self.failed += 1
                connection.close()
            else:
                self.acknowledged[number] = time.monotonic()
        connection.close()

    def find_gap(self) -> float:
        """Return the longest time in seconds from one acknowledged write to the next."""
        times = list(self.acknowledged.values())
        return max((after - before for before, after in itertools.pairwise(times)), default=0.0)

    def find_lost(self, owner: psycopg.Connection) -> int:
        """Return how many acknowledged numbers the database does not have, and remove the table."""
        found = {number for (number,) in owner.execute(f"SELECT number FROM {TABLE}")}  # noqa: S608  a constant
        owner.execute(f"DROP TABLE {TABLE}")
        return len(self.acknowledged.keys() - found)
