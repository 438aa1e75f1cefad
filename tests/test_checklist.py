"""
The production checklist on servers of the oldest and newest version: each check is made to fail, and to pass again.

One process of the project answers all questions of a version; what a scenario changes is the server, or what the
process finds in its environment and settings.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import (
    PASSWORD,
    TEMPLATE,
    Postgres,
    certify,
    free_port,
    manage,
    render,
    run,
    running,
    unpack,
    wait_until,
)
from sites import pgbouncer
from test_shipping import OfficialPostgres, compose_config

# What was asked for, word for word.
SECURITY = [
    "Never commit credentials to version control",
    "Use strong passwords in production",
    "Enable SSL for production databases",
    "Restrict database user permissions",
    "Use read-only replicas when appropriate",
    "Enable query logging for auditing",
    "Regular backups (automated)",
    "Monitor for suspicious queries",
]
PRODUCTION_CHECKLIST = [
    "Database credentials in environment variables",
    "SSL/TLS enabled for database connections",
    "Connection pooling configured appropriately",
    "Database backups automated",
    "Monitoring and alerting configured",
    "Read replicas set up (if needed)",
    "Database user has minimal necessary permissions",
    "Query logging enabled for auditing",
    "Performance monitoring in place",
    "Disaster recovery plan documented",
]

CONFIGURATION = """
log_line_prefix = '%m [%p] %q%u@%d %a '
log_statement = ddl
shared_preload_libraries = pg_stat_statements
timezone = UTC
"""

ENVIRONMENT = {
    "DJANGO_SETTINGS_MODULE": "config.settings.production",
    "SECRET_KEY": "not-guessable-by-anybody-who-reads-this-0123456789",
    "DB_EMBEDDED": "false",
    "DB_EXTENSIONS": "pg_stat_statements",
    "DB_USER": "shop_app",
    "DB_MIGRATE_USER": "shop_migrator",
    "DB_PASSWORD": "app-Secret-0001",
    "DB_MIGRATE_PASSWORD": "migrator-Secret-0002",
    "DB_READONLY_PASSWORD": "readonly-Secret-0003",
    "DB_MONITOR_PASSWORD": "monitor-Secret-0004",
    "DB_ADMIN_USER": "owner",
    "DB_ADMIN_PASSWORD": PASSWORD,
}

WRONG = "not-the-one"

# Answers each line, what is to be different, with what the checklist's checks then say.
ANSWERS = """
import json, os, sys
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import django
from config import process

process.begin_command(["manage.py", "check"])
django.setup()

from apps.checklist import checks, replicas
from django.core.checks import run_checks
from django.db import connections
from django.test import override_settings

for line in sys.stdin:
    other = json.loads(line)
    connection = connections["default"]
    connection.close()
    if folder := other["settings"].get("BASE_DIR"):
        other["settings"]["BASE_DIR"] = Path(folder)
    options = connection.settings_dict["OPTIONS"] | other["database"].pop("OPTIONS", {})
    with ExitStack() as stack:
        stack.enter_context(override_settings(**other["settings"]))
        stack.enter_context(patch.dict(os.environ, other["environment"]))
        stack.enter_context(patch.dict(connection.settings_dict, other["database"], OPTIONS=options))
        stack.enter_context(patch.object(replicas, "LONGEST_LAG", timedelta(seconds=other["lag"])))
        if other["now"]:
            now = datetime.fromisoformat(other["now"])
            stack.enter_context(patch("django.utils.timezone.now", lambda: now))
        if other["everything"]:
            found = run_checks(include_deployment_checks=True, databases=["default"])
        else:
            found = checks.check_production(databases=["default"])
        connection.close()
    print(json.dumps([[message.id, message.msg, message.hint] for message in found]), flush=True)
