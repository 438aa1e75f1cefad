"""How this process connects to PostgreSQL: what the DB_* variables and its role make of OPTIONS."""

import math
import os
import ssl
import sys
from typing import Any

import certifi
from django.core.exceptions import ImproperlyConfigured
from django.db.utils import load_backend

from apps.core.database.connection import check_pooled
from apps.core.database.hosts import PooledConnection
from apps.core.environment import config, count, seconds
from config import process
from config.process import Role

PGBOUNCER = config("DB_PGBOUNCER", default=False, cast=bool) and not (process.direct and config("DB_DIRECT_HOST"))

# What only `.env` says must not lead a command past the server that its environment names.
EMBEDDED = config("DB_EMBEDDED", default=False, cast=bool)
STRONGER = ["DB_EMBEDDED"] if EMBEDDED else ["DB_DIRECT_HOST", "DB_DIRECT_PORT"] if config("DB_DIRECT_HOST") else []
for given in ["DB_HOST", "DB_PORT", *(["DB_DIRECT_HOST"] if EMBEDDED else [])] if process.direct else []:
    for other in STRONGER:
        if os.environ.get(given) and other not in os.environ and config(other):
            raise ImproperlyConfigured(
                f"{given} is {os.environ[given]!r} in the environment, but this command connects by {other}, which is "
                f"{config(other)!r} in .env: set {other} in the environment as well, or leave {given} out."
            )

SERVES = process.role in process.SERVERS

# One of several hosts is the primary, and which may change.
SEVERAL = "," in config("DB_HOST")

# The primary, unless somebody looks at a standby on purpose; where there is no other, also while it is read-only.
SESSIONS = config("DB_TARGET_SESSION_ATTRS", default="read-write" if SEVERAL else "primary")

# Under ASGI each request has a thread of its own: a connection that it kept would never be used again, nor closed.
# Commands have one connection, and nobody to share it with. Of several hosts the pool finds the primary soonest.
POOL = SERVES and config("DB_POOL", default=SEVERAL or process.role == Role.ASGI, cast=bool)
MAX_AGE = 0 if POOL or process.role == Role.ASGI else 600  # seconds


def build_options(*, pgbouncer: bool, sessions: str = SESSIONS) -> dict[str, Any]:
    """
    Return OPTIONS: libpq's parameters, and the pool.

    `sessions` is libpq's target_session_attrs.
    """
    options: dict[str, Any] = {
        "application_name": process.name,
        # Seconds; without it psycopg waits more than two minutes for a silent server.
        "connect_timeout": config("DB_CONNECT_TIMEOUT", default=3 if SERVES else 10, cast=count),
        # Without these, a server that has left the network keeps its clients waiting for hours.
        "keepalives_idle": config("DB_KEEPALIVES_IDLE", default=10, cast=int),
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": milliseconds(config("DB_TCP_USER_TIMEOUT", default=10, cast=seconds)),
    }
    # pgbouncer says for ever what its server was at first, and refuses options: there the role's own hold.
    if not pgbouncer:
        options["target_session_attrs"] = sessions
        options["options"] = " ".join(f"-c {name}={value}" for name, value in build_limits().items())
    if POOL:
        options["pool"] = build_pool()
    return options | build_tls("")


def secure(database: dict[str, Any]) -> dict[str, Any]:
    """Return an entry of DATABASES with `verify-full`, unless it says otherwise or is no PostgreSQL's."""
    options = database.get("OPTIONS", {})
    if "sslmode" in options or load_backend(database["ENGINE"]).DatabaseWrapper.vendor != "postgresql":
        return database
    return {**database, "OPTIONS": {**options, **build_tls("verify-full")}}


def build_tls(sslmode: str) -> dict[str, str]:
    """Return libpq's parameters of TLS; `sslmode` is what DB_SSLMODE is by default."""
    tls = {
        "sslmode": config("DB_SSLMODE") or sslmode,  # nor does an empty one weaken it
        "sslrootcert": config("DB_SSLROOTCERT"),
        "sslcert": config("DB_SSLCERT"),
        "sslkey": config("DB_SSLKEY"),
    }
    if tls["sslmode"].startswith("verify-") and not tls["sslrootcert"]:
        # A file, because libpq's "system" finds no roots in psycopg's binary wheel.
        tls["sslrootcert"] = ssl.get_default_verify_paths().cafile or certifi.where()
    return {name: value for name, value in tls.items() if value}


def build_limits(role: Role | None = None) -> dict[str, int]:
    """
    Return PostgreSQL's timeouts in milliseconds: short where somebody waits for a page, none for commands.

    `role` is this process's unless another is meant, as by who writes limits into the database.
    """
    role = role or process.role
    limits = {
        "statement_timeout": config("DB_STATEMENT_TIMEOUT", default=10, cast=seconds),
        "lock_timeout": config("DB_LOCK_TIMEOUT", default=3, cast=seconds),
        "idle_in_transaction_session_timeout": config("DB_IDLE_IN_TRANSACTION_TIMEOUT", default=30, cast=seconds),
    }
    if role not in process.SERVERS:
        limits = dict.fromkeys(limits, 0)
    if role == Role.MIGRATE:
        # While a change of a table waits for its lock, everybody else waits behind it.
        limits["lock_timeout"] = config("DB_MIGRATE_LOCK_TIMEOUT", default=5, cast=seconds)
        limits["statement_timeout"] = config("DB_MIGRATE_STATEMENT_TIMEOUT", default=3600, cast=seconds)
    # A query whose client has gone is ended, too; servers on Windows cannot tell.
    interval = 0 if sys.platform == "win32" else 1
    limits["client_connection_check_interval"] = config("DB_CLIENT_CHECK_INTERVAL", default=interval, cast=seconds)
    return {name: milliseconds(value) for name, value in limits.items()}


def build_pool() -> dict[str, Any]:
    """Return what psycopg_pool.ConnectionPool takes; times are in seconds."""
    return {
        "min_size": config("DB_POOL_MIN_SIZE", default=1, cast=int),
        "max_size": config("DB_POOL_MAX_SIZE", default=8, cast=int),
        "check": check_pooled,
        "connection_class": PooledConnection,
        "timeout": config("DB_POOL_TIMEOUT", default=5, cast=seconds),
        # Less up to 5 %, by chance, so that not all connections end at once.
        "max_lifetime": config("DB_POOL_MAX_LIFETIME", default=3600, cast=seconds),
        # A pool that goes on trying waits longer and longer; `database.outage` knows when it is worth it.
        "reconnect_timeout": 0.2,
    }


def milliseconds(value: float) -> int:
    """Return seconds in PostgreSQL's unit, of which none means no limit."""
    return math.ceil(value * 1000)
