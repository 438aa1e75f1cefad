"""What is said of a request's queries."""

import re

import pytest
from django.contrib.auth import get_user_model
from django.core.checks import run_checks
from django.http import HttpRequest, HttpResponse
from django.urls import path

from apps.queries.middleware import ServerTimingMiddleware
from apps.queries.tally import count, current

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


def ask(request, number):
    for _ in range(number):
        get_user_model().objects.exists()
    return HttpResponse("asked")


@pytest.mark.parametrize("number", [0, 3])
def test_line_of_a_request_has_what_its_queries_come_to(client, lines, number):
    client.get(f"/ask/{number}/")
    (line,) = lines()
    assert line["event"] == f"GET /ask/{number}/"
    assert line["queries"] == number + 2  # and the savepoint that a request is within a test's transaction
    assert line["query_time_ms"] >= line["slowest_query_ms"] >= 0
    assert line["response_time_ms"] >= line["query_time_ms"]


def test_figures_end_with_their_request(client, lines):
    client.get("/ask/3/")
    client.get("/ask/0/")
    first, second = (line["queries"] for line in lines())
    assert first == second + 3
    assert current.get() is None


def test_header_says_what_time_went_into_and_keeps_what_others_say():
    def answer(request):
        ask(request, 3)
        return HttpResponse(headers={"Server-Timing": "other;dur=1"})

    said = ServerTimingMiddleware(answer)(HttpRequest()).headers["Server-Timing"]
    found = re.fullmatch(r'other;dur=1, db;dur=([\d.]+);desc="3 queries", app;dur=([\d.]+)', said)
    assert all(float(figure) >= 0 for figure in found.groups())


def test_blocks_of_one_request_share_a_tally_and_those_of_others_do_not():
    outer, inner = HttpRequest(), HttpRequest()
    with count(outer) as tally:
        ask(outer, 1)
        with count(outer) as same:
            ask(outer, 1)
        with count(inner) as other:
            ask(inner, 3)
    assert same is tally
    assert (tally.queries, other.queries) == (2, 3)


def test_check_knows_the_ways_to_treat_repeated_queries(settings):
    settings.REPEATED_QUERIES = "rise"
    (message,) = [message for message in run_checks() if message.id == "queries.E001"]
    assert message.msg == (
        "REPEATED_QUERIES is 'rise', which is no way to treat them: it has to be empty, 'warn' or 'raise'."
    )
    for way in ("", "warn", "raise"):
        settings.REPEATED_QUERIES = way
        assert not [message for message in run_checks() if message.id == "queries.E001"]


urlpatterns = [path("ask/<int:number>/", ask)]
