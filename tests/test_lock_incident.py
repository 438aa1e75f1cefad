"""Advice in a lock incident, by the command and over HTTP: it names the sessions that block, never those that wait."""

import contextlib
import json
import re
import sys
import threading

import pytest
from conftest import fetch, free_port, manage, render, running, wait_until

pytestmark = pytest.mark.long

THRESHOLD = 10  # seconds, from which on a transaction is long

# Logs an administrator in, and prints the cookie of the session.
LOG_IN = """
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from apps.users.models import User
user = User.objects.create_superuser("ada", password="long-enough-7")
session = SessionStore()
session[SESSION_KEY], session[HASH_SESSION_KEY] = str(user.pk), user.get_session_auth_hash()
session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
session.save()
print(session.session_key)
"""

TABLES = """
CREATE TABLE stock AS SELECT n FROM generate_series(1, 3) AS n;
CREATE TABLE queue (n int);
"""


class Incident:
    """Sessions by their names, of which some block and the others wait."""

    def __init__(self, server, stack):
        self.server, self.stack = server, stack
        self.blocking, self.waiting = {}, {}

    def connect(self, name):
        options = {"application_name": name}
        return self.stack.enter_context(contextlib.closing(self.server.connect("incident", **options)))

    def block(self, name, statement):
        """Leave a transaction idle that has executed the statement."""
        session = self.connect(name)
        session.execute(f"BEGIN; {statement}")
        self.blocking[name] = session.info.backend_pid

    def wait(self, name, statement, before=""):
        """Wait for a lock in a transaction that has executed another statement before."""
        session = self.connect(name)
        session.execute(f"BEGIN; {before}")
        thread = threading.Thread(target=execute, args=[session, statement], daemon=True)
        thread.start()
        self.waiting[name] = session.info.backend_pid
        wait_until(lambda: self.count_waiting() == len(self.waiting))

    def count_waiting(self, seconds=0):
        """Return how many sessions have waited for so long."""
        with self.server.connect("incident") as session:
            return session.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
                "AND clock_timestamp() - xact_start > make_interval(secs => %s) AND datname = current_database()",
                [seconds],
            ).fetchone()[0]

    def end(self):
        """End all sessions, so that their threads do."""
        with self.server.connect() as session:
            session.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'incident'")

    def list_named(self, text):
        """Return the names of the sessions whose process a text names."""
        pids = {int(number) for number in re.findall(r"\d+", text)}
        return {name for name, pid in (self.blocking | self.waiting).items() if pid in pids}


def execute(session, statement):
    with contextlib.suppress(Exception):  # of a session that was ended
        session.execute(statement)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """One of its own, since static files are collected into it."""
    return render(tmp_path_factory.mktemp("incident"))


@pytest.fixture(scope="module")
def variables(server, project):
    """Return the variables of the project, whose database is migrated, and the cookie of an administrator."""
    variables = server.environment("incident")
    manage(project, "migrate", **variables)
    cookie = manage(project, "shell", "--command", LOG_IN, **variables).stdout.split()[-1]
    with server.connect("incident") as session:
        session.execute(TABLES)
    return variables, cookie


@pytest.fixture(scope="module")
def incident(server, variables):
    """Locks of several kinds, for each of which sessions have waited for longer than the threshold."""
    with contextlib.ExitStack() as stack:
        incident = Incident(server, stack)
        try:
            incident.block("row", "UPDATE stock SET n = n WHERE n = 1")
            for number in range(8):
                incident.wait(f"waiter-{number}", "UPDATE stock SET n = n WHERE n = 1")
            incident.block("advisory", "SELECT pg_advisory_xact_lock(4711)")
            incident.wait("waiter-advisory", "SELECT pg_advisory_xact_lock(4711)")
            incident.block("reader", "SELECT FROM queue")
            incident.block("other-reader", "SELECT FROM queue")
            incident.wait("alter", "ALTER TABLE queue ADD COLUMN m int")
            incident.wait("late-reader", "SELECT FROM queue")
            incident.wait("later-reader", "SELECT FROM queue")
            incident.block("root", "UPDATE stock SET n = n WHERE n = 2")
            middle = "UPDATE stock SET n = n WHERE n = 3"
            incident.wait("middle", "UPDATE stock SET n = n WHERE n = 2", before=middle)
            incident.wait("last", middle)
            wait_until(lambda: incident.count_waiting(THRESHOLD + 1) == len(incident.waiting), 40)
            yield incident
        finally:
            incident.end()


def test_command_advises_about_the_blockers_alone(project, variables, incident):
    found = json.loads(manage(project, "inspect_database", "--format", "json", **variables[0]).stdout)
    findings = [finding for section in found["sections"] for finding in section["findings"]]
    named = [incident.list_named(f"{finding['text']} {finding['remedy']}") for finding in findings]
    assert set().union(*named) == incident.blocking.keys()
    text = manage(project, "inspect_database", **variables[0]).stdout
    advice = "\n".join(re.findall(r"(?m)^! .+\n  .+$", text))
    assert incident.list_named(advice) == incident.blocking.keys()


def test_sessions_that_wait_are_shown_in_their_chains(project, variables, incident):
    said = manage(project, "inspect_database", "--section", "blocking", "--format", "json", **variables[0]).stdout
    ((section),) = json.loads(said)["sections"]
    rows = {row["pid"]: row for row in section["rows"]}
    middle, last = incident.waiting["middle"], incident.waiting["last"]
    assert rows.keys() == {*incident.blocking.values(), *incident.waiting.values()}
    assert rows[middle]["waits_for"] == [incident.blocking["root"]]
    assert rows[last]["waits_for"] == [middle]


@pytest.mark.parametrize("asgi", [False, True], ids=["wsgi", "asgi"])
def test_page_advises_about_the_blockers_alone(project, variables, incident, asgi):
    values, cookie = variables
    port = free_port()
    production = {
        "DJANGO_SETTINGS_MODULE": "config.settings.production",
        "ALLOWED_HOSTS": "127.0.0.1",
        "SECURE_SSL_REDIRECT": "false",
        "DB_SSLMODE": "disable",
        "PORT": str(port),
    }
    manage(project, "collectstatic", "--noinput", **(values | production))
    serve = [sys.executable, "manage.py", "serve", *(["--asgi"] if asgi else [])]
    with running(*serve, cwd=project, **(values | production)):
        status, page = fetch(f"http://127.0.0.1:{port}/admin/insight/sample/", Cookie=f"sessionid={cookie}")
    assert status == 200
    findings = re.search(r'(?s)aria-labelledby="findings">.+?</section>', page)[0]
    assert incident.list_named(re.sub(r"<[^>]+>", " ", findings)) == incident.blocking.keys()


def test_session_that_waited_and_goes_on_is_a_long_transaction_again(project, variables, incident):
    """Its lock came, and it does nothing since: last, since it ends the incident."""
    with incident.server.connect() as session:
        session.execute("SELECT pg_terminate_backend(%s)", [incident.blocking["advisory"]])
    pid = incident.waiting["waiter-advisory"]
    said = manage(project, "inspect_database", "--section", "long_running", **variables[0]).stdout
    assert f"SELECT pg_terminate_backend({pid});" in said
