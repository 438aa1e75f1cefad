"""Commands that destroy and make anew do both or nothing: after a refusal, one sentence, the data are still there."""

import contextlib
import re

import psycopg
import pytest
from conftest import PASSWORD, free_port, manage, render, wait_until_stopped
from psycopg import sql

pytestmark = pytest.mark.long

RESET = "reset_db", "--no-input"
HOSTILE = "odd\" name'; DROP DATABASE postgres; --"


def identifier(name):
    return sql.Identifier(name)


@pytest.fixture
def make(project, server):
    """Return what makes a database of a role's with a row, as prepare_database does, and the variables for it."""
    made, roles = [], []

    def make(name, *, roles_of_its_own=False, attributes=""):
        user = f"{name}_app"
        environment = server.environment("unused") | {
            "DB_NAME": name,
            "DB_USER": user,
            "DB_ADMIN_USER": "owner",
            "DB_ADMIN_PASSWORD": PASSWORD,
        }
        made.append(name)
        roles.extend(f"{name}_{kind}" for kind in ("app", "migrator", "owner", "readonly", "monitor"))
        with server.connect() as connection:
            connection.execute("DROP DATABASE unused")
            if roles_of_its_own:
                environment |= {"DB_MIGRATE_USER": f"{name}_migrator", "DB_MIGRATE_PASSWORD": f"{PASSWORD}-2"}
            else:
                role = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} " + attributes)
                connection.execute(role.format(identifier(user), sql.Literal(PASSWORD)))
        manage(project, "prepare_database", **environment)
        with server.connect(name) as connection:
            connection.execute("INSERT INTO django_content_type (app_label, model) VALUES ('shop', 'sale')")
        return environment

    yield make
    with server.connect() as connection:
        for name in made:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(identifier(name)))
        for role in roles:
            connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(identifier(role)))


def count_rows(server, name):
    """Return how many rows there are of those that were made with the database, None where it has no such table."""
    with server.connect(name) as connection, contextlib.suppress(psycopg.errors.UndefinedTable):
        query = "SELECT count(*) FROM django_content_type WHERE app_label = 'shop'"
        return connection.execute(query).fetchone()[0]


def find_databases(server):
    with server.connect() as connection:
        return dict(connection.execute("SELECT datname::text, datdba::regrole::text FROM pg_database").fetchall())


def assert_refused(done, text):
    assert done.returncode == 1, done.stdout
    assert done.stdout == ""
    assert re.fullmatch(f"CommandError: {text}\n", done.stderr), done.stderr


def test_owner_that_may_not_make_databases_keeps_its_own(project, server, make):
    """As prepare_database sets it up for one role."""
    environment = make("modest")
    before = find_databases(server)
    for options in ([], ["--close-sessions"]):
        done = manage(project, *RESET, *options, check=False, **environment)
        assert_refused(
            done, "Database 'modest' is as it was: permission denied to create database. .*CREATEDB.*--user.*"
        )
        assert (count_rows(server, "modest"), find_databases(server)) == (1, before)


def test_administrator_resets_the_database_for_its_owner(project, server, make):
    environment = make("helped")
    before = find_databases(server)
    done = manage(project, *RESET, "--user=owner", f"--password={PASSWORD}", **environment)
    assert done.stdout == ("Database 'helped' is empty: manage.py prepare_database makes its tables and privileges.\n")
    assert (count_rows(server, "helped"), find_databases(server)) == (None, before)
    manage(project, "prepare_database", **environment)
    assert count_rows(server, "helped") == 0


def test_owner_that_may_make_databases_resets_its_own(project, server, make):
    environment = make("free", attributes="CREATEDB")
    before = find_databases(server)
    manage(project, *RESET, **environment)
    assert (count_rows(server, "free"), find_databases(server)) == (None, before)
    manage(project, "migrate", **environment)


