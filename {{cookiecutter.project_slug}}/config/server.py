"""
How gunicorn serves the project in production; `manage.py serve` starts it with this file.

Its names are those of gunicorn's settings, and times are in seconds.
"""

import itertools
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from config import environment, process  # not `config` from it, which is the name of a setting

host = environment.config("WEB_HOST", default="127.0.0.1")
port = environment.config("PORT", default=8000, cast=int)
bind = f"{host}:{port}"

workers = environment.config("WEB_CONCURRENCY", default=os.cpu_count() or 1, cast=environment.count)

# Of each worker. Most of them wait for the database, so there are more than a core can run.
threads = environment.config("WEB_THREADS", default=8, cast=environment.count)

# A worker that accepted more would keep requests waiting behind slow ones while another has threads to spare. A
# connection that is kept for another request would take a thread's place.
keepalive = 0
worker_connections = threads

# A worker that stays busy for so long is replaced. The database's own timeouts are shorter.
timeout = 30

# For which a worker that is told to stop finishes its requests.
graceful_timeout = 30

# Requests after which a worker is replaced, so that no leak lasts; not all of them at once.
max_requests = 10_000
max_requests_jitter = 2_000

# It would lie in the home folder, for a command that nobody here uses.
control_socket_disable = True

logger_class = "config.server_log.Logger"

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


def find_figures() -> str:
    """Return the folder of figures; an empty name where each process counts for itself, as under another server."""
    return os.environ.get(FIGURES, "")


def lock(folder: Path) -> bool:
    """Hold a folder until this process and those that it forks have ended; tell whether nobody else does."""
    import fcntl  # noqa: PLC0415  which Windows has not, where checks read this module, too

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
    """Give a worker the first number that no other has, and a folder, which who clears up may have removed."""
    Path(os.environ[FIGURES]).mkdir(mode=0o700, parents=True, exist_ok=True)
    taken = {other.number for other in server.WORKERS.values()}
    worker.number = next(number for number in itertools.count(1) if number not in taken)


def post_fork(server: Any, worker: Any) -> None:
    """Tell a worker its number, and whether it has to look at the databases; gunicorn counts workers from 1 on."""
    global number  # noqa: PLW0603  it is this process's
    number = worker.number
    process.checked = process.CHECKED in os.environ or worker.age > server.cfg.workers


def child_exit(_server: Any, worker: Any) -> None:
    """Forget how things were with a worker that has ended; what it has counted stays."""
    for file in Path(os.environ[FIGURES]).glob(f"gauge_live*_{worker.number}.db"):
        file.unlink(missing_ok=True)


def on_exit(server: Any) -> None:
    """Remove the folder of figures, where it was made here."""
    if folder := getattr(server, "figures", None):
        shutil.rmtree(folder, ignore_errors=True)
