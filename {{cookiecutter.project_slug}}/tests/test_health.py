"""The health check, its command and its views, on the database of the tests."""

import io
import json

import pytest
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection, connections
from django.test import override_settings

from apps.core.database import (
    DatabaseHealthCheck,
    check_database_connection,
    ensure_database_connection,
    get_database_status,
)
from apps.core.management.commands.check_database import DatabaseReadyCheck
from apps.core.readiness import readiness

pytestmark = pytest.mark.django_db(transaction=True)

TOKEN = "t0ken-of-the-tests"  # noqa: S105
REFUSED = (
    "Could not connect to database server at 127.0.0.1:1. "
    "Please ensure PostgreSQL is running and check DB_HOST and DB_PORT."
)


@pytest.fixture
def gone():
    """An alias for a server that does not run."""
    connections.settings["gone"] = {
        **connections.settings["default"],
        "ENGINE": "django.db.backends.postgresql",
        "HOST": "127.0.0.1",
        "PORT": "1",
        "NAME": "shop",
        "USER": "ada",
        "PASSWORD": "geheim",
    }
    yield "gone"
    connections["gone"].close()
    del connections["gone"]
    del connections.settings["gone"]


@pytest.fixture
def asked_anew():
    """The readiness without its memory of the last second."""
    readiness.__init__()


def test_healthy_report_is_the_specified_one():
    report = DatabaseHealthCheck().check()
    settings = connection.settings_dict
    assert list(report) == [
        "status",
        "database",
        "server_version",
        "role",
        "tls",
        "response_time_ms",
        "connection_info",
    ]
    assert (report["status"], report["database"], report["role"]) == ("healthy", "connected", "primary")
    assert report["response_time_ms"] > 0
    assert report["connection_info"] == {
        "engine": settings["ENGINE"],
        "host": settings["HOST"],
        "port": settings["PORT"],
        "name": settings["NAME"],
        "user": settings["USER"],
    }


def test_unhealthy_report_names_cause_and_remedy(gone):
    report = DatabaseHealthCheck(using=gone, timeout=1).check()
    assert report.pop("response_time_ms") < 1000
    assert report == {
        "status": "unhealthy",
        "database": "disconnected",
        "error": REFUSED,
        "cause": "refused",
        "remedy": "sudo systemctl start postgresql",
        "connection_info": {
            "engine": "django.db.backends.postgresql",
            "host": "127.0.0.1",
            "port": "1",
            "name": "shop",
            "user": "ada",
        },
    }


def test_functions_answer_for_any_database(gone, caplog):
    assert check_database_connection()
    assert not check_database_connection(verbose=True, using=gone)
    assert caplog.messages == [f"Database gone: {REFUSED} Remedy: sudo systemctl start postgresql"]
    status = get_database_status()
    assert status["connected"] is True
    assert 1 <= status["connections"]["used"] <= status["connections"]["maximum"] == 100
    assert get_database_status(gone)["connected"] is False
    ensure_database_connection()
    with pytest.raises(OperationalError, match="Could not connect to database server at") as raised:
        ensure_database_connection(gone)
    assert "Connection refused" in str(raised.value.__cause__)


def test_modes_warn_or_fail(gone, caplog):
    assert DatabaseReadyCheck.check_and_warn()
    assert not DatabaseReadyCheck.check_and_warn(gone)
    with pytest.raises(OperationalError):
        DatabaseReadyCheck.ensure_or_fail(gone)
    assert [record.levelname for record in caplog.records] == ["WARNING", "CRITICAL"]


