"""What stands around every request."""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from . import views
from .readiness import readiness

GetResponse = Callable[[HttpRequest], HttpResponse]


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
