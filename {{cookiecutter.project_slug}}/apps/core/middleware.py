"""What stands around every request; all of it is synchronous, as the database's connections are."""

import logging
import re
import time
import uuid
from collections.abc import Callable
from contextvars import ContextVar

from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.http import HttpRequest, HttpResponse
from structlog.contextvars import bind_contextvars, clear_contextvars

from . import views
from .database.causes import Cause
from .database.connection import spare_health_check
from .database.diagnosis import Diagnosis, is_unavailable
from .database.outage import PASSING, watch
from .readiness import readiness

GetResponse = Callable[[HttpRequest], HttpResponse]

REQUEST_ID = "X-Request-ID"
WELL_FORMED_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)

SAFE = {"GET", "HEAD", "OPTIONS"}  # methods that change nothing, so that a request may be answered twice: RFC 9110

# Why the view of this request lost the database, each time that it did.
_lost: ContextVar[list[Diagnosis]] = ContextVar("lost")

logger = logging.getLogger(__name__)


class HealthMiddleware:
    """
    Answers `/health/live/` and `/health/ready/` before any other middleware.

    Those who ask are machines: they come by address, over plain HTTP, and when sessions cannot be read. Only where the
    databases answer does a request with a session go on, to the same view with a user.
    """

    def __init__(self, get_response: GetResponse) -> None:
        """Remember what comes after."""
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request, or pass it on."""
        if request.path_info == "/health/live/":
            return views.live(request)
        if request.path_info == "/health/ready/":
            known = settings.SESSION_COOKIE_NAME in request.COOKIES
            if not known or readiness.check()["status"] != "healthy":
                return views.ready(request)
        return self.get_response(request)


class RequestMiddleware:
    """
    Writes a line for each request, without its query string, which may hold what nobody should read.

    Every line of the log that a request causes has its `request_id`: the one that a proxy in front has sent as
    X-Request-ID, or else a new one. The answer bears it, too.
    """

    def __init__(self, get_response: GetResponse) -> None:
        """Remember what comes after."""
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Have the request answered, and write what came of it."""
        begin = time.perf_counter()
        sent = request.headers.get(REQUEST_ID, "")
        request_id = sent if WELL_FORMED_ID.fullmatch(sent) else uuid.uuid4().hex
        clear_contextvars()  # of whatever this thread did before
        bind_contextvars(request_id=request_id)
        try:
            response = self.get_response(request)
            milliseconds = round((time.perf_counter() - begin) * 1000, 1)
            fields = {"status": response.status_code, "response_time_ms": milliseconds}
            logger.info("%s %s", request.method, request.path, extra=fields)
        finally:
            clear_contextvars()
        response.headers[REQUEST_ID] = request_id
        return response


class DatabaseMiddleware:
    """
    Answers 503 while the database cannot be used, to requests that need it.

    A view says that it needs none by `transaction.non_atomic_requests`; it is served through an outage. Where the
    server goes, not only the session, a request of a safe method is answered anew, once, when the server is back.
    """

    def __init__(self, get_response: GetResponse) -> None:
        """Remember what comes after."""
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Have the request answered, a second time where the database was lost meanwhile."""
        connection = connections[watch.using]
        lost = _lost.set([])
        try:
            with connection.execute_wrapper(watch.attend):
                response = self.get_response(request)
                if diagnoses := _lost.get():
                    response = self.repeat(request, response, diagnoses)
                return response
        finally:
            _lost.reset(lost)
            watch.leave(connection)

    def repeat(self, request: HttpRequest, response: HttpResponse, lost: list[Diagnosis]) -> HttpResponse:
        """Return the answer to a request that has lost the database; `response` says that there is none."""
        connection = connections[watch.using]
        ended = lost[-1].cause == Cause.TERMINATED or getattr(connection, "was_ended", False)
        watch.enter(connection)
        may = lost[-1].cause in PASSING and may_repeat(request)
        if may and (watch.has_gone() or not ended):  # which waits: a server that goes ends its sessions one by one
            if diagnosis := watch.admit(connection):
                lost.append(diagnosis)
            else:
                lost.clear()
                response = self.get_response(request)
        if lost:
            watch.refuse(connection, lost[-1])
        return response

    def process_view(
        self, request: HttpRequest, view: Callable[..., HttpResponse], _args: object, _kwargs: object
    ) -> HttpResponse | None:
        """Connect for a view that needs the database, or refuse the request."""
        connection = connections[watch.using]
        if watch.using in getattr(view, "_non_atomic_requests", ()) or may_do_without(connection, request):
            spare_health_check(connection)
            return None
        diagnosis = watch.admit(connection)
        if diagnosis is None:
            return None
        watch.refuse(connection, diagnosis)
        return views.unavailable(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Answer for a view that lost the database; any other error is somebody else's."""
        if not is_unavailable(error):
            return None
        if not hasattr(error, "of_replica"):
            _lost.get().append(watch.explain(error))
        return views.unavailable(request)


def may_repeat(request: HttpRequest) -> bool:
    """Tell whether to execute a request again that failed: once, whichever middleware it is, if its method is safe."""
    may = request.method in SAFE and not hasattr(request, "has_failed")
    request.has_failed = True  # type: ignore[attr-defined]
    return may


def may_do_without(connection: BaseDatabaseWrapper, request: HttpRequest) -> bool:
    """Tell whether a request may need no connection, or another one: it writes nothing, and begins no transaction."""
    return request.method in SAFE and not connection.settings_dict["ATOMIC_REQUESTS"]
