"""What each entry point of a rendered project does when its database is there, is not, or comes later."""

import json
import sys
import urllib.request

import pytest
from conftest import PASSWORD, fetch, free_port, manage, postgres, render, running, wait_until

DEVELOPMENT = {"DJANGO_SETTINGS_MODULE": "config.settings.development"}
PRODUCTION = {
    "DJANGO_SETTINGS_MODULE": "config.settings.production",
    "ALLOWED_HOSTS": "example.com",
    "DB_SSLMODE": "disable",  # the test's server has no certificate
}
SERVERS = {
    "gunicorn": ["gunicorn", "config.wsgi", "--workers", "2", "--bind", "127.0.0.1:{port}"],
    "gthread": ["gunicorn", "config.wsgi", "--threads", "4", "--bind", "127.0.0.1:{port}"],
    "preload": ["gunicorn", "config.wsgi", "--preload", "--workers", "2", "--bind", "127.0.0.1:{port}"],
    "uvicorn worker": [
        *("gunicorn", "config.asgi", "--worker-class", "uvicorn.workers.UvicornWorker"),
        *("--workers", "2", "--bind", "127.0.0.1:{port}"),
    ],
    "uvicorn": ["uvicorn", "config.asgi:application", "--port", "{port}"],
    "uvicorn workers": ["uvicorn", "config.asgi:application", "--workers", "2", "--port", "{port}"],
}
SENTENCE = "Please ensure PostgreSQL is running and check DB_HOST and DB_PORT."


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return render(tmp_path_factory.mktemp("startup"))


@pytest.fixture(scope="module")
def own_server(embedded_binaries):
    """One that these tests stop and start; they leave it running."""
    with postgres(embedded_binaries) as server:
        yield server


@pytest.fixture(scope="module")
def environment(project, own_server):
    environment = own_server.environment("startup")
    manage(project, "migrate", **environment)
    return environment


@pytest.fixture
def stopped(own_server, environment):
    own_server.stop("fast")
    yield own_server
    if not (own_server.folder / "data" / "postmaster.pid").exists():
        own_server.launch()


def serve(name, project, **environment):
    port = free_port()
    command = [word.format(port=port) for word in SERVERS[name]]
    return running(sys.executable, "-m", *command, cwd=project, **environment), f"http://127.0.0.1:{port}"


def json_lines(log):
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]


@pytest.mark.parametrize("name", SERVERS)
def test_production_serves_with_a_healthy_database(name, project, environment):
    server, url = serve(name, project, **environment, **PRODUCTION)
    with server as (_, log):
        assert fetch(f"{url}/health/ready/") == (200, '{"status": "healthy"}')
        assert "SynchronousOnlyOperation" not in log.read_text()


@pytest.mark.parametrize("name", ["gunicorn", "gthread", "preload", "uvicorn worker", "uvicorn"])
def test_production_ends_without_a_database(name, project, environment, stopped):
    """With one critical line for each process that was started, which are no more than were asked for."""
    server, _ = serve(name, project, **environment, **PRODUCTION)
    with server as (process, log):
        assert process.wait(30) != 0
        critical = [line for line in json_lines(log) if line["level"] == "critical"]
        assert 1 <= len(critical) <= 2
        assert SENTENCE in critical[0]["event"]
        assert PASSWORD not in log.read_text()


@pytest.mark.parametrize("name", ["gunicorn", "uvicorn"])
def test_development_warns_and_serves_without_a_database(name, project, environment, stopped):
    server, url = serve(name, project, **environment, **DEVELOPMENT)
    with server as (_, log):
        assert fetch(f"{url}/")[0] == 200
        assert fetch(f"{url}/health/ready/") == (503, '{"status": "unhealthy"}')
        assert (
            f"warning  ] Could not connect to database server at 127.0.0.1:{stopped.port}. {SENTENCE}"
            in log.read_text()
        )


def test_server_waits_for_its_database(project, environment, stopped):
    server, url = serve("gunicorn", project, **environment, **PRODUCTION, DB_STARTUP_WAIT="30")
    with server as (process, log):
        wait_until(lambda: "Booting worker" in log.read_text())
        with pytest.raises(TimeoutError):
            urllib.request.urlopen(f"{url}/health/live/", timeout=2)
        assert process.poll() is None
        stopped.launch()
        assert fetch(f"{url}/health/ready/", seconds=30)[0] == 200


def test_runserver_warns_serves_and_sees_the_database_come(project, environment, stopped):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with running(sys.executable, "manage.py", "runserver", port, cwd=project, **environment) as (_, log):
        assert fetch(f"{url}/")[0] == 200
        assert log.read_text().count(SENTENCE) == 1
        assert fetch(f"{url}/health/ready/")[0] == 503
        stopped.launch()
        wait_until(lambda: fetch(f"{url}/health/ready/")[0] == 200)
        assert fetch(f"{url}/admin/login/", Cookie="sessionid=unknown")[0] == 200


