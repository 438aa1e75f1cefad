"""How processes connect: what the variables and the role of a process make of DATABASES, and what checks refuse."""

import importlib
import itertools
import os
import re

import pytest
from django.conf import settings
from django.core.checks import Tags, run_checks
from django.core.exceptions import ImproperlyConfigured

from apps.core.checks import check_pgbouncer
from apps.core.database.startup import CONNECTIONS
from config import process
from config.process import Role
from tests.test_entry_points import PRODUCTION, run

# Every other option, which no switch may lose.
KEPT = {
    "DB_CONNECT_TIMEOUT": "4",
    "DB_KEEPALIVES_IDLE": "7",
    "DB_SSLCERT": "/client.crt",
    "DB_SSLKEY": "/client.key",
    "DB_SSLROOTCERT": "/authority.crt",
    "DB_TCP_USER_TIMEOUT": "8.5",
}
SWITCHES = {
    "DB_POOL": ["false", "true"],
    "DB_PGBOUNCER": ["false", "true"],
    "DB_DIRECT_HOST": ["", "direct.example.com"],
    "DB_SSLMODE": ["", "require", "verify-ca"],
}
ROLES = [*Role]
MODULES = ["base", "development", "testing", "production"]


@pytest.fixture
def load(monkeypatch):
    """Load a module of settings as a process of some role would, with nothing but the variables given."""
    before = process.role, process.name, process.direct

    def load(module, role, *, direct=False, **variables):
        for name in [name for name in os.environ if name.startswith("DB_")]:
            monkeypatch.delenv(name)
        for name, value in {**PRODUCTION, **variables}.items():
            monkeypatch.setenv(name, value)
        process.begin(role, go_direct=direct)
        names = "config.connection", "config.server", "config.settings.base", f"config.settings.{module}"
        return reload(*names).DATABASES["default"]

    yield load
    monkeypatch.undo()
    process.role, process.name, process.direct = before
    reload("config.connection", "config.server", "config.settings.base")


def reload(*names):
    for name in names:
        module = importlib.reload(importlib.import_module(name))
    return module


@pytest.mark.parametrize("module", MODULES)
def test_no_switch_loses_an_option(load, module):
    for role, *values in itertools.product(ROLES, *SWITCHES.values()):
        chosen = dict(zip(SWITCHES, values, strict=True))
        database = load(module, role, direct=role == Role.MIGRATE, **KEPT, **chosen)
        options = database["OPTIONS"]
        around = role == Role.MIGRATE and chosen["DB_DIRECT_HOST"]
        through_pgbouncer = chosen["DB_PGBOUNCER"] == "true" and not around
        assert database["HOST"] == (around or PRODUCTION["DB_HOST"])
        assert database["ATOMIC_REQUESTS"] is database["CONN_HEALTH_CHECKS"] is True
        assert database["DISABLE_SERVER_SIDE_CURSORS"] is through_pgbouncer
        assert ("options" in options) is not through_pgbouncer
        assert ("pool" in options) is (chosen["DB_POOL"] == "true" and role in {Role.WSGI, Role.ASGI})
        assert options.get("sslmode") == (chosen["DB_SSLMODE"] or ("verify-full" if module == "production" else None))
        assert {name: options[name] for name in ("connect_timeout", "keepalives_idle", "tcp_user_timeout")} == {
            "connect_timeout": 4,
            "keepalives_idle": 7,
            "tcp_user_timeout": 8500,
        }
        assert (options["sslcert"], options["sslkey"]) == ("/client.crt", "/client.key")
        assert options["sslrootcert"] == "/authority.crt"
        assert options["application_name"] == role


@pytest.mark.parametrize(
    ("role", "limits"),
    [
        (Role.WSGI, (10_000, 3_000, 30_000)),
        (Role.ASGI, (10_000, 3_000, 30_000)),
        (Role.COMMAND, (0, 0, 0)),
        (Role.MIGRATE, (3_600_000, 5_000, 0)),
        (Role.OWNER, (0, 0, 0)),
    ],
)
def test_role_decides_how_patient_a_process_is(load, role, limits):
    options = load("production", role)["OPTIONS"]
    names = "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"
    said = dict(part.split("=") for part in options["options"].replace("-c ", "").split())
    assert tuple(int(said[name]) for name in names) == limits
    assert said["client_connection_check_interval"] == "1000"
    assert options["connect_timeout"] == (3 if role in {Role.WSGI, Role.ASGI} else 10)


@pytest.mark.parametrize(
    ("role", "variables", "age", "pooled"),
    [
        (Role.WSGI, {}, 600, False),
        (Role.ASGI, {}, 0, True),
        (Role.ASGI, {"DB_POOL": "false"}, 0, False),
        (Role.WSGI, {"DB_POOL": "true"}, 0, True),
        (Role.COMMAND, {"DB_CONN_MAX_AGE": "60"}, 60, False),
        (Role.COMMAND, {"DB_POOL": "true"}, 600, False),
    ],
)
def test_role_decides_how_to_connect(load, role, variables, age, pooled):
    database = load("production", role, **variables)
    assert ("pool" in database["OPTIONS"]) is pooled
    assert database["CONN_MAX_AGE"] == age


