"""
Which environment a database belongs to, so that what belongs to production is not destroyed by mistake.

The database's comment says it: everybody may read that, the owner alone may change it, it stays with the database when
that is renamed, and a restored dump does not bring it along.
"""

import contextlib
import re
import shlex

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError
from django.db import DEFAULT_DB_ALIAS, Error, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import sql

from .causes import Cause
from .diagnosis import diagnose

PRODUCTION = "production"
MARK = re.compile(r"\[environment: (.*?)\]")


def read_environment(connection: BaseDatabaseWrapper) -> str:
    """
    Return the environment that the database of a connection belongs to, "" where it is not marked or does not exist.

    Raises OperationalError where the server does not answer.
    """
    try:
        _, comment, _ = read_comment(connection)
    except OperationalError as error:
        if diagnose(error, connection.settings_dict).cause != Cause.DATABASE_MISSING:
            raise
        return ""
    found = MARK.search(comment)
    return found[1] if found else ""


def mark_environment(connection: BaseDatabaseWrapper, environment: str) -> None:
    """
    Write into the database's comment which environment it belongs to, where no mark is and this role may.

    A mark is never changed, since a development process that migrates a production database must not unmark it.
    """
    name, comment, owned = read_comment(connection)
    if owned and environment and not MARK.search(comment):
        marked = f"{comment} [environment: {environment}]".lstrip()
        statement = sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), sql.Literal(marked))
        with connection.cursor() as cursor:
            cursor.execute(statement)


def refuse_production(connection: BaseDatabaseWrapper, action: str) -> None:
    """
    Raise CommandError where the database belongs to production, unless DB_UNPROTECTED is its name.

    `action` says what would happen to it, such as "flush would delete its data". A connection that was closed before
    is closed again: nobody can drop or rename a database while somebody is connected.
    """
    name = connection.settings_dict["NAME"]
    closed = connection.connection is None
    try:
        environment = read_environment(connection)
    finally:
        if closed:
            connection.close()
    if environment == PRODUCTION and name != settings.DB_UNPROTECTED:
        raise CommandError(
            f"Database '{name}' belongs to production: {action}. "
            f"Set DB_UNPROTECTED={shlex.quote(name)} for this one command if that is what you want."
        )


def refuse_test_run() -> None:
    """Raise CommandError where tests would run beside a production database; one that cannot be asked is none."""
    with contextlib.suppress(ImproperlyConfigured, Error):
        refuse_production(connections[DEFAULT_DB_ALIAS], "a test run would make and drop databases on its server")


def read_comment(connection: BaseDatabaseWrapper) -> tuple[str, str, bool]:
    """Return the database's name and comment, and whether this role may change it; only PostgreSQL's have a comment."""
    if connection.vendor != "postgresql":
        return "", "", False
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT datname, coalesce(shobj_description(oid, 'pg_database'), ''), pg_has_role(datdba, 'USAGE') "
            "FROM pg_database WHERE datname = current_database()"
        )
        ((name, comment, owned),) = cursor.fetchall()
    return name, comment, owned
