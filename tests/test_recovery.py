"""Barman, its configuration, the drill, and the commands of the document about disasters."""

import configparser
import contextlib
import importlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import uuid
from pathlib import Path

import pytest
from conftest import TEMPLATE, become, render, run, unpack, wait_until
from psycopg.conninfo import conninfo_to_dict

DRILL = "uv", "run", "--group", "recovery", "python", "-m", "recovery.drill"


@pytest.fixture
def temporary():
    """A folder for temporary files, short enough for a socket, and empty afterwards but for uv's."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
        wait_until(lambda: not living(folder))
        assert [path for path in Path(folder).iterdir() if not path.match("uv-*.lock")] == []


def living(folder):
    """Return the command lines that have to do with a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, as a zombie has, or is somebody else's
            line = (process / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
            if str(folder) in f"{line} {(process / 'cwd').readlink()}":
                found.append(line)
    return found


def read_steps(output):
    """Return what the drill did, in its order."""
    return re.findall(r"^ *\d+\.\d\d s  (.+)$", output, re.MULTILINE)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """One that has Barman installed."""
    project = render(tmp_path_factory.mktemp("recovery"))
    run("uv", "sync", "--group", "recovery", cwd=project)
    run(project / ".venv" / "bin" / "barman", "--version", cwd=project)  # compiles it, which another user may not
    return project


def test_drill_passes_from_nothing_by_one_command(tmp_path, temporary):
    project = render(tmp_path)
    before = {path.name for path in project.iterdir()}
    done = run("make", "drill", cwd=project, TMPDIR=str(temporary))
    steps = read_steps(done.stdout)
    assert "barman backup --wait --incremental latest main" in steps
    assert len([step for step in steps if step.startswith("barman restore")]) == 2
    assert re.search(
        r"\nAll \d+ rows in \d+ tables are as at .+, and [1-9]\d* written later are not there", done.stdout
    )
    assert re.search(r"\n\d+ of [1-9]\d* rows are missing, of the lost server's last \d\.\d\d s", done.stdout)
    assert {path.name for path in project.iterdir()} == before | {".venv", "uv.lock"}


def test_drill_passes_for_another_user_than_root_and_without_incremental_backups(project, temporary):
    """On the oldest version; Barman restores its full backups by rsync."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        user = []
        if os.geteuid() == 0:
            user = become("nobody")
            run("chown", "nobody", temporary, cwd="/")
        programs = str(unpack(15, Path(folder)))
        drill = ".venv/bin/python", "-m", "recovery.drill"
        done = run(*user, *drill, cwd=project, TMPDIR=str(temporary), DB_PROGRAMS=programs)
    assert not [step for step in read_steps(done.stdout) if "incremental" in step]
    assert "rows are missing, of the lost server's last" in done.stdout


def sabotage(project, folder, name, old, new):
    """Copy a project and replace a part of a file."""
    copy = folder / "sabotaged"
    shutil.copytree(project, copy, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    file = copy / name
    assert file.read_text().count(old) == 1
    file.write_text(file.read_text().replace(old, new))
    return copy


def test_drill_fails_where_the_mistake_comes_back(project, tmp_path, temporary):
    """As it does without a target, at the end of all changes."""
    target = '"--target-time", moment, "--target-action", "promote"'
    bad = sabotage(project, tmp_path, "recovery/drill.py", target, "()")
    said = fail(bad, temporary)
    assert said.startswith("The drill failed. The restored database is not what it was: ")
    assert "public.django_migrations is missing" in said


def test_drill_fails_where_production_would(project, tmp_path, temporary):
    grant = "GRANT EXECUTE ON FUNCTION pg_switch_wal() TO barman;"
    bad = sabotage(project, tmp_path, "recovery/roles.sql", grant, "")
    said = fail(bad, temporary)
    assert said.startswith("The drill failed. `barman switch-wal --force --archive main` failed: ")


def fail(project, temporary):
    """Run a drill that ends with code 1, and return the sentence it ends with."""
    done = run(*DRILL, cwd=project, check=False, TMPDIR=str(temporary))
    assert done.returncode == 1
    (said,) = done.stderr.splitlines()
    return said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_drill_leaves_nothing(project, temporary, number):
    """As by Ctrl-C, which every process of the terminal gets, twice; while servers and Barman run."""
    environment = {**os.environ, "TMPDIR": str(temporary)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(DRILL, cwd=project, env=environment, text=True, start_new_session=True, **pipes) as drill:
        for line in drill.stdout:
            if "barman receive-wal" in line:
                break
        assert [line for line in living(temporary) if "pg_receivewal" in line]
        os.killpg(drill.pid, number)
        os.killpg(drill.pid, number)
        _, errors = drill.communicate(timeout=60)
    assert drill.returncode != 0
    assert "Traceback" not in errors


@pytest.fixture
def proof(monkeypatch):
    monkeypatch.syspath_prepend(str(TEMPLATE))
    return importlib.import_module("recovery.proof")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("SELECT 1", None),
        ("DELETE FROM one WHERE number = 7", "public.one has 99 rows instead of 100"),
        ("INSERT INTO one VALUES (101, 'late')", "public.one has 101 rows instead of 100"),
        ("UPDATE one SET word = 'other' WHERE number = 7", "public.one has other values in its 100 rows"),
        ("DROP TABLE one", "public.one is missing"),
        ("CREATE TABLE two (number int)", "public.two should not be there"),
    ],
)
def test_proof_sees_every_difference(server, proof, change, said):
    database = server.environment(f"proof_{uuid.uuid4().hex}")["DB_NAME"]
    with server.connect(database) as connection:
        connection.execute("CREATE TABLE one AS SELECT number, 'word' AS word FROM generate_series(1, 100) AS number")
        before = proof.read_contents(connection)
        connection.execute(change)
        after = proof.read_contents(connection)
    if said is None:
        proof.compare(before, after)
    else:
        with pytest.raises(Exception, match=f"^The restored database is not what it was: {said}.$"):
            proof.compare(before, after)


def test_configuration_has_no_secret_and_no_unknown_option(project):
    file = configparser.ConfigParser(interpolation=None)
    file.read(project / "recovery" / "barman.conf")
    options = {*file["main"], *file["barman"]}
    script = "from barman.config import ServerConfig; print(*ServerConfig.KEYS)"
    known = run(project / ".venv" / "bin" / "python", "-c", script, cwd=project).stdout.split()
    assert options <= {*known, "barman_home", "barman_user", "log_file"}
    for name in "conninfo", "streaming_conninfo":
        assert "password" not in conninfo_to_dict(file["main"][name])
    assert not re.search("PASSWORD|SUPERUSER", (project / "recovery" / "roles.sql").read_text())


def test_every_command_of_the_document_works(project, tmp_path, temporary):
    """Each is typed where it stands, by `runbook.py`."""
    checkout = render(tmp_path)
    script = Path(__file__).with_name("runbook.py")
    python = "uv", "run", "--group", "recovery", "python"
    done = run(*python, script, checkout, cwd=project, PYTHONPATH=str(project), TMPDIR=str(temporary))
    commands = (project / "docs" / "disaster-recovery.md").read_text().count("\n$ ")
    assert len([line for line in done.stdout.splitlines() if line.startswith("$ ")]) == commands
