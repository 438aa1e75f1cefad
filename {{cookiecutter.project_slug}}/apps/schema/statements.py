"""Statements outside a transaction, which those of a migration that is not atomic are."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration

from .attempts import is_blocked, repeat

# They hold up nobody while they wait, and where they end early they leave an index that is not valid.
CONCURRENT = re.compile(r"\s*(ALTER|CREATE|DROP|REINDEX)\b[^;']*\bCONCURRENTLY\b", re.IGNORECASE)
INDEX = re.compile(
    r'\s*CREATE\s+(UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+(IF\s+NOT\s+EXISTS\s+)?(?P<name>"[^"]+"|\w+)\s+ON\b',
    re.IGNORECASE,
)

# A single one, which has done nothing where it did not get its lock.
REPEATABLE = re.compile(r"\s*(ALTER|CREATE|DROP)\b[^;]*;?\s*", re.IGNORECASE)


def is_atomic(connection: BaseDatabaseWrapper, migration: Migration) -> bool:
    """Tell whether the migration is rolled back when it fails: not every engine does as the migration says."""
    return bool(connection.schema_editor(atomic=migration.atomic).atomic_migration)


def execute_patiently(  # noqa: PLR0913, PLR0917  Django's own signature for what is wrapped around a query
    tell: Callable[[str], None],
    execute: Callable[..., Any],
    sql: str,
    params: Any,
    many: bool,
    context: dict[str, Any],
) -> Any:
    """Execute a statement; outside a transaction, with the patience for locks that it deserves."""
    connection, text = context["connection"], str(sql)
    if connection.in_atomic_block:
        return execute(sql, params, many, context)
    if CONCURRENT.match(text):
        drop_unfinished(connection, text, tell)
        with unlimited_wait(connection):
            return execute(sql, params, many, context)
    if REPEATABLE.fullmatch(text):
        return repeat(lambda: execute(sql, params, many, context), is_blocked, tell)
    return execute(sql, params, many, context)


@contextmanager
def unlimited_wait(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Wait for locks without a limit inside the block."""
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = 0")
    try:
        yield
    finally:
        if connection.is_usable():
            with connection.cursor() as cursor:
                cursor.execute("RESET lock_timeout")


def drop_unfinished(connection: BaseDatabaseWrapper, sql: str, tell: Callable[[str], None]) -> None:
    """Drop what an earlier attempt to create the same index has left of it, which would be in the way."""
    if not (index := INDEX.match(sql)):
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT FROM pg_index WHERE indexrelid = to_regclass(%s) AND NOT indisvalid",
            [index["name"]],
        )
        if cursor.rowcount:
            tell(f"Index {index['name']} was left unfinished and is made anew.")
            cursor.execute(f"DROP INDEX CONCURRENTLY {index['name']}")
