"""
Gunicorn's hooks for the metrics of several workers, which `config.server` imports.

Each worker writes into a file of its own number, and any of them adds all files up.
"""

import itertools
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

# Where workers keep their figures, so that whichever is asked can tell those of all: prometheus_client writes there.
FIGURES = "PROMETHEUS_MULTIPROC_DIR"
FOLDER = "django-figures-"

# Of this worker, from 1 on. One that replaces another goes on with its number, and so with its figures.
number = 0


def on_starting(server: Any) -> None:
    """Make the folder of figures, unless the environment names one, and remove what killed servers have left."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER}*"):
        if lock(folder):
            shutil.rmtree(folder, ignore_errors=True)
    if FIGURES not in os.environ:
        new = Path(tempfile.mkdtemp(prefix=f"new-{FOLDER}"))
        lock(new)  # before it has a name by which others look for those that nobody holds
        server.figures = new.rename(new.with_name(new.name.removeprefix("new-")))
        os.environ[FIGURES] = str(server.figures)


def lock(folder: Path) -> bool:
    """Hold a folder until this process and those that it forks have ended; tell whether nobody else does."""
    import fcntl  # noqa: PLC0415  Windows has none, and reads this module in checks

    try:
        file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        return False
    return True


def pre_fork(server: Any, worker: Any) -> None:
    """Give a worker the first number that no other has, and make the folder again where a cleaner has removed it."""
    global number  # noqa: PLW0603  the worker inherits it
    Path(os.environ[FIGURES]).mkdir(mode=0o700, parents=True, exist_ok=True)
    taken = {other.number for other in server.WORKERS.values()}
    number = worker.number = next(free for free in itertools.count(1) if free not in taken)


def child_exit(_server: Any, worker: Any) -> None:
    """Forget how things were with a worker that has ended; what it has counted stays."""
    for file in Path(os.environ[FIGURES]).glob(f"gauge_live*_{worker.number}.db"):
        file.unlink(missing_ok=True)


def on_exit(server: Any) -> None:
    """Remove the folder of figures, where it was made here."""
    if folder := getattr(server, "figures", None):
        shutil.rmtree(folder, ignore_errors=True)
