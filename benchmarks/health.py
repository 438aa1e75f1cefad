"""
Time the health check and the ready view beside raw psycopg and the best-known health packages, in one run.

`make bench` renders a project, runs this in it on the embedded PostgreSQL, and prints medians and ratios. Everything is
called in turn, round by round, so that a machine that slows down slows down all of them.
"""

import logging
import os
import statistics
import sys
import time
from collections.abc import Callable

import django

ROUNDS = int(os.environ.get("ROUNDS", "15"))
CALLS = 200  # a round, of what costs less than a millisecond
NEW_CONNECTIONS = 20  # a round, of what connects anew

Timed = Callable[[], object]


def main() -> None:
    """Print both tables."""
    sys.path.insert(0, os.getcwd())
    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings.testing"
    django.setup()
    logging.disable()  # a line for each request would drown the tables
    from django.db import connection

    connection.ensure_connection()
    raw = connection.connection
    print("\nA question on an open connection, and on a new one:\n")
    report(time_in_turn(list_checks(raw), CALLS), "raw SELECT 1")
    report(time_in_turn(list_connects(), NEW_CONNECTIONS), "raw connect, SELECT 1")
    print("\nA view in the test client:\n")
    report(time_in_turn(list_views(), CALLS), "ready")


def list_checks(raw) -> dict[str, Timed]:
    """Return what asks on the open connection of this thread."""
    from apps.core.database import DatabaseHealthCheck

    check = DatabaseHealthCheck()
    cursor = raw.cursor()
    return {
        "raw SELECT 1": lambda: cursor.execute("SELECT 1").fetchone(),
        "DatabaseHealthCheck().check()": check.check,
    }


def list_connects() -> dict[str, Timed]:
    """Return what connects, asks and closes."""
    import psycopg
    from django.db import connection

    from apps.core.database import DatabaseHealthCheck

    parameters = connection.get_connection_params()
    check = DatabaseHealthCheck()

    def connect() -> None:
        with psycopg.connect(**parameters) as new:
            new.execute("SELECT 1").fetchone()

    def check_anew() -> None:
        connection.close()
        assert check.check()["status"] == "healthy"

    return {"raw connect, SELECT 1": connect, "DatabaseHealthCheck().check()": check_anew}


def list_views() -> dict[str, Timed]:
    """Return requests to the ready view and to those of other packages, each bare of middleware but its own."""
    from django.conf import settings
    from django.http import HttpResponse
    from django.test import Client
    from django.urls import include, path, set_urlconf
    from django_alive import views as alive
    from health_check.views import HealthCheckView

    from apps.core.readiness import readiness
    from apps.core.views import ready

    class Addresses:
        urlpatterns = [
            path("nothing/", lambda request: HttpResponse()),
            path("health/ready/", ready),
            path("django-alive/", alive.healthcheck),
            path("django-health-check/", HealthCheckView.as_view(checks=["health_check.checks.Database"])),
            path("django-watchman/", include("watchman.urls")),
        ]

    settings.ROOT_URLCONF = Addresses
    settings.ALLOWED_HOSTS = ["*"]
    settings.WATCHMAN_CHECKS = ["watchman.checks.databases"]
    set_urlconf(Addresses)
    client = Client()

    def get(address: str) -> Timed:
        assert client.get(address).status_code == 200, address
        return lambda: client.get(address)

    def ask_anew() -> None:
        readiness.answered = float("-inf")  # as if a second had passed
        client.get("/health/ready/")

    return {
        "ready": get("/health/ready/"),
        "ready, asking each time": ask_anew,
        "a view that does nothing": get("/nothing/"),
        "django-alive": get("/django-alive/"),
        "django-health-check": get("/django-health-check/?format=json"),
        "django-watchman": get("/django-watchman/"),
    }


def time_in_turn(timed: dict[str, Timed], calls: int) -> dict[str, list[float]]:
    """Return for each name the milliseconds of one call, for each round."""
    figures: dict[str, list[float]] = {name: [] for name in timed}
    for name, call in timed.items():
        call()
    for _ in range(ROUNDS):
        for name, call in timed.items():
            begin = time.perf_counter()
            for _ in range(calls):
                call()
            figures[name].append((time.perf_counter() - begin) / calls * 1000)
    return figures


def report(figures: dict[str, list[float]], base: str) -> None:
    """Print a line for each: median, least and most milliseconds, and the median's ratio to the base's."""
    unit = statistics.median(figures[base])
    for name, values in figures.items():
        middle = statistics.median(values)
        print(f"{name:<32} {middle:8.3f} ms ({min(values):.3f} to {max(values):.3f}) {middle / unit:8.2f} x")


if __name__ == "__main__":
    main()