"""


class Production(Postgres):
    """A server as production has it, which loses nothing."""

    def run(self, program, *arguments):
        super().run(program, *arguments)
        if program == "initdb":
            with (self.folder / "data" / "postgresql.conf").open("a") as file:
                file.write(CONFIGURATION)

    def launch(self):
        options = f"-c listen_addresses=127.0.0.1 -c port={self.port} -c unix_socket_directories="
        files = "--pgdata", self.folder / "data", "--log", self.folder / "log"
        self.run("pg_ctl", "start", "--wait", *files, "--options", options)

    @contextlib.contextmanager
    def changed(self, *statements, back=(), database="shop"):
        """Run statements inside the block, and those of `back` after it, as the superuser."""
        self.execute(*statements, database=database)
        try:
            yield
        finally:
            self.execute(*back, database=database)

    @contextlib.contextmanager
    def set(self, **values):
        """Have other settings inside the block."""
        names = [f'"{name}"' for name in values]
        setting = [f"ALTER SYSTEM SET {name} = '{value}'" for name, value in values.items()]
        with self.changed(*setting, back=[f"ALTER SYSTEM RESET {name}" for name in names]):
            yield

    def execute(self, *statements, database):
        with self.connect(database) as connection:
            for statement in statements:
                connection.execute(statement)
            if any(statement.startswith("ALTER SYSTEM") for statement in statements):
                loaded = connection.execute("SELECT pg_conf_load_time()").fetchone()
                connection.execute("SELECT pg_reload_conf()")
                wait_until(lambda: connection.execute("SELECT pg_conf_load_time()").fetchone() != loaded)


class Checklist:
    """A process of the project that answers what its checks say."""

    def __init__(self, project, environment):
        self.process = subprocess.Popen(
            [sys.executable, "-c", ANSWERS],
            cwd=project,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, *, everything=False, lag=10.0, now="", database=(), environment=(), **settings):
        """Return ID and sentence of each thing that is said; `settings` are Django's, for this question."""
        other = {"everything": everything, "lag": lag, "now": now, "settings": settings}
        other |= {"database": dict(database), "environment": dict(environment)}
        print(json.dumps(other), file=self.process.stdin, flush=True)
        found = json.loads(self.process.stdout.readline())
        assert all(hint for name, _, hint in found if name.startswith("checklist.W"))
        return [(name, said) for name, said, _ in found]

    def find(self, *ids, **other):
        """Return the sentences of these IDs."""
        return [said for name, said in self.ask(**other) if name in ids]

    def end(self):
        with self.process:  # which closes its pipes
            self.process.stdin.close()
        assert self.process.returncode == 0


