"""Queries that take long, in the log: where they come from, and never the values they hold."""

import logging
from typing import Any

from psycopg.sql import Composable

from apps.core.database.diagnosis import is_unavailable
from apps.core.database.literals import blank_literals
from config import process

from .places import find_place

logger = logging.getLogger("apps.queries")

LENGTH = 1000  # characters of a query


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