HOSTS = {"DB_HOST": "a.internal,b.internal", "DB_PORT": "5432,5433"}


def test_the_primary_is_looked_for_among_hosts(load):
    for role in ROLES:
        alone, several = load("production", role)["OPTIONS"], load("production", role, **HOSTS)["OPTIONS"]
        assert (alone["target_session_attrs"], several["target_session_attrs"]) == ("primary", "read-write")
        assert ("pool" in several) is (role in {Role.WSGI, Role.ASGI})
    assert "target_session_attrs" not in load("production", Role.WSGI, **HOSTS, DB_PGBOUNCER="true")["OPTIONS"]


@pytest.mark.parametrize("module", MODULES)
def test_owner_logs_in_where_all_of_the_data_is_meant(load, module):
    """Tests make a database and empty tables."""
    app = PRODUCTION["DB_USER"], PRODUCTION["DB_PASSWORD"]
    owner = "migrator", "geheim"
    for role in ROLES:
        database = load(module, role, DB_MIGRATE_USER=owner[0], DB_MIGRATE_PASSWORD=owner[1])
        expected = owner if role in {Role.MIGRATE, Role.OWNER} or module == "testing" else app
        assert (database["USER"], database["PASSWORD"]) == expected
        assert load(module, role)["USER"] == app[0]


def test_embedded_server_has_one_role(load):
    assert load("base", Role.MIGRATE, DB_MIGRATE_USER="migrator", DB_EMBEDDED="true")["USER"] == PRODUCTION["DB_USER"]


def test_engine_without_downtime_is_for_migrate_alone(load):
    engines = {role: load("production", role, DB_ZERO_DOWNTIME="true")["ENGINE"] for role in ROLES}
    special = engines.pop(Role.MIGRATE)
    assert special == "django_zero_downtime_migrations.backends.postgres"
    assert {*engines.values()} == {"django.db.backends.postgresql"}


def test_secret_may_be_in_a_file(load, tmp_path):
    file = tmp_path / "password"
    file.write_text("from a file\n")
    database = load("production", Role.WSGI, DB_PASSWORD="", DB_PASSWORD_FILE=str(file))
    assert database["PASSWORD"] == file.read_text().strip()


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"DB_PASSWORD": "a"}, "DB_PASSWORD and DB_PASSWORD_FILE are both set, but only one can be meant."),
        ({"DB_PASSWORD": ""}, "DB_PASSWORD_FILE is '/nowhere', which cannot be read: No such file or directory."),
    ],
)
def test_secret_that_is_no_single_one_is_refused(load, variables, sentence):
    with pytest.raises(ImproperlyConfigured, match=f"^{re.escape(sentence)}$"):
        load("development", Role.COMMAND, DB_PASSWORD_FILE="/nowhere", **variables)


@pytest.mark.parametrize("name", ["DB_PASSWORD", "DB_MIGRATE_PASSWORD", "DB_ADMIN_PASSWORD"])
def test_production_refuses_a_password_that_everybody_knows(load, name):
    with pytest.raises(ImproperlyConfigured, match=f"{name} is a development password"):
        load("production", Role.COMMAND, **{name: "postgres"})


def test_only_what_is_verified_names_authorities(load):
    """libpq would verify the weaker modes as well where it knows authorities."""
    assert "sslrootcert" not in load("production", Role.WSGI, DB_SSLMODE="require", DB_SSLROOTCERT="")["OPTIONS"]
    assert load("production", Role.WSGI, DB_SSLMODE="", DB_SSLROOTCERT="")["OPTIONS"]["sslrootcert"].startswith("/")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["manage.py"], (Role.COMMAND, "manage.py help", False)),
        (["manage.py", "shell"], (Role.COMMAND, "manage.py shell", False)),
        (["manage.py", "migrate", "users"], (Role.MIGRATE, "manage.py migrate", True)),
        (["manage.py", "check_database", "--direct"], (Role.COMMAND, "manage.py check_database", True)),
        (["manage.py", "flush"], (Role.OWNER, "manage.py flush", True)),
        (["manage.py", "runserver"], (Role.WSGI, "manage.py runserver", False)),
        (["manage.py", "serve", "--asgi"], (Role.ASGI, "manage.py serve", False)),
    ],
)
def test_command_line_tells_the_role(monkeypatch, arguments, expected):
    for name in ("role", "name", "direct"):
        monkeypatch.setattr(process, name, getattr(process, name))
    process.begin_command(arguments)
    assert (process.role, process.name, process.direct) == expected


POOL = {"DB_POOL": "true", "DB_CONN_MAX_AGE": "0"}
PGBOUNCER = {"DB_PGBOUNCER": "true", "DB_DIRECT_HOST": "postgres.example.com"}


