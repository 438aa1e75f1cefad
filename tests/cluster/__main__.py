"""
A cluster to try things on: three PostgreSQL servers under Patroni, and the project that is connected to them.

`python -m cluster` runs it until Ctrl-C, after which nothing is left.
"""

import os
import socket
import sys
import time

from django.core.exceptions import ImproperlyConfigured

from apps.core.environment import config

from .cluster import Cluster
from .failover import HOME, say
from .node import HOST
from .processes import ClusterError, end, heed_signals, pause, start

MANAGE = sys.executable, str(HOME.parent / "manage.py")


def serve(cluster: Cluster, port: int) -> None:
    """Prepare the database, and serve the project on it until a signal comes or the server ends."""
    begin = time.monotonic()
    say("Three PostgreSQL servers, Patroni and etcd start.")
    primary, _ = cluster.wait_for_primary()
    say(f"{time.monotonic() - begin:6.2f} s  {primary} is the primary")
    cluster.wait_until_healthy()
    say(f"{time.monotonic() - begin:6.2f} s  the others follow it, one of them in step with each write")
    environment = {**os.environ, **cluster.environment()}
    run(cluster, "prepare_database", environment)
    say(f"{time.monotonic() - begin:6.2f} s  the database is prepared")
    say("\nThese lines in .env, or in the environment, connect any other process to it:\n")
    say("\n".join(f"{name}={value}" for name, value in cluster.environment().items()))
    say("\n`python -m cluster.failover` in another terminal loses the primary; Ctrl-C ends all of it.\n")
    watch(environment, port)


def run(cluster: Cluster, command: str, environment: dict[str, str]) -> None:
    """Run a command of the project's to its end; raise ClusterError, with what it said last, when it fails."""
    log = cluster.folder / f"{command}.log"
    process = start([*MANAGE, command], environment, log=log)
    try:
        while process.poll() is None:
            pause()
    finally:
        end(process)
    if process.returncode:
        lines = log.read_text(encoding="utf-8").strip().splitlines() or ["it said nothing."]
        raise ClusterError(f"`manage.py {command}` failed: {lines[-1]}")


def watch(environment: dict[str, str], port: int) -> None:
    """Serve the project until a signal comes, which raises KeyboardInterrupt, or the server ends."""
    server = start([*MANAGE, "runserver", f"{HOST}:{port}"], environment)
    try:
        while server.poll() is None:
            pause()
    finally:
        end(server)
    raise ClusterError("The project's server ended, for the reason above.")


def choose_port() -> int:
    """Return PORT; raises ClusterError where it is taken, before the cluster has started in vain."""
    port = int(config("PORT", default=8000, cast=int))
    try:
        socket.create_server((HOST, port)).close()
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise ClusterError(f"PORT is {port}, where nothing can listen: {reason}. Choose another one.") from None
    return port


def main() -> None:
    """Run the cluster; the exit code says whether it ended because it was told to."""
    heed_signals()
    try:
        port = choose_port()
        with Cluster(HOME) as cluster:
            serve(cluster, port)
    except KeyboardInterrupt:
        say("The cluster has ended, and its data are gone.")
    except (ClusterError, ImproperlyConfigured, OSError) as error:
        sys.exit(" ".join(str(error).split()))


if __name__ == "__main__":
    main()
