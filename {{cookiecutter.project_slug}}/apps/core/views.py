"""Pages of the project itself."""

import secrets
import sys

from django.conf import settings
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.views import defaults

from .database.diagnosis import is_unavailable
from .readiness import readiness

NO_STORE = {"Cache-Control": "no-store"}
RETRY_AFTER = 2  # seconds


# It needs no data, so it does not wait for a transaction either.
@transaction.non_atomic_requests
def start(request: HttpRequest) -> HttpResponse:
    """Show what to do next; served in development only."""
    return render(request, "start.html")


def live(_request: HttpRequest) -> HttpResponse:
    """Say that the process runs. It never asks the database: an outage must not restart every process."""
    return JsonResponse({"status": "healthy"}, headers=NO_STORE)


@transaction.non_atomic_requests
def ready(request: HttpRequest) -> HttpResponse:
    """Say whether this process may be sent requests, by 200 or 503; those who may know get the details."""
    result = readiness.check()
    status = 200 if result["status"] == "healthy" else 503
    shown = result if may_see_details(request) else {"status": result["status"]}
    return JsonResponse(shown, status=status, headers=NO_STORE)


def may_see_details(request: HttpRequest) -> bool:
    """Tell whether the request has the token of HEALTH_TOKEN or, where sessions were read, is a staff member's."""
    token = settings.HEALTH_TOKEN.encode()
    sent = request.headers.get("Authorization", "").removeprefix("Bearer ").encode()
    if token and secrets.compare_digest(sent, token):
        return True
    user = getattr(request, "user", None)
    return bool(user and user.is_staff)


def unavailable(request: HttpRequest) -> HttpResponse:
    """Say, as a page or as JSON, that the request cannot be answered now; needs neither the database nor a session."""
    headers = {**NO_STORE, "Retry-After": str(RETRY_AFTER)}
    if request.get_preferred_type(["text/html", "application/json"]) == "application/json":
        return JsonResponse({"status": "unavailable"}, status=503, headers=headers)
    return HttpResponse(render_to_string("503.html"), status=503, headers=headers)


def server_error(request: HttpRequest) -> HttpResponse:
    """Say that a request failed; where middleware lost the database, as in saving a session, that it may come again."""
    error = sys.exception()
    if error and is_unavailable(error):
        return unavailable(request)
    return defaults.server_error(request)