@pytest.mark.parametrize(
    ("code", "wrong", "right"),
    [
        ("core.E002", {**POOL, "DB_CONN_MAX_AGE": "600"}, POOL),
        ("core.E004", {**POOL, "DB_POOL_MIN_SIZE": "9"}, {**POOL, "DB_POOL_MIN_SIZE": "8"}),
        ("core.E004", {**POOL, "DB_POOL_MIN_SIZE": "0", "DB_POOL_MAX_SIZE": "0"}, POOL),
        ("core.E005", {**POOL, "DB_POOL_TIMEOUT": "30"}, {**POOL, "DB_POOL_TIMEOUT": "29.5"}),
        ("core.E005", {**POOL, "DB_POOL_TIMEOUT": "0"}, POOL),
        ("core.W002", {"DB_SSLMODE": "require"}, {"DB_SSLMODE": "verify-full"}),
        ("core.W002", {"DB_SSLMODE": "verify-ca"}, {"DB_SSLMODE": "disable", "DB_HOST": "/run/postgresql"}),
        ("core.W003", {**PGBOUNCER, "DB_DIRECT_HOST": ""}, PGBOUNCER),
        ("core.W004", {"DB_STATEMENT_TIMEOUT": "0"}, {"DB_STATEMENT_TIMEOUT": "0.5"}),
        ("core.W004", {"DB_LOCK_TIMEOUT": "45"}, {"DB_LOCK_TIMEOUT": "29"}),
    ],
)
def test_check_refuses_what_makes_no_sense(monkeypatch, load, code, wrong, right):
    def check(variables):
        monkeypatch.setitem(settings.DATABASES, "default", load("production", Role.WSGI, **variables))
        monkeypatch.setattr(settings, "DB_DIRECT_HOST", variables.get("DB_DIRECT_HOST", ""), raising=False)
        found = run_checks(tags=[CONNECTIONS, Tags.security], include_deployment_checks=True)
        return [message.id for message in found if message.id.startswith("core.")]

    assert check(wrong) == [code]
    assert check(right) == []


def test_kept_connections_are_refused_under_asgi():
    """By the server itself, before it asks the database."""
    variables = {**PRODUCTION, "DB_POOL": "false", "DB_CONN_MAX_AGE": "600"}
    refused = run("-c", "import config.asgi", **variables)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith(
        "django.core.exceptions.ImproperlyConfigured: core.E003: DB_CONN_MAX_AGE is 600 under ASGI"
    )
    accepted = run("-c", "import config.asgi", **{**variables, "DB_CONN_MAX_AGE": "0", "DB_HOST": "127.0.0.1"})
    assert "core.E003" not in accepted.stderr


def test_startup_options_are_refused_before_pgbouncer(monkeypatch):
    database = {"DISABLE_SERVER_SIDE_CURSORS": True, "OPTIONS": {}}
    monkeypatch.setattr("django.conf.settings.DB_DIRECT_HOST", "postgres.example.com")
    assert check_pgbouncer(database) == []
    for options in ({"options": "-c statement_timeout=1"}, {"prepare_threshold": 5}):
        (fault,) = check_pgbouncer({**database, "OPTIONS": options})
        assert fault.id == "core.E006"


def test_more_connections_than_the_server_has_are_warned_of():
    answer = run("manage.py", "check", "--database=default", "--fail-level=WARNING", WEB_CONCURRENCY="50")
    assert answer.returncode == 1
    assert "(core.W001) 50 workers may open 8 connections each, but the server has 97 in all" in answer.stderr
    assert run("manage.py", "check", "--database=default", "--fail-level=WARNING", WEB_CONCURRENCY="2").returncode == 0


@pytest.mark.parametrize("name", ["DB_CONNECT_TIMEOUT", "WEB_CONCURRENCY", "WEB_THREADS"])
def test_a_number_that_must_not_be_nothing_is_refused(load, name):
    with pytest.raises(ImproperlyConfigured, match=f"^{name} is '0', but must be a whole number, 1 or more.$"):
        load("development", Role.WSGI, **{name: "0"})


@pytest.mark.parametrize("value", ["soon", "-1", "inf", "nan"])
def test_a_time_that_is_none_is_named(load, value):
    sentence = f"DB_LOCK_TIMEOUT is {value!r}, but must be a number of seconds, 0 or more."
    with pytest.raises(ImproperlyConfigured, match=f"^{re.escape(sentence)}$"):
        load("development", Role.WSGI, DB_LOCK_TIMEOUT=value)


SHOW = """
from config import process
process.begin(process.Role.{role})
import django
django.setup()
from django.db import connection
with connection.cursor() as cursor:
    for name in ("application_name", "statement_timeout", "lock_timeout"):
        cursor.execute(f"SHOW {{name}}")
        print(cursor.fetchone()[0])
"""


def test_postgresql_keeps_the_limits():
    """As it says itself, on a connection of a web process."""
    settings = {"DJANGO_SETTINGS_MODULE": "config.settings.development", "DB_LOCK_TIMEOUT": "1.5"}
    assert run("-c", SHOW.format(role="WSGI"), **settings).stdout.split() == ["wsgi", "10s", "1500ms"]
    assert run("-c", SHOW.format(role="COMMAND"), **settings).stdout.split() == ["command", "0", "0"]
