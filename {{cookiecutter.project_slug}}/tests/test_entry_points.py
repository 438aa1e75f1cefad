"""Which settings each entry point takes, and what production refuses."""

import json
import os
import re
import subprocess
import sys

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from apps.core.environment import require_production_values

PRODUCTION = {
    "SECRET_KEY": "j8Hq2-zT0w5vB7nX1cK9rL4mPfG6sD3aY-eUiOoQkWlE_tRyZx",
    "ALLOWED_HOSTS": "example.com",
    "DB_EMBEDDED": "false",
    "DB_NAME": "shop",
    "DB_USER": "shop",
    "DB_PASSWORD": "k3PzV9-not-guessable",
    "DB_HOST": "db.example.com",
    "DB_PORT": "5432",
    "DB_MIGRATE_USER": "",
    "EMAIL_HOST": "smtp.example.com",
    # Of apps of this edition, as a fresh `.env` has them.
    **dict.fromkeys(re.findall(r"(?m)^(\w+_TOKEN)=$", (settings.BASE_DIR / ".env.example").read_text()), "w8Rz4"),
}


def run(*arguments, **environment):
    inherited = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=settings.BASE_DIR,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("module", ["config.wsgi", "config.asgi"])
def test_servers_run_under_production_settings_and_refuse_a_missing_database(module):
    """An error that is raised ends a server; one that exits would be started again and again."""
    answer = run("-c", f"import {module}", **{**PRODUCTION, "DB_HOST": "127.0.0.1", "DB_PORT": "1"})
    *_, last = lines = answer.stderr.splitlines()
    (logged,) = (json.loads(line) for line in lines if line.startswith("{"))
    sentence = (
        "Could not connect to database server at 127.0.0.1:1. Please ensure PostgreSQL is running and check DB_HOST "
        "and DB_PORT. Remedy: sudo systemctl start postgresql"
    )
    assert answer.returncode == 1
    assert (logged["level"], logged["event"]) == ("critical", sentence)
    assert last == f"django.db.utils.OperationalError: {sentence}"


def test_manage_runs_under_development_settings():
    answer = run("manage.py", "shell", "--verbosity=0", "--command=print(settings.SETTINGS_MODULE)")
    assert answer.stdout == "config.settings.development\n"


def test_serve_runs_under_production_settings_and_refuses_a_missing_database():
    refused = run("manage.py", "serve", **dict.fromkeys(PRODUCTION, ""))
    assert refused.returncode == 1
    assert refused.stderr.startswith("Production settings are incomplete or unsafe: SECRET_KEY is missing; ")
    unreachable = {**PRODUCTION, "DB_HOST": "127.0.0.1", "DB_PORT": "1"}
    answer = run("manage.py", "serve", "--wait", "0", **unreachable)
    assert answer.returncode == 1
    assert answer.stderr == (
        "CommandError: default: Could not connect to database server at 127.0.0.1:1. Please ensure PostgreSQL is "
        "running and check DB_HOST and DB_PORT. Remedy: sudo systemctl start postgresql\n"
    )


def test_production_passes_its_deployment_check():
    strictly = "--deploy", "--fail-level=WARNING"
    answer = run("manage.py", "check", *strictly, "--settings=config.settings.production", **PRODUCTION)
    assert answer.returncode == 0, answer.stderr


def test_production_refuses_all_that_is_missing_at_once():
    answer = run("manage.py", "check", "--settings=config.settings.production", **dict.fromkeys(PRODUCTION, ""))
    assert answer.returncode == 1
    assert answer.stderr == (
        "Production settings are incomplete or unsafe: SECRET_KEY is missing; ALLOWED_HOSTS is missing; "
        "DB_NAME is missing; DB_USER is missing; DB_PASSWORD is missing; DB_HOST is missing; DB_PORT is missing. "
        "Set these in the environment or in .env; .env.example says what each is for.\n"
    )


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("SECRET_KEY", "short", "SECRET_KEY is guessable, it needs 50 or more random characters"),
        ("SECRET_KEY", "ab" * 40, "SECRET_KEY is guessable, it needs 50 or more random characters"),
        ("ALLOWED_HOSTS", "example.com, *", "ALLOWED_HOSTS holds '*', which admits every host name"),
        ("DB_PASSWORD", "postgres", "DB_PASSWORD is a development password"),
        ("DB_PASSWORD", "your_secure_password", "DB_PASSWORD is a development password"),
        ("DB_PASSWORD", "shop", "DB_PASSWORD is a development password"),
        ("DB_EMBEDDED", "true", "DB_EMBEDDED is on, but the embedded server is for development and tests"),
    ],
)
def test_production_refuses_an_unsafe_value(monkeypatch, name, value, problem):
    for variable, safe in PRODUCTION.items():
        monkeypatch.setenv(variable, safe)
    require_production_values()
    monkeypatch.setenv(name, value)
    with pytest.raises(ImproperlyConfigured, match=re.escape(f"incomplete or unsafe: {problem}. Set these")):
        require_production_values()


def test_a_value_of_the_wrong_kind_is_named():
    answer = run("manage.py", "check", DB_CONN_MAX_AGE="ten")
    assert answer.returncode == 1
    assert answer.stderr == "DB_CONN_MAX_AGE is 'ten', but must be a whole number.\n"
