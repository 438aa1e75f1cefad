"""What can go wrong in the commands of this room, and how they say it."""

import psycopg
from django.core.management.base import CommandError
from django.db import Error, connections

from apps.core.database.causes import Cause
from apps.core.database.diagnosis import diagnose, find_origin

FAILURES = (CommandError, Error, psycopg.Error, OSError)


def explain(error: Exception, using: str) -> str:
    """Return what went wrong, in a sentence."""
    if isinstance(error, CommandError):
        return f"{str(error).rstrip('.')}."
    if isinstance(error, OSError):
        return f"{error.filename or 'a file'}: {error.strerror}."
    diagnosis = diagnose(error, connections[using].settings_dict)
    if diagnosis.cause in {Cause.UNKNOWN, Cause.PERMISSION_DENIED} and getattr(find_origin(error), "sqlstate", None):
        return f"{str(error).partition('\n')[0]}."  # of a query, whose object it names
    return str(diagnosis)