@contextlib.contextmanager
def answering(project, environment):
    checklist = Checklist(project, environment)
    try:
        yield checklist
    finally:
        checklist.end()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return certify(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module", params=[15, 18])
def server(request, certificates):
    """A server with TLS."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        (Path(folder) / "server").mkdir()
        server = Production(unpack(request.param, Path(folder)), Path(folder) / "server")
        server.major = request.param
        server.start()
        try:
            server.secure(certificates)
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="module")
def environment(server, certificates, project):
    """Variables of a project whose database is prepared."""
    place = {"DB_HOST": "localhost", "DB_PORT": str(server.port), "DB_NAME": "shop"}
    environment = {**ENVIRONMENT, **place, "DB_SSLROOTCERT": str(certificates / "authority.crt")}
    manage(project, "prepare_database", **environment)
    return environment


@pytest.fixture(scope="module")
def checklist(project, environment):
    with answering(project, environment) as checklist:
        yield checklist


def test_nothing_is_said_of_a_database_that_is_as_it_should_be(checklist):
    found = checklist.ask(everything=True)
    assert [each for each in found if each[0].startswith("checklist.")] == [
        ("checklist.I002", "DB_EXPECTED_REPLICAS is 0: there are none to look at.")
    ]
    assert not {name for name, _ in found} & {"core.E001", "core.W001", "core.W002", "core.W004"}


# Credentials


def test_password_that_the_environment_did_not_bring(checklist):
    (said,) = checklist.find("checklist.W001", environment={"DB_PASSWORD": "what-stands-in-the-code"})
    assert said.startswith("The database's password is not what DB_PASSWORD says: it stands in the code")


@pytest.mark.parametrize(
    ("password", "fault"),
    [
        ("postgres", "is known to everybody"),
        ("your_secure_password", "is known to everybody"),
        ("shop_migrator", "is known to everybody"),
        ("1234567890qwertyuiop", "is known to everybody"),
        ("b7Lq-0xZ4!p", "has fewer than 12 characters"),
    ],
)
def test_password_that_can_be_guessed(checklist, password, fault):
    found = checklist.find("checklist.W002", DB_MIGRATE_PASSWORD=password)
    assert found == [f"DB_MIGRATE_PASSWORD {fault}: whoever reaches the server can log in before long."]


def test_password_of_two_roles(checklist):
    found = checklist.find("checklist.W003", DB_ADMIN_PASSWORD=ENVIRONMENT["DB_MONITOR_PASSWORD"])
    assert found == [
        "DB_ADMIN_PASSWORD and DB_MONITOR_PASSWORD are the same: whoever has the first has the rights of both."
    ]


def test_file_that_others_read_and_a_repository_that_keeps_it_and_no_plan(checklist, tmp_path):
    ids = "checklist.W004", "checklist.W005", "checklist.W019"
    run("git", "init", cwd=tmp_path)
    file = tmp_path / ".env"
    file.touch(0o600)
    assert checklist.find(*ids, BASE_DIR=str(tmp_path)) == [
        "There is no docs/disaster-recovery.md: in a disaster nobody knows what comes back, and how."
    ]
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "disaster-recovery.md").write_text("Call Ada.\n")
    assert checklist.find(*ids, BASE_DIR=str(tmp_path)) == []
    file.chmod(0o604)
    run("git", "add", ".env", cwd=tmp_path)
    assert checklist.find(*ids, BASE_DIR=str(tmp_path)) == [
        f"{file} has the mode 604: every user of this machine can get at it.",
        "Git tracks .env: whoever gets the repository gets the passwords, also those that were changed since.",
    ]


# The connection


def test_connection_without_tls(checklist):
    (said,) = checklist.find("checklist.W006", database={"OPTIONS": {"sslmode": "disable"}})
    assert said == "The connection to localhost is not encrypted: whoever is between them can read what is sent."


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("statement_timeout", 0, "0 s on a connection of a web process: a query runs on when the web server gave up"),
        ("lock_timeout", 30_001, "30.001 s on a connection of a web process: a request waits until"),
        ("idle_in_transaction_session_timeout", 300_001, "300.001 s on a connection of a web process: a process that"),
    ],
)
def test_timeout_that_is_none_or_too_long(checklist, name, value, said):
    limits = dict.fromkeys(("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"), 30_000)
    for limit, count in ((value, 1), (30_000, 0)):
        options = " ".join(f"-c {each}={limits[each]}" for each in limits if each != name) + f" -c {name}={limit}"
        found = checklist.find("checklist.W007", database={"OPTIONS": {"options": options}})
        assert len(found) == count
        assert all(each.startswith(f"{name} is {said}") for each in found)


@pytest.mark.parametrize("server", [18], indirect=True)  # it is the same before every version
def test_pgbouncer_without_tls_and_timeouts(project, server, environment):
    server.execute(f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'", "CREATE DATABASE app", database="postgres")
    limits = [f"ALTER ROLE app SET {name} = 5000" for name in ("statement_timeout", "lock_timeout")]
    names = {"DB_NAME": "app", "DB_USER": "app", "DB_PASSWORD": PASSWORD, "DB_SSLMODE": "disable"}
    for prepared in (False, True):
        with pgbouncer(server.port) as port:  # anew, since it keeps connections
            here = {"DB_HOST": "127.0.0.1", "DB_PORT": str(port), "DB_PGBOUNCER": "true"}
            with answering(project, {**environment, **names, **here}) as checklist:
                found = checklist.find("checklist.W006", "checklist.W007")
        ways = [said.partition(" is not encrypted")[0] for said in found if "encrypted" in said]
        assert ways == ["The connection to 127.0.0.1", "The connection from pgbouncer to PostgreSQL"]
        late = [said.split()[0] for said in found if " s on a connection of a web process" in said]
        assert late == ["idle_in_transaction_session_timeout"] if prepared else len(late) == 3
        server.execute(*limits, database="app")


# The role


@pytest.mark.parametrize(
    ("change", "back", "said"),
    [
        ("ALTER ROLE {} CREATEDB", "ALTER ROLE {} NOCREATEDB", "may create databases"),
        ("ALTER ROLE {} CREATEROLE", "ALTER ROLE {} NOCREATEROLE", "may create roles"),
        ("ALTER ROLE {} REPLICATION", "ALTER ROLE {} NOREPLICATION", "may copy the whole server as a replica does"),
        ("ALTER ROLE {} BYPASSRLS", "ALTER ROLE {} NOBYPASSRLS", "sees rows that row security hides"),
        ("ALTER ROLE {} SUPERUSER", "ALTER ROLE {} NOSUPERUSER", "is a superuser"),
        ("CREATE TABLE own (); ALTER TABLE own OWNER TO {}", "DROP TABLE own", "owns tables or belongs to their owner"),
        (
            "GRANT CREATE ON DATABASE shop TO {}",
            "REVOKE CREATE ON DATABASE shop FROM {}",
            "may create schemas",
        ),
        ("GRANT CREATE ON SCHEMA public TO {}", "REVOKE CREATE ON SCHEMA public FROM {}", "may create tables"),
        (
            "GRANT pg_execute_server_program TO {}",
            "REVOKE pg_execute_server_program FROM {}",
            "may use files or programs of the server",
        ),
        (
            "GRANT shop_owner TO {}",
            "REVOKE shop_owner FROM {}",
            "owns the database or belongs to its owner, owns tables or belongs to their owner, may create schemas, "
            "may create tables",
        ),
    ],
)
def test_role_that_may_do_more(server, checklist, change, back, said):
    with server.changed(change.format("shop_app"), back=[back.format("shop_app")]):
        found = checklist.find("checklist.W008")
    assert found == [f"Role 'shop_app' {said}: whoever breaks into a web process can do so, too."]
    assert checklist.find("checklist.W008") == []


# The server's log, and what is counted


def test_slow_queries_that_nobody_logs(server, checklist):
    """A threshold that no query reaches alive is none."""
    assert len(checklist.find("checklist.W009", DB_SLOW_QUERY=10.0)) == 1
    assert checklist.find("checklist.W009", DB_SLOW_QUERY=9.9) == []
    with server.set(log_min_duration_statement="1s"):
        assert checklist.find("checklist.W009", DB_SLOW_QUERY=10.0) == []


@pytest.mark.parametrize(
    ("level", "enough"), [("none", {"none"}), ("ddl", {"none", "ddl"}), ("mod", {"none", "ddl", "mod"})]
)
def test_log_that_holds_fewer_statements_than_are_asked_for(server, checklist, level, enough):
    with server.set(log_statement=level):
        for wanted in ("none", "ddl", "mod", "all"):
            found = checklist.find("checklist.W010", DB_AUDIT=wanted)
            said = f"DB_AUDIT is {wanted}, but the server's log_statement is {level}: it cannot be told who did what."
            assert found == ([] if wanted in enough else [said])


def test_audit_of_no_statements_is_told(checklist):
    assert checklist.find("checklist.I001", DB_AUDIT="none") == [
        "DB_AUDIT is none: the server's log need not tell who did what."
    ]


def test_pgaudit_that_is_configured_but_not_loaded_logs_nothing(server, checklist):
    back = ["ALTER DATABASE shop RESET pgaudit.log"]
    with server.changed("ALTER DATABASE shop SET pgaudit.log = 'all'", back=back):
        assert len(checklist.find("checklist.W010", DB_AUDIT="all")) == 1


def test_log_without_names(server, checklist):
    with server.set(log_line_prefix="%m [%p] "):
        assert len(checklist.find("checklist.W011")) == 1
        assert checklist.find("checklist.W011", DB_AUDIT="none") == []
        with server.set(log_destination="stderr, csvlog"):
            assert checklist.find("checklist.W011") == []


def test_database_without_pg_stat_statements(server, checklist):
    with server.changed("DROP EXTENSION pg_stat_statements", back=["CREATE EXTENSION pg_stat_statements"]):
        (said,) = checklist.find("checklist.W012")
    assert said.startswith("pg_stat_statements is loaded, but no extension of this database:")


# Replicas


def test_replicas_that_are_missing_or_cannot_be_seen(server, checklist):
    ids = "checklist.W013", "checklist.W014", "checklist.I002"
    assert checklist.find(*ids, DB_EXPECTED_REPLICAS=2) == [
        "0 of 2 replicas follow the primary: when it is lost, so is what the others do not have."
    ]
    (said,) = checklist.find(*ids, DB_EXPECTED_REPLICAS=2, DB_MONITOR_PASSWORD="")
    assert said.startswith("It cannot be told whether the replicas follow (shop_app may not see them): ")
    (said,) = checklist.find(*ids, DB_EXPECTED_REPLICAS=2, DB_MONITOR_PASSWORD=WRONG)
    assert 'password authentication failed for user "shop_monitor"' in said
    assert WRONG not in said
    with server.changed("GRANT pg_monitor TO shop_app", back=["REVOKE pg_monitor FROM shop_app"]):
        assert checklist.find(*ids, DB_EXPECTED_REPLICAS=1, DB_MONITOR_PASSWORD="")[0].startswith("0 of 1 replicas")


def test_receiver_of_the_log_is_no_replica(server, checklist, tmp_path):
    """As Barman has one."""
    way = f"host=127.0.0.1 port={server.port} user=owner password={PASSWORD}"
    streams = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
    receiver = server.binaries / "pg_receivewal", "--directory", tmp_path, "--dbname", way
    with server.connect() as connection, running(*receiver, cwd="/"):
        wait_until(lambda: connection.execute(streams).fetchone() == (1,))
        assert checklist.find("checklist.W013", DB_EXPECTED_REPLICAS=1)[0].startswith("0 of 1 replicas")


@contextlib.contextmanager
def standby(server):
    """Run a real standby of the server inside the block."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Production(server.binaries, Path(folder))
        if copy.user:
            run("chown", "nobody", folder, cwd="/")
        way = f"host=127.0.0.1 port={server.port} user=owner password={PASSWORD}"
        options = "--checkpoint=fast", "--no-sync", "--wal-method=stream"
        copy.run("pg_basebackup", "--dbname", way, "--pgdata", copy.folder / "data", *options)
        # Not by --write-recovery-conf, whose options are too new for the libpq of the system.
        with (copy.folder / "data" / "postgresql.conf").open("a") as file:
            file.write(f"primary_conninfo = '{way}'\n")
        (copy.folder / "data" / "standby.signal").touch()
        copy.launch()
        try:
            yield copy
        finally:
            copy.stop()


def test_replica_that_follows_and_one_that_is_late(server, checklist):
    ids = "checklist.W013", "checklist.W014"
    with standby(server) as copy:
        wait_until(lambda: checklist.find(*ids, DB_EXPECTED_REPLICAS=1) == [])
        assert checklist.find(*ids, DB_EXPECTED_REPLICAS=2)[0].startswith("1 of 2 replicas follow the primary")
        copy.execute("SELECT pg_wal_replay_pause()", database="postgres")
        server.execute("CREATE TABLE later ()", "DROP TABLE later", database="shop")
        wait_until(lambda: checklist.find(*ids, DB_EXPECTED_REPLICAS=1, lag=0.5) != [])
        (said,) = checklist.find(*ids, DB_EXPECTED_REPLICAS=1, lag=0.5)
        assert re.fullmatch(r"A replica is \d s behind: whoever reads there reads what was then.", said)


# The server


def test_version_that_is_mended_no_more(server, checklist):
    end, after = {15: ("2027-11-11", "2027-11-12"), 18: ("2030-11-14", "2030-11-15")}[server.major]
    assert checklist.find("checklist.W015", now=f"{end}T23:59:00+00:00") == []
    assert checklist.find("checklist.W015", now=f"{after}T00:00:00+00:00") == [
        f"PostgreSQL {server.major} got its last corrections on {end}: what is found since stays open."
    ]


@pytest.mark.parametrize("name", ["fsync", "full_page_writes", "synchronous_commit", "autovacuum"])
def test_server_that_loses_data(server, checklist, name):
    with server.set(**{name: "off"}):
        (said,) = checklist.find("checklist.W016")
    assert said.startswith(f"{name} is off: ")
    assert checklist.find("checklist.W016") == []


def test_text_and_time_that_are_not_what_they_seem(server, checklist):
    with server.changed("ALTER DATABASE shop SET timezone = 'Europe/Berlin'", back=["ALTER DATABASE shop RESET ALL"]):
        (said,) = checklist.find("checklist.W017")
        assert said.startswith("The server's TimeZone is Europe/Berlin, but Django's UTC:")
        assert checklist.find("checklist.W017", TIME_ZONE="Europe/Berlin", USE_TZ=False) == [
            "USE_TZ is off: an hour of each autumn is there twice."
        ]
    server.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'", database="postgres")
    assert checklist.find("checklist.W017", database={"NAME": "latin"}) == [
        "The database's encoding is LATIN1: it cannot hold every text."
    ]


def test_migrations_that_are_pending(server, checklist):
    remember = "CREATE TABLE kept AS SELECT * FROM django_migrations WHERE app = 'sessions'"
    forget = "DELETE FROM django_migrations WHERE app = 'sessions'"
    with server.changed(remember, forget, back=["INSERT INTO django_migrations TABLE kept", "DROP TABLE kept"]):
        (said,) = checklist.find("checklist.W018")
    assert said == "Not every migration is applied (1 are pending): the code uses what the database does not have."
    assert checklist.find("checklist.W018") == []


# The lines


def test_every_line_of_the_specification_has_its_checks(project):
    listing = "import json; from apps.checklist.lines import LISTS; print(json.dumps(LISTS))"
    lists = json.loads(manage(project, "shell", "--verbosity=0", f"--command={listing}").stdout)
    named = {name for lines in lists.values() for ids in lines.values() for name in ids}
    code = "\n".join(file.read_text() for file in (TEMPLATE / "apps").rglob("*.py"))
    exist = set(re.findall(r'id="(\w+\.[EWI]\d+)"', code))
    assert named <= exist
    assert {name for name in exist if name.startswith("checklist.")} <= named
    assert all(ids for lines in lists.values() for ids in lines.values())
    assert list(lists["Security"]) == SECURITY
    assert list(lists["Production checklist"]) == PRODUCTION_CHECKLIST


def test_production_as_compose_has_it_passes(embedded_binaries, tmp_path):
    """All but replicas, which one machine does not have; `web`, `migrate` and `backup` are run with their variables."""
    project = render(tmp_path)
    services = compose_config(project)["services"]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        server = OfficialPostgres(embedded_binaries, Path(folder), services["database"])
        image = {"BACKUP_FOLDER": folder_of_backups(tmp_path), "DB_PROGRAMS": embedded_binaries}
        image |= {"DB_HOST": folder, "DB_PORT": server.port, "DJANGO_SETTINGS_MODULE": "config.settings.production"}

        def command(service, *words, check=True, **others):
            variables = {**services[service]["environment"], **image, **others}
            return manage(project, *words, check=check, **{name: str(value) for name, value in variables.items()})

        server.start()
        try:
            command("migrate", "prepare_database")
            failing = command("web", "production_checklist", check=False)
            assert failing.returncode == 1
            assert "  ✗ Database backups automated\n      backups.W001: No backup was made" in failing.stdout
            assert failing.stderr == "CommandError: 2 of 23 lines fail.\n"
            for word in ("backup_database", "verify_backup"):
                command("backup", word, DB_SSLMODE="disable")  # this pg_dump has no TLS; nor does a socket
            done = command("web", "production_checklist", "--format", "json")
        finally:
            server.stop()
    report = json.loads(done.stdout)
    assert report["passed"] is True
    assert {line["line"] for line in report["lines"] if line["mark"] != "passed"} == {
        "Read replicas set up (if needed)",
        "Use read-only replicas when appropriate",
    }
    assert {line["mark"] for line in report["lines"]} == {"passed", "absent"}


def folder_of_backups(tmp_path):
    folder = tmp_path / "backups"
    folder.mkdir(mode=0o700)
    return folder


def test_database_that_cannot_be_asked_is_told_with_a_code_of_its_own(project, tmp_path):
    place = {"DB_HOST": "127.0.0.1", "DB_PORT": str(free_port()), "DB_NAME": "shop", "DB_SSLMODE": "disable"}
    done = manage(project, "production_checklist", check=False, **{**ENVIRONMENT, **place})
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(
        f"CommandError: Database 'default': Could not connect to database server at {place['DB_HOST']}"
    )
