"""What stands around every query of Django's connections: it tags, times, counts and tells."""

import time
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper

from .repeats import counted, note_repeat
from .slow import tell
from .tags import tag
from .tally import current


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
