"""
A command of the owner reaches the server that its environment names, or says why not; the runbook's do.

The project is in production behind a pgbouncer, as its `.env` says, and every server is verified by its certificate.
"""

import re
import shutil
import tempfile
from pathlib import Path

import pytest
from conftest import PASSWORD, Postgres, certify, free_port, manage, postgres, render, run, unpack
from sites import pgbouncer

pytestmark = pytest.mark.long

COMMANDS = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
NAME, MIGRATOR = "backend_db", "backend_db_migrator"
PRODUCTION = {"DJANGO_SETTINGS_MODULE": "config.settings.production"}
# Those that connect as the owner, or directly on request.
DIRECT = {
    "backup_database": [],
    "verify_backup": ["/nowhere.dump"],
    "restore_database": ["/nowhere.dump"],
    "migrate": [],
    "prepare_database": [],
    "database_roles": ["--apply"],
    "check_database": ["--direct"],
    "flush": ["--no-input"],
    "reset_db": ["--no-input"],
    "reset_schema": ["--no-input"],
}


def write_environment(project, **changes):
    """Change variables of a project's `.env`."""
    file = project / ".env"
    lines = [line for line in file.read_text().splitlines() if line.partition("=")[0] not in changes]
    file.write_text("\n".join([*lines, *(f"{name}={value}" for name, value in changes.items()), ""]))


def read_environment(project):
    lines = (project / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory() as temporary:
        Path(temporary).chmod(0o755)
        yield Path(temporary)


@pytest.fixture(scope="module")
def servers(folder):
    """Production's server, and where the recovered one will be."""
    certificates, binaries = certify(folder), unpack(18, folder)
    with postgres(binaries) as first, tempfile.TemporaryDirectory() as other:
        first.secure(certificates)
        yield first, Postgres(binaries, Path(other)), certificates


@pytest.fixture(scope="module")
def project(servers, tmp_path_factory):
    """One that was deployed, and lost a row after its server was copied."""
    first, second, certificates = servers
    project = render(tmp_path_factory.mktemp("recovered"))
    settings = {"ALLOWED_HOSTS": "example.com", "DB_EMBEDDED": "false", "DB_PROGRAMS": first.binaries}
    settings |= {"DB_ADMIN_USER": "owner", "DB_ADMIN_PASSWORD": PASSWORD}
    settings |= {"DB_HOST": "localhost", "DB_PORT": first.port, "DB_SSLROOTCERT": certificates / "authority.crt"}
    write_environment(project, **settings)
    manage(project, "prepare_database", **PRODUCTION)
    with first.connect(NAME) as connection:
        connection.execute("INSERT INTO django_content_type (app_label, model) VALUES ('shop', 'sale')")
    first.stop("fast")
    run("cp", "--archive", first.folder / "data", second.folder, cwd="/")
    run("chown", f"--reference={first.folder}", second.folder, cwd="/")
    first.launch()
    second.launch()
    with first.connect(NAME) as connection:
        connection.execute("DELETE FROM django_content_type WHERE app_label = 'shop'")
    password = read_environment(project)["DB_PASSWORD"]
    with pgbouncer(first.port, NAME, "backend_db_app", password, certificates) as port:
        settings = {
            "DB_PGBOUNCER": "true",
            "DB_PORT": port,
            "DB_DIRECT_HOST": "localhost",
            "DB_DIRECT_PORT": first.port,
        }
        write_environment(project, **settings)
        yield project
    second.stop("fast")


def count_rows(server):
    with server.connect(NAME) as connection:
        query = "SELECT count(*) FROM django_content_type WHERE app_label = 'shop'"
        return connection.execute(query).fetchone()[0]


def read_commands(project):
    """Return the three commands of the document that bring the data of the recovered server back."""
    blocks = COMMANDS.findall((project / "docs" / "disaster-recovery.md").read_text())
    (block,) = [block for block in blocks if "manage.py backup_database" in block]
    return [line.removeprefix("$ ") for line in block.splitlines()]


def type_command(project, line, **options):
    return run("sh", "-ec", line, cwd=project, **PRODUCTION, **options)


def test_commands_of_the_document_bring_the_recovered_data_into_production(project, servers):
    """Only the places are others, and the file's name."""
    first, second, _ = servers
    assert manage(project, "check_database", **PRODUCTION).stdout.startswith("default: healthy")  # through pgbouncer
    dump, restore, undo = read_commands(project)
    place = f"database '{NAME}', connected as '{MIGRATOR}'"
    done = type_command(project, dump.replace("backup.internal", "localhost").replace("5433", str(second.port)))
    assert done.stdout.startswith(f"Server localhost:{second.port}, {place}\n")
    (file,) = (project / "backups" / "recovered").glob("*.dump")
    assert (count_rows(first), count_rows(second)) == (0, 1)

    done = type_command(project, restore.replace("NAME.dump", file.name))
    assert done.stdout.startswith(f"Server localhost:{first.port}, {place}\nChecked the backup")
    assert count_rows(first) == 1
    done = type_command(project, undo)
    assert done.stdout.startswith(f"Server localhost:{first.port}, {place}\nKept the former database")
    assert (count_rows(first), count_rows(second)) == (0, 1)
    shutil.rmtree(project / "backups")


def test_restoring_into_production_needs_its_name(project, servers):
    done = manage(project, "backup_database", **PRODUCTION)
    (file,) = (project / "backups").glob("*.dump")
    done = manage(project, "restore_database", file, check=False, **PRODUCTION)
    assert done.returncode == 1
    assert done.stdout.startswith(f"Server localhost:{servers[0].port}, database '{NAME}'")
    assert "belongs to production" in done.stderr
    done = manage(project, "verify_backup", **PRODUCTION)
    assert done.stdout.startswith(f"Server localhost:{servers[0].port}, database '{NAME}', connected as '{MIGRATOR}'\n")
    shutil.rmtree(project / "backups")


def test_former_command_of_the_document_is_refused(project, servers):
    """It dumped production itself."""
    port = servers[1].port
    line = f"DB_HOST=localhost DB_PORT={port} uv run manage.py backup_database --folder backups/recovered"
    done = type_command(project, line, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "DB_HOST is 'localhost' in the environment, but this command connects by DB_DIRECT_HOST, which is 'localhost' "
        "in .env: set DB_DIRECT_HOST in the environment as well, or leave DB_HOST out.\n"
    )
    assert not (project / "backups").exists()


@pytest.mark.parametrize("command", DIRECT)
@pytest.mark.parametrize("given", [{"DB_HOST": "backup.internal"}, {"DB_PORT": "5433"}], ids=["host", "port"])
def test_direct_commands_do_not_pass_over_what_the_environment_names(project, servers, command, given):
    ((name, value),) = given.items()
    done = manage(project, command, *DIRECT[command], check=False, **given, **PRODUCTION)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"{name} is '{value}' in the environment, but this command connects by DB_DIRECT_HOST, which is 'localhost' "
        f"in .env: set DB_DIRECT_HOST in the environment as well, or leave {name} out.\n"
    )


