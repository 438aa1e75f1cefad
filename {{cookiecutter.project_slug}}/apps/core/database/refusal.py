"""The codes of a refused connection, which libpq keeps to itself; they are the same in every language."""

import os
import re
import sys
import time

import psycopg
from django.db import connections
from psycopg import errors, pq

from .probe import finish_first, list_conninfos

REFUSAL = re.compile(r'\tErrorResponse\t S "[^"]*" V "\w+" C "(?P<sqlstate>\w{5})" M ".*" R "(?P<routine>\w+)"')

# What PostgreSQL's functions mean by 28000, which stands for several refusals.
MEANT_BY = {
    "ClientAuthentication": "pg_hba.conf rejects connection",
    "auth_failed": "peer authentication failed",
}


def read_refusal(using: str, timeout: float) -> psycopg.Error | None:
    """
    Connect once more and return the error that the server's refusal stands for, or None where it told none.

    Each call costs a few kilobytes for good, which libpq never gives back: for commands and the start, not for views.
    """
    # Elsewhere psycopg does not trace libpq, which is PostgreSQL's alone.
    if sys.platform != "linux" or connections[using].vendor != "postgresql":
        return None
    # Never a real file, and never shown: under some methods a trace holds the password.
    trace = os.memfd_create("refusal")
    try:
        deadline = time.monotonic() + timeout
        for each in list_conninfos(connections[using], deadline):
            text = connect_traced(each, deadline, trace)
        told = REFUSAL.findall(os.pread(trace, 2**20, 0).decode(errors="replace"))
    except psycopg.Error:
        return None
    finally:
        os.close(trace)
    if not told:
        return None
    sqlstate, routine = told[-1]
    return interpret(sqlstate, routine, text)


def connect_traced(conninfo: bytes, deadline: float, trace: int) -> str:
    """Have libpq write what it sends and gets into the file `trace`; return what it says in the end."""
    connection = pq.PGconn.connect_start(conninfo)
    try:
        connection.trace(trace)
        finish_first([connection], deadline)
    except psycopg.OperationalError as error:
        return str(error)
    finally:
        connection.untrace()  # which writes what is left
        connection.finish()
    return ""


def interpret(sqlstate: str, routine: str, text: str) -> psycopg.Error:
    """Return the error of psycopg's for a code, with the server's own text where that says more."""
    if sqlstate == errors.InvalidAuthorizationSpecification.sqlstate:
        return errors.InvalidAuthorizationSpecification(MEANT_BY.get(routine, text))
    return errors.lookup(sqlstate)(text)
