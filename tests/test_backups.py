"""
Making backups: what is in them, and every way in which one can fail, with the database in use throughout.

A failure ends with 1 and a sentence, and leaves nothing behind that looks like a backup.
"""

import contextlib
import importlib
import itertools
import json
import os
import pty
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from conftest import PASSWORD, TEMPLATE, certify, manage, postgres, render, run, running, unpack, wait_until
from hypothesis import given, settings
from hypothesis import strategies as st
from sites import children, pgbouncer

ITEMS = 150_000  # enough for a second of pg_dump
SERVER = r"Server 127\.0\.0\.1:\d+, database '.+', connected as '\w+'\n"
WEIRD = "my db'\"-é/2"
TABLES = f"""
    CREATE TABLE item (id bigint PRIMARY KEY, text text);
    INSERT INTO item SELECT i, md5(i::text) || md5((-i)::text) || md5((i * 3)::text) FROM generate_series(1, {ITEMS}) i;
    CREATE TABLE debit (id bigserial PRIMARY KEY);
    CREATE TABLE credit (id bigserial PRIMARY KEY);
"""  # noqa: S608  of the tests' own


@pytest.fixture(scope="module")
def folder():
    """One that the server's user can read, who is another where the tests' is root."""
    with tempfile.TemporaryDirectory() as temporary:
        Path(temporary).chmod(0o755)
        yield Path(temporary)


@pytest.fixture(scope="module")
def server(embedded_binaries):
    """A server of these tests' own, since one of them stops it."""
    with postgres(embedded_binaries) as server:
        yield server


@pytest.fixture(scope="module")
def shop(project, server):
    """The variables that lead to a database with much in it."""
    environment = server.environment("shop")
    manage(project, "migrate", **environment)
    with server.connect("shop") as connection:
        connection.execute(TABLES)
    return environment


@pytest.fixture
def backups(tmp_path):
    return tmp_path / "backups"


def back_up(project, environment, backups, *arguments, **changed):
    """Run the command to its end, whatever that is; it keeps every secret and never shows a traceback."""
    environment = {**environment, "BACKUP_FOLDER": str(backups), **changed}
    done = manage(project, "backup_database", *arguments, check=False, **environment)
    assert PASSWORD not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def find_backup(backups):
    """Return the dump and the manifest of the folder's only backup, beside which there is nothing."""
    assert sorted(path.suffix for path in backups.iterdir()) == ["", ".dump", ".json"]
    (dump,) = backups.glob("*.dump")
    return dump, json.loads(dump.with_suffix(".json").read_text())


def assert_failed(done, said, backups):
    assert done.returncode == 1
    assert re.fullmatch(f"({SERVER})?", done.stdout)
    assert re.fullmatch(f"CommandError: No backup was made: {said}\n", done.stderr)
    assert_nothing_left(backups)


def assert_nothing_left(backups):
    assert not backups.exists() or [path.name for path in backups.iterdir()] == [".lock"]