def test_port_of_another_server_is_refused(project):
    """Here the host is explicit, but not where it listens."""
    given = {"DB_HOST": "localhost", "DB_PORT": "5433", "DB_DIRECT_HOST": "localhost"}
    done = manage(project, "backup_database", check=False, **given, **PRODUCTION)
    assert done.returncode == 1
    assert re.search(r"connects by DB_DIRECT_PORT, which is '\d+' in \.env", done.stderr)


def test_environment_that_names_both_is_explicit(project, servers):
    """As containers have it."""
    first, second, _ = servers
    given = {"DB_HOST": "pgbouncer.internal", "DB_PORT": "6432", "DB_DIRECT_HOST": "localhost"}
    given["DB_DIRECT_PORT"] = str(second.port)
    assert manage(project, "check_database", "--direct", **given, **PRODUCTION).stdout.startswith("default: healthy")
    done = manage(project, "backup_database", **given, **PRODUCTION)
    assert done.stdout.startswith(f"Server localhost:{second.port}, ")
    shutil.rmtree(project / "backups")
    # Without a pgbouncer, too.
    around = {"DB_HOST": "localhost", "DB_PORT": str(first.port), "DB_PGBOUNCER": "false", "DB_DIRECT_HOST": ""}
    assert manage(project, "check_database", **around, **PRODUCTION).stdout.startswith("default: healthy")
    done = manage(project, "backup_database", **around, **PRODUCTION)
    assert done.stdout.startswith(f"Server localhost:{first.port}, ")
    shutil.rmtree(project / "backups")


def test_other_commands_connect_to_what_the_environment_names(project, servers):
    given = {"DB_PORT": str(servers[1].port), "DB_PGBOUNCER": "false"}
    assert manage(project, "check_database", **given, **PRODUCTION).stdout.startswith("default: healthy")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A project whose `.env` chooses the embedded server."""
    return render(tmp_path_factory.mktemp("fresh"))


@pytest.mark.parametrize("command", DIRECT)
@pytest.mark.parametrize("given", ["DB_HOST", "DB_PORT", "DB_DIRECT_HOST"])
def test_embedded_server_does_not_stand_in_for_another_one(fresh, command, given):
    done = manage(fresh, command, *DIRECT[command], check=False, **{given: "5433"})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"{given} is '5433' in the environment, but this command connects by DB_EMBEDDED, which is 'true' in .env: "
        f"set DB_EMBEDDED in the environment as well, or leave {given} out.\n"
    )
    assert not (fresh / ".postgres").exists()


def test_embedded_server_that_the_environment_chooses_is_explicit(fresh):
    given = {"DB_HOST": "localhost", "DB_PORT": str(free_port()), "DB_EMBEDDED": "true"}
    manage(fresh, "migrate", **given)
    done = manage(fresh, "backup_database", **given)
    assert re.match(r"Server /\S+:5432, database 'backend_db', connected as ", done.stdout)
