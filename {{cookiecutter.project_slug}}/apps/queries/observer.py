"""What stands around every query of Django's connections: it tags, times, counts and tells."""

import logging
import time
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.sql import Composable

from apps.core.database.diagnosis import is_unavailable
from apps.core.database.literals import blank_literals
from config import process

from .places import find_place
from .repeats import counted, note_repeat
from .tags import tag
from .tally import current

logger = logging.getLogger("apps.queries")

LENGTH = 1000  # characters of a slow query, in the log


def attach(connection: BaseDatabaseWrapper, **_: Any) -> None:
    """Watch the queries of a connection, each of them once, however often it connects."""
    if observe not in connection.execute_wrappers:
        # In front: a block that has put its own wrapper at the end, and connects inside, takes off the last one.
        connection.execute_wrappers.insert(0, observe)


def observe(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
    """Execute a query, and note what it took."""
    if counted.get() is not None:
        note_repeat(sql)
    tagged = tag(sql)
    begin = time.perf_counter()
    try:
        result = execute(tagged, params, many, context)
    except Exception as error:
        conclude(sql, context, time.perf_counter() - begin, error)
        raise
    conclude(sql, context, time.perf_counter() - begin)
    return result


def conclude(sql: Any, context: dict[str, Any], seconds: float, error: Exception | None = None) -> None:
    """Count a query that has ended, and log it if it was slow."""
    if tally := current.get():
        tally.add(seconds)
    if 0 < settings.DB_SLOW_QUERY <= seconds:
        tell(sql, context, seconds, error)


def tell(sql: Any, context: dict[str, Any], seconds: float, error: Exception | None) -> None:
    """
    Log a slow query, in a process that has not to do with all of the data.

    What came of an outage is not said of the query.
    """
    if process.role in process.OWNERS or (error and is_unavailable(error)):
        return
    rows = context["cursor"].rowcount
    fields = {
        "duration_ms": round(seconds * 1000, 1),
        "rows": rows if error is None and rows >= 0 else None,
        "alias": context["connection"].alias,
        "place": find_place(),
        "sql": blank_literals(render(sql, context), comments=False)[:LENGTH],
    }
    logger.warning("Slow query%s", " that failed" if error else "", extra=fields)


def render(sql: Any, context: dict[str, Any]) -> str:
    """Return the text of a query, of an unknown kind only what it is: it may hold values."""
    if isinstance(sql, Composable):
        return sql.as_string(context["connection"].connection)
    return sql if isinstance(sql, str) else type(sql).__name__
