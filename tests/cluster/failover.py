"""
A failover, tried: the primary of the running cluster is lost while the project writes.

`python -m cluster.failover` runs it beside `python -m cluster`. Any fault ends it with a sentence and code 1: above all
a write that was acknowledged and is not there.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import django
import psycopg
from django.core.exceptions import ImproperlyConfigured

from config import process

from .cluster import DATABASE, Cluster, find_cluster
from .ledger import Ledger
from .processes import ClusterError, heed_signals, wait_until

HOME = Path(__file__).parents[1] / ".cluster"
WARM_UP = 100  # writes before the primary is lost


def fail_over(cluster: Cluster, *, planned: bool) -> None:
    """Lose the primary, or have it hand over, and tell what became of it and of the writes meanwhile."""
    cluster.wait_until_healthy()
    old = cluster.primary()
    with cluster.connect(DATABASE) as owner:
        ledger = Ledger(owner, cluster.environment()["DB_USER"])
    with ledger:
        wait_until(lambda: len(ledger.acknowledged) >= WARM_UP, "the project has not written anything")
        say(f"{old} is the primary. {'It hands over' if planned else 'Its PostgreSQL is killed'}.")
        begin = time.monotonic()
        cluster.switchover() if planned else cluster.kill_primary()
        # For a moment its Patroni still says that it is; and where no other can, it becomes the primary again.
        wait_until(lambda: not old.is_primary(), f"{old} is still the primary")
        new, _ = cluster.wait_for_primary()
        say(f"{time.monotonic() - begin:6.2f} s  {new} is the primary")
        cluster.wait_until_healthy()
        say(f"{time.monotonic() - begin:6.2f} s  the others follow it")
        goal = len(ledger.acknowledged) + WARM_UP
        wait_until(lambda: len(ledger.acknowledged) >= goal, "the project does not write again")
    with cluster.connect(DATABASE) as owner:
        lost = ledger.find_lost(owner)
    gap = f"{ledger.find_gap():.2f} s without one"
    report = f"{len(ledger.acknowledged)} writes were acknowledged, with {gap}; lost of them: {lost}."
    if lost:
        raise ClusterError(report)
    say(report)


def say(line: str) -> None:
    """Print a line, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Run the failover; the exit code says what came of it."""
    parser = argparse.ArgumentParser(prog="cluster.failover", description="Tries a failover of the running cluster.")
    parser.add_argument("--switchover", action="store_true", help="a planned one, as before work on the primary")
    planned = parser.parse_args().switchover
    heed_signals()
    try:
        cluster = find_cluster(HOME)
        os.environ |= cluster.environment()
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.development")
        process.begin(process.Role.COMMAND, "failover")
        django.setup()
        fail_over(cluster, planned=planned)
    except KeyboardInterrupt:
        sys.exit("The failover is not waited for any longer; the cluster goes on.")
    except (ClusterError, ImproperlyConfigured, OSError, psycopg.Error) as error:
        sys.exit(" ".join(str(error).split()))


if __name__ == "__main__":
    main()
