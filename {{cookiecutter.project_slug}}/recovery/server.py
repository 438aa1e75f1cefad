"""A PostgreSQL server made for the drill, with the roles and the configuration that Barman needs in production."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psycopg
from psycopg import sql

from apps.core.database.embedded.programs import drop_root

from .processes import run, running, wait_until

ROOM = Path(__file__).parent
SUPERUSER = "postgres"
DATABASE = "project"
PORT = "5432"  # the socket's name; the drill's servers run one after the other
INCREMENTAL = 17  # the first version of PostgreSQL that has incremental backups

# Who gets in, and how: what the document asks for, over a socket.
ACCESS = f"""
local all {SUPERUSER} scram-sha-256
local postgres barman scram-sha-256
local replication streaming_barman scram-sha-256
"""


class Server(NamedTuple):
    """Where one lives, in the drill's folder; its socket is there, too, and it listens to nothing else."""

    folder: Path
    programs: Path
    name: str

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.folder / self.name

    def create(self, password: str) -> None:
        """Make the data directory, the project's database and Barman's roles; the password is everybody's."""
        secret = self.folder / "password"
        secret.write_text(password, encoding="utf-8")
        options = f"--username {SUPERUSER} --auth scram-sha-256 --no-sync --encoding UTF8 --no-locale".split()
        paths = ["--pgdata", str(self.data), "--pwfile", str(secret)]
        run([str(self.programs / "initdb"), *options, *paths], user=drop_root())
        self.configure()
        with self.started(), self.connect("postgres") as connection:
            connection.execute(f"CREATE DATABASE {DATABASE}")
            connection.execute((ROOM / "roles.sql").read_bytes())
            for role in "barman", "streaming_barman":
                statement = sql.SQL("ALTER ROLE {} PASSWORD {}")
                connection.execute(statement.format(sql.Identifier(role), sql.Literal(password)))

    def configure(self) -> None:
        """Have it as Barman needs it."""
        settings = (ROOM / "postgresql.conf").read_text(encoding="utf-8")
        if self.version < INCREMENTAL:
            settings = settings.replace("summarize_wal", "# summarize_wal")
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write(settings)
        (self.data / "pg_hba.conf").write_text(ACCESS, encoding="utf-8")

    @property
    def version(self) -> int:
        """The major version."""
        return int((self.data / "PG_VERSION").read_text(encoding="utf-8"))

    @contextmanager
    def started(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run it inside the block, from when it accepts changes; the block's end is as abrupt as a loss of power."""
        log = self.folder / f"{self.name}.log"
        settings = {"listen_addresses": "", "unix_socket_directories": self.folder, "port": PORT, "fsync": "off"}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        line = [*drop_root(), str(self.programs / "postgres"), "-D", str(self.data), *options]
        with log.open("wb") as output, running(line, output, signal.SIGQUIT) as process:
            wait_until(self.is_ready, process, log)
            yield process

    def is_ready(self) -> bool:
        """Tell whether it accepts changes, which it does not before its recovery is over."""
        try:
            with self.connect("postgres") as connection:
                return connection.execute("SELECT NOT pg_is_in_recovery()").fetchone() == (True,)
        except psycopg.OperationalError:
            return False

    def connect(self, database: str = DATABASE) -> psycopg.Connection:
        """Connect as the superuser; libpq finds the password in the drill's .pgpass."""
        return psycopg.connect(host=str(self.folder), port=PORT, user=SUPERUSER, dbname=database, autocommit=True)