def test_database_of_five_roles_keeps_its_owner(project, server, make):
    environment = make("five", roles_of_its_own=True)
    before = find_databases(server)
    manage(project, *RESET, **environment)
    assert (count_rows(server, "five"), find_databases(server)) == (None, before)
    manage(project, "prepare_database", **environment)
    application = {"DB_MIGRATE_USER": "", "DB_ADMIN_USER": ""}
    assert manage(project, "migrate", "--check", **{**environment, **application}).returncode == 0


def test_database_in_use_is_not_reset(project, server, make):
    environment = make("busy", attributes="CREATEDB")
    before = find_databases(server)
    with psycopg.connect(
        host="127.0.0.1", port=server.port, user="busy_app", password=PASSWORD, dbname="busy", autocommit=True
    ) as session:
        done = manage(project, *RESET, check=False, **environment)
        text = "Database 'busy' is as it was: database \"busy\" is being accessed by other users. .*--close-sessions.*"
        assert_refused(done, text)
        assert session.execute("SELECT count(*) FROM django_content_type WHERE app_label = 'shop'").fetchone() == (1,)
        assert find_databases(server) == before
        with server.connect("busy"):  # whose session this role may not end
            done = manage(project, *RESET, "--close-sessions", check=False, **environment)
            assert_refused(done, "Database 'busy' is as it was: permission denied to terminate process. .*")
            assert count_rows(server, "busy") == 1
        manage(project, *RESET, "--close-sessions", **environment)
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
    assert (count_rows(server, "busy"), find_databases(server)) == (None, before)


def test_what_the_new_database_lacks_is_known_before_the_old_one_goes(project, server, make):
    environment = make("strict", attributes="CREATEDB")
    before = find_databases(server)
    done = manage(project, *RESET, "--owner=owner", check=False, **environment)
    assert_refused(done, "Database 'strict' is as it was: must be able to SET ROLE \"owner\". .*")
    done = manage(project, *RESET, "--owner=nobody_at_all", check=False, **environment)
    assert_refused(done, "Database 'strict' is as it was: role \"nobody_at_all\" does not exist. .*")
    with server.connect() as connection:
        connection.execute("ALTER DATABASE strict IS_TEMPLATE true")
        done = manage(project, *RESET, check=False, **environment)
        connection.execute("ALTER DATABASE strict IS_TEMPLATE false")
        assert_refused(done, "Database 'strict' is as it was: cannot drop a template database. .*")
        # A role that may become the other one, but has none of its privileges until then.
        connection.execute("CREATE ROLE strict_owner; GRANT strict_owner TO strict_app WITH INHERIT FALSE, SET TRUE")
        done = manage(project, *RESET, "--owner=strict_owner", check=False, **environment)
        assert_refused(done, "Database 'strict' is as it was: must be owner of database reset_db_.*")
        connection.execute("DROP OWNED BY strict_owner")
        for name in find_databases(server).keys() - before.keys():
            connection.execute(sql.SQL("DROP DATABASE {}").format(identifier(name)))
    assert (count_rows(server, "strict"), find_databases(server)) == (1, before)


def test_database_of_another_role_is_not_reset(project, server, make):
    make("theirs")
    environment = make("mine", attributes="CREATEDB")
    before = find_databases(server)
    done = manage(project, *RESET, "--dbname=theirs", check=False, **environment)
    assert_refused(done, "Database 'theirs' is as it was: must be able to SET ROLE \"theirs_app\". .*")
    assert (count_rows(server, "theirs"), count_rows(server, "mine"), find_databases(server)) == (1, 1, before)


def test_database_that_does_not_exist_is_made(project, server, make):
    environment = make("present", attributes="CREATEDB")
    manage(project, *RESET, "--dbname=absent", **environment)
    assert find_databases(server)["absent"] == "present_app"
    with server.connect() as connection:
        connection.execute("DROP DATABASE absent")
    assert count_rows(server, "present") == 1


