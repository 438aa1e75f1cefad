"""One line of code that asks the same for each of many objects, and so makes N+1 queries of what could be two."""

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django.conf import settings

from apps.core.database.literals import blank_literals

from .places import find_place

logger = logging.getLogger("apps.queries")

LIMIT = 5  # times, from which on it is no accident
ADVICE = (
    "Ask once for all of them: by select_related, prefetch_related or fetch_mode(FETCH_PEERS) for what belongs to "
    "objects, by bulk_create, bulk_update or update() for changes; or say allow_repeats() where it is meant."
)
LENGTH = 300  # characters of a query

Shape = tuple[str, str]  # where, and what without its values

counted: ContextVar[Counter[Shape] | None] = ContextVar("counted", default=None)
allowed: ContextVar[bool] = ContextVar("allowed", default=False)
told: set[Shape] = set()


class RepeatedQueries(Exception):  # noqa: N818  what happened, not what kind of object it is
    """A line of code repeats a query; said before the one that would be too many."""


@contextmanager
def watch() -> Iterator[None]:
    """Count repeated queries inside the block, as around each request, and do what REPEATED_QUERIES says of them."""
    token = counted.set(Counter() if settings.REPEATED_QUERIES else None)
    try:
        yield
    finally:
        counted.reset(token)


@contextmanager
def allow_repeats() -> Iterator[None]:
    """
    Let queries be repeated inside the block, or by the function that it decorates.

    For what is meant, as work in batches is. A template that is rendered after its view, and an async view, are outside
    of what is decorated: they need the block.
    """
    token = allowed.set(True)
    try:
        yield
    finally:
        allowed.reset(token)


def note_repeat(sql: Any) -> None:
    """Count a query about to be made, inside a block that counts; raise RepeatedQueries in tests."""
    counts = counted.get()
    if counts is None or allowed.get() or not isinstance(sql, str):  # what is composed may differ in names
        return
    if place := find_place():
        shape = place, sql
        counts[shape] += 1
        if counts[shape] == LIMIT:
            complain(shape)


def complain(shape: Shape) -> None:
    """Raise or, once for each line and query of this process, warn."""
    place, sql = shape
    text = f"{place} makes the same query {LIMIT} times or more: {blank_literals(sql, comments=False)[:LENGTH]}"
    if settings.REPEATED_QUERIES == "raise":
        raise RepeatedQueries(f"{text}\n{ADVICE}")
    if shape not in told:
        told.add(shape)
        logger.warning("%s. %s", text, ADVICE)
