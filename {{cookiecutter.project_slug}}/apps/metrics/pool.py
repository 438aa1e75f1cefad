"""The pool's figures: a thread of each process notes them every second, since who is scraped sees its own only."""

import functools
import threading
import time
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections
from prometheus_client import Counter, Gauge

INTERVAL = 1.0  # seconds
MILLISECOND = 0.001  # seconds


class PoolFigures:
    """What psycopg's pool says of itself, as figures that the workers' are added up to."""

    def __init__(self) -> None:
        """Declare the figures; a process without a pool has none."""
        self.lock = threading.Lock()
        self.seen: dict[str, int] = {}
        self.states = {
            "pool_size": declare("database_pool_connections", "Connections that the pools have open."),
            "pool_max": declare("database_pool_max", "Connections that the pools may have open."),
            "pool_available": declare("database_pool_available", "Connections of the pools that nobody uses."),
            "requests_waiting": declare("database_pool_requests_waiting", "Requests that wait for a connection."),
        }
        self.counts = {
            "requests_num": (Counter("database_pool_requests_total", "Connections that were asked for."), 1.0),
            "requests_wait_ms": (Counter("database_pool_wait_seconds_total", "Waited for a connection."), MILLISECOND),
            "requests_errors": (Counter("database_pool_timeouts_total", "Requests that got no connection."), 1.0),
        }

    def run(self) -> None:
        """Note them for ever."""
        while True:
            self.sample()
            time.sleep(INTERVAL)

    def sample(self) -> None:
        """Note what the pool says now."""
        with self.lock:
            stats = find_pool().get_stats()
            for key, gauge in self.states.items():
                gauge.set(stats.get(key, 0))
            for key, (counter, unit) in self.counts.items():
                counter.inc(self.find_growth(stats, key) * unit)
            self.seen = stats

    def find_growth(self, stats: dict[str, int], key: str) -> int:
        """Return what was added since the last time; a new pool begins at nothing."""
        now, before = stats.get(key, 0), self.seen.get(key, 0)
        return now - before if now >= before else now


def declare(name: str, text: str) -> Gauge:
    """Return a figure of which those of the workers that live are added up."""
    return Gauge(name, text, multiprocess_mode="livesum")


def find_pool() -> Any:
    """Return the pool of this process, or None."""
    return getattr(connections[DEFAULT_DB_ALIAS], "pool", None)


@functools.cache
def start() -> PoolFigures | None:
    """Return the pool's figures, and have a thread note them; None without a pool."""
    if not connections[DEFAULT_DB_ALIAS].settings_dict["OPTIONS"].get("pool"):
        return None
    figures = PoolFigures()
    threading.Thread(target=figures.run, name="pool-figures", daemon=True).start()
    return figures


_starting = threading.Lock()


def watch() -> PoolFigures | None:
    """Begin with the first request of this process, which comes after the fork that a thread would not outlive."""
    with _starting:
        return start()


def sample() -> None:
    """Note what the pool says now, for who reads the figures of this process."""
    if figures := watch():
        figures.sample()
