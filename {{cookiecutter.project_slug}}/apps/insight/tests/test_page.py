"""The page of the database: who may see it and stop queries, and what it says where it cannot be had."""

import os
import threading
from contextlib import closing
from datetime import timedelta

import psycopg
import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.contrib.messages import get_messages
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from psycopg.sql import SQL, Identifier

from apps.core.database.session import open_session
from apps.insight.history import read_history, record
from apps.insight.inspection import KEYS
from apps.insight.models import Sample
from apps.users.models import User

pytestmark = pytest.mark.django_db

PAGE = "/admin/insight/sample/"
SLEEP = "SELECT pg_sleep(30), 'secret-4711'"


def log_in(client, *permissions, staff=True):
    user = User.objects.create_user("ada", is_staff=staff)
    for codename in permissions:
        user.user_permissions.add(Permission.objects.get(codename=codename, content_type__app_label="insight"))
    client.force_login(user)
    return client


@pytest.fixture
def viewer(client):
    return log_in(client, "view_database")


@pytest.fixture
def canceller(client):
    return log_in(client, "view_database", "cancel_query")


@pytest.fixture
def sleeping():
    """A session that runs a query until somebody cancels it."""
    with closing(open_session(connection)) as session:
        thread = threading.Thread(target=sleep, args=[session])
        thread.start()
        try:
            wait_for(session.info.backend_pid, "active")
            yield session
        finally:
            session.cancel_safe()
            thread.join()


def sleep(session):
    try:
        session.execute(SLEEP)
    except psycopg.errors.QueryCanceled:
        session.cancelled = True


