"""Queries that take long, in the log: where they come from, and never the values they hold."""

import logging
import re
from typing import Any

from psycopg.sql import Composable

from apps.core.database.diagnosis import is_unavailable
from config import process

from .places import find_place

logger = logging.getLogger("apps.queries")

LENGTH = 1000  # characters of a query

# Names are kept, and what is a value in the text is not, whoever wrote it there.
TOKEN = re.compile(
    r"""
    (?P<comment> --[^\n]* | /\*.*?(?:\*/|\Z) )
    | (?P<kept> "(?:[^"]|"")*" | %\(\w+\)s | \$\d+ )
    | [eE]'(?:[^'\\]|\\.|'')*(?:'|\Z)
    | (?:[bBnNxX]|[uU]&)?'(?:[^']|'')*(?:'|\Z)
    | (?P<tag>\$\w*\$).*?(?:(?P=tag)|\Z)
    | (?P<name> [^\W\d][\w$]* )
    | \d[\w.]*
    """,
    re.DOTALL | re.VERBOSE,
)


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
        "sql": strip_values(render(sql, context))[:LENGTH],
    }
    logger.warning("Slow query%s", " that failed" if error else "", extra=fields)


def render(sql: Any, context: dict[str, Any]) -> str:
    """Return the text of a query, of an unknown kind only what it is: it may hold values."""
    if isinstance(sql, Composable):
        return sql.as_string(context["connection"].connection)
    return sql if isinstance(sql, str) else type(sql).__name__


def strip_values(sql: str) -> str:
    """Return a query in one line, without comments, and with "?" for each value that is written out."""
    return " ".join(TOKEN.sub(replace, sql).split())


def replace(found: re.Match[str]) -> str:
    """Return what stands for a token of a query."""
    if found["comment"]:
        return " "
    return found["kept"] or found["name"] or "?"
