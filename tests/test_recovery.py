"""Barman's configuration, the verification of recovery, and the commands of the document about disasters."""

import configparser
import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest
from conftest import become, render, run, unpack, wait_until
from psycopg.conninfo import conninfo_to_dict

pytestmark = pytest.mark.long

PLACES = ["barman", "home", "moment"]  # those of a lost server's site that remain


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


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """One that has Barman installed."""
    project = render(tmp_path_factory.mktemp("recovery"))
    run("uv", "sync", "--group", "recovery", cwd=project)
    run(project / ".venv" / "bin" / "barman", "--version", cwd=project)  # compiles it, which another user may not
    return project


@pytest.fixture
def place():
    """A folder that Barman's user can reach, short enough for a socket."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def lose_server(project, folder, programs):
    """Leave Barman's files of a server that is lost, in a folder that belongs to Barman's user."""
    folder.mkdir()
    own(folder)
    script = Path(__file__).with_name("recovery_servers.py")
    environment = {"PYTHONPATH": str(project), "DB_PROGRAMS": str(programs)}
    run(project / ".venv" / "bin" / "python", script, folder, cwd=project, **environment)
    assert (folder / "archived").exists()  # the command of the server's configuration works
    for path in folder.iterdir():
        if path.is_dir() and path.name not in PLACES:
            shutil.rmtree(path)
        elif path.name not in PLACES:
            path.unlink()
    own(folder)
    return folder


def own(folder):
    if os.geteuid() == 0:
        run("chown", "--recursive", "nobody", folder, cwd="/")


@pytest.fixture(scope="module")
def lost(project, embedded_binaries):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield lose_server(project, Path(folder) / "lost", embedded_binaries)


@pytest.fixture
def site(lost, place):
    """A copy of Barman's files and of its user's home; a test may damage it."""
    copy = place / "site"
    shutil.copytree(lost, copy, symlinks=True)
    configuration = copy / "home" / ".barman.conf"
    configuration.write_text(configuration.read_text().replace(str(lost), str(copy)))
    for link in copy.glob("barman/main/base/*/data/pg_tblspc/*"):
        target = str(link.readlink()).replace(str(lost), str(copy))
        link.unlink()
        link.symlink_to(target)
    own(copy)
    return copy


def command(project, *options):
    user = become("nobody") if os.geteuid() == 0 else []
    return *user, project / ".venv" / "bin" / "python", project / "recovery" / "verify.py", *options


def environment(project, site, temporary, programs):
    own(temporary)
    path = os.pathsep.join([str(project / ".venv" / "bin"), os.environ["PATH"]])
    return {"HOME": f"{site}/home", "PATH": path, "TMPDIR": str(temporary), "DB_PROGRAMS": str(programs)}


@pytest.fixture
def variables(project, site, temporary, embedded_binaries):
    return environment(project, site, temporary, embedded_binaries)


@pytest.fixture
def verify(project, site, variables):
    """Run the command as Barman's user does."""

    def verify(*options, **changes):
        done = run(*command(project, *options), cwd="/", check=False, **{**variables, **changes})
        assert sorted(path.name for path in site.iterdir()) == PLACES
        assert "Traceback" not in done.stderr
        return done

    return verify


def fail(verify, *options, **changes):
    """Have it end with code 1, and return the sentence it ends with."""
    done = verify(*options, **changes)
    assert done.returncode == 1, done.stdout
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("Not verified: ")
    return sentence.removeprefix("Not verified: ")


def test_latest_backup_is_verified_and_nothing_of_production_is_in_force(verify, site):
    """Neither its settings nor its tablespaces: nothing is archived, and the folder of the site stays as it is."""
    done = verify(PGHOSTADDR="192.0.2.1", PGOPTIONS="-c nonsense=1")
    assert (done.returncode, done.stderr) == (0, "")
    steps = re.findall(r"^ *\d+\.\d\d s  (.+)$", done.stdout, re.MULTILINE)
    names = [re.sub(r" \d{8}T\d{6}$|; last.+", "", step) for step in steps]
    dumps = ["pg_dump postgres", "pg_dump project", "pg_dump template1"]
    verified = ["barman verify-backup"] * 2  # the incremental backup, and the one that it builds upon
    assert names == [*verified, "barman restore", "recovery", *dumps, "pg_checksums"]
    assert re.search(r"recovery; last transaction: \d{4}-\d\d-\d\d \S+, \d\d:\d\d:\d\d ago\n", done.stdout)
    (rows,) = re.findall(r"pg_dump project\n +13 tables, (\d+) rows\n", done.stdout)
    assert 0 < int(rows) < 10000  # the table was emptied after the backup


def test_former_time_is_verified_of_the_backup_before_it(verify, site):
    done = verify("--target-time", (site / "moment").read_text(), "--database", "project", "main")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("barman verify-backup") == 1
    assert done.stdout.count("pg_dump") == 1
    (rows,) = re.findall(r"pg_dump project\n +13 tables, (\d+) rows\n", done.stdout)
    assert int(rows) > 10000


