"""`migrate` beside others of its kind, and what it says of whom it waits for."""

import io
import threading
import time

import psycopg
import pytest
from django.core.management import call_command
from django.db import OperationalError, connection, connections

from apps.schema.blockers import BlockerWatch
from apps.schema.lock import hold

pytestmark = pytest.mark.django_db(transaction=True)


def ignore(text):
    """What is said does not matter."""


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_nothing_to_apply_needs_no_lock():
    said = io.StringIO()
    with hold(connection, ignore):
        call_command("migrate", stdout=said)
    assert "No migrations to apply." in said.getvalue()


def test_second_waits_for_the_first_and_says_so():
    told, order = [], []

    def come_second():
        with hold(connections["default"], told.append):
            order.append("second")
        connections.close_all()

    second = threading.Thread(target=come_second)
    with hold(connection, ignore) as first:
        second.start()
        wait_until(lambda: told)
        order.append("first")
        pid = first.info.backend_pid
    second.join()
    assert order == ["first", "second"]
    assert told[0].startswith(f"Waiting for another migrate to end: pid {pid} (")


def test_who_is_in_the_way_is_named_without_values():
    told, default = [], connections["default"]
    with (
        psycopg.connect(**default.get_connection_params()) as other,
        BlockerWatch(default, told.append) as watch,
        connection.cursor() as cursor,
    ):
        other.execute("UPDATE users_user SET first_name = 'Ada'")
        with pytest.raises(OperationalError, match="lock timeout"):
            cursor.execute("SET lock_timeout = '2s'; LOCK TABLE users_user")
        pid = other.info.backend_pid
    assert len(told) == 1
    assert told[0].startswith(f"Waiting for a lock of pid {pid} (")
    assert watch.last.startswith(f"pid {pid} (")
    assert watch.last.endswith("idle in transaction: UPDATE users_user SET first_name = …")
