"""What a request gets when the tests' database fails under it; servers that go away are the template's tests."""

import threading

import pytest
from django.db import connection, connections, transaction
from django.http import HttpResponse
from django.urls import path

from apps.users.models import User
from config.urls import handler500, urlpatterns

__all__ = ["handler500"]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls(__name__)]


def execute(*statements):
    def view(request):
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
        return HttpResponse("done")

    return view


urlpatterns = [
    *urlpatterns,
    path("locked/", execute("SET LOCAL lock_timeout = '50ms'", "SELECT * FROM users_user")),
    path("lost/", execute("SELECT pg_terminate_backend(pg_backend_pid())")),
    path("slow/", execute("SET LOCAL statement_timeout = '50ms'", "SELECT pg_sleep(5)")),
    path("wrong/", execute("SELECT nonsense")),
    path("twice/", execute(*["INSERT INTO django_content_type (app_label, model) VALUES ('a', 'b')"] * 2)),
    path("count/", lambda _request: HttpResponse(User.objects.count())),
]


@pytest.fixture
def client(client):
    client.raise_request_exception = False
    return client


@pytest.fixture
def locked():
    """The table of users, by somebody else."""
    held, done = threading.Event(), threading.Event()

    def hold():
        with transaction.atomic(), connections["default"].cursor() as cursor:
            cursor.execute("LOCK TABLE users_user")
            held.set()
            done.wait(10)
        connections["default"].close()

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10)
    yield
    done.set()
    thread.join()


def test_lock_that_is_not_free_in_time_is_worth_another_try(client, locked, caplog):
    answer = client.get("/locked/")
    assert (answer.status_code, answer.headers["Retry-After"], answer.headers["Cache-Control"]) == (
        503,
        "2",
        "no-store",
    )
    assert "Please try again" in answer.text
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert (record.cause, record.exc_info) == ("locked", None)
    assert record.getMessage().startswith("Database default: What was needed of database ")


@pytest.mark.parametrize("accept", ["application/json", "application/json, text/html;q=0.5"])
def test_programs_get_json(client, locked, accept):
    answer = client.get("/locked/", headers={"accept": accept})
    assert (answer.status_code, answer.json()) == (503, {"status": "unavailable"})


def test_connection_that_is_lost_costs_one_request(client):
    assert client.get("/lost/").status_code == 503
    assert client.get("/count/").text == "0"


@pytest.mark.parametrize("name", ["slow", "wrong", "twice"])
def test_mistakes_stay_errors(client, name, caplog):
    assert client.get(f"/{name}/").status_code == 500
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.exc_info
