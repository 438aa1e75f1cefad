"""
Locks on files, which the system releases when their last holder ends, however it ends.

Needs the standard library only: it is also run as a program, which outlives the process that started it.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

POLL = 0.05  # seconds
STOP_TIMEOUT = 5  # seconds

if sys.platform == "win32":
    import msvcrt

    EVERY_BYTE = 2**30

    def _lock(file: int, *, shared: bool, wait: bool) -> bool:
        # Windows has exclusive locks only: a sharer takes one byte of its own, a holder all of them.
        os.lseek(file, os.getpid() % EVERY_BYTE if shared else 0, os.SEEK_SET)
        while True:
            try:
                msvcrt.locking(file, msvcrt.LK_NBLCK, 1 if shared else EVERY_BYTE)
            except OSError:
                if not wait:
                    return False
                time.sleep(POLL)
            else:
                return True
else:
    import fcntl

    def _lock(file: int, *, shared: bool, wait: bool) -> bool:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def share(path: Path) -> None:
    """Wait until nobody holds `path`, then share it until this process and its forks have ended."""
    _lock(_open(path), shared=True, wait=True)


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Wait until nobody shares or holds `path`, then hold it inside the block."""
    file = _open(path)
    try:
        _lock(file, shared=False, wait=True)
        yield
    finally:
        os.close(file)


def try_to_hold(path: Path) -> int | None:
    """Hold `path` until the file descriptor returned is closed, or return None where somebody shares or holds it."""
    file = _open(path)
    if _lock(file, shared=False, wait=False):
        return file
    os.close(file)
    return None


def is_held(path: Path) -> bool:
    """Tell whether somebody holds `path`; sharing it does not count."""
    file = _open(path)
    try:
        return not _lock(file, shared=True, wait=False)
    finally:
        os.close(file)


def stop_when_unused(users: Path, watch: Path, server: Path, link: Path, command: list[str]) -> None:
    """
    Wait until nobody shares `users`, then stop the server by `command`, if somebody holds `server`, and remove `link`.

    Returns at once when another process, which then holds `watch`, is about to do so.
    """
    watching = try_to_hold(watch)
    if watching is None:
        return
    with hold(users):
        deadline = time.monotonic() + STOP_TIMEOUT
        # On Windows it holds nothing. Its first moments are without the pid file that `command` needs: try again.
        while (sys.platform == "win32" or is_held(server)) and time.monotonic() < deadline:
            if subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode == 0:  # noqa: S603  our own
                break
            time.sleep(POLL)
        link.unlink(missing_ok=True)
        # Before `users` is free: who shares it next must see that nobody watches any more.
        os.close(watching)


if __name__ == "__main__":
    # As a grandchild, which nobody has to wait for.
    if sys.platform == "win32" or os.fork() == 0:
        users_path, watch_path, server_path, link_path = map(Path, sys.argv[1:5])
        stop_when_unused(users_path, watch_path, server_path, link_path, sys.argv[5:])
