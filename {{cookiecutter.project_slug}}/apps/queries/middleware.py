"""What stands around requests, to say what their queries came to."""

import time
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from structlog.contextvars import bind_contextvars

from .repeats import watch
from .tally import count

GetResponse = Callable[[HttpRequest], HttpResponse]


class QueriesMiddleware:
    """Adds the figures of its queries to the line of a request, and watches for repeated ones."""

    def __init__(self, get_response: GetResponse) -> None:
        """Remember what comes after."""
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Have the request answered, and count meanwhile."""
        with count(request) as tally, watch():
            response = self.get_response(request)
        bind_contextvars(
            queries=tally.queries,
            query_time_ms=round(tally.seconds * 1000, 1),
            slowest_query_ms=round(tally.slowest * 1000, 1),
        )
        return response


class ServerTimingMiddleware:
    """
    Says in the header Server-Timing what a request's time went into; browsers show it beside their own figures.

    For development: it would tell strangers how long a query takes that they shaped.
    """

    def __init__(self, get_response: GetResponse) -> None:
        """Remember what comes after."""
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Have the request answered, and add the header to what others, such as the toolbar, say in it."""
        begin = time.perf_counter()
        with count(request) as tally:
            response = self.get_response(request)
        queries, others = tally.seconds * 1000, (time.perf_counter() - begin - tally.seconds) * 1000
        said = f'db;dur={queries:.1f};desc="{tally.queries} queries", app;dur={others:.1f}'
        before = response.headers.get("Server-Timing")
        response.headers["Server-Timing"] = f"{before}, {said}" if before else said
        return response
