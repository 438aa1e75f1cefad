"""Pages of the project itself."""

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render


# It needs no data, so it does not wait for a transaction either.
@transaction.non_atomic_requests
def start(request: HttpRequest) -> HttpResponse:
    """Show what to do next; served in development only."""
    return render(request, "start.html")
