"""What an entry point does about its database before it serves."""

import logging
import time
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections

from .causes import TABLE, Cause
from .diagnosis import explained
from .health import TIMEOUT, DatabaseHealthCheck

logger = logging.getLogger(__name__)

CONNECTIONS = "connections"  # the tag of checks of how this process connects
RETRY_INTERVAL = 1.0  # seconds


class DatabaseReadyCheck:
    """Tells before the first request that the database cannot be used: by a warning, or by refusing to serve."""

    @staticmethod
    def check_and_warn(using: str = DEFAULT_DB_ALIAS) -> bool:
        """Tell whether the database is usable within DB_STARTUP_WAIT seconds; log a warning with the cause if not."""
        result = wait_for_database(using, settings.DB_STARTUP_WAIT)
        if result["status"] != "healthy":
            logger.warning("%s", describe(result))
        return bool(result["status"] == "healthy")

    @staticmethod
    def ensure_or_fail(using: str = DEFAULT_DB_ALIAS) -> None:
        """Log one critical line and raise OperationalError unless the database is usable within DB_STARTUP_WAIT."""
        result = wait_for_database(using, settings.DB_STARTUP_WAIT)
        if result["status"] != "healthy":
            logger.critical("%s", describe(result))
            raise explained(describe(result))


def check_before_serving() -> None:
    """
    Warn in development and refuse in production when the database is not usable.

    For WSGI and ASGI, after the application is made: an error here ends the server instead of one worker after another.
    Raises ImproperlyConfigured where settings of connections contradict each other.
    """
    if faults := [fault for fault in run_checks(tags=[CONNECTIONS]) if fault.is_serious()]:
        raise ImproperlyConfigured(" ".join(f"{fault.id}: {fault.msg} {fault.hint}" for fault in faults))
    try:
        if settings.DEBUG:
            DatabaseReadyCheck.check_and_warn()
        else:
            DatabaseReadyCheck.ensure_or_fail()
    finally:
        # Where the server forks only now, its workers must not share what was opened so far.
        for connection in connections.all(initialized_only=True):
            if connection.connection:
                connection.close()
            if connection.vendor == "postgresql":
                connection.close_pool()  # type: ignore[attr-defined]


def wait_for_database(
    using: str,
    seconds: float,
    *,
    interval: float = RETRY_INTERVAL,
    timeout: float = TIMEOUT,
    on_wait: Callable[[str, dict[str, Any], bool], None] = lambda _using, _result, _changed: None,
) -> dict[str, Any]:
    """
    Check a database until it is usable, waiting cannot help, or `seconds` are over; return the last report.

    Each check takes `timeout` seconds at most, and the next begins `interval` seconds after it. `on_wait` is called
    before each pause with the alias, the report, and whether the cause is another than before.
    """
    deadline = time.monotonic() + seconds
    cause = None
    while True:
        result = DatabaseHealthCheck(using, min(timeout, deadline - time.monotonic()) if seconds else timeout).check()
        if result["status"] == "healthy" or not TABLE[Cause(result["cause"])].waiting_helps:
            return result
        if time.monotonic() < deadline:
            on_wait(using, result, result["cause"] != cause)
            cause = result["cause"]
        time.sleep(max(0, min(interval, deadline - time.monotonic())))
        if time.monotonic() >= deadline:
            return result


def is_fault(result: dict[str, Any]) -> bool:
    """Tell whether a report is of something to mend; the replica that took over is left out for the time being."""
    return bool(result["status"] != "healthy" and result["cause"] != Cause.NO_STANDBY)


def describe(result: dict[str, Any]) -> str:
    """Return what is wrong and what to do, in one line."""
    return f"{result['error']} Remedy: {result['remedy']}"