def restore(server, dump, database, binaries=None):
    """Restore a dump, as pg_restore alone does it, and return the rows of each table."""
    with server.connect() as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{database}"')
        connection.execute(f'CREATE DATABASE "{database}"')
    where = {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": "owner", "PGPASSWORD": PASSWORD}
    pg_restore = (binaries or server.binaries) / "pg_restore"
    run(pg_restore, "--exit-on-error", "--jobs=2", f"--dbname={database}", dump, cwd="/", **where)
    with server.connect(database) as connection:
        tables = connection.execute("SELECT format('%I.%I', schemaname, relname) FROM pg_stat_user_tables").fetchall()
        return {table: count_rows(connection, table) for (table,) in tables}


def count_rows(connection, table):
    return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608  of the tests' own


@contextlib.contextmanager
def in_use(server, database="shop"):
    """Write to the database all the time, in both tables or in none: every transaction succeeds."""
    ended, errors, done = threading.Event(), [], []

    def write():
        try:
            with server.connect(database) as connection:
                while not ended.is_set():
                    with connection.transaction():
                        connection.execute("INSERT INTO debit DEFAULT VALUES")
                        connection.execute("INSERT INTO credit DEFAULT VALUES")
                    done.append(time.monotonic())
                    time.sleep(0.002)
        except psycopg.Error as error:
            errors.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        wait_until(lambda: done or errors)
        yield
    finally:
        ended.set()
        thread.join()
    assert errors == []
    assert max(later - earlier for earlier, later in itertools.pairwise(done)) < 2


def assert_intact(server):
    with server.connect("shop") as connection:
        assert connection.execute("SELECT count(*), max(id) FROM item").fetchone() == (ITEMS, ITEMS)
        assert count_rows(connection, "debit") == count_rows(connection, "credit")


def count_sessions(server):
    """Return how many the command and its programs have."""
    with server.connect() as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'manage.py backup%'"
        return connection.execute(query).fetchone()[0]


@contextlib.contextmanager
def half_way(project, environment, backups):
    """Have the command begin, and yield it when some of the dump is written."""
    environment = {**environment, "BACKUP_FOLDER": str(backups)}
    with running(sys.executable, "manage.py", "backup_database", cwd=project, **environment) as (process, log):
        wait_until(lambda: process.poll() is not None or measure_unfinished(backups) > 500_000)
        assert process.poll() is None, log.read_text()
        yield process, log


def measure_unfinished(backups):
    """Return how much is written of a dump that is not finished."""
    return sum(path.stat().st_size for path in backups.glob(".*.dump.unfinished"))


# What is made.


def test_backup_is_what_the_database_held_at_one_moment(project, server, shop, backups):
    """Though it is written to all the time: the manifest counts what the dump holds, and no transaction is torn."""
    with in_use(server):
        done = back_up(project, shop, backups)
    assert (done.returncode, done.stderr) == (0, "")
    dump, manifest = find_backup(backups)
    assert re.fullmatch(r"shop-\d{8}T\d{6}Z\.dump", dump.name)
    rows = sum(manifest["rows"].values())
    said = (
        rf"{SERVER}{dump}: {manifest['size'] / 1e6:.1f} MB, {rows} rows of {len(manifest['rows'])} tables, \d+\.\d s\n"
    )
    assert re.fullmatch(said, done.stdout)
    assert manifest["size"] == dump.stat().st_size
    assert manifest["sha256"] == run("sha256sum", dump, cwd="/").stdout.split()[0]
    restored = restore(server, dump, "restored")
    assert restored == manifest["rows"]
    assert restored["public.item"] == ITEMS
    assert restored["public.debit"] == restored["public.credit"] > 0
    with server.connect("shop") as connection:
        applied = connection.execute("SELECT app, name FROM django_migrations ORDER BY 1, 2").fetchall()
        assert manifest["migrations"] == [list(row) for row in applied]
        assert connection.execute("SELECT name, size FROM backups_backup").fetchall() == [(dump.name, manifest["size"])]
    assert_intact(server)


def test_backup_is_private(project, shop, backups):
    """Whatever the umask is; nothing of the server's access is in the manifest."""
    command = "sh", "-c", 'umask 0; exec "$@"', "sh", sys.executable, "manage.py", "backup_database"
    run(*command, cwd=project, **{**shop, "BACKUP_FOLDER": str(backups)})
    dump, _ = find_backup(backups)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (backups, *backups.iterdir())}
    assert modes == {backups.name: 0o700, **dict.fromkeys([".lock", dump.name, f"{dump.stem}.json"], 0o600)}
    assert PASSWORD not in dump.with_suffix(".json").read_text()


