"""What can go wrong in the commands of this app, signals to end included, and how they say it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import psycopg
from django.core.management.base import CommandError
from django.db import Error, connections

from apps.core.database.causes import Cause
from apps.core.database.diagnosis import diagnose, find_origin

FAILURES = (CommandError, Error, psycopg.Error, OSError)
NAMES = "SIGINT", "SIGTERM", "SIGHUP"


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


@contextmanager
def heed_signals(task: str) -> Iterator[None]:
    """
    Have the first signal to end leave the block, which cleans up, and then raise CommandError; others are ignored.

    `task` is the sentence's subject. What is ignored already, as under nohup, stays so; threads get no signals.
    """

    def interrupt(number: int, _frame: FrameType | None) -> None:
        for each in heeded:
            signal.signal(each, signal.SIG_IGN)
        # Which psycopg knows: it cancels the query that it waits for.
        raise KeyboardInterrupt(signal.Signals(number).name)

    found = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    heeded = {each: handler for each in found if (handler := signal.getsignal(each)) != signal.SIG_IGN}
    if threading.current_thread() is not threading.main_thread():
        heeded = {}
    try:
        for each in heeded:
            signal.signal(each, interrupt)
        yield
    except KeyboardInterrupt as interruption:
        raise CommandError(f"{task} was interrupted by {interruption}.") from None
    finally:
        for each, handler in heeded.items():
            signal.signal(each, handler)