def wait_for(pid, state):
    with closing(open_session(connection)) as session:
        session.execute("SET ROLE NONE")  # the owner as whom it acts may see less
        for _ in range(2000):
            found = session.execute("SELECT state FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone()
            if found == (state,):
                return
        raise AssertionError(found)


@pytest.fixture
def other():
    """The alias of the same database for a role of its own, whose name it bears."""
    name = f"other_{os.getpid()}"
    values = {**connection.settings_dict, "USER": name, "ATOMIC_REQUESTS": False}
    with closing(open_session(connection)) as session:
        try:
            session.execute(SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(Identifier(name), values["PASSWORD"] or "-"))
        except psycopg.errors.InsufficientPrivilege:
            pytest.skip("This role may not make others.")
        connections.settings[name] = values
        try:
            yield name
        finally:
            del connections.settings[name]
            session.execute(SQL("DROP ROLE {}").format(Identifier(name)))


def find_identity(answer):
    return answer.text.partition('name="identity" value="')[2].partition('"')[0]


def test_page_shows_every_section(viewer):
    answer = viewer.get(PAGE)
    assert answer.status_code == 200
    assert all(f'<h2 id="{key}">' in answer.text for key in KEYS)


def test_page_needs_a_permission_of_staff(client):
    assert client.get(PAGE).headers["Location"] == f"/admin/login/?next={PAGE}"
    assert log_in(client, staff=True).get(PAGE).status_code == 403


def test_permission_alone_makes_nobody_staff(client):
    assert log_in(client, "view_database", staff=False).get(PAGE).status_code == 302


def test_superuser_may_see_it(admin_client):
    assert admin_client.get(PAGE).status_code == 200


@pytest.mark.parametrize("method", ["post", "put", "delete"])
def test_page_only_reads(viewer, method):
    assert getattr(viewer, method)(PAGE).status_code == 405


@pytest.mark.parametrize("place", ["add/", "1/change/", "1/delete/", "1/history/"])
def test_samples_cannot_be_changed(admin_client, place):
    assert admin_client.get(f"{PAGE}{place}").status_code == 404


def test_admin_links_to_the_page_for_those_who_may_see_it(viewer):
    assert f'<a href="{PAGE}">Database</a>' in viewer.get("/admin/").text


def test_admin_does_not_mention_it_to_others(client):
    assert PAGE not in log_in(client).get("/admin/").text


def test_number_of_queries_does_not_grow_with_what_is_shown(viewer):
    """On Django's own connection; the inspection has sessions of its own."""
    with CaptureQueriesContext(connection) as few:
        viewer.get(PAGE)
    for _ in range(20):
        record("default")
    connection.cursor().execute(";".join(f"CREATE TABLE many_{number} (id bigint)" for number in range(20)))
    viewer.get("/admin/")  # permissions are read anew for each request
    with CaptureQueriesContext(connection) as many:
        viewer.get(PAGE)
    assert len(many) == len(few) <= 8


def test_page_says_why_a_database_cannot_be_inspected(viewer):
    options = {"options": "-c lock_timeout=soon"}
    connections.settings["wrong"] = {**connection.settings_dict, "ATOMIC_REQUESTS": False, "OPTIONS": options}
    try:
        answer = viewer.get(f"{PAGE}?database=wrong")
    finally:
        del connections.settings["wrong"]
    assert answer.status_code == 503
    assert "The database cannot be inspected" in answer.text
    assert "lock_timeout" in answer.text
    assert '<a href="?database=wrong" aria-current="page">wrong</a>' in answer.text


def test_page_of_an_unknown_database_does_not_exist(viewer):
    assert viewer.get(f"{PAGE}?database=nowhere").status_code == 404


# Cancelling


def test_query_is_cancelled_once_it_is_confirmed(canceller, sleeping, caplog):
    pid = sleeping.info.backend_pid
    place = f"{PAGE}cancel/{pid}/"
    question = canceller.get(place)
    assert "SELECT pg_sleep(?), ?" in question.text.replace("&#x27;", "'")
    assert "secret-4711" not in question.text
    wait_for(pid, "active")
    answer = canceller.post(place, {"identity": find_identity(question)}, follow=True)
    assert f"PostgreSQL was asked to cancel the query of process {pid}." in answer.text
    wait_for(pid, "idle")
    assert sleeping.cancelled
    assert f"ada cancelled the query of process {pid} of database default" in caplog.messages
    entry = LogEntry.objects.get()
    assert (entry.user.username, entry.object_repr) == ("ada", f"Query of process {pid}")


def test_another_query_of_the_same_process_is_left_alone(canceller, sleeping):
    pid = sleeping.info.backend_pid
    place = f"{PAGE}cancel/{pid}/"
    identity = find_identity(canceller.get(place))
    answer = canceller.post(place, {"identity": f"{identity}1"}, follow=True)
    assert f"Process {pid} no longer runs that query; nothing was cancelled." in answer.text
    assert not LogEntry.objects.exists()
    wait_for(pid, "active")


def test_question_of_a_form_is_needed(canceller, sleeping):
    place = f"{PAGE}cancel/{sleeping.info.backend_pid}/"
    assert "nothing was cancelled" in canceller.post(place, follow=True).text
    wait_for(sleeping.info.backend_pid, "active")


def test_form_of_another_site_is_refused(canceller, sleeping):
    canceller.handler.enforce_csrf_checks = True
    assert canceller.post(f"{PAGE}cancel/{sleeping.info.backend_pid}/").status_code == 403


def test_seeing_is_not_cancelling(viewer, sleeping):
    place = f"{PAGE}cancel/{sleeping.info.backend_pid}/"
    assert place not in viewer.get(PAGE).text
    assert viewer.get(place).status_code == viewer.post(place).status_code == 403
    wait_for(sleeping.info.backend_pid, "active")


def test_session_without_a_query_cannot_be_cancelled(canceller):
    with closing(open_session(connection)) as session:
        session.execute("BEGIN")
        answer = canceller.get(f"{PAGE}cancel/{session.info.backend_pid}/")
    assert "It runs no query now" in answer.text
    assert "pg_terminate_backend" in answer.text
    assert not find_identity(answer)


def test_session_of_another_database_is_not_found(canceller):
    with closing(open_session(connection, dbname="postgres")) as session:
        answer = canceller.get(f"{PAGE}cancel/{session.info.backend_pid}/", follow=True)
    assert "has ended, or has to do with another database" in answer.text


def test_session_of_a_stronger_role_cannot_be_cancelled(canceller, sleeping, other):
    pid = sleeping.info.backend_pid
    place = f"{PAGE}cancel/{pid}/?database={other}"
    question = canceller.get(place)
    assert "this project may not cancel" in question.text
    assert f"SELECT pg_cancel_backend({pid})" in question.text
    assert not find_identity(question)
    wait_for(pid, "active")


def test_refusal_of_postgresql_is_told(canceller, sleeping, other):
    """To a role that sees every session, and may cancel no query of others."""
    with closing(open_session(connection)) as session:
        session.execute(SQL("GRANT pg_read_all_stats TO {}").format(Identifier(other)))
    place = f"{PAGE}cancel/{sleeping.info.backend_pid}/?database={other}"
    answer = canceller.post(place, {"identity": find_identity(canceller.get(place))})
    (told,) = get_messages(answer.wsgi_request)
    assert str(told) == f"The query of process {sleeping.info.backend_pid} was not cancelled: this project may not."
    assert not LogEntry.objects.exists()
    wait_for(sleeping.info.backend_pid, "active")


# History


def test_samples_are_kept_for_a_month():
    record("default")
    sample = Sample.objects.get()
    assert min(sample.connections, sample.size, sample.transactions, sample.answer) > 0
    for days in (29, 31):
        sample.pk, sample.moment = None, timezone.now() - timedelta(days=days)
        sample.save(force_insert=True)
    record("default")
    assert [(timezone.now() - sample.moment).days for sample in Sample.objects.all()] == [29, 0, 0]


def test_history_tells_of_half_hours():
    begin = timezone.now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=3)
    figures = {"blocks_hit": 0, "blocks_read": 0, "size": 1, "dead_rows": 0, "oldest_transaction": 0, "answer": 0.001}
    for minutes, connected, transactions in [(0, 3, 0), (10, 7, 60_000), (30, 5, 61_200), (60, 1, 5)]:
        moment = begin + timedelta(minutes=minutes)
        Sample.objects.create(moment=moment, connections=connected, transactions=transactions, **figures)
    rows = read_history("default").rows
    assert [(row["connections"], row["rate"]) for row in rows] == [(1, None), (5, 1), (7, 100)]
    assert rows[-1]["moment"] == begin.isoformat()


def test_history_says_that_there_is_none(viewer):
    assert read_history("default").missing == "Nothing was recorded in the last day."
    assert "Nothing was recorded" in viewer.get(PAGE).text


def test_history_says_that_its_table_is_missing():
    connection.cursor().execute("DROP TABLE insight_sample")
    assert "migrate" in read_history("default").missing
