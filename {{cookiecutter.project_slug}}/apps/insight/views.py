"""The two pages: what the database is doing, and whether a query shall be cancelled."""

import logging
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.decorators import permission_required
from django.contrib.contenttypes.models import ContentType
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe
from psycopg.errors import InsufficientPrivilege

from apps.core.database.diagnosis import diagnose
from apps.core.database.health import FAILURES

from . import cancelling
from .formatting import format_seconds
from .inspection import inspect
from .models import Sample
from .presentation import list_findings, present

VIEW, CANCEL = "insight.view_database", "insight.cancel_query"

logger = logging.getLogger(__name__)


# What the page shows would else have a session idle in a transaction: its own.
@transaction.non_atomic_requests
@require_safe
@permission_required(VIEW, raise_exception=True)
def show(request: HttpRequest) -> HttpResponse:
    """Show what an inspection finds or, with 503, why there can be none."""
    using = choose_database(request)
    context = build_context(request, using, "Database")
    try:
        inspection = inspect(using)
    except FAILURES as error:
        diagnosis = diagnose(error, connections[using].settings_dict)
        return render(request, "insight/page.html", {**context, "diagnosis": diagnosis}, status=503)
    may_cancel = request.user.has_perm(CANCEL)
    context |= {
        "inspection": inspection,
        "took": format_seconds(inspection.seconds),
        "findings": list_findings(inspection.sections),
        "sections": [present(section, may_cancel=may_cancel) for section in inspection.sections],
    }
    return render(request, "insight/page.html", context)


@transaction.non_atomic_requests
@require_http_methods(["GET", "HEAD", "POST"])
@permission_required([VIEW, CANCEL], raise_exception=True)
def cancel(request: HttpRequest, pid: int) -> HttpResponse:
    """Ask whether a query shall be cancelled; by POST, cancel it."""
    using = choose_database(request)
    page = f"{reverse('admin:insight_sample_changelist')}?database={using}"
    if request.method == "POST":
        tell(request, using, pid, request.POST.get("identity", ""))
        return redirect(page)
    running = cancelling.find_running(using, pid)
    if running is None:
        messages.info(request, f"Process {pid} has ended, or has to do with another database.")
        return redirect(page)
    context = build_context(request, using, f"Cancel the query of process {pid}?")
    return render(request, "insight/cancel.html", {**context, "running": running, "page": page})


def tell(request: HttpRequest, using: str, pid: int, identity: str) -> None:
    """Cancel a query, and say to everybody concerned what came of it."""
    try:
        cancelled = cancelling.cancel(using, pid, identity)
    except InsufficientPrivilege:
        messages.error(request, f"The query of process {pid} was not cancelled: this project may not.")
        return
    if not cancelled:
        messages.warning(request, f"Process {pid} no longer runs that query; nothing was cancelled.")
        return
    note(request, using, pid)
    messages.success(request, f"PostgreSQL was asked to cancel the query of process {pid}.")


def note(request: HttpRequest, using: str, pid: int) -> None:
    """Write down who cancelled a query, which may hold what nobody should read, of which process."""
    logger.info("%s cancelled the query of process %s of database %s", request.user.get_username(), pid, using)
    LogEntry.objects.create(
        user_id=str(request.user.pk),
        content_type=ContentType.objects.get_for_model(Sample),
        object_id=str(pid),
        object_repr=f"Query of process {pid}",
        action_flag=CHANGE,
        change_message="Cancelled.",
    )


def choose_database(request: HttpRequest) -> str:
    """Return the alias that the address names; raise Http404 for one that there is not."""
    using = request.GET.get("database", DEFAULT_DB_ALIAS)
    if using not in connections or connections[using].vendor != "postgresql":
        raise Http404
    return using


def build_context(request: HttpRequest, using: str, title: str) -> dict[str, Any]:
    """Return what both pages need beside their own."""
    aliases = [alias for alias in connections if connections[alias].vendor == "postgresql"]
    return {**admin.site.each_context(request), "title": title, "using": using, "aliases": aliases}
