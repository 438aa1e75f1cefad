"""What stands around requests: it counts them, traces them, and answers /metrics."""

import time
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from . import figures, pool
from .access import may_read
from .tally import Tally, around_queries

GetResponse = Callable[[HttpRequest], HttpResponse]

PATH = "/metrics"
TEXT = "text/plain; version=0.0.4; charset=utf-8"
REFUSAL = "Set METRICS_TOKEN, and send it as a bearer token.\n"
NO_STORE = {"Cache-Control": "no-store"}


class MetricsMiddleware:
    """
    Answers `/metrics` before other middleware, and counts all requests that it passes on.

    Prometheus comes by address, over plain HTTP, and most of all when the database is away.
    """

    def __init__(self, get_response: GetResponse) -> None:
        """Remember what comes after; trace it where somebody takes traces."""
        self.get_response = get_response
        self.tracing = None
        if settings.OTEL_ENDPOINT:
            from .tracing import Tracing  # noqa: PLC0415  its packages are loaded where they are used only

            self.tracing = Tracing(get_response)
            self.get_response = self.tracing

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Tell the figures, or have the request answered and count it."""
        if request.path_info == PATH:
            return tell(request)
        pool.watch()
        tally = Tally()
        begin = time.perf_counter()
        with around_queries(tally):
            response = self.get_response(request)
        seconds = time.perf_counter() - begin
        figures.count(str(request.method), response.status_code, seconds, tally.queries, tally.seconds)
        return response

    def process_view(self, *_: object) -> None:
        """Have the lines of the log name the trace; RequestMiddleware has cleared them on its way in."""
        if self.tracing:
            self.tracing.name_in_log()


def tell(request: HttpRequest) -> HttpResponse:
    """Return the page of figures, or refuse it."""
    if not may_read(request):
        return HttpResponse(REFUSAL, status=403, content_type="text/plain", headers=NO_STORE)
    pool.sample()
    return HttpResponse(figures.render(), content_type=TEXT, headers=NO_STORE)