def test_database_of_any_name_can_be_backed_up(project, server, backups):
    environment = {**server.environment(WEIRD.replace('"', '""')), "DB_NAME": WEIRD}
    with server.connect(WEIRD) as connection:
        connection.execute('CREATE SCHEMA "Ä b"; CREATE TABLE "Ä b"."c""d" AS SELECT 1; CREATE TABLE plain (a int)')
    done = back_up(project, environment, backups)
    dump, manifest = find_backup(backups)
    assert done.returncode == 0
    assert (manifest["database"], manifest["rows"]) == (WEIRD, {'"Ä b"."c""d"': 1, "public.plain": 0})
    assert "not all that follows is done" in done.stderr  # since it is not migrated
    restore(server, dump, "renamed")


def test_backup_through_a_pool(project, shop, backups):
    assert back_up(project, shop, backups, DB_POOL="true", DB_CONN_MAX_AGE="0").returncode == 0
    find_backup(backups)


def test_backup_goes_round_a_pgbouncer(project, server, backups):
    """As the owner; through it nothing is dumped, since pg_dump would change what other clients get."""
    owner = {"DB_MIGRATE_USER": "owner", "DB_MIGRATE_PASSWORD": PASSWORD}
    with server.connect() as connection:
        connection.execute(f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'")
    environment = {**server.environment("app"), "DB_USER": "app", "DB_PGBOUNCER": "true"}
    with pgbouncer(server.port) as port:
        environment["DB_PORT"] = str(port)
        done = back_up(project, environment, backups)
        assert_failed(done, "pg_dump .* cannot go through a pgbouncer: set DB_DIRECT_HOST to PostgreSQL.", backups)
        direct = {"DB_DIRECT_HOST": "127.0.0.1", "DB_DIRECT_PORT": str(server.port)}
        assert back_up(project, environment, backups, **direct, **owner).returncode == 0
    assert find_backup(backups)[1]["database"] == "app"


def test_backup_over_tls_trusts_nobody_else(project, folder, backups):
    certificates = certify(folder)
    binaries = unpack(18, folder)
    with postgres(binaries) as secured:
        secured.secure(certificates)
        environment = secured.environment("secured")
        (secured.folder / "data" / "pg_hba.conf").write_text("hostssl all all all scram-sha-256\n")
        with secured.connect() as connection:
            connection.execute("SELECT pg_reload_conf()")
        verified = {"DB_HOST": "localhost", "DB_SSLMODE": "verify-full", "DB_PROGRAMS": str(binaries)}
        trusted = {"DB_SSLROOTCERT": str(certificates / "authority.crt")}
        done = back_up(project, environment, backups, **verified, DB_SSLROOTCERT=str(certificates / "stranger.crt"))
        assert_failed(done, "No secure connection .*", backups)
        assert back_up(project, environment, backups, **verified, **trusted).returncode == 0
    find_backup(backups)


def test_programs_are_of_the_servers_version_or_newer(project, folder, embedded_binaries, backups):
    """Those of 18 dump 15, too, by which the restore is up to the newer ones; older ones are refused."""
    binaries = unpack(15, folder)
    with postgres(binaries) as old:
        environment = old.environment("old")
        manage(project, "migrate", **environment)
        assert back_up(project, environment, backups, DB_PROGRAMS=str(binaries)).returncode == 0
        dump, manifest = find_backup(backups)
        assert [manifest[name].split(".")[0] for name in ("server_version", "client_version")] == ["15", "15"]
        assert restore(old, dump, "restored") == manifest["rows"]
        shutil.rmtree(backups)
        assert back_up(project, environment, backups, DB_PROGRAMS=str(embedded_binaries)).returncode == 0
        _, newer = find_backup(backups)
        assert newer["client_version"].startswith("18.")
        assert {**newer["rows"], "public.backups_backup": 0} == manifest["rows"]
        assert newer["objects"] == manifest["objects"]


def test_programs_are_found_without_being_told(project, shop, backups):
    assert back_up(project, shop, backups).returncode == 0
    assert find_backup(backups)[1]["client_version"].startswith("18.")


def test_progress_is_shown_on_a_terminal_only(project, shop, backups):
    control, terminal = pty.openpty()
    environment = {**os.environ, **shop, "BACKUP_FOLDER": str(backups)}
    command = [sys.executable, "manage.py", "backup_database"]
    with subprocess.Popen(command, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=terminal) as process:
        os.close(terminal)
        shown = b""
        with contextlib.suppress(OSError):  # which tells that nobody has the terminal open
            while part := os.read(control, 4096):
                shown += part
        stdout = process.stdout.read()
    os.close(control)
    assert process.returncode == 0
    assert re.search(rb"\r\d+\.\d MB written, (\d+) of \1 tables counted\x1b\[K", shown)
    assert re.fullmatch(rf"{SERVER}\S+\.dump: .* s\n", stdout.decode())


# What fails.


def test_disk_is_full(project, server, shop, backups):
    """In a view of the file system of the command's own, where the folder is a small one in memory."""
    backups.mkdir()
    unshare = "unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])
    script = f'mount -t tmpfs -o size=2m none {backups}; "$@" || code=$?; find {backups} -type f; exit $code'
    command = *unshare, "sh", "-ec", script, "sh", sys.executable, "manage.py", "backup_database"
    with in_use(server):
        done = run(*command, cwd=project, check=False, **{**shop, "BACKUP_FOLDER": str(backups)})
    assert done.returncode == 1
    assert re.fullmatch(f"{SERVER}{backups}/\\.lock\n", done.stdout)
    assert done.stderr.startswith("CommandError: No backup was made: pg_dump failed: ")
    assert done.stderr.endswith("No space left on device.\n")
    assert_intact(server)


def test_folder_is_not_writable(project, shop, backups):
    backups.mkdir()
    unshare = "unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])
    script = f'mount -t tmpfs -o ro none {backups}; "$@"'
    command = *unshare, "sh", "-ec", script, "sh", sys.executable, "manage.py", "backup_database"
    done = run(*command, cwd=project, check=False, **{**shop, "BACKUP_FOLDER": str(backups)})
    said = f"CommandError: No backup was made: {backups}/.lock: Read-only file system.\n"
    assert (done.returncode, done.stderr) == (1, said)


def test_folder_is_a_file(project, shop, backups):
    backups.write_text("mine")
    done = back_up(project, shop, backups)
    assert (done.returncode, done.stderr) == (1, f"CommandError: No backup was made: {backups}: File exists.\n")
    assert backups.read_text() == "mine"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"DB_PASSWORD": "wrong-Xq7"}, "Authentication failed for user 'owner'. .*"),
        ({"DB_NAME": "nowhere"}, "Database 'nowhere' does not exist. .*"),
        ({"DB_PORT": "1"}, "Could not connect to database server at 127.0.0.1:1. .*"),
        ({"DB_PROGRAMS": "/var/empty"}, "There are no pg_dump and pg_restore in /var/empty, .* set DB_PROGRAMS .*"),
    ],
    ids=["password", "database", "server", "programs"],
)
def test_what_is_needed_is_not_there(project, shop, backups, changed, said):
    assert_failed(back_up(project, shop, backups, **changed), said, backups)


