"""The edition essential's dumps: its services of compose.yaml, run with their own commands on a real server."""

import json
import os
import re

import pytest
from conftest import PASSWORD, leave_out, manage, render, run
from test_shipping import compose_config

NAME = "dumped"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return render(tmp_path_factory.mktemp("dumps"), "essential")


@pytest.fixture(scope="module")
def environment(project, server):
    """The variables of a project whose database has roles and an extension that only an administrator may make."""
    variables = {
        "DB_EMBEDDED": "false",
        "DB_HOST": "127.0.0.1",
        "DB_PORT": str(server.port),
        "DB_NAME": NAME,
        "DB_USER": "dumped_app",
        "DB_PASSWORD": PASSWORD,
        "DB_MIGRATE_USER": "dumped_migrator",
        "DB_MIGRATE_PASSWORD": PASSWORD,
        "DB_ADMIN_USER": "owner",
        "DB_ADMIN_PASSWORD": PASSWORD,
        "DB_EXTENSIONS": "pg_stat_statements",
    }
    manage(project, "prepare_database", **variables)
    return variables


class Services:
    """The services that dump and restore, as compose.yaml has them, with folders in place of their volumes."""

    def __init__(self, project, server, binaries, environment, folder):
        self.backups, temporary = folder / "backups", folder / "tmp"
        self.backups.mkdir()
        temporary.mkdir()
        # Without a pause the service ends after one round.
        programs = leave_out("sleep", folder=folder / "programs")
        here = {"PGHOST": "127.0.0.1", "PGPORT": str(server.port)}
        self.here = {**here, "PATH": f"{programs}:{binaries}:{os.environ['PATH']}"}
        self.folders = {"$$": "$", "/tmp/list": f"{temporary}/list", "/backups": str(self.backups)}  # noqa: S108
        self.told = compose_config(project, COMPOSE_PROFILES="restore", **environment)["services"]

    def run(self, name, *arguments, **changes):
        service = self.told[name]
        text = json.dumps([*(service["entrypoint"] or ()), *(service["command"] or ())])
        for old, new in self.folders.items():
            text = text.replace(old, new)
        return run(
            *json.loads(text), *arguments, cwd="/", check=False, **(service["environment"] | self.here | changes)
        )

    def dumps(self):
        return {path.name for path in self.backups.iterdir()}

    def dump(self):
        """Return the name of a new dump."""
        before = self.dumps()
        done = self.run("dump")
        (name,) = self.dumps() - before
        assert done.stderr == ""
        return name


@pytest.fixture
def services(project, server, embedded_binaries, environment, tmp_path):
    return Services(project, server, embedded_binaries, environment, tmp_path)


def query(server, statement, database=NAME):
    with server.connect(database) as connection:
        return connection.execute(statement).fetchall()


def test_dump_is_restored_beside_the_present_database_and_takes_its_name(project, server, environment, services):
    script = "from apps.users.models import User; User.objects.create_user('ada')"
    manage(project, "shell", "--verbosity=0", "--command", script, **environment)
    name = services.dump()
    assert re.fullmatch(rf"{NAME}-\d{{8}}T\d{{6}}Z\.dump", name)
    assert (services.backups / name).stat().st_mode & 0o777 == 0o600
    query(server, "DELETE FROM users_user RETURNING id")
    done = services.run("restore", name)
    former = re.search(rf"The former database is ({NAME}_before_\w+)\.", done.stdout)[1]
    assert query(server, "SELECT username FROM users_user") == [("ada",)]
    assert query(server, "SELECT count(*) FROM users_user", former) == [(0,)]
    # A deploy gives the roles what a new database lacks; then the project works as before.
    done = manage(project, "prepare_database", **environment)
    manage(project, "migrate", "--check", **environment)
    script = "from apps.users.models import User; print(User.objects.get().username)"
    assert manage(project, "shell", "--verbosity=0", "--command", script, **environment).stdout == "ada\n"
    owners = query(server, "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'")
    assert owners == [(f"{NAME}_owner",)]
    assert ("pg_stat_statements",) in query(server, "SELECT extname FROM pg_extension")
    with server.connect("postgres") as connection:
        connection.execute(f'DROP DATABASE "{former}"')


@pytest.mark.parametrize("damage", ["cut off", "missing", "in use"])
def test_restore_that_fails_leaves_everything_as_it_was(server, environment, services, damage):
    name = services.dump()
    path = services.backups / name
    if damage == "cut off":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "missing":
        name = "other.dump"
    before = query(server, "SELECT oid, datname FROM pg_database ORDER BY 1", "postgres")
    with server.connect(NAME if damage == "in use" else "postgres"):
        done = services.run("restore", name)
    assert done.returncode != 0
    assert "Restored" not in done.stdout
    assert query(server, "SELECT oid, datname FROM pg_database ORDER BY 1", "postgres") == before


def test_dump_that_fails_leaves_nothing_and_only_a_good_one_removes_old_ones(services):
    old = services.backups / f"{NAME}-20200101T000000Z.dump"
    old.write_bytes(b"old")
    os.utime(old, (0, 0))
    assert "authentication failed" in services.run("dump", PGPASSWORD="wrong").stderr
    assert services.dumps() == {old.name}
    services.run("dump")
    (name,) = services.dumps()
    assert name != old.name