@pytest.mark.parametrize("offset", [0, 5000])
def test_damaged_relation_is_not_verified(verify, site, offset):
    """Of the full backup, which the incremental one builds upon."""
    file = max(site.glob("barman/main/base/*/data/base/*/[1-9]*"), key=lambda path: path.stat().st_size)
    with file.open("r+b") as content:
        content.seek(offset)
        damaged = bytes(byte ^ 0xFF for byte in content.read(64))
        content.seek(offset)
        content.write(damaged)
    assert f'checksum mismatch for file "base/{file.parent.name}/{file.name}"' in fail(verify)


@pytest.mark.parametrize("which", [0, 1, -2, -1])
def test_missing_file_of_changes_is_not_verified(verify, site, which):
    """One of the backup's, or a later one, where PostgreSQL ends recovery early and reports no error."""
    info = max(site.glob("barman/main/meta/*-backup.info")).read_text()
    begin = re.search("^begin_wal=(.+)$", info, re.MULTILINE)[1]
    files = sorted(path for path in site.glob("barman/main/wals/*/0*") if path.name >= begin)
    files[which].unlink()
    sentence = fail(verify)
    if which:
        assert re.fullmatch(r"recovery ended in \w{24}, but Barman received \w{24}: a file is missing\.", sentence)
    else:
        assert sentence.startswith("no recovery within ")
        assert "FATAL: " in sentence


def test_time_that_was_not_reached_is_not_verified(verify):
    sentence = fail(verify, "--target-time", "2099-01-01 00:00:00+00:00")
    assert "FATAL:  recovery ended before configured recovery target was reached" in sentence


def test_without_backup_nothing_is_verified(verify, site):
    early = fail(verify, "--target-time", "2020-01-01 00:00:00+00:00")
    assert early == "Barman has no backup of 'main' before 2020-01-01 00:00:00+00:00: run `barman backup`."
    for info in site.glob("barman/main/meta/*-backup.info"):
        info.unlink()
    assert fail(verify) == "Barman has no backup of 'main' before now: run `barman backup`."


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["nowhere"], "barman failed: Unknown server 'nowhere'"),
        (["--database", "dbname=postgres"], 'pg_dump dbname=postgres failed: .+ "dbname=postgres" does not exist'),
        (["--username", "nobody"], 'psql failed: .+ role "nobody" does not exist'),
        (["--timeout", "0"], "no recovery within 0 s: .+"),
    ],
)
def test_wrong_option_is_refused_in_a_sentence(verify, options, sentence):
    assert re.fullmatch(sentence, fail(verify, *options))


def test_missing_and_foreign_programs_are_refused_in_a_sentence(verify, project, place):
    path = os.environ["PATH"]
    sentence = fail(verify, PATH=path, DB_PROGRAMS="")
    assert sentence.startswith("PATH has no barman")
    foreign = fail(verify, DB_PROGRAMS=str(unpack(15, place)))
    assert re.fullmatch(r"the backup is of PostgreSQL 18, the programs of .+ 15\..+: set DB_PROGRAMS\.", foreign)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_disk_without_room_is_refused_before_the_restore(verify, place):
    small = place / "small"
    small.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=40m,mode=777", "none", small, cwd="/")
    try:
        sentence = fail(verify, TMPDIR=str(small))
        assert list(small.iterdir()) == []
    finally:
        run("umount", small, cwd="/")
    assert re.fullmatch(rf"{small}/\S+ needs \d+ MiB and has 40: set TMPDIR to another folder\.", sentence)


@pytest.mark.skipif(os.geteuid() != 0, reason="it is about root")
def test_root_is_refused_in_a_sentence(project):
    done = run(project / ".venv" / "bin" / "python", "recovery/verify.py", cwd=project, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Not verified: PostgreSQL refuses to run as root: run this command as Barman's user.\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("part", ["pg_combinebackup", "postgres -D"])
def test_interrupted_verification_leaves_nothing(project, temporary, variables, number, part):
    """As by Ctrl-C, which every process of the terminal gets, twice."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    line = [str(word) for word in command(project)]
    with subprocess.Popen(
        line, cwd="/", env={**os.environ, **variables}, text=True, start_new_session=True, **pipes
    ) as process:
        wait_until(lambda: [line for line in living(temporary) if part in line], 60)
        os.killpg(process.pid, number)
        os.killpg(process.pid, number)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "")


def test_oldest_version_without_incremental_backups_and_checksums_is_verified(project, place, temporary):
    """Barman restores its full backups by rsync; damage is found by the backup's manifest."""
    programs = unpack(15, place)
    site = lose_server(project, place / "lost", programs)
    variables = environment(project, site, temporary, programs)
    done = run(*command(project), cwd="/", **variables)
    assert done.stdout.count("barman verify-backup") == 1
    assert "pg_checksums" not in done.stdout
    assert re.search(r"pg_dump project\n +13 tables, \d+ rows\n", done.stdout)


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
