"""A rendered project under production settings, against a real server with a password, over TCP and HTTP."""

import json
import sys

import pytest
from conftest import fetch, free_port, manage, render, running

PRODUCTION = {
    "DJANGO_SETTINGS_MODULE": "config.settings.production",
    "ALLOWED_HOSTS": "127.0.0.1",
    "DB_SSLMODE": "disable",  # the test's server has no certificate
}
HTTPS = {"X-Forwarded-Proto": "https"}  # as the proxy in front sends it


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """One of its own, since static files are collected into it."""
    return render(tmp_path_factory.mktemp("production"))


@pytest.fixture(scope="module")
def deployed(project, server):
    """The project's variables once it is deployed as the README says."""
    environment = {**server.environment("deployed"), **PRODUCTION}
    manage(project, "collectstatic", "--noinput", **environment)
    manage(project, "migrate", **environment)
    return environment


def test_deployment_check_is_clean(project, server):
    environment = {
        **server.environment("checked"),
        **PRODUCTION,
        "DB_SSLMODE": "verify-full",
        "EMAIL_HOST": "mail.shop",
    }
    done = manage(project, "check", "--deploy", "--fail-level", "WARNING", **environment)
    assert done.stdout == "System check identified no issues (0 silenced).\n"


def test_fresh_environment_is_refused(project):
    """What development runs on is no production."""
    done = manage(project, "check", check=False, DJANGO_SETTINGS_MODULE="config.settings.production")
    assert done.returncode == 1
    assert done.stderr == (
        "Production settings are incomplete or unsafe: "
        "DB_EMBEDDED is on, but the embedded server is for development and tests. "
        "Set these in the environment or in .env; .env.example says what each is for.\n"
    )


@pytest.fixture(
    scope="module",
    params=[
        ["serve"],
        ["serve", "--asgi"],
    ],
    ids=["wsgi", "asgi"],
)
def address(request, project, deployed):
    port = free_port()
    with running(sys.executable, "manage.py", *request.param, cwd=project, **deployed, PORT=str(port)) as (_, log):
        yield f"http://127.0.0.1:{port}", log


def test_server_serves_pages(address):
    url, _ = address
    assert fetch(f"{url}/admin/login/", **HTTPS)[0] == 200
    assert fetch(f"{url}/nowhere/", **HTTPS) == (404, fetch(f"{url}/elsewhere/", **HTTPS)[1])


def test_server_asks_the_database(address, server):
    """A session that the database does not know leads to the login, and leaves a connection open for the next."""
    url, _ = address
    status, page = fetch(f"{url}/admin/", **HTTPS, Cookie="sessionid=unknown")
    assert status == 200
    assert "csrfmiddlewaretoken" in page
    with server.connect() as connection:
        count = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = 'deployed'").fetchone()
    assert count[0] >= 1


def test_server_serves_static_files_named_by_content(address):
    url, _ = address
    page = fetch(f"{url}/admin/login/", **HTTPS)[1]
    style = next(part.split('"')[0] for part in page.split('href="') if part.startswith("/static/admin/css/base."))
    assert fetch(url + style, **HTTPS)[0] == 200
    assert style != "/static/admin/css/base.css"


def test_start_page_is_for_development_only(address):
    assert fetch(address[0] + "/", **HTTPS)[0] == 404


def test_other_host_names_are_refused(address):
    assert fetch(address[0] + "/admin/login/", **HTTPS, Host="elsewhere.example")[0] == 400


def test_log_is_one_json_object_a_line(address):
    url, log = address
    fetch(f"{url}/admin/login/", **HTTPS, Host="elsewhere.example")
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    assert any(line["logger"] == "django.security.DisallowedHost" and line["level"] == "error" for line in lines)
