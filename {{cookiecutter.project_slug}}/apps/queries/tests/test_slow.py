"""Slow queries in the log."""

import pytest
from django.contrib.auth import get_user_model
from django.db import Error, OperationalError, connection, transaction
from django.db.models import Func, TextField, Value
from psycopg import sql

from config import process

pytestmark = pytest.mark.django_db

SECRET = "geheim"  # noqa: S105  what a query asks for
SLEEP = Func(Value(0.06), function="pg_sleep", output_field=TextField())


@pytest.fixture(autouse=True)
def limit(settings):
    settings.DB_SLOW_QUERY = 0.05


def ask(statement, values=None):
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


def test_a_slow_query_is_told_with_its_line_and_without_values(lines, place):
    get_user_model().objects.create(username=SECRET)
    found = get_user_model().objects.filter(username=SECRET).annotate(slept=SLEEP)
    assert len(found.values_list("pk", "slept")) == 1
    (line,) = lines()
    assert 60 <= line["duration_ms"] < 5000
    assert (line["event"], line["level"], line["logger"]) == ("Slow query", "warning", "apps.queries")
    assert (line["rows"], line["alias"], line["place"]) == (1, "default", place(-4))
    assert line["sql"] == (
        'SELECT "users_user"."id" AS "pk", pg_sleep(%s) AS "slept" FROM "users_user" WHERE "users_user"."username" = %s'
    )
    assert SECRET not in str(line)


@pytest.mark.parametrize("limit_in_seconds", [0, 60])
def test_a_query_below_the_limit_is_not_told_nor_any_without_a_limit(lines, settings, limit_in_seconds):
    settings.DB_SLOW_QUERY = limit_in_seconds
    ask("SELECT pg_sleep(0.06)")
    assert lines() == []


@pytest.mark.parametrize("role", sorted(process.OWNERS))
def test_work_on_all_of_the_data_may_be_slow(lines, monkeypatch, role):
    monkeypatch.setattr(process, "role", role)
    ask("SELECT pg_sleep(0.06)")
    assert lines() == []


def test_a_slow_query_that_fails_is_told(lines):
    ask("SET LOCAL statement_timeout = 80")
    with pytest.raises(OperationalError, match="statement timeout"), transaction.atomic():
        ask("SELECT pg_sleep(%s), 'geheim'", [5])
    (line,) = lines()
    assert (line["event"], line["rows"]) == ("Slow query that failed", None)
    assert line["sql"] == "SELECT pg_sleep(%s), ?"


@pytest.mark.django_db(transaction=True)
def test_what_an_outage_cuts_off_is_not_told(lines):
    with pytest.raises(Error, match="terminat"):
        ask("SELECT pg_sleep(0.06), pg_terminate_backend(pg_backend_pid())")
    connection.close()
    assert lines() == []


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT pg_sleep(0.06), 'geheim'",
        sql.SQL("SELECT pg_sleep({}), {}").format(0.06, SECRET),
    ],
)
def test_values_that_are_written_into_the_text_are_not_told(lines, statement):
    ask(statement)
    (line,) = lines()
    assert "SELECT pg_sleep(?), ?" in line["sql"]
    assert SECRET not in str(line)


def test_long_queries_are_cut(lines):
    ask(f"SELECT pg_sleep(0.06), {', '.join(['now()'] * 500)}")
    (line,) = lines()
    assert len(line["sql"]) == 1000


def test_a_query_of_an_unknown_kind_is_not_shown(lines):
    ask(b"SELECT pg_sleep(0.06), 'geheim'")
    assert [line["sql"] for line in lines()] == ["bytes"]


def test_django_s_own_queries_have_no_place(lines, admin_client, settings):
    settings.DB_SLOW_QUERY = 0.000001
    admin_client.get("/admin/users/user/")
    slow = [line for line in lines() if line["event"] == "Slow query"]
    assert {line["place"] for line in slow} == {""}
    assert any('FROM "users_user" ORDER BY' in line["sql"] for line in slow)
