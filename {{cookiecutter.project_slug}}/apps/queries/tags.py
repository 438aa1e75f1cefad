"""
The comment in each query by which the server says where it comes from: in its log, its activity and its statistics.

It is at the beginning, since pg_stat_activity cuts long queries, but not in front: PostgreSQL 18 leaves out of
pg_stat_statements what is there. All requests of a route have the same.
"""

import re
from functools import lru_cache
from typing import Any

from django.urls import ResolverMatch
from psycopg.sql import SQL, Composable

from config import process

from .tally import current

# Neither quotes nor what ends a comment, nor a placeholder's percent sign: a route may hold a pattern.
UNSAFE = re.compile(r"[^\w .,:<>()\[\]^$?+=/-]", re.ASCII)
FIRST_WORD = re.compile(r"[\s(]*([A-Za-z]+)\b")
# Of what is not tagged: by its wording, `migrate` knows what may be tried again.
SCHEMA_CHANGES = {"ALTER", "CREATE", "DROP", "REINDEX"}
LENGTH = 150  # characters of a route or name; pg_stat_activity shows 1,024 bytes of a query


def tag(sql: Any) -> Any:
    """Return a query with the comment; one that changes the schema, or is of an unknown kind, as it is."""
    if isinstance(sql, str):
        first = FIRST_WORD.match(sql)
        if not first or first[1].upper() in SCHEMA_CHANGES:
            return sql
        return f"{first[0]} {build_comment()}{sql[first.end() :]}"
    return SQL(f"{build_comment()} ") + sql if isinstance(sql, Composable) else sql


def build_comment() -> str:
    """Return the comment for a query of now: of the request, once its view is known, or else of the process."""
    tally = current.get()
    if tally is None:
        return describe_process(process.name)
    if not tally.comment and (match := tally.request.resolver_match):
        tally.comment = describe_view(match.route, name_view(match))
    return tally.comment or describe_process(process.name)


def name_view(match: ResolverMatch) -> str:
    """Return the dotted name of the function or class that answers."""
    view = getattr(match.func, "view_class", match.func)
    name = getattr(view, "__qualname__", type(view).__qualname__)
    return f"{view.__module__}.{name}"


@lru_cache(maxsize=1024)
def describe_view(route: str, view: str) -> str:
    """Return the comment for queries of a view."""
    return f"/* route='{clean(route)}',view='{clean(view)}' */"


@lru_cache(maxsize=8)
def describe_process(name: str) -> str:
    """Return the comment for queries of no request."""
    command = name.removeprefix("manage.py ")
    return f"/* {'process' if command == name else 'command'}='{clean(command)}' */"


def clean(name: str) -> str:
    """Return a name without what means something in SQL, or to psycopg, and not too long."""
    return UNSAFE.sub("_", name)[:LENGTH]
