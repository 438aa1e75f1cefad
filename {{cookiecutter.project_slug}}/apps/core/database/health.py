"""Whether a database is usable and, if it is not, why."""

import logging
import time
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, Error, connections
from psycopg import Error as PsycopgError
from psycopg_pool import PoolTimeout

from .causes import Cause
from .diagnosis import Diagnosis, diagnose, explained, find_connecting
from .probe import Answer, probe
from .refusal import read_refusal

logger = logging.getLogger(__name__)

TIMEOUT = 3.0  # seconds

# Whatever can come of asking a database; anything else is a mistake of this project's.
FAILURES = (Error, PsycopgError, PoolTimeout, OSError, ImproperlyConfigured)


class DatabaseHealthCheck:
    """
    Asks one database, an alias of DATABASES, whether it is usable.

    `timeout` bounds the whole check, in seconds. A `thorough` check, which those that are repeated for ever should not
    be, connects a second time where the server's words alone do not tell the cause, as when it speaks another language.
    """

    def __init__(self, using: str = DEFAULT_DB_ALIAS, timeout: float = TIMEOUT, *, thorough: bool = True) -> None:
        """Remember which database to ask, and how."""
        self.using = using
        self.timeout = timeout
        self.thorough = thorough

    def check(self, *, details: bool = False) -> dict[str, Any]:
        """
        Return what a health report says, never raising for a database that cannot be used.

        Healthy: `status` "healthy", `database` "connected", `response_time_ms`, `connection_info` (`engine`, `host`,
        `port`, `name`, `user`), `server_version` such as "18.6", `role` "primary" or "standby", `tls` and, with
        `details`, `connections`, how many are `used` of the server's `maximum`, `server`, the host and port that
        answered, its `wal_position` in bytes, a standby's `lag_seconds`, and where this process has a pool `pool`: its
        `size`, `maximum`, `available` connections, `waiting` requests and `timeouts` so far. Unhealthy:
        `status` "unhealthy", `database` "disconnected", the same `response_time_ms`, `connection_info` and `pool`, and
        `error` (a sentence), `cause` (of `causes.Cause`) and `remedy`.
        """
        begin = time.perf_counter()
        try:
            answer = probe(self.using, self.timeout, details=details)
        except FAILURES as error:
            result = describe_failure(self.diagnose(error, self.timeout - (time.perf_counter() - begin)))
        else:
            result = describe_answer(answer)
        result["response_time_ms"] = round((time.perf_counter() - begin) * 1000, 2)
        result["connection_info"] = describe_connection(self.using)
        if details and (figures := read_pool_figures(self.using)):
            result["pool"] = figures
        return result

    def diagnose(self, error: Exception, seconds: float) -> Diagnosis:
        """Return why the database cannot be used; a second look ends within `seconds`."""
        settings = connections[self.using].settings_dict
        diagnosis = diagnose(error, settings)
        if self.thorough and diagnosis.cause == Cause.UNKNOWN and (told := read_refusal(self.using, seconds)):
            return diagnose(told, settings)
        return diagnosis


def check_database_connection(verbose: bool = False, using: str = DEFAULT_DB_ALIAS) -> bool:
    """Tell whether the database is usable; `verbose` logs the answer, with cause and remedy where it is not."""
    result = DatabaseHealthCheck(using).check()
    healthy = bool(result["status"] == "healthy")
    if verbose and healthy:
        logger.info("Database %s is connected (%s ms).", using, result["response_time_ms"])
    elif verbose:
        logger.error("Database %s: %s Remedy: %s", using, result["error"], result["remedy"])
    return healthy


def get_database_status(using: str = DEFAULT_DB_ALIAS) -> dict[str, Any]:
    """Return the health check's result, with details, and `connected`, a truth value."""
    result = DatabaseHealthCheck(using).check(details=True)
    return {"connected": result["status"] == "healthy", **result}


def ensure_database_connection(using: str = DEFAULT_DB_ALIAS, timeout: float = TIMEOUT) -> None:
    """Raise OperationalError with cause and remedy, from the original error, unless the database is usable."""
    try:
        probe(using, timeout)
    except FAILURES as error:
        raise explained(str(diagnose(error, connections[using].settings_dict))) from error


def explain(error: Exception) -> str:
    """Return what a command says of the error that ended it, "" unless that occurred while connecting."""
    if isinstance(error, ImproperlyConfigured) or hasattr(error, "is_explained"):
        return str(error)
    if not (connection := find_connecting(error)):
        return ""
    diagnosis = diagnose(error, connection.settings_dict)
    return str(error if diagnosis.cause == Cause.UNKNOWN else diagnosis)


def describe_answer(answer: Answer) -> dict[str, Any]:
    """Return the part of a report that a usable database fills."""
    result: dict[str, Any] = {
        "status": "healthy",
        "database": "connected",
        "server_version": answer.product or f"{answer.version // 10_000}.{answer.version % 10_000}",
        "role": "standby" if answer.standby else "primary",
        "tls": answer.tls,
    }
    if answer.connections:
        result["connections"] = dict(zip(("used", "maximum"), answer.connections, strict=True))
        result["server"] = f"{answer.host}:{answer.port}"
        result["wal_position"] = answer.position
    if answer.lag is not None:
        result["lag_seconds"] = round(answer.lag, 2)
    return result


def read_pool_figures(using: str) -> dict[str, int]:
    """Return what goes on in the pool of this process, nothing where none is in use."""
    pool = getattr(connections[using], "pool", None)
    if not pool or pool.closed:
        return {}
    found = pool.get_stats()
    names = {"size": "pool_size", "maximum": "pool_max", "available": "pool_available"}
    names |= {"waiting": "requests_waiting", "timeouts": "requests_errors"}
    return {name: found.get(figure, 0) for name, figure in names.items()}


def describe_failure(diagnosis: Diagnosis) -> dict[str, Any]:
    """Return the part of a report that says what is wrong."""
    return {
        "status": "unhealthy",
        "database": "disconnected",
        "error": diagnosis.message,
        "cause": str(diagnosis.cause),
        "remedy": diagnosis.remedy,
    }


def describe_connection(using: str) -> dict[str, str]:
    """Return how the database is reached, without anything secret."""
    settings = connections[using].settings_dict
    return {key.lower(): str(settings[key] or "") for key in ("ENGINE", "HOST", "PORT", "NAME", "USER")}