def test_programs_are_older_than_the_server(project, server, shop, folder, backups):
    binaries = unpack(15, folder)
    with in_use(server):
        done = back_up(project, shop, backups, DB_PROGRAMS=str(binaries))
    said = f"pg_dump in {binaries} is version 15, but must be as new as the server, which is 18: .*"
    assert_failed(done, said, backups)


def test_role_may_not_read_everything(project, server, shop, backups):
    with server.connect("shop") as connection:
        connection.execute(f"CREATE ROLE clerk LOGIN PASSWORD '{PASSWORD}' IN ROLE pg_monitor")
    done = back_up(project, shop, backups, DB_USER="clerk")
    assert_failed(done, r"permission denied for table \w+.", backups)


def test_table_stays_locked(tmp_path, server, shop, backups):
    """A second of waiting has to do here."""
    project = render(tmp_path)
    module = project / "apps" / "backups" / "dump.py"
    module.write_text(module.read_text().replace("LOCK_WAIT = 30_000", "LOCK_WAIT = 1_000"))
    with server.connect("shop") as holder, holder.transaction():
        holder.execute("LOCK TABLE item")
        done = back_up(project, shop, backups)
    assert_failed(done, "What was needed of database 'shop' stayed locked by another session. .*", backups)


def test_server_stops_half_way(project, server, shop, backups):
    with half_way(project, shop, backups) as (process, log):
        server.stop("immediate")
        try:
            assert process.wait(20) == 1
            text = log.read_text()
        finally:
            server.launch()
    assert re.fullmatch(f"{SERVER}CommandError: No backup was made: .*\n", text)
    assert_nothing_left(backups)
    assert_intact(server)