def test_command_ends_with_the_documented_codes(gone):
    output = io.StringIO()
    call_command("check_database", database=["default"], format="json", stdout=output)
    assert json.loads(output.getvalue())["default"]["status"] == "healthy"
    with pytest.raises(CommandError, match=r"^gone: Could not connect") as raised:
        call_command("check_database", stdout=io.StringIO())
    assert raised.value.returncode == 1
    with pytest.raises(CommandError, match=r"^There is no database 'nowhere'; there is default, gone\.$") as raised:
        call_command("check_database", database=["nowhere"])
    assert raised.value.returncode == 2
    connections.settings[gone]["OPTIONS"] = {"nonsense": "1"}
    with pytest.raises(CommandError, match='option "nonsense"') as raised:
        call_command("check_database", database=[gone])
    assert raised.value.returncode == 2


def test_system_check_tells_the_truth(gone):
    assert run_checks(databases=["default"]) == []
    (fault,) = run_checks(databases=["default", "gone"])
    assert (fault.id, fault.msg, fault.hint) == (
        "core.E001",
        f"Database 'gone': {REFUSED}",
        "sudo systemctl start postgresql",
    )
    assert run_checks() == []


@override_settings(ALLOWED_HOSTS=["example.com"], SECURE_SSL_REDIRECT=True)
def test_machines_are_answered_by_address_and_without_https(client, asked_anew):
    for path in ("/health/live/", "/health/ready/"):
        answer = client.get(path, headers={"host": "10.0.0.7"})
        assert (answer.status_code, answer.json()) == (200, {"status": "healthy"})
        assert answer.headers["Cache-Control"] == "no-store"
        assert not answer.cookies


def test_another_database_that_is_missing_is_reported_and_makes_no_process_unready(client, gone, asked_anew):
    with override_settings(HEALTH_TOKEN=TOKEN):
        answer = client.get("/health/ready/", headers={"authorization": f"Bearer {TOKEN}"})
    assert (answer.status_code, answer.json()["status"]) == (200, "healthy")
    assert {using: report["status"] for using, report in answer.json()["databases"].items()} == {
        "default": "healthy",
        gone: "unhealthy",
    }
    assert client.get("/health/live/").status_code == 200


@pytest.mark.parametrize(("applied", "status"), [([], 503), (["0001_initial", "0002_from_the_future"], 200)])
def test_pending_migrations_make_unready_and_later_ones_do_not(client, asked_anew, applied, status):
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE kept AS SELECT * FROM django_migrations WHERE app = 'users'")
        cursor.execute("DELETE FROM django_migrations WHERE app = 'users'")
        for name in applied:
            cursor.execute("INSERT INTO django_migrations (app, name, applied) VALUES ('users', %s, now())", [name])
    try:
        assert client.get("/health/ready/").status_code == status
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM django_migrations WHERE app = 'users'")
            cursor.execute("INSERT INTO django_migrations SELECT * FROM kept")
            cursor.execute("DROP TABLE kept")


def test_details_are_for_the_token_and_for_staff(client, admin_client, django_user_model, asked_anew):
    with override_settings(HEALTH_TOKEN=TOKEN):
        told = client.get("/health/ready/", headers={"authorization": f"Bearer {TOKEN}"})
        assert client.get("/health/ready/", headers={"authorization": "Bearer guess"}).json() == {"status": "healthy"}
    assert list(told.json()["databases"]) == ["default"]
    assert told.json()["databases"]["default"]["server_version"]
    assert list(admin_client.get("/health/ready/").json()) == ["status", "databases"]
    client.force_login(django_user_model.objects.create_user("ada"))
    assert client.get("/health/ready/").json() == {"status": "healthy"}
    assert client.get("/health/ready/", headers={"authorization": "Bearer "}).json() == {"status": "healthy"}


def test_one_second_is_one_question(client, asked_anew, gone):
    with override_settings(HEALTH_TOKEN=TOKEN):
        told = client.get("/health/ready/", headers={"authorization": f"Bearer {TOKEN}"})
        connections.settings.pop(gone)
        again = client.get("/health/ready/", headers={"authorization": f"Bearer {TOKEN}"})
    try:
        assert told.json() == again.json()
        assert list(told.json()["databases"]) == ["default", gone]
    finally:
        connections.settings[gone] = {**connections.settings["default"]}
