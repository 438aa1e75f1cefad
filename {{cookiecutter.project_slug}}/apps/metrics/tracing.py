"""
Traces for OpenTelemetry: a span for each request, and one in it for each of its queries.

Their own middleware, not OpenTelemetry's, whose spans bear query strings. Nothing here holds a value of a query, of a
form or of a header, nor the text of an error. What the request began elsewhere (W3C's traceparent) it goes on with.
"""

import atexit
import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.semconv.attributes import db_attributes as db
from opentelemetry.semconv.attributes import http_attributes as http
from opentelemetry.semconv.attributes import server_attributes as server
from opentelemetry.semconv.attributes import url_attributes as url
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from structlog.contextvars import bind_contextvars

from apps.core.database.literals import blank_literals

from .tally import around_queries

TIMEOUT = 3.0  # seconds, in which a few hundred spans are taken or not at all
SERVER_ERROR = 500

logger = logging.getLogger(__name__)
propagator = TraceContextTextMapPropagator()


class Exporter(SpanExporter):
    """Sends spans; while nobody takes them they are dropped, which is said once."""

    def __init__(self, endpoint: str) -> None:
        """Remember where to send them."""
        self.place = urlsplit(endpoint).netloc.rpartition("@")[2]  # without a password
        self.inner = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=TIMEOUT)
        self.failing = self.closing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans, unless the process ends and nobody takes any."""
        if self.failing and self.closing:
            return SpanExportResult.FAILURE
        result = self.inner.export(spans)
        failed = result != SpanExportResult.SUCCESS
        if failed and not self.failing:
            logger.warning("Nobody takes traces at %s: they are dropped until somebody does.", self.place)
        if self.failing and not failed:
            logger.warning("Traces are taken at %s again.", self.place)
        self.failing = failed
        return result

    def shutdown(self) -> None:
        """Let go of the connection."""
        self.inner.shutdown()  # type: ignore[no-untyped-call]


@functools.cache
def start(endpoint: str) -> trace.Tracer:
    """Return what makes spans, and have a thread send them; also those that the project's code makes itself."""
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # it would tell of each span that is lost
    exporter = Exporter(endpoint)
    resource = Resource.create({"service.name": settings.OTEL_SERVICE_NAME})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    atexit.register(stop, provider, exporter)
    return provider.get_tracer(__name__)


def stop(provider: TracerProvider, exporter: Exporter) -> None:
    """Send what is left, if somebody takes it: nobody waits for a collector that is away."""
    exporter.closing = True
    if exporter.failing:
        exporter.shutdown()
    provider.shutdown()


class Tracing:
    """Has requests answered, each inside a span."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        """Remember what answers; gunicorn's workers make one each, after the fork."""
        self.get_response = get_response
        self.tracer = start(settings.OTEL_ENDPOINT)

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Have the request answered."""
        sent = {name: request.headers.get(name, "") for name in ("traceparent", "tracestate")}
        with self.tracer.start_as_current_span(
            str(request.method),
            propagator.extract(sent),
            SpanKind.SERVER,
            {http.HTTP_REQUEST_METHOD: str(request.method), url.URL_SCHEME: str(request.scheme)},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            if not span.is_recording():
                return self.get_response(request)
            with around_queries(self.run_query):
                response = self.get_response(request)
            describe(span, request, response)
            return response

    def run_query(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        """Execute a query inside a span."""
        place = context["connection"].settings_dict
        text = hide_values(str(sql))
        operation = text.split(None, 1)[0].upper()
        attributes = {
            db.DB_SYSTEM_NAME: "postgresql",
            db.DB_NAMESPACE: str(place["NAME"]),
            db.DB_OPERATION_NAME: operation,
            db.DB_QUERY_TEXT: text,
            server.SERVER_ADDRESS: str(place["HOST"]),
        }
        span = self.tracer.start_span(operation, kind=SpanKind.CLIENT, attributes=attributes)
        try:
            return execute(sql, params, many, context)
        except Exception as error:
            span.set_attribute(ERROR_TYPE, getattr(error.__cause__, "sqlstate", None) or type(error).__name__)
            span.set_status(Status(StatusCode.ERROR))
            raise
        finally:
            span.end()

    def name_in_log(self) -> None:
        """Have the lines of the log that this request causes from here on name its trace."""
        bind_contextvars(trace_id=format(trace.get_current_span().get_span_context().trace_id, "032x"))


@functools.lru_cache(maxsize=1000)  # queries have few shapes, and there are many of each
def hide_values(text: str) -> str:
    """Return SQL without comments and values."""
    return blank_literals(text, comments=False)


def describe(span: Span, request: HttpRequest, response: HttpResponse) -> None:
    """Add what is known of a request once it is answered."""
    span.set_attribute(url.URL_PATH, request.path)
    span.set_attribute(http.HTTP_RESPONSE_STATUS_CODE, response.status_code)
    if request_id := response.headers.get("X-Request-ID"):
        span.set_attribute("request_id", request_id)
    if match := request.resolver_match:
        route = f"/{match.route}"
        span.set_attribute(http.HTTP_ROUTE, route)
        span.update_name(f"{request.method} {route}")
    if response.status_code >= SERVER_ERROR:
        span.set_attribute(ERROR_TYPE, str(response.status_code))
        span.set_status(Status(StatusCode.ERROR))
