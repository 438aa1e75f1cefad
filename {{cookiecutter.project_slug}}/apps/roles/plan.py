"""What a database and its roles are to be, and making what of it is missing."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import psycopg
from django.conf import settings
from django.core.management.base import CommandError
from psycopg import errors, sql

from apps.core.database.causes import Cause
from apps.core.database.diagnosis import diagnose

from .account import ADVICE, Account, choose_administrator, choose_user
from .names import Names, read_database, read_user
from .passwords import find_wrong, set_password
from .statements import build_creation, build_extensions, build_lacking, build_lock_timeout, build_queries

Say = Callable[[str], object]

MAINTENANCE = "postgres"  # the database that every server has
LOCK = "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))"
LOCK_INTERVAL = 0.1  # seconds
LOCK_WAIT = 60.0  # seconds


class Plan(NamedTuple):
    """Queries for what is missing: of the server, and then of the database; and the roles, where there are five."""

    database: str
    creation: sql.Composed
    queries: Sequence[sql.Composed]
    names: Names | None

    def is_done(self) -> bool:
        """Tell whether nothing is missing, as far as whom this command logs in as can see."""
        account = choose_user()
        with refusal(account, self.database), account.connect(self.database) as connection, careful(connection):
            lacking = any(connection.execute(query).fetchall() for query in self.queries)
        return not lacking and not self.find_wrong_passwords()

    def find_wrong_passwords(self) -> dict[str, str]:
        """Return the passwords to set, by role; without an administrator nobody could."""
        return find_wrong(self.names) if self.names and settings.DB_ADMIN_USER else {}


def plan_roles(names: Names, extensions: Sequence[str] = ()) -> Plan:
    """Return the plan for a database of the five roles."""
    queries = [*build_queries(names), build_extensions(extensions, names.owner)]
    return Plan(names.database, build_creation(names.database), queries, names)


def plan_alone(extensions: Sequence[str]) -> Plan:
    """Return the plan for a database that DB_USER owns."""
    database, user = read_database(), read_user()
    return Plan(database, build_creation(database, user), [build_extensions(extensions, user)], None)


def carry_out(plan: Plan, say: Say) -> list[str]:
    """
    Run the statements that are missing, one process at a time, and return them.

    Inside the database all of them are run or none. Raises CommandError where the server refuses one.
    """
    account = choose_administrator()
    if settings.DATABASES["default"]["DISABLE_SERVER_SIDE_CURSORS"]:
        raise CommandError("DB_PGBOUNCER is on, and takes no lock of a session: set DB_DIRECT_HOST to PostgreSQL.")
    with refusal(account, plan.database), account.connect(MAINTENANCE) as maintenance:
        wait_for_turn(maintenance, plan.database, say)
        done = run(maintenance, [plan.creation], account)
        with account.connect(plan.database) as connection, careful(connection):
            # Once more by the session that does the work, whose end must be that of its lock.
            wait_for_turn(connection, plan.database, say)
            done += run(connection, plan.queries, account)
            lacking = connection.execute(build_lacking(plan.names)).fetchall() if plan.names else []
        for role, password in plan.find_wrong_passwords().items():
            with refusal(account, plan.database, f"ALTER ROLE {role} PASSWORD"):
                set_password(maintenance, role, password)
            done.append(f"password of {role}")
    for (sentence,) in lacking:
        say(sentence)
    return done


@contextlib.contextmanager
def careful(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Open a transaction that holds up others for a short time only."""
    with connection.transaction():
        connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(build_lock_timeout()))
        yield


def wait_for_turn(connection: psycopg.Connection[Any], database: str, say: Say) -> None:
    """Wait until no other process makes something for this database; the turn ends with the connection."""
    deadline = time.monotonic() + LOCK_WAIT
    told = False
    while connection.execute(LOCK, [f"roles of {database}"]).fetchone() != (True,):
        if time.monotonic() > deadline:
            raise CommandError(f"Another process has been preparing database '{database}' for {LOCK_WAIT:.0f} s.")
        if not told:
            say(f"Waiting for another process that prepares database '{database}'.")
            told = True
        time.sleep(LOCK_INTERVAL)


def run(connection: psycopg.Connection[Any], queries: Sequence[sql.Composed], account: Account) -> list[str]:
    """Run the statements that each query finds, and return them."""
    done: list[str] = []
    for query in queries:
        for (statement,) in connection.execute(query).fetchall():
            with refusal(account, connection.info.dbname, statement):
                connection.execute(statement)
            done.append(statement)
    return done


@contextlib.contextmanager
def refusal(account: Account, database: str, statement: str = "") -> Iterator[None]:
    """Raise CommandError, with what is missing, where the server refuses a statement or goes away."""
    try:
        yield
    except errors.RaiseException as error:  # of a statement that says why there can be no other
        raise CommandError(str(error.diag.message_primary)) from error
    except errors.InsufficientPrivilege as error:
        said = f"Role '{account.user}' may not run {statement}: {error.diag.message_primary}."
        raise CommandError(f"{said} {ADVICE}") from error
    except psycopg.Error as error:
        if statement and diagnose(error, {}).cause == Cause.UNKNOWN:
            raise CommandError(f"PostgreSQL refuses {statement}: {error.diag.message_primary}.") from error
        raise CommandError(account.explain(error, database)) from error
