"""What plan_connections makes of a deployment."""

import json
from io import StringIO

import pytest
from django.apps import apps
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection

from apps.capacity.deployment import JOBS

WEB = ["--workers=2", "--threads=8", "--pool=0"]
ONE = sum(job.primary for job in JOBS if apps.is_installed(job.app)) + 3  # of commands, and those of superusers
METRICS = int(apps.is_installed("apps.metrics"))  # of each machine
REPLICAS = int(apps.is_installed("apps.replicas"))  # of each worker


def plan(*options):
    """Return the report, whether it fits or not."""
    out, refusal = StringIO(), ""
    try:
        call_command("plan_connections", *WEB, "--format=json", *options, stdout=out)
    except CommandError as error:
        refusal = str(error)
    report = json.loads(out.getvalue())
    assert report["fits"] == (not refusal)
    return report | {"refusal": refusal}


def refuse(*options):
    with pytest.raises(CommandError) as refusal:
        call_command("plan_connections", *options)
    return str(refusal.value)


def test_each_thread_has_a_connection_and_a_deploy_doubles_them():
    report = plan("--machines=3", "--max-connections=200")
    sessions = report["servers"]["primary"]["sessions"]
    assert sessions["web"] == sessions["web that a deploy adds for a while"] == 3 * 2 * 8
    assert sessions["each worker, whether the database is there"] == 2 * 3 * 2
    assert report["needed"] == ONE + 2 * 3 * 2 * 8 + 2 * 3 * 2 + 2 * 3 * METRICS


def test_pool_and_surge_take_the_place_of_threads_and_doubling():
    report = plan("--machines=3", "--pool=4", "--surge=1", "--max-connections=200")
    assert report["needed"] == ONE + 4 * 2 * 4 + 4 * 2 + 4 * METRICS


def test_pgbouncer_takes_the_place_of_the_web_on_the_primary_alone():
    report = plan("--pgbouncer=2", "--default-pool-size=15", "--replicas=1", "--max-connections=200")
    servers = report["servers"]
    assert servers["primary"]["sessions"]["pgbouncer"] == 2 * 15
    assert servers["primary"]["sessions"]["web"] == servers["replica"]["sessions"]["pgbouncer"] == 0
    assert servers["replica"]["sessions"]["web"] == 2 * 8
    assert servers["primary"]["needed"] == ONE + 2 * 15 + 2 * METRICS
    assert report["pgbouncer"]["max_client_conn"] == 2 * 2 * 8 + 2 * 2 * (1 + REPLICAS) + 2 * METRICS


@pytest.mark.parametrize("more", [[], ["--replicas=2"], ["--pool=3"], ["--pgbouncer=2"], ["--machines=9", "--surge=2"]])
def test_what_is_said_to_fit_fits_and_no_less_does(more):
    needed = plan(*more, "--max-connections=1")["needed"]
    assert plan(*more, f"--max-connections={needed}")["fits"]
    assert not plan(*more, f"--max-connections={needed - 1}")["fits"]


def test_first_machine_too_many_and_the_largest_pool_are_told():
    report = plan("--max-connections=300")
    machines, size = report["most_machines"], report["pgbouncer"]["default_pool_size"]
    assert machines > 1
    assert plan(f"--machines={machines}", "--max-connections=300")["fits"]
    assert not plan(f"--machines={machines + 1}", "--max-connections=300")["fits"]
    assert plan("--pgbouncer=1", f"--default-pool-size={size}", "--max-connections=300")["fits"]
    assert not plan("--pgbouncer=1", f"--default-pool-size={size + 1}", "--max-connections=300")["fits"]


def test_what_does_not_fit_is_refused_with_what_would():
    refusal = plan("--machines=9", "--max-connections=100")["refusal"]
    needed = ONE + 18 * 2 * 8 + 18 * 2 + 18 * METRICS
    assert f"It does not fit, by {needed - 100} connections: max_connections has to be {needed} or more" in refusal
    assert f"a pgbouncer in between, with a default_pool_size of up to {100 - ONE - 18 * METRICS}." in refusal


@pytest.mark.django_db
def test_server_is_asked_what_it_admits():
    with connection.cursor() as cursor:
        cursor.execute("SHOW max_connections")
        ((maximum,),) = cursor.fetchall()
    primary = plan()["servers"]["primary"]
    assert (primary["max_connections"], primary["assumed"]) == (int(maximum), False)


def test_settings_say_what_is_not_said(settings, monkeypatch):
    out = StringIO()
    monkeypatch.setitem(settings.DATABASES, "replica", settings.DATABASES["default"])
    call_command("plan_connections", "--max-connections=1000", stdout=out)
    assert "1 replica to read from" in out.getvalue()
    assert out.getvalue().splitlines()[2].split() == ["primary", "each", "replica"]


@pytest.mark.parametrize(
    ("option", "value", "least"),
    [
        ("--workers", "0", 1),
        ("--machines", "-1", 1),
        ("--threads", "many", 1),
        ("--replicas", "-1", 0),
        ("--pool", "1.5", 0),
        ("--surge", "", 0),
        ("--max-connections", "0", 1),
        ("--default-pool-size", "0", 1),
    ],
)
def test_nonsense_is_refused_by_name(option, value, least):
    assert f"argument {option}: {value!r} is no whole number of {least} or more." in refuse(f"{option}={value}")


def test_asgi_without_a_pool_is_refused_since_nothing_bounds_it():
    assert "Under ASGI without a pool" in refuse("--asgi")
    assert plan("--asgi", "--pool=5", "--max-connections=200")["servers"]["primary"]["sessions"]["web"] == 2 * 5
