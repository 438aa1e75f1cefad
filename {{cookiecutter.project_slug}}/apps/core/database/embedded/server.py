"""
The embedded PostgreSQL: a private server under the project folder that runs while somebody uses it.

Its home is a folder named by the major version. Besides the data and the server's log it holds four lock files:

- `users.lock` is shared by every process that uses the server.
- `start.lock` is held by the one process that is starting it.
- `server.lock` is held by PostgreSQL's own processes, which inherit it: while it is free none of them lives, whatever
  a pid file says after a crash, a reboot, or under a first process that does not reap.
- `watch.lock` is held by the process that waits for `users.lock` to be free and then stops the server.

No password is asked: only the folder's owner can reach the socket in it.
"""

import functools
import hashlib
import os
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

import psycopg
from django.db import OperationalError

from . import locks
from .cluster import create_cluster, ensure_database
from .programs import command, find_major_version, run

CONNECT_TIMEOUT = 1  # second
LOCAL_HOST = "127.0.0.1"
# A socket's path holds 107 bytes at most, its file's name included.
LONGEST_SOCKET_FOLDER = 80
PORT = "5432"  # the name of the socket, which no other server shares
START_TIMEOUT = 60  # seconds: recovery after a crash takes its time

_starting = threading.Lock()


class Address(NamedTuple):
    """Where a server listens: its socket's folder or its host name, and its port."""

    host: str
    port: str


def start(folder: Path, role: str, database: str) -> Address:
    """
    Return where the server in `folder` listens, starting it where it does not run.

    The server, the role and the database are made where they are missing. Raises OperationalError when that fails, and
    ImproperlyConfigured when PostgreSQL's programs are not installed.
    """
    home = folder / find_major_version()
    try:
        with _starting:
            use(home)
            if not is_ready(home):
                with locks.hold(home / "start.lock"):
                    launch(home)
            prepare(home, role, database)
            return read_address(home)
    except (OSError, psycopg.Error, OperationalError) as error:
        message = f"The embedded PostgreSQL in {home} cannot be used: {error}. What it said is in {home / 'log'}."
        raise OperationalError(message) from error


@functools.cache
def use(home: Path) -> None:
    """Count this process among the server's users, and have the server stopped after the last of them."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    locks.share(home / "users.lock")
    if locks.is_held(home / "watch.lock"):
        return
    stop = command("pg_ctl", "stop", "--silent", "--mode", "fast", "--pgdata", home / "data")
    paths = home / "users.lock", home / "watch.lock", name_link(home / "data")
    watch = [sys.executable, "-I", locks.__file__, *map(str, paths), *stop]
    if sys.platform == "win32":
        os.spawnv(os.P_DETACH, sys.executable, watch)  # noqa: S606  the driver's own command
    else:
        run(watch)


@functools.cache
def prepare(home: Path, role: str, database: str) -> None:
    """Make the role and the database; one process at a time, or two would make the same."""
    with locks.hold(home / "start.lock"):
        ensure_database(*read_address(home), role, database)


def is_ready(home: Path) -> bool:
    """Tell whether the server says that it is ready and listens; the first alone outlives a crash."""
    if read_pid_file(home)[7:8] != ["ready"]:
        return False
    host, port = read_address(home)
    try:
        if sys.platform == "win32":
            socket.create_connection((host, int(port)), CONNECT_TIMEOUT).close()
        else:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(CONNECT_TIMEOUT)
                client.connect(f"{host}/.s.PGSQL.{port}")
    except OSError:
        return False
    return True


def launch(home: Path) -> None:
    """Start the server, whatever its last end left behind; the caller holds `start.lock`."""
    data = home / "data"
    if not data.exists():
        create_cluster(home)
    lock = wait_until_dead(home)
    if lock is None:
        return
    try:
        if sys.platform != "win32":
            # Nobody held the lock, so these are stale, and their process id may be somebody else's by now.
            (data / "postmaster.pid").unlink(missing_ok=True)
            (data / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)
        patience = "--wait", "--timeout", str(START_TIMEOUT)
        files = "--pgdata", data, "--log", home / "log"
        run(
            command("pg_ctl", "start", "--silent", *patience, *files, "--options", choose_listener()),
            keep_open=[] if sys.platform == "win32" else [lock],
        )
    finally:
        os.close(lock)


def wait_until_dead(home: Path) -> int | None:
    """Return `server.lock`, held, once no process of an earlier server lives, or None when that one gets ready."""
    deadline = time.monotonic() + START_TIMEOUT
    while (lock := locks.try_to_hold(home / "server.lock")) is None:
        if is_ready(home):
            return None
        if time.monotonic() > deadline:
            raise OperationalError(f"it runs, but is not ready after {START_TIMEOUT} s")
        time.sleep(0.02)
    return lock


def choose_listener() -> str:
    """Return the server's options: a socket in its data directory or, where there are none, a free port."""
    if sys.platform != "win32":
        return f"-c listen_addresses= -c unix_socket_directories=. -c port={PORT}"
    with socket.create_server((LOCAL_HOST, 0)) as free:
        return f"-c listen_addresses={LOCAL_HOST} -c port={free.getsockname()[1]}"


def read_pid_file(home: Path) -> list[str]:
    """Return the lines of the server's pid file, none while it has none: the 4th is its port, the 8th its state."""
    try:
        return [line.strip() for line in (home / "data" / "postmaster.pid").read_text().splitlines()]
    except FileNotFoundError:
        return []


def read_address(home: Path) -> Address:
    """Return where the running server listens."""
    if sys.platform == "win32":
        return Address(LOCAL_HOST, read_pid_file(home)[3])
    return Address(str(shorten(home / "data")), PORT)


def shorten(folder: Path) -> Path:
    """Return a path of `folder` that is short enough for a socket: itself or a link among the temporary files."""
    if len(os.fsencode(folder)) <= LONGEST_SOCKET_FOLDER:
        return folder
    link = name_link(folder)
    try:
        link.symlink_to(folder)
    except FileExistsError:
        # Somebody else's would lead to a server of theirs.
        if link.lstat().st_uid != os.geteuid() or link.readlink() != folder:
            raise
    return link


def name_link(folder: Path) -> Path:
    """Return the path of the link that stands for `folder` where that is too long."""
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(tempfile.gettempdir(), f"postgres-{digest}")
