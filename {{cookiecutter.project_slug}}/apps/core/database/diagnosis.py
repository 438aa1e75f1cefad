"""From an error to its cause: what the table says about it, with the names of this database."""

import inspect
import re
import shlex
import traceback
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import psycopg
from django.core.exceptions import ImproperlyConfigured
from django.db import NotSupportedError, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.dispatch import Signal
from psycopg import errors
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

from .causes import TABLE, Cause

# What libpq puts before a message, for each server that it tried, and what psycopg and the server put there.
ATTEMPT = re.compile(
    r'^(?:connection failed: )?connection to server (?:at|on socket) ".*?"(?: \(.*?\))?(?:, port \d+)? failed: ',
    re.MULTILINE,
)
PREFIX = re.compile(r"(?:[a-z ]+ failed: )?(?:FATAL:  )?(?:\[Errno \d+\] )?")

# A name with one of these could pass for a message.
MISLEADING = re.compile(r'\n|"[ ,]')

# Codes that stand for several causes: 28000 is PostgreSQL's, and 08P01 what pgbouncer says for everything.
AMBIGUOUS = {None, "08P01", "28000"}

# Why a query fails when it is not the query's fault; its code means another cause only where a connection is refused.
OF_QUERIES = (
    Cause.CONNECTION_LOST,
    Cause.DISK_FULL,
    Cause.LOCKED,
    Cause.OUT_OF_MEMORY,
    Cause.READ_ONLY,
    Cause.STARTING_OR_STOPPING,
    Cause.TERMINATED,
    Cause.TOO_MANY_CONNECTIONS,
)
UNAVAILABLE = frozenset[str]().union(*(TABLE[cause].sqlstates for cause in OF_QUERIES)) - {"25P03"}  # was left idle

CONNECT = inspect.unwrap(BaseDatabaseWrapper.connect).__code__


def explained(text: str) -> OperationalError:
    """Return an error that says by itself why no connection can be had, so that a command prints that alone."""
    error = OperationalError(text)
    error.is_explained = True  # type: ignore[attr-defined]
    return error


class Diagnosis(NamedTuple):
    """A cause with the names of this database filled in: a sentence or two, and the command or variable to change."""

    cause: Cause
    message: str
    remedy: str
    waiting_helps: bool

    def __str__(self) -> str:
        """Return what is wrong and what to do, in one line."""
        return f"{self.message} Remedy: {self.remedy}"


def diagnose(error: BaseException, settings: Mapping[str, Any]) -> Diagnosis:
    """
    Return why the database with these `settings`, an entry of DATABASES, could not be used.

    `error` is what Django, psycopg or its pool raised, of whatever class; nothing is asked of the server.
    """
    origin = find_origin(error)
    names = {key.lower(): str(settings.get(key) or "") for key in ("HOST", "PORT", "NAME", "USER")}
    names["host"] = names["host"] or "localhost"
    names["port"] = names["port"] or "5432"
    said = extract_message(str(origin), names.values())
    # A server's answer to a query has details; libpq hides those of a refused connection.
    answered = isinstance(origin, psycopg.Error) and origin.diag.sqlstate not in {None, "08P01"}
    cause = classify(origin, said, OF_QUERIES if answered and not find_connecting(error) else TABLE)
    row = TABLE[cause]
    return Diagnosis(
        cause,
        row.message.format(**names, error=said or type(origin).__name__),
        row.remedy.format(**quote_names(names)),
        row.waiting_helps,
    )


def quote_names(names: Mapping[str, str]) -> dict[str, str]:
    """Return the names as words of a shell command, and the statements that a remedy runs, likewise."""
    user, name = ('"' + names[key].replace('"', '""') + '"' for key in ("user", "name"))
    statements = {
        "allow_connections": f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true",
        "grant": f"GRANT ALL PRIVILEGES ON DATABASE {name} TO {user}",
        "grant_login": f"ALTER ROLE {user} LOGIN",
        "find_blocking": "SELECT pid, pg_blocking_pids(pid), query FROM pg_stat_activity",
    }
    return {key: shlex.quote(value) for key, value in {**names, **statements}.items()}


def is_unavailable(error: BaseException) -> bool:
    """
    Tell whether the error is due to the database's state, so that the same request may succeed later.

    A mistake in a query or in the data, a deadlock, and a query that takes too long are not.
    """
    origin = find_origin(error)
    if origin is error and error.__cause__ and not isinstance(error, psycopg.Error):
        return False  # of another kind of database
    sqlstate = getattr(origin, "sqlstate", None)
    if sqlstate in AMBIGUOUS:  # of psycopg or its pool, which got no connection or lost it, or of pgbouncer
        # Of the last two kinds where the server went without a word, or in the middle of one.
        plain = type(origin) is psycopg.DatabaseError
        return plain or isinstance(origin, OperationalError | psycopg.OperationalError | psycopg.InternalError)
    return sqlstate in UNAVAILABLE


def find_connecting(error: BaseException) -> BaseDatabaseWrapper | None:
    """Return the connection that was being opened where the error occurred, as its traceback tells, or None."""
    found = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code is CONNECT:
            found = frame.f_locals["self"]
        elif frame.f_code is Signal.send.__code__:  # connection_created: a receiver's queries
            found = None
    return found


def find_origin(error: BaseException) -> BaseException:
    """Return the error below Django's own, which alone knows a SQLSTATE."""
    cause = error.__cause__
    return cause if isinstance(cause, psycopg.Error | PoolTimeout | OSError) else error


def classify(error: BaseException, message: str, causes: Iterable[Cause]) -> Cause:
    """Return which of the causes an error of psycopg or Django with this message stands for; unknown before a guess."""
    if isinstance(error, PoolTimeout | TooManyRequests | PoolClosed):
        return Cause.POOL_EXHAUSTED
    if isinstance(error, NotSupportedError):
        return Cause.SERVER_TOO_OLD
    if isinstance(error, ImproperlyConfigured):
        return Cause.CONFIGURATION
    if isinstance(error, errors.ConnectionTimeout):
        return Cause.TIMEOUT
    sqlstate = getattr(error, "sqlstate", None)
    for cause in causes:
        row = TABLE[cause]
        if re.match(row.text, message) if sqlstate in AMBIGUOUS else sqlstate in row.sqlstates:
            return cause
    return Cause.CONFIGURATION if type(error) is psycopg.ProgrammingError else Cause.UNKNOWN


def extract_message(text: str, names: Iterable[str]) -> str:
    """Return the first line of what the last server that was tried said, without what is put around it."""
    for name in sorted(filter(MISLEADING.search, names), key=len, reverse=True):  # one may be part of another
        text = text.replace(name, "?")
    tried = ATTEMPT.split(text.partition("\nMultiple connection attempts failed")[0])
    return PREFIX.sub("", tried[-1].strip(), count=1).partition("\n")[0].strip().rstrip(".")
