"""
How gunicorn serves the project in production; `manage.py serve` starts it with this file.

Its names are those of gunicorn's settings, and times are in seconds.
"""

import os
from typing import Any

from apps.core import environment  # not `config` from it, which is the name of a setting
from config import process

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

#: if cookiecutter.edition != "essential"
from apps.metrics.gunicorn_hooks import child_exit, on_exit, on_starting, pre_fork

#: endif
logger_class = "config.server_log.Logger"


def post_fork(server: Any, worker: Any) -> None:
    """Tell a worker whether it has to look at the databases; gunicorn counts workers from 1 on."""
    process.checked = process.CHECKED in os.environ or worker.age > server.cfg.workers
