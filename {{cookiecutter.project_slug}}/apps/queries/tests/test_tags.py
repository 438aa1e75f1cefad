"""The comment in queries, as the server sees it."""

import re

import pytest
from django.contrib.auth import get_user_model
from django.contrib.contenttypes.models import ContentType
from django.db import connection, transaction
from django.http import HttpResponse
from django.urls import path, re_path
from django.views import View
from psycopg import sql

from apps.queries.observer import observe
from apps.queries.tags import build_comment, tag
from config import process

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

SEEN = "SELECT current_query() WHERE true"


def ask(statement=SEEN, values=None):
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchone()[0]


def show(request, **_):
    return HttpResponse(ask())


class Shown(View):
    def get(self, request):
        return show(request)


def show_with_value(request):
    return HttpResponse(ask(SEEN + " AND %s = %s", ["100%", "100%"]))


@pytest.mark.parametrize(
    ("address", "comment"),
    [
        ("/books/7/", f"/* route='books/<int:number>/',view='{__name__}.show' */"),
        ("/shown/", f"/* route='shown/',view='{__name__}.Shown' */"),
        ("/odd/", f"/* route='^odd/(?:_______)(?_)$',view='{__name__}.show' */"),
        ("/100%25/", f"/* route='100_/',view='{__name__}.show_with_value' */"),
    ],
)
def test_server_sees_route_and_view(client, address, comment):
    assert client.get(address).text.startswith(f"SELECT {comment} current_query()")


@pytest.mark.parametrize(("name", "comment"), [("manage.py shell", "command='shell'"), ("wsgi", "process='wsgi'")])
def test_server_sees_the_process_where_there_is_no_request(monkeypatch, name, comment):
    monkeypatch.setattr(process, "name", name)
    assert ask() == SEEN.replace("SELECT", f"SELECT /* {comment} */")


def test_a_name_cannot_end_the_comment(monkeypatch):
    monkeypatch.setattr(process, "name", "'*/ SELECT 1; %s \\ \n\0ä/*" + "x" * 500)
    seen = ask(SEEN + " AND %s", [True])
    assert seen.startswith("SELECT /* process='__/ SELECT 1_ _s _ ___/_xxx")
    assert len(seen) < 400


@pytest.mark.parametrize("values", [None, [], ["x"]])
def test_percent_signs_mean_what_they_meant(values):
    statement = "SELECT '50%' || %s" if values else "SELECT '50%'" if values is None else "SELECT '50%%'"
    assert ask(statement.replace("50%'", "50%%'") if values else statement, values) == ("50%x" if values else "50%")


def test_composed_queries_are_tagged():
    statement = sql.SQL("{} AND {} = {}").format(sql.SQL(SEEN), sql.Literal("100%"), sql.Literal("100%"))
    assert ask(statement).startswith("/* process=")


def test_queries_of_many_rows_and_of_cursors_of_the_server_work():
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE numbers (number int)")
        cursor.executemany("INSERT INTO numbers VALUES (%s)", [[1], [2], [3]])
    assert ask("SELECT sum(number) FROM numbers") == 6
    with transaction.atomic():
        types = ContentType.objects.iterator(chunk_size=2)
        first = next(types)
        assert "FOR SELECT /* process=" in ask("SELECT statement FROM pg_cursors")
        assert len({first, *types}) == ContentType.objects.count()


def test_copying_works():
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE numbers (number int)")
        with cursor.copy("COPY numbers FROM STDIN") as copy:
            copy.write(b"1\n2\n")
    assert ask("SELECT count(*) FROM numbers") == 2


@pytest.mark.parametrize(
    ("statement", "tagged"),
    [
        (" select 1", " select {} 1"),
        ("\n(SELECT\n1) UNION VALUES (2)", "\n(SELECT {}\n1) UNION VALUES (2)"),
        ("VALUES(1)", "VALUES {}(1)"),
        ("WITH one AS (SELECT 1) TABLE one", "WITH {} one AS (SELECT 1) TABLE one"),
    ],
)
def test_the_comment_follows_the_first_word(statement, tagged):
    assert tag(statement) == tagged.format(build_comment())
    assert ask(statement) == 1


@pytest.mark.parametrize("statement", ["CREATE TABLE t ()", " alter table t", b"SELECT 1", "-- SELECT\n1", ""])
def test_some_queries_stay_as_they_are(statement):
    assert tag(statement) is statement


def test_django_remembers_what_the_server_got():
    connection.force_debug_cursor = True
    try:
        connection.queries_log.clear()
        get_user_model().objects.filter(username="ada").exists()
        (query,) = connection.queries
    finally:
        connection.force_debug_cursor = False
    assert re.fullmatch(r"SELECT /\* process='.*' \*/ 1 .* = 'ada' LIMIT 1", query["sql"])
    assert float(query["time"]) >= 0


def test_each_connection_is_watched_once_and_a_block_of_another_wrapper_takes_off_its_own():
    seen = []

    def note(execute, statement, *arguments):
        seen.append(statement)
        return execute(statement, *arguments)

    new = connection.copy()
    for _ in range(2):
        with new.execute_wrapper(note), new.cursor() as cursor:
            cursor.execute("SELECT 1")
        new.close()
        assert new.execute_wrappers == [observe]
    assert seen == [tag("SELECT 1")] * 2


urlpatterns = [
    path("books/<int:number>/", show),
    path("shown/", Shown.as_view()),
    re_path(r"^odd/(?:'|%|\*|)(?#)$", show),
    path("100%/", show_with_value),
]
