"""What the queries of one request come to."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from django.db import connections


class Tally:
    """Counts queries, and the seconds that they take."""

    def __init__(self) -> None:
        """Begin at nothing."""
        self.queries = 0
        self.seconds = 0.0

    def __call__(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        """Execute a query."""
        begin = time.perf_counter()
        try:
            return execute(sql, params, many, context)
        finally:
            self.queries += 1
            self.seconds += time.perf_counter() - begin


@contextmanager
def around_queries(wrapper: Callable[..., Any]) -> Iterator[None]:
    """Have every query of this thread go through a wrapper, whichever database it asks."""
    with ExitStack() as stack:
        for connection in connections.all():
            stack.enter_context(connection.execute_wrapper(wrapper))
        yield
