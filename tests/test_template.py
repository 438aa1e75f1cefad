"""The template folder is a Django project that lints, types and tests as it stands."""

import sys

from conftest import ROOT, TEMPLATE, manage, run


def test_lint():
    run(sys.executable, "-m", "ruff", "check", "--no-cache", cwd=TEMPLATE)


def test_format():
    run(sys.executable, "-m", "ruff", "format", "--check", "--no-cache", cwd=TEMPLATE)


def test_types():
    run(sys.executable, "-m", "mypy", ".", "--cache-dir=/dev/null", cwd=TEMPLATE)


def test_checks():
    assert manage(TEMPLATE, "check").stdout == "System check identified no issues (0 silenced).\n"


def test_migrations_are_complete(server):
    environment = server.environment("migrations_in_place")
    manage(TEMPLATE, "makemigrations", "--check", "--dry-run", **environment)


def test_tests(server):
    """Those of the database and the pages; all of them run in a rendered project, which has the same files."""
    environment = server.environment("tests_in_place")
    tests = "tests/test_database.py", "tests/test_pages.py"
    done = run(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *tests, cwd=TEMPLATE, **environment)
    assert " passed" in done.stdout


def test_own_lint():
    run(sys.executable, "-m", "ruff", "check", "--no-cache", cwd=ROOT)


def test_own_format():
    run(sys.executable, "-m", "ruff", "format", "--check", "--no-cache", cwd=ROOT)
