"""System checks of the project's infrastructure: each has a stable ID, which the README explains."""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register  # noqa: A004  Django's name
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections

from config import process, server

from .database import DatabaseHealthCheck
from .database.startup import CONNECTIONS, is_fault


@register(Tags.database)
def check_databases(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Report each database that `check --database` names and that cannot be used."""
    results = {using: DatabaseHealthCheck(using).check() for using in databases or ()}
    return [
        Error(f"Database '{using}': {result['error']}", hint=result["remedy"], id="core.E001")
        for using, result in results.items()
        if is_fault(result)
    ]


@register(Tags.database)
def check_connections_fit(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Report workers that together may open more connections than the server has for them."""
    database = settings.DATABASES[DEFAULT_DB_ALIAS]
    if DEFAULT_DB_ALIAS not in (databases or ()) or database["DISABLE_SERVER_SIDE_CURSORS"]:
        return []  # behind pgbouncer they are none of the server's
    each = database["OPTIONS"].get("pool", {}).get("max_size", server.threads)
    maximum = read_max_connections()
    if maximum is None or server.workers * each <= maximum:
        return []
    return [
        Warning(
            f"{server.workers} workers may open {each} connections each, but the server has {maximum} in all: "
            "under load some requests will be refused.",
            hint="Lower WEB_CONCURRENCY, WEB_THREADS or DB_POOL_MAX_SIZE, raise max_connections, or use pgbouncer.",
            id="core.W001",
        )
    ]


def read_max_connections() -> int | None:
    """Return how many connections the server has for roles that are no superusers, None where it does not answer."""
    names = "max_connections", "superuser_reserved_connections", "reserved_connections"  # the last from 16 on
    try:
        with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
            cursor.execute("SELECT name, setting::int FROM pg_settings WHERE name = ANY(%s)", [list(names)])
            found = dict(cursor.fetchall())
    except DatabaseError:
        return None
    return 2 * int(found["max_connections"]) - sum(found.values())


@register(CONNECTIONS)
def check_way_of_connecting(**_: Any) -> list[CheckMessage]:
    """Report settings of the default database that contradict each other."""
    database = settings.DATABASES[DEFAULT_DB_ALIAS]
    pool = database["OPTIONS"].get("pool")
    kept = database["CONN_MAX_AGE"] != 0
    found: list[CheckMessage] = []
    if pool and kept:
        found.append(
            Error(
                f"DB_CONN_MAX_AGE is {database['CONN_MAX_AGE']} and DB_POOL is on: "
                "a thread would keep the connection that it owes to the pool.",
                hint="Set DB_CONN_MAX_AGE=0, or DB_POOL=false.",
                id="core.E002",
            )
        )
    if kept and not pool and process.role == process.Role.ASGI:
        found.append(
            Error(
                f"DB_CONN_MAX_AGE is {database['CONN_MAX_AGE']} under ASGI, where no thread serves twice: "
                "connections would stay open unused until the server has none left.",
                hint="Leave DB_CONN_MAX_AGE out, and DB_POOL as well.",
                id="core.E003",
            )
        )
    return [*found, *(check_pool(pool) if pool else ()), *check_pgbouncer(database)]


def check_pool(pool: dict[str, Any]) -> list[CheckMessage]:
    """Report a pool that cannot work, or that would keep requests waiting until the server gives up."""
    if not 0 <= pool["min_size"] <= pool["max_size"] or pool["max_size"] < 1:
        return [
            Error(
                f"DB_POOL_MIN_SIZE is {pool['min_size']} and DB_POOL_MAX_SIZE {pool['max_size']}: "
                "there is no pool of such a size.",
                hint="Choose 0 <= DB_POOL_MIN_SIZE <= DB_POOL_MAX_SIZE, and the latter 1 or more.",
                id="core.E004",
            )
        ]
    if not 0 < pool["timeout"] < server.timeout:
        return [
            Error(
                f"DB_POOL_TIMEOUT is {pool['timeout']:g}, but must be more than 0 and less than the {server.timeout} "
                "seconds after which the web server gives up.",
                hint="5 is the default.",
                id="core.E005",
            )
        ]
    return []


def check_pgbouncer(database: dict[str, Any]) -> list[CheckMessage]:
    """Report what does not work through pgbouncer, which gives a connection to another client after a transaction."""
    options = database["OPTIONS"]
    if not database["DISABLE_SERVER_SIDE_CURSORS"]:
        return []
    if "options" in options or options.get("prepare_threshold") is not None:
        return [
            Error(
                "DB_PGBOUNCER is on, but OPTIONS holds startup options or prepared statements: "
                "pgbouncer refuses the first and mixes up the second.",
                hint='Take "options" and "prepare_threshold" out of OPTIONS, and set timeouts by ALTER ROLE.',
                id="core.E006",
            )
        ]
    if not settings.DB_DIRECT_HOST:
        return [
            Warning(
                "DB_PGBOUNCER is on without DB_DIRECT_HOST: migrate would go through pgbouncer, "
                "and is refused where there is something to apply.",
                hint="Set DB_DIRECT_HOST and DB_DIRECT_PORT to PostgreSQL itself.",
                id="core.W003",
            )
        ]
    return []


@register(CONNECTIONS)
def check_timeouts(**_: Any) -> list[CheckMessage]:
    """Report a web process whose queries the web server would end, and not PostgreSQL."""
    limits = settings.DATABASES[DEFAULT_DB_ALIAS]["OPTIONS"].get("options", "").split()
    values = dict(limit.split("=", 1) for limit in limits if limit.startswith(("statement_timeout=", "lock_timeout=")))
    serves = process.role in process.SERVERS
    return [
        Warning(
            f"DB_{name.upper()} is {int(value) / 1000:g}: a request may wait longer than the {server.timeout} seconds "
            "after which the web server gives up.",
            hint="Choose a shorter one; commands are not bound by it.",
            id="core.W004",
        )
        for name, value in values.items()
        if serves and not 0 < int(value) < server.timeout * 1000
    ]


@register(Tags.mail, deploy=True)
def check_mail(**_: Any) -> list[CheckMessage]:
    """Report mail that is dropped."""
    said = "EMAIL_HOST is empty: mail is dropped, password resets among it, and neither sent nor logged."
    hint = "Set EMAIL_HOST, EMAIL_HOST_USER, EMAIL_HOST_PASSWORD and DEFAULT_FROM_EMAIL."
    dropped = "dummy" in settings.MAILERS.get("default", {}).get("BACKEND", "")
    return [Warning(said, hint=hint, id="core.W005")] if dropped else []


@register(Tags.security, deploy=True)
def check_tls(**_: Any) -> list[CheckMessage]:
    """Report a connection over a network that others could read, or that could lead to somebody else's server."""
    database = settings.DATABASES[DEFAULT_DB_ALIAS]
    mode = database["OPTIONS"].get("sslmode", "prefer")
    local = all(host.startswith(("/", "@")) for host in database["HOST"].split(","))
    if local or mode == "verify-full":
        return []
    return [
        Warning(
            f"DB_SSLMODE is {mode}: whoever is between this machine and the database "
            "can read what is sent, or stand in for it.",
            hint="Leave DB_SSLMODE out, and set DB_SSLROOTCERT if the certificate is an authority's of your own.",
            id="core.W002",
        )
    ]
