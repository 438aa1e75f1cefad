"""The databases beside another one on its server: what is restored for it, tried out, or was replaced and is kept."""

import hashlib
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum

from django.core.management.base import CommandError
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import sql

from apps.core.database.session import Session, open_session

from .archive import TIME

LONGEST_NAME = 63  # bytes, unless PostgreSQL was compiled otherwise
MOMENT = re.compile(r"\d{8}T\d{6}Z")  # TIME


class Purpose(StrEnum):
    """What a database beside another one is there for."""

    KEPT = "before"
    RESTORE = "restore"
    VERIFY = "verify"


def connect(connection: BaseDatabaseWrapper, database: str, **account: str) -> Session:
    """Return a new connection to another database of the server that `connection` leads to, by the same account."""
    return open_session(connection, **account, dbname=database)


def maintain(connection: BaseDatabaseWrapper) -> Session:
    """Return a new connection to the database from which others are made, renamed and dropped."""
    return connect(connection, "template1" if connection.settings_dict["NAME"] == "postgres" else "postgres")


@contextmanager
def hold(session: Session, database: str, purpose: Purpose) -> Iterator[None]:
    """
    Be the only one who has a database restored or tried out; drop what others, who were killed, have left.

    Raises CommandError where somebody else is at it. The lock ends with the session.
    """
    session.execute("SET idle_session_timeout = 0")
    key = f"{purpose} {database}"
    (held,) = session.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [key]).fetchone() or (False,)
    if not held:
        raise CommandError(f"Another {purpose} of database '{database}' is running.")
    for name in list_neighbours(session, database, purpose):
        drop(session, name)
    yield


def name_neighbour(session: Session, database: str, purpose: Purpose) -> str:
    """Return a name of this second for a new database beside another one, such as shop_before_20261125T101500Z."""
    while True:
        name = find_prefix(database, purpose) + datetime.now(UTC).strftime(TIME)
        if not session.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
            return name
        time.sleep(0.1)


def find_prefix(database: str, purpose: Purpose) -> str:
    """Return how the names of these databases begin; a long name is cut, and told from others by a digest."""
    end = f"_{purpose}_"
    space = LONGEST_NAME - len(end) - len("20261125T101500Z")
    encoded = database.encode()
    if len(encoded) > space:
        digest = hashlib.sha256(encoded).hexdigest()[:8]
        database = f"{encoded[: space - 9].decode(errors='ignore')}-{digest}"
    return database + end


def list_neighbours(session: Session, database: str, purpose: Purpose) -> list[str]:
    """Return the names of the databases beside another one that this role owns, the newest first."""
    prefix = find_prefix(database, purpose)
    query = "SELECT datname FROM pg_database WHERE starts_with(datname, %s) AND pg_has_role(datdba, 'USAGE')"
    found = [name for (name,) in session.execute(query, [prefix])]
    return sorted((name for name in found if MOMENT.fullmatch(name.removeprefix(prefix))), reverse=True)


def drop(session: Session, database: str) -> None:
    """Drop a database if it is there, whoever uses it."""
    session.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))
