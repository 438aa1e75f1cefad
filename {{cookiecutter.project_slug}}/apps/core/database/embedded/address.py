"""Where the embedded PostgreSQL listens: a socket in its data directory or, on Windows, a port of this machine."""

import hashlib
import os
import socket
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

CONNECT_TIMEOUT = 1  # second
LOCAL_HOST = "127.0.0.1"
# A socket's path holds 107 bytes at most, its file's name included.
LONGEST_SOCKET_FOLDER = 80
PORT = "5432"  # the name of the socket, which no other server shares


class Address(NamedTuple):
    """Where a server listens: its socket's folder or its host name, and its port."""

    host: str
    port: str


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


def shorten(folder: Path) -> Path:
    """Return a path of `folder` that can name a socket: itself or a link among the temporary files."""
    # A comma would separate two hosts.
    fits = len(os.fsencode(folder)) <= LONGEST_SOCKET_FOLDER and "," not in str(folder)
    if fits or sys.platform == "win32":
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
    """Return the path of the link that stands for `folder` where that cannot name a socket."""
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(tempfile.gettempdir(), f"postgres-{digest}")
