"""The folder of backups, while one is being made: held by one process, and left without anything unfinished."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO
from urllib.parse import quote

from django.core.management.base import CommandError

from .archive import TIME, name_manifest


@contextmanager
def occupy(folder: Path) -> Iterator[None]:
    """Make the folder, hold it, and remove what a killed process left in it; raises CommandError where it is held."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # A file, since the locks of network file systems are on files that are open for writing.
    lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError(f"another one is being made in {folder}") from None
        for path in folder.glob(".*.dump.unfinished"):
            discard(path.with_name(path.name[1:].removesuffix(".unfinished")))
        yield
    finally:
        os.close(lock)


def choose_name(folder: Path, database: str) -> tuple[datetime, Path]:
    """Return the time, which is later than that of every backup of the database in the folder, and the dump's path."""
    while True:
        now = datetime.now(UTC).replace(microsecond=0)
        dump = folder / f"{quote(database, safe='')}-{now.strftime(TIME)}.dump"
        if not dump.exists():
            return now, dump
        time.sleep(0.1)


@contextmanager
def new_files(dump: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Yield the files of a dump and its manifest: at the block's end they get their names, and none where it raises."""
    paths = name_manifest(dump), dump
    try:
        with ExitStack() as opened:
            manifest, content = (opened.enter_context(create(hide(path))) for path in paths)
            yield content, manifest
            for file in (content, manifest):
                file.flush()
                os.fsync(file.fileno())
        for path in paths:
            hide(path).rename(path)
        flush_folder(dump.parent)
    except BaseException:
        discard(dump)
        raise


def discard(dump: Path) -> None:
    """Remove a dump and its manifest, finished or not; first what makes them look like a backup."""
    for path in (dump, name_manifest(dump)):
        path.unlink(missing_ok=True)
        hide(path).unlink(missing_ok=True)


def hide(path: Path) -> Path:
    """Return the name of a file that is not finished."""
    return path.with_name(f".{path.name}.unfinished")


def create(path: Path) -> IO[bytes]:
    """Create a file that nobody else may read, whatever the umask is."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def flush_folder(folder: Path) -> None:
    """Have the names of the files in a folder outlive a power failure, as their content does."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
