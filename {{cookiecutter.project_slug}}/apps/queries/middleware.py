"""What stands around requests."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

GetResponse = Callable[[HttpRequest], HttpResponse]


class QueriesMiddleware:
    """Passes requests on."""

    def __init__(self, get_response: GetResponse) -> None:
        """Remember what comes after."""
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Have the request answered."""
        return self.get_response(request)


class ServerTimingMiddleware:
    """Passes requests on."""

    def __init__(self, get_response: GetResponse) -> None:
        """Remember what comes after."""
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Have the request answered."""
        return self.get_response(request)
