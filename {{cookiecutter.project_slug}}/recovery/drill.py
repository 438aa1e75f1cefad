"""
Recovery to a point in time, tried: data are lost twice, and Barman brings them back.

`make drill` runs it, on servers of its own among the temporary files, by the configuration that production has. Each
step is printed with its seconds, and whatever comes out wrong ends the drill with a sentence and code 1. Nothing is
left behind, not even after Ctrl-C; SIGKILL alone it cannot survive.
"""

import importlib
import math
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from django.core.exceptions import ImproperlyConfigured

from apps.core.database.embedded.programs import drop_root, find_binaries
from apps.core.environment import config

from .home import move_in
from .processes import DrillError, end, heed_signals, pause, run, running, wait_until
from .proof import Content, compare, read_contents
from .server import INCREMENTAL, ROOM, Server

WORK = "public.work"  # the table of the rows that the drill writes
MISTAKE = "DELETE FROM work; DROP TABLE django_migrations"
LONGEST_LOSS = 5  # seconds before a server's end, of which Barman may lack what was written
INTERRUPTED = 130  # the exit code that shells have for it


class Drill:
    """A database at work, on one server after the other, and Barman beside it."""

    connection: psycopg.Connection

    def __init__(self, folder: Path, programs: Path) -> None:
        """Work in the folder, by the programs of one version of PostgreSQL."""
        self.password = secrets.token_urlsafe()
        self.servers = [Server(folder, programs, name) for name in ("first", "second", "third")]
        self.written: dict[int, float] = {}  # the number of each row, and when it was written
        self.kept = 0  # how many of them were before the mistake
        self.lost_at = math.inf  # when the second server was
        move_in(folder, programs, self.password)

    def run(self) -> None:
        """Lose data by a mistake, and then the server that they were restored to."""
        first, second, third = self.servers
        begin = time.monotonic()
        first.create(self.password)
        tell("initdb", begin)
        require_barman(first)
        with self.at_work(first):
            self.manage("migrate")
            self.connection.execute("CREATE TABLE work (number bigint PRIMARY KEY)")
            with self.receiving(first):
                self.barman("switch-wal", "--force", "--archive", "main")
                self.back_up(first)
                self.barman("check", "main")
                self.barman("verify-backup", "main", "latest")
                moment, contents = self.make_mistake()
                self.barman("backup", "--wait", "main")  # too late a one, which the restore has to pass over
                target = "--target-time", moment, "--target-action", "promote"
                self.barman("restore", *target, "main", "auto", str(second.data))
        with self.at_work(second) as process:
            self.prove_return(moment, contents)
            self.manage("migrate", "--check")
            self.barman("receive-wal", "--reset", "main")  # what it has of the first goes further than this one
            with self.receiving(second):
                self.back_up(second)
                self.lost_at = time.monotonic()
                end(process, signal.SIGQUIT)
                self.barman("restore", "main", "auto", str(third.data))
        with self.at_work(third):
            self.prove_loss(contents)

    @contextmanager
    def at_work(self, server: Server) -> Iterator[subprocess.Popen[bytes]]:
        """Run the server inside the block."""
        begin = time.monotonic()
        with server.started() as process, server.connect() as self.connection:
            tell(f"start of the {server.name} server", begin)
            yield process

    @contextmanager
    def receiving(self, server: Server) -> Iterator[None]:
        """Have Barman receive the changes inside the block; `barman cron` sees to that in production."""
        log = server.folder / "receive-wal.log"
        line = ["barman", "receive-wal", "main"]
        begin = time.monotonic()
        with log.open("wb") as output, running([*drop_root(), *line], output) as process:
            wait_until(self.is_receiving, process, log)
            tell(shlex.join(line), begin)
            yield

    def is_receiving(self) -> bool:
        """Tell whether the server sends Barman what changes."""
        slot = "SELECT active FROM pg_replication_slots WHERE slot_name = 'barman'"
        return self.connection.execute(slot).fetchone() == (True,)

    def back_up(self, server: Server) -> None:
        """Take a full backup and, where PostgreSQL has them, an incremental one."""
        self.barman("backup", "--wait", "main")
        if server.version >= INCREMENTAL:
            self.barman("backup", "--wait", "--incremental", "latest", "main")

    def make_mistake(self) -> tuple[str, dict[str, Content]]:
        """Return the time and what there was, after destroying some of it."""
        contents = read_contents(self.connection)
        (moment,) = self.connection.execute("SELECT clock_timestamp()::text").fetchone() or ("",)
        self.kept = len(self.written)
        self.work()
        self.connection.execute(MISTAKE)
        return moment, contents

    def barman(self, *words: str) -> None:
        """Run Barman while the project is at work."""
        line = ["barman", *words]
        if words[0] == "backup":
            # Barman names backups by the second: an incremental one of the same would be its own parent, for ever.
            time.sleep(1 - time.time() % 1)
        begin = time.monotonic()
        run(line, user=drop_root(), meanwhile=self.work)
        tell(shlex.join(line), begin)

    def manage(self, *words: str) -> None:
        """Run a command of the project's."""
        begin = time.monotonic()
        run([sys.executable, str(ROOM.parent / "manage.py"), *words])
        tell(shlex.join(["manage.py", *words]), begin)

    def work(self) -> None:
        """Write a row, while there is a server to write to."""
        if time.monotonic() < self.lost_at:
            number = len(self.written)
            self.connection.execute("INSERT INTO work VALUES (%s)", [number])
            self.written[number] = time.monotonic()
        pause()

    def prove_return(self, moment: str, contents: dict[str, Content]) -> None:
        """Raise DrillError unless all is as it was at that moment."""
        compare(contents, read_contents(self.connection))
        late = len(self.written) - self.kept
        self.written = dict(list(self.written.items())[: self.kept])
        rows = sum(content.rows for content in contents.values())
        say(f"All {rows} rows in {len(contents)} tables are as at {moment}, and {late} written later are not there.")

    def prove_loss(self, contents: dict[str, Content]) -> None:
        """Raise DrillError unless all is there but what was written in the server's last moments."""
        found = read_contents(self.connection)
        compare(contents | {WORK: found.get(WORK, contents[WORK])}, found)
        numbers = {number for (number,) in self.connection.execute("SELECT number FROM work")}
        ages = [self.lost_at - written for number, written in self.written.items() if number not in numbers]
        seconds = max(ages, default=0.0)
        lost = f"{len(ages)} of {len(self.written)} rows are missing, of the lost server's last {seconds:.2f} s."
        if seconds > LONGEST_LOSS:
            raise DrillError(lost)
        say(lost)