@pytest.fixture(params=[signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def number(request):
    """A signal, which commands do not inherit as ignored where these tests were started by nohup."""
    before = signal.getsignal(request.param)
    if before == signal.SIG_IGN:
        signal.signal(request.param, signal.SIG_DFL)
    yield request.param
    signal.signal(request.param, before)


def test_command_is_told_to_end_half_way(project, server, shop, backups, number):
    """It also ends what it has begun: pg_dump, and their sessions."""
    with in_use(server):
        with half_way(project, shop, backups) as (process, log):
            (program,) = children(process.pid)
            process.send_signal(number)
            assert process.wait(20) == 1
            text = log.read_text()
        assert not Path(f"/proc/{program}").exists()
        wait_until(lambda: not count_sessions(server))
    said = f"CommandError: No backup was made: the command was interrupted by {number.name}.\n"
    assert re.fullmatch(SERVER + re.escape(said), text)
    assert_nothing_left(backups)
    assert_intact(server)


def test_command_is_killed_half_way(project, server, shop, backups):
    """Nothing that it leaves looks like a backup; pg_dump ends with it, and the next one cleans up."""
    with in_use(server):
        with half_way(project, shop, backups) as (process, _):
            process.kill()
            process.wait()
        wait_until(lambda: not count_sessions(server))
        left = measure_unfinished(backups)
        assert left > 0
        assert {path.suffix for path in backups.iterdir()} == {"", ".unfinished"}
        assert back_up(project, shop, backups).returncode == 0
    dump, _ = find_backup(backups)
    assert left < dump.stat().st_size / 2  # pg_dump was not left to finish
    assert_intact(server)


def test_another_one_is_being_made(project, server, shop, backups):
    with half_way(project, shop, backups) as (process, log):
        (program,) = children(process.pid)
        os.kill(program, signal.SIGSTOP)
        done = back_up(project, shop, backups)
        os.kill(program, signal.SIGCONT)
        assert process.wait(30) == 0, log.read_text()
    said = f"CommandError: No backup was made: another one is being made in {backups}.\n"
    assert (done.returncode, done.stderr) == (1, said)
    find_backup(backups)


def test_no_secret_is_in_the_process_list(project, shop, backups):
    with half_way(project, shop, backups) as (process, _):
        lines = [Path(f"/proc/{each}/cmdline").read_bytes() for each in (process.pid, *children(process.pid))]
    assert any(b"--snapshot" in line for line in lines)
    assert not any(PASSWORD.encode() in line for line in lines)


def test_backup_counts_where_it_cannot_be_noted(project, server, shop, backups):
    with server.connect() as connection:
        connection.execute("ALTER DATABASE shop SET default_transaction_read_only = on")
    try:
        done = back_up(project, shop, backups)
    finally:
        with server.connect() as connection:
            connection.execute("ALTER DATABASE shop RESET default_transaction_read_only")
    assert done.returncode == 0
    assert re.fullmatch(r"Warning: The backup is made, but not all that follows is done: .* read-only.*\n", done.stderr)
    find_backup(backups)


# What stays.


def find_kept(times, keep):
    """Return the times that stay, told of each one by itself."""
    periods = {"daily": "%Y-%m-%d", "weekly": "%G-%V", "monthly": "%Y-%m"}

    def stays(time, pattern, number):
        later = {other.strftime(pattern) for other in times if other > time}
        return time.strftime(pattern) not in later and len(later) < number

    return {t for t in times if t == max(times) or any(stays(t, periods[name], keep[name]) for name in periods)}


# Often on the same day, in the same week, or in weeks of the same number.
MOMENTS = st.builds(
    lambda days, weeks, minutes: datetime(2026, 11, 25, tzinfo=UTC) - timedelta(days, minutes=minutes, weeks=weeks),
    st.integers(0, 2),
    st.sampled_from([0, 0, 1, 2, 4, 8, 30, 52, 53, 104]),
    st.integers(0, 2000),
)


@pytest.fixture(scope="module")
def choose():
    """What the command asks which ones stay."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TEMPLATE))
        yield importlib.import_module("apps.backups.retention").choose


@settings(deadline=None)
@given(
    times=st.sets(MOMENTS, max_size=20),
    keep=st.fixed_dictionaries(dict.fromkeys(["daily", "weekly", "monthly"], st.integers(0, 4))),
)
def test_last_of_each_day_week_and_month_stays(choose, times, keep):
    """As many as are to be kept of those that have one, and always the last; what stays once, stays till then."""
    kept = choose(times, keep)
    assert kept == find_kept(times, keep)
    assert choose(kept, keep) == kept
    assert kept >= set(sorted(times)[-1:])


def copy_backup(dump, database, time):
    """Have another backup, made at another time."""
    content = json.loads(dump.with_suffix(".json").read_text())
    other = dump.with_name(f"{database}-{time:%Y%m%dT%H%M%SZ}.dump")
    shutil.copy(dump, other)
    other.with_suffix(".json").write_text(json.dumps({**content, "database": database, "made_at": time.isoformat()}))
    return other


def test_old_backups_are_removed_and_nothing_else(project, server, backups):
    environment = server.environment("small")
    manage(project, "migrate", **environment)
    keep = {"daily": 2, "weekly": 2, "monthly": 2}
    environment |= {f"BACKUP_KEEP_{name.upper()}": str(number) for name, number in keep.items()}
    back_up(project, environment, backups)
    dump, manifest = find_backup(backups)
    now = datetime.fromisoformat(manifest["made_at"])
    old = {time: copy_backup(dump, "small", time) for time in (now - timedelta(days=n) for n in range(1, 70))}
    foreign = [copy_backup(dump, "other", now - timedelta(days=300)), backups / "notes.dump"]
    foreign += [backups / f"small-2020010{day}T000000Z.dump" for day in (1, 2)]
    for path in foreign[1:]:
        path.write_text("mine")
    foreign[-1].with_suffix(".json").write_text("{}")
    done = back_up(project, environment, backups)
    assert (done.returncode, done.stderr) == (0, "")
    _, said, *removed = done.stdout.splitlines()
    new = Path(said.partition(": ")[0])
    times = {datetime.strptime(new.stem[-16:], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC): new, now: dump, **old}
    kept = {times[time] for time in find_kept(times, keep)}
    assert set(backups.glob("*.dump")) == kept | set(foreign)
    assert sorted(removed) == sorted(f"Removed {path}" for path in set(times.values()) - kept)
    with_manifest = kept | {foreign[0], foreign[-1]}
    assert set(backups.glob("*.json")) == {path.with_suffix(".json") for path in with_manifest}
    with server.connect("small") as connection:
        assert connection.execute("SELECT name FROM backups_backup").fetchall() == [(new.name,)]
    assert back_up(project, environment, backups, "--no-prune").stdout.count("Removed") == 0
