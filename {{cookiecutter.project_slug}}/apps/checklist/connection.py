"""Whether others can listen to the connection, and whether what is done on it comes to an end."""

from typing import NamedTuple

from django.core.checks import CheckMessage, Warning  # noqa: A004  Django's name

from config import process, server

from .reading import Reading


class Limit(NamedTuple):
    """What a timeout is set by, the seconds that it may be at most, and what follows from more."""

    variable: str
    longest: int
    follows: str


LIMITS = {
    "statement_timeout": Limit("DB_STATEMENT_TIMEOUT", server.timeout, "a query runs on when the web server gave up"),
    "lock_timeout": Limit("DB_LOCK_TIMEOUT", server.timeout, "a request waits until the web server gives up"),
    "idle_in_transaction_session_timeout": Limit(
        "DB_IDLE_IN_TRANSACTION_TIMEOUT", 300, "a process that hangs keeps its locks"
    ),
}


def check_encryption(reading: Reading) -> list[CheckMessage]:
    """Report a connection, or that of a pgbouncer that it leads to, that is neither TLS nor a Unix socket."""
    ways = []
    if not is_private(reading):
        host = reading.connection.settings_dict["HOST"]
        ways.append((f"The connection to {host}", "Have it offer TLS, and leave DB_SSLMODE out."))
    if reading.pgbouncer and not reading.private:
        remedy = "Set server_tls_sslmode = verify-full and server_tls_ca_file in pgbouncer.ini."
        ways.append(("The connection from pgbouncer to PostgreSQL", remedy))
    return [
        Warning(
            f"{way} is not encrypted: whoever is between them can read what is sent.",
            hint=remedy,
            id="checklist.W006",
        )
        for way, remedy in ways
    ]


def is_private(reading: Reading) -> bool:
    """Tell whether this end of the connection uses TLS, or a Unix socket."""
    opened = reading.connection.connection.pgconn
    return bool(opened.ssl_in_use) or opened.host.startswith((b"/", b"@"))


def check_limits(reading: Reading) -> list[CheckMessage]:
    """Report timeouts of web processes that are not in force, whatever the settings say, or too long."""
    if process.role not in process.SERVERS:
        return []
    apply = ", and run manage.py database_roles --apply: behind pgbouncer the role's own holds" * reading.pgbouncer
    return [
        Warning(
            f"{name} is {milliseconds / 1000:g} s on a connection of a web process: {limit.follows}.",
            hint=f"Set {limit.variable} to more than 0 and at most {limit.longest} seconds{apply}.",
            id="checklist.W007",
        )
        for name, limit in LIMITS.items()
        if not 0 < (milliseconds := int(reading.settings[name])) <= limit.longest * 1000
    ]