@pytest.mark.parametrize(
    "command",
    [
        ["migrate"],
        ["showmigrations"],
        ["createsuperuser", "--noinput", "--username", "ada", "--email", "a@example.com"],
    ],
    ids=lambda command: command[0],
)
def test_command_that_needs_the_database_says_so_in_a_few_lines(command, project, environment, stopped):
    done = manage(project, *command, check=False, **environment)
    assert done.returncode == 1
    assert SENTENCE in done.stderr
    assert "sudo systemctl start postgresql" in done.stderr
    assert len((done.stdout + done.stderr).splitlines()) <= 8
    assert "Traceback" not in done.stderr
    explained = manage(project, *command, "--traceback", check=False, **environment)
    assert explained.returncode == 1
    assert "Traceback" in explained.stderr
    assert PASSWORD not in done.stderr + explained.stderr


@pytest.mark.parametrize(
    "command", [["check"], ["makemigrations", "--help"], ["diffsettings"], ["collectstatic", "-n"]]
)
def test_command_that_needs_no_database_does_not_ask(command, project, environment, stopped):
    manage(project, *command, "--no-input" if command[0] == "collectstatic" else "--no-color", **environment)


def test_check_database_waits_until_it_comes(project, environment, stopped):
    command = sys.executable, "manage.py", "check_database", "--wait", "30", "--retry-interval", "0.1"
    with running(*command, cwd=project, **environment) as (process, log):
        wait_until(lambda: "default: waiting. Could not connect" in log.read_text())
        stopped.launch()
        assert process.wait(20) == 0
        assert "default: healthy, PostgreSQL 18." in log.read_text()
        assert log.read_text().count("waiting. Could not connect") == 1


def test_check_database_does_not_wait_for_what_waiting_cannot_mend(project, environment):
    done = manage(project, "check_database", "--wait", "60", check=False, **{**environment, "DB_PASSWORD": "wrong"})
    assert done.returncode == 1
    assert done.stderr == (
        "CommandError: default: Authentication failed for user 'owner'. Please check DB_USER and DB_PASSWORD "
        "environment variables. Either the password is wrong or the user does not exist: the server does not say "
        "which. Remedy: Correct DB_USER and DB_PASSWORD in .env\n"
    )


def test_check_database_explains_itself(project):
    done = manage(project, "check_database", "--help", COLUMNS="100", NO_COLOR="1")
    assert done.stdout.startswith(HELP)
    refused = manage(project, "check_database", "--wait", "soon", check=False)
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].endswith("error: argument --wait: invalid number of seconds value: 'soon'")


HELP = """\
usage: manage.py check_database [-h] [--wait SECONDS] [--retry-interval SECONDS]
                                [--timeout SECONDS] [--database ALIAS] [--direct]
                                [--format {text,json}] [--version]"""


def test_health_views_know_no_cookies_hosts_or_https(project, environment):
    server, url = serve("gunicorn", project, **environment, **PRODUCTION)
    with server:
        for path in ("live", "ready"):
            fetch(f"{url}/health/{path}/")
            with urllib.request.urlopen(f"{url}/health/{path}/", timeout=10) as answer:
                assert answer.headers["Cache-Control"] == "no-store"
                assert answer.headers["Set-Cookie"] is None
                assert answer.read() == b'{"status": "healthy"}'


def test_details_over_http_are_for_the_token(project, environment, stopped):
    token = {"HEALTH_TOKEN": "t0ken-of-the-tests", **environment, **DEVELOPMENT}
    server, url = serve("gunicorn", project, **token)
    with server:
        status, page = fetch(f"{url}/health/ready/", Authorization="Bearer t0ken-of-the-tests")
        report = json.loads(page)["databases"]["default"]
        assert (status, report["cause"], report["connection_info"]["user"]) == (503, "refused", "owner")
        assert PASSWORD not in page
        assert fetch(f"{url}/health/ready/", Authorization="Bearer other") == (503, '{"status": "unhealthy"}')


def test_debug_page_of_a_failed_connection_holds_no_password(project, environment, stopped, tmp_path):
    """Where nothing answers 503 instead of it."""
    (tmp_path / "bare.py").write_text("from config.settings.development import *\nMIDDLEWARE = MIDDLEWARE[:-1]\n")
    bare = {"DJANGO_SETTINGS_MODULE": "bare", "PYTHONPATH": str(tmp_path)}
    server, url = serve("gunicorn", project, **environment, **bare)
    with server:
        status, page = fetch(f"{url}/admin/", Cookie="sessionid=unknown")
        assert status == 500
        assert "OperationalError" in page
        assert PASSWORD not in page