def say(line: str) -> None:
    """Print a line, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def tell(what: str, begin: float) -> None:
    """Print what was done, and the seconds that it took."""
    say(f"{time.monotonic() - begin:6.2f} s  {what}")


def find_programs() -> Path:
    """Return the folder of PostgreSQL's programs: DB_PROGRAMS, of production's version, or else the embedded ones."""
    folder = Path(config("DB_PROGRAMS") or find_binaries())
    if not (folder / "initdb").exists():
        raise DrillError(f"DB_PROGRAMS is '{folder}', but the drill needs the programs of a server there.")
    return folder


def require_barman(server: Server) -> None:
    """Raise DrillError where Barman, or what it needs for backups of the server's version, is not installed."""
    try:
        # Here, so that its bytecode is the project's owner's, whoever runs it later.
        importlib.import_module("barman.cli")
    except ModuleNotFoundError:
        raise DrillError("Barman is not installed: run the drill by `make drill`.") from None
    if server.version < INCREMENTAL and not shutil.which("rsync"):
        raise DrillError("Barman restores full backups by rsync, which is missing: run `apt-get install rsync`.")


def main() -> None:
    """Run the drill; the exit code says what came of it."""
    heed_signals()
    begin = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="drill-") as folder:
            Drill(Path(folder), find_programs()).run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except (DrillError, ImproperlyConfigured, OSError, psycopg.Error) as error:
        sys.exit(f"The drill failed. {' '.join(str(error).split())}")
    tell("in all", begin)


if __name__ == "__main__":
    main()
