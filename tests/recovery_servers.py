"""
A PostgreSQL server as production has it, and Barman beside it, for the tests of recovery.

It runs by the Python of a rendered project, since that has Barman. As a script it leaves Barman's files of a server
that is lost in a folder.
"""

import os
import pwd
import secrets
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from configparser import ConfigParser
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from apps.core.database.embedded.programs import SERVER_USER, drop_root, find_binaries

PROJECT = Path.cwd()
SUPERUSER, DATABASE = "postgres", "project"
PORT = "5432"  # the socket's name; the servers run one after the other
INCREMENTAL = 17  # the first version of PostgreSQL that has incremental backups
LIMIT = 60  # seconds for what takes moments on a machine that is not overloaded

# As the document has it, over a socket.
ACCESS = f"""
local all {SUPERUSER} scram-sha-256
local postgres barman scram-sha-256
local replication streaming_barman scram-sha-256
"""
TABLES = """
SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')
"""
CONTENT = "SELECT count(*), md5(string_agg(md5({0}::text), '' ORDER BY md5({0}::text))) FROM {1} AS {0}"


class CommandError(Exception):
    """A command failed; its output is the message."""


@contextmanager
def running(line, output, stop=signal.SIGKILL):
    """Run a command in the background inside the block, and end it by the signal `stop` after that."""
    process = subprocess.Popen(
        line, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        yield process
    finally:
        end(process, stop)


def end(process, stop):
    """End a process by the signal, unless it has ended, and wait until it has."""
    if process.poll() is None:
        os.killpg(process.pid, stop)
    process.wait()


def pause():
    time.sleep(0.02)


def run(line, *, user=(), meanwhile=pause):
    """Run a command to its end and return its output, doing something else meanwhile."""
    with tempfile.TemporaryFile() as output:
        with running([*user, *line], output) as process:
            while process.poll() is None:
                meanwhile()
        output.seek(0)
        text = output.read().decode(errors="replace")
    if process.returncode:
        raise CommandError(f"`{shlex.join(map(str, line))}` failed:\n{text}")
    return text


def wait_until(condition, process, log):
    """Return once the condition holds; fail when the process that is to bring it about ends, or is late."""
    deadline = time.monotonic() + LIMIT
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            raise CommandError(log.read_text(errors="replace"))
        pause()


def read_contents(connection):
    """Return how many rows each table of the database has, and a checksum of them, by its name; all of it is read."""
    contents = {}
    for schema, table in connection.execute(TABLES).fetchall():
        names = sql.Identifier("content"), sql.Identifier(schema, table)
        contents[f"{schema}.{table}"] = connection.execute(sql.SQL(CONTENT).format(*names)).fetchone()
    return contents


class Server(NamedTuple):
    """A server in a folder; its socket is there, too, and it listens to nothing else."""

    folder: Path
    programs: Path
    name: str

    @property
    def data(self):
        return self.folder / self.name

    def create(self, password):
        """Make the data directory, the project's database and Barman's roles; the password is everybody's."""
        secret = self.folder / "password"
        secret.write_text(password)
        options = f"--username {SUPERUSER} --auth scram-sha-256 --no-sync --encoding UTF8 --no-locale".split()
        run([self.programs / "initdb", *options, "--pgdata", self.data, "--pwfile", secret], user=drop_root())
        self.configure()
        with self.started(), self.connect("postgres") as connection:
            connection.execute(f"CREATE DATABASE {DATABASE}")
            connection.execute((PROJECT / "recovery" / "roles.sql").read_bytes())
            for role in "barman", "streaming_barman":
                statement = sql.SQL("ALTER ROLE {} PASSWORD {}")
                connection.execute(statement.format(sql.Identifier(role), sql.Literal(password)))

    def configure(self):
        settings = (PROJECT / "recovery" / "postgresql.conf").read_text()
        if self.version < INCREMENTAL:
            settings = settings.replace("summarize_wal", "# summarize_wal")
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(settings)
        (self.data / "pg_hba.conf").write_text(ACCESS)

    @property
    def version(self):
        return int((self.data / "PG_VERSION").read_text())

    @contextmanager
    def started(self):
        """Run it inside the block, from when it accepts changes; the block's end is as abrupt as a loss of power."""
        log = self.folder / f"{self.name}.log"
        settings = {"listen_addresses": "", "unix_socket_directories": self.folder, "port": PORT, "fsync": "off"}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        line = [*drop_root(), self.programs / "postgres", "-D", self.data, *options]
        with log.open("wb") as output, running(line, output, signal.SIGQUIT) as process:
            wait_until(self.is_ready, process, log)
            yield process

    def is_ready(self):
        """Tell whether it accepts changes, which it does not before its recovery is over."""
        try:
            with self.connect("postgres") as connection:
                return connection.execute("SELECT NOT pg_is_in_recovery()").fetchone() == (True,)
        except psycopg.OperationalError:
            return False

    def connect(self, database=DATABASE):
        """Connect as the superuser; libpq finds the password in .pgpass."""
        return psycopg.connect(host=str(self.folder), port=PORT, user=SUPERUSER, dbname=database, autocommit=True)


class Site:
    """A server, and Barman by the configuration that production has; this process, and its children, live there."""

    def __init__(self, folder, programs):
        self.folder, self.programs = folder, programs
        self.password = secrets.token_urlsafe()
        self.server = Server(folder, programs, "first")
        self.connection = None
        self.make_home()
        self.server.create(self.password)

    def make_home(self):
        """Make the home of Barman's user, and the environment of all commands."""
        home = self.folder / "home"
        home.mkdir()
        passfile = home / ".pgpass"
        passfile.touch(0o600)
        passfile.write_text(f"*:*:*:*:{self.password}\n")
        self.configure_barman(home / ".barman.conf")
        for name in [name for name in os.environ if name.startswith(("DB_", "PG"))]:
            del os.environ[name]
        # As root, Barman runs as another user, to whom no bytecode in the project should belong.
        path = os.pathsep.join([str(Path(sys.executable).parent), str(self.programs), os.environ["PATH"]])
        os.environ.update({"HOME": str(home), "PATH": path, "PYTHONDONTWRITEBYTECODE": "1"})
        # For `manage.py`; what is empty here may be otherwise in `.env`.
        os.environ.update({"DB_EMBEDDED": "false", "DB_HOST": str(self.folder), "DB_PORT": PORT})
        os.environ.update({"DB_NAME": DATABASE, "DB_USER": SUPERUSER, "DB_PASSWORD": self.password})
        empty = "DB_ADMIN_USER", "DB_DIRECT_HOST", "DB_MIGRATE_USER", "DB_PASSWORD_FILE"
        os.environ.update({"DB_SSLMODE": "disable", **dict.fromkeys(empty, "")})

    def configure_barman(self, path):
        """Write Barman's configuration: production's, with other addresses, paths and another user."""
        file = ConfigParser(interpolation=None)
        file.read(PROJECT / "recovery" / "barman.conf")
        server, barman = file["main"], file["barman"]
        for name in "conninfo", "streaming_conninfo":
            server[name] = make_conninfo(server[name], host=str(self.folder), port=PORT, sslmode="disable")
        server["path_prefix"] = str(self.programs)
        barman["barman_user"] = SERVER_USER if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        archive = self.folder / "barman"
        archive.mkdir()
        barman["barman_home"], barman["log_file"] = str(archive), str(archive / "barman.log")
        with path.open("w") as target:
            file.write(target)

    def manage(self, *words):
        run([sys.executable, PROJECT / "manage.py", *words])

    def barman(self, *words):
        if words[0] == "backup":
            # Barman names backups by the second: an incremental one of the same would be its own parent, for ever.
            time.sleep(1 - time.time() % 1)
        run(["barman", *words], user=drop_root(), meanwhile=self.work)

    def is_receiving(self):
        """Tell whether the server sends Barman its changes."""
        slot = "SELECT active FROM pg_replication_slots WHERE slot_name = 'barman'"
        return self.connection.execute(slot).fetchone() == (True,)

    def work(self):
        """Write, but to no table: which of them there are is up to the commands."""
        if self.connection:
            self.connection.execute("SELECT pg_logical_emit_message(true, 'work', '')")
        pause()

    @contextmanager
    def receiving(self):
        """Have Barman receive the changes inside the block; `barman cron` sees to that in production."""
        log = self.folder / "receive-wal.log"
        with (
            log.open("wb") as output,
            running([*drop_root(), "barman", "receive-wal", "main"], output) as process,
        ):
            wait_until(self.is_receiving, process, log)
            yield

    def lose_server(self):
        """Back the server up, fill segments after that, and lose it with settings and places that are its own."""
        tablespace = self.folder / "tablespace"
        run(["mkdir", tablespace], user=drop_root())
        # The restored server must not archive, wait for a standby, or run code at its start or its recovery's end.
        command = f"touch {self.folder / 'archived'}"
        settings = {"archive_mode": "on", "archive_command": command, "recovery_end_command": command}
        settings |= {"primary_conninfo": f"host={self.folder}", "listen_addresses": "192.0.2.1"}
        with (self.server.data / "postgresql.auto.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        with self.server.started() as process:
            self.connection = self.server.connect("postgres")
            self.connection.execute(f"CREATE TABLESPACE apart LOCATION '{tablespace}'")
            self.manage("migrate")
            with self.server.connect() as database:
                database.execute("CREATE TABLE notes TABLESPACE apart AS SELECT generate_series(1, 10000) AS number")
            with self.receiving():
                self.barman("switch-wal", "--force", "--archive", "main")
                self.barman("backup", "--wait", "main")
                time.sleep(2)  # Barman knows the end of a backup by the second
                with self.server.connect() as database:
                    database.execute("INSERT INTO notes VALUES (0)")
                (self.folder / "moment").write_text(self.read_time())
                if self.server.version >= INCREMENTAL:
                    self.barman("backup", "--wait", "--incremental", "latest", "main")
                for _ in range(3):
                    self.barman("switch-wal", "--force", "--archive", "main")
                with self.server.connect() as database:
                    database.execute("TRUNCATE notes")
                    self.make_trigger(database)
                self.barman("switch-wal", "--force", "--archive", "main")
            self.connection.close()
            self.connection = None
            end(process, signal.SIGQUIT)

    def read_time(self):
        return self.connection.execute("SELECT clock_timestamp()::text").fetchone()[0]

    def make_trigger(self, database):
        """Have each login fail, as one of an application may fail away from its place."""
        if self.server.version >= INCREMENTAL:
            database.execute("""
                CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'trigger'; END $$;
                CREATE EVENT TRIGGER refuse ON login EXECUTE FUNCTION refuse();
                ALTER EVENT TRIGGER refuse ENABLE ALWAYS
            """)


if __name__ == "__main__":
    Site(Path(sys.argv[1]), Path(os.environ.get("DB_PROGRAMS") or find_binaries())).lose_server()
