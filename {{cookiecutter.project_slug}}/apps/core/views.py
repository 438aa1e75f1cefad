"""Pages of the project itself."""

import secrets

from django.conf import settings
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from .readiness import readiness

NO_STORE = {"Cache-Control": "no-store"}


# It needs no data, so it does not wait for a transaction either.
@transaction.non_atomic_requests
def start(request: HttpRequest) -> HttpResponse:
    """Show what to do next; served in development only."""
    return render(request, "start.html")


def live(_request: HttpRequest) -> HttpResponse:
    """Say that the process runs. It never asks the database: an outage must not restart every process."""
    return JsonResponse({"status": "healthy"}, headers=NO_STORE)


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
