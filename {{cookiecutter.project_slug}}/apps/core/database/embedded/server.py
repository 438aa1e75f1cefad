"""
The embedded PostgreSQL: a private server under the project folder that runs while somebody uses it.

Its home is a folder named by the major version. Besides the data and the server's log it holds four lock files:

- `users.lock` is shared by every process that uses the server.
- `start.lock` is held by the one process that is starting it.
- `server.lock` is held by PostgreSQL's own processes, initdb among them, which inherit it: while it is free none of
  them lives, whatever a pid file says after a crash, a reboot, or under a first process that does not reap.
- `watch.lock` is held by the process that waits for `users.lock` to be free and then stops the server.

No password is asked: only the folder's owner can reach the socket in it.
"""

import functools
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg
from django.db import OperationalError

from apps.core.database.diagnosis import explained

from . import locks
from .address import PORT, Address, choose_listener, is_ready, name_link, read_address
from .cluster import create_cluster, ensure_database
from .programs import command, find_major_version, run

# pg_ctl passes its paths through a shell, between double quotes.
UNUSABLE_IN_PATHS = frozenset('"$`\n') if sys.platform != "win32" else frozenset()
START_TIMEOUT = 60  # seconds: recovery after a crash takes its time

_starting = threading.Lock()


def start(folder: Path, role: str, database: str) -> Address:
    """
    Return where the server in `folder` listens, starting it where it does not run.

    The server, the role and the database are made where they are missing. Raises OperationalError when that fails, and
    ImproperlyConfigured when PostgreSQL's programs are not installed.
    """
    home = folder / find_major_version()
    try:
        refuse_unusable_path(home)
        with _starting:
            use(home)
            if not is_ready(home):
                with locks.hold(home / "start.lock"):
                    launch(home)
            prepare(home, role, database)
            return read_address(home)
    except (OSError, psycopg.Error, OperationalError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        message = f"The embedded PostgreSQL in {home} cannot be used: {reason}. Its log, if any, is {home / 'log'}."
        raise explained(message) from error


def refuse_unusable_path(home: Path) -> None:
    """Raise OperationalError where PostgreSQL's own programs would not find `home`."""
    if unusable := UNUSABLE_IN_PATHS.intersection(str(home)):
        raise OperationalError(f"PostgreSQL cannot live in a path with {' or '.join(map(repr, sorted(unusable)))}")


@functools.cache
def use(home: Path) -> None:
    """Count this process among the server's users, and have the server stopped after the last of them."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    locks.share(home / "users.lock")
    if locks.is_held(home / "watch.lock"):
        return
    stop = command("pg_ctl", "stop", "--silent", "--mode", "fast", "--pgdata", home / "data")
    paths = home / "users.lock", home / "watch.lock", home / "server.lock", name_link(home / "data")
    watch = [sys.executable, "-I", locks.__file__, *map(str, paths), *stop]
    if sys.platform == "win32":
        subprocess.Popen(watch, creationflags=subprocess.DETACHED_PROCESS).returncode = 0  # noqa: S603  nobody waits
    else:
        run(watch)


@functools.cache
def prepare(home: Path, role: str, database: str) -> None:
    """Make the role and the database; one process at a time, or two would make the same."""
    with locks.hold(home / "start.lock"):
        ensure_database(*read_address(home), role, database)


def launch(home: Path) -> None:
    """Start the server, whatever its last end left behind; the caller holds `start.lock`."""
    lock = wait_until_dead(home)
    if lock is None:
        return
    data = home / "data"
    keep_open = [] if sys.platform == "win32" else [lock]
    try:
        if not data.exists():
            create_cluster(home, keep_open=keep_open)
        if sys.platform != "win32":
            # Nobody held the lock, so these are stale, and their process id may be somebody else's by now.
            (data / "postmaster.pid").unlink(missing_ok=True)
            (data / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)
        patience = "--wait", "--timeout", str(START_TIMEOUT)
        files = "--pgdata", data, "--log", home / "log"
        run(
            command("pg_ctl", "start", "--silent", *patience, *files, "--options", choose_listener()),
            keep_open=keep_open,
        )
    finally:
        os.close(lock)


def wait_until_dead(home: Path) -> int | None:
    """Return `server.lock`, held, once no process of an earlier server lives, or None where a server is ready."""
    deadline = time.monotonic() + START_TIMEOUT
    while not is_ready(home):
        if (lock := locks.try_to_hold(home / "server.lock")) is not None:
            return lock
        if time.monotonic() > deadline:
            raise OperationalError(f"it runs, but is not ready after {START_TIMEOUT} s")
        time.sleep(0.02)
    return None
