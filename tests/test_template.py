"""The template folder is a Django project that lints, types and tests as it stands; a rendered one does, too."""

import sys

import pytest
from conftest import ROOT, TEMPLATE, manage, run


@pytest.fixture(scope="session", params=["in place", "rendered"])
def folder(request):
    return TEMPLATE if request.param == "in place" else request.getfixturevalue("project")


def test_lint(folder):
    run(sys.executable, "-m", "ruff", "check", "--no-cache", cwd=folder)


def test_format(folder):
    run(sys.executable, "-m", "ruff", "format", "--check", "--no-cache", cwd=folder)


def test_types(folder):
    run(sys.executable, "-m", "mypy", ".", "--cache-dir=/dev/null", cwd=folder)


def test_checks(folder):
    assert manage(folder, "check").stdout == "System check identified no issues (0 silenced).\n"


def test_migrations_are_complete(folder, server):
    environment = server.environment(f"migrations_{folder.name.strip('{}').replace('.', '_')}")
    manage(folder, "makemigrations", "--check", "--dry-run", **environment)


def test_tests(folder, server):
    """Against a server over TCP; on the embedded one the project's own tests run elsewhere."""
    environment = server.environment(f"tests_{folder.name.strip('{}').replace('.', '_')}")
    done = run(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", cwd=folder, **environment)
    assert " passed" in done.stdout
    assert " skipped" not in done.stdout


def test_own_lint():
    run(sys.executable, "-m", "ruff", "check", "--no-cache", cwd=ROOT)


def test_own_format():
    run(sys.executable, "-m", "ruff", "format", "--check", "--no-cache", cwd=ROOT)
