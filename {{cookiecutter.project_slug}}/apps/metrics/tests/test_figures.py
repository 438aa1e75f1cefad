"""The page of figures, who may read it, and what it counts, in one process."""

import pytest
from django.core.checks import Tags, run_checks
from django.db import connection
from prometheus_client.parser import text_string_to_metric_families

from apps.metrics.tally import Tally, around_queries

TOKEN = "t0ken-of-the-tests"  # noqa: S105


@pytest.fixture
def read(client, settings):
    """Return what reads the figures, by names and labels."""
    settings.METRICS_TOKEN = TOKEN

    def read():
        response = client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
        assert response.status_code == 200
        assert response.headers["Cache-Control"] == "no-store"
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(response.content.decode())
            for sample in family.samples
        }

    return read


@pytest.mark.django_db(transaction=True)
def test_requests_are_counted_by_method_and_status(client, read):
    client.get("/admin/login/")
    before = read()
    client.get("/admin/login/")
    client.get("/nowhere/")
    client.generic("MADEUP", "/nowhere/")
    after = read()
    grown = {name: value - before.get(name, 0) for name, value in after.items() if name[0] == "django_requests_total"}
    assert grown[("django_requests_total", "GET", "200")] == 1
    assert grown[("django_requests_total", "GET", "404")] == 1
    assert grown[("django_requests_total", "other", "404")] == 1
    assert sum(grown.values()) == 3
    assert after[("django_request_database_seconds_count",)] - before[("django_request_database_seconds_count",)] == 3


@pytest.mark.django_db(transaction=True)
def test_database_tells_of_itself(read):
    figures = read()
    assert figures[("database_up",)] == 1
    assert figures[("database_migrations_pending",)] == 0
    assert 0 < figures[("database_connections_used",)] < figures[("database_connections_max",)]


@pytest.mark.django_db
def test_queries_are_counted_with_those_that_fail():
    tally = Tally()
    with around_queries(tally), connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(0.01)")
        cursor.executemany("SELECT %s", [[1], [2]])
    assert tally.queries == 2
    assert 0.01 <= tally.seconds < 1
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    assert tally.queries == 2


@pytest.mark.parametrize("sent", ["", "Bearer", "Bearer ", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN} "])
def test_nobody_else_reads_them_where_there_is_a_token(client, settings, sent):
    settings.METRICS_TOKEN = TOKEN
    response = client.get("/metrics", headers={"Authorization": sent}, REMOTE_ADDR="127.0.0.1")
    assert response.status_code == 403


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("127.0.0.1", 200),
        ("10.1.2.3", 200),
        ("172.31.0.1", 200),
        ("192.168.1.1", 200),
        ("::1", 200),
        ("::ffff:10.1.2.3", 200),
        ("fd00::1", 200),
        ("172.32.0.1", 403),
        ("192.0.2.1", 403),
        ("8.8.8.8", 403),
        ("::ffff:8.8.8.8", 403),
        ("2001:db8::1", 403),
        ("", 403),
        ("nonsense", 403),
    ],
)
@pytest.mark.django_db(transaction=True)
def test_private_networks_read_them_without_a_token(client, settings, address, status):
    settings.METRICS_TOKEN = ""
    assert client.get("/metrics", REMOTE_ADDR=address).status_code == status


@pytest.mark.parametrize("header", ["Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Proto", "X-Real-IP"])
def test_what_a_proxy_passes_on_needs_a_token(client, settings, header):
    settings.METRICS_TOKEN = ""
    assert client.get("/metrics", headers={header: "10.1.2.3"}, REMOTE_ADDR="10.1.2.3").status_code == 403


@pytest.mark.parametrize(
    ("token", "endpoint", "told"),
    [("", "", ["metrics.W001"]), (TOKEN, "", []), ("", "http://localhost:4318", [])],
)
def test_check_tells_of_a_production_that_nobody_watches(settings, token, endpoint, told):
    settings.METRICS_TOKEN, settings.OTEL_ENDPOINT = token, endpoint
    found = run_checks(tags=[Tags.security], include_deployment_checks=True)
    assert [each.id for each in found if each.id.startswith("metrics.")] == told