@pytest.mark.parametrize("options", [["--password=wrong-Xq7"], ["--user=nobody_at_all"]])
def test_login_that_fails_is_one_sentence(project, server, make, options):
    environment = make("closed", attributes="CREATEDB")
    done = manage(project, *RESET, *options, check=False, **environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Authentication failed for user" in done.stderr
    assert "Traceback" not in done.stderr
    assert count_rows(server, "closed") == 1


def test_server_that_is_away_is_one_sentence(project, server):
    environment = server.environment("away")
    done = manage(project, *RESET, check=False, **{**environment, "DB_PORT": str(free_port())})
    assert done.returncode == 1
    assert done.stderr.startswith("Could not connect to database server at")
    assert "Traceback" not in done.stderr


def test_name_is_never_a_statement(project, server):
    environment = server.environment(HOSTILE.replace('"', '""')) | {"DB_NAME": HOSTILE}
    manage(project, "migrate", **environment)
    before = find_databases(server)
    manage(project, *RESET, "--close-sessions", **environment)
    assert (count_rows(server, HOSTILE), find_databases(server)) == (None, before)
    with server.connect() as connection:
        connection.execute(sql.SQL("DROP DATABASE {}").format(identifier(HOSTILE)))


# The schema.


def test_owner_of_a_schema_that_may_make_none_keeps_its_own(project, server, make):
    environment = make("shared")
    with server.connect("shared") as connection:
        connection.execute("ALTER SCHEMA public OWNER TO shared_app")
        connection.execute("ALTER DATABASE shared OWNER TO owner")
    done = manage(project, "reset_schema", "--no-input", check=False, **environment)
    assert_refused(done, 'Schema "public" is as it was: permission denied for database shared.')
    assert count_rows(server, "shared") == 1


def test_schema_is_reset_by_its_owner(project, server, make):
    for environment in make("simple"), make("several", roles_of_its_own=True):
        manage(project, "reset_schema", "--no-input", **environment)
        assert count_rows(server, environment["DB_NAME"]) is None
        manage(project, "prepare_database", **environment)


def test_name_of_a_schema_is_never_a_statement(project, server, make):
    environment = make("quoted")
    attack = 'nothing; DROP TABLE django_content_type CASCADE; CREATE SCHEMA "'
    for name in (attack, "nothing"):
        done = manage(project, "reset_schema", "--no-input", f"--schema={name}", check=False, **environment)
        assert done.returncode == 1
        assert re.fullmatch("CommandError: Schema .* is as it was: schema .* does not exist.\n", done.stderr)
        assert count_rows(server, "quoted") == 1
    with server.connect("quoted") as connection:
        connection.execute(sql.SQL("CREATE SCHEMA {} AUTHORIZATION quoted_app").format(identifier(HOSTILE)))
        connection.execute(sql.SQL("CREATE TABLE {} ()").format(sql.Identifier(HOSTILE, "part")))
        manage(project, "reset_schema", "--no-input", f"--schema={HOSTILE}", **environment)
        found = "SELECT count(*) FROM pg_tables WHERE schemaname = %s"
        assert connection.execute(found, [HOSTILE]).fetchone() == (0,)
    assert count_rows(server, "quoted") == 1


# The embedded server.


@pytest.fixture
def embedded(tmp_path):
    project = render(tmp_path)
    manage(project, "migrate")
    yield project
    wait_until_stopped(project)


@pytest.mark.parametrize("command", [RESET, ("reset_schema", "--no-input")])
def test_embedded_database_is_reset(embedded, command):
    def shell(code):
        return manage(embedded, "shell", "--verbosity=0", "--command", code).stdout.strip()

    users = "from apps.users.models import User"
    shell(f"{users}; User.objects.create_user('ada')")
    assert shell(f"{users}; print(User.objects.count())") == "1"
    manage(embedded, *command)
    assert manage(embedded, "migrate", "--check", check=False).returncode == 1
    manage(embedded, "prepare_database")
    assert shell(f"{users}; print(User.objects.count())") == "0"
