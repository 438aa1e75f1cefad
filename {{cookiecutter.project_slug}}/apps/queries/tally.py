"""What the queries of a request come to."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from django.http import HttpRequest


@dataclass(slots=True)
class Tally:
    """How many queries a request made, and their seconds."""

    request: HttpRequest
    queries: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    comment: str = ""  # in its queries, once its view is known

    def add(self, seconds: float) -> None:
        """Count a query that took so long."""
        self.queries += 1
        self.seconds += seconds
        self.slowest = max(self.slowest, seconds)


# Of the request that this thread or task answers.
current: ContextVar[Tally | None] = ContextVar("tally", default=None)


@contextmanager
def count(request: HttpRequest) -> Iterator[Tally]:
    """Count the queries of a request inside the block; a block inside another one shares its tally."""
    tally = current.get()
    if tally is None or tally.request is not request:
        tally = Tally(request)
    token = current.set(tally)
    try:
        yield tally
    finally:
        current.reset(token)
