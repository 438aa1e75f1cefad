"""
Run every command of `docs/disaster-recovery.md`, inside a rendered project and on servers of its own.

`test_recovery.py` starts it there, with the path of another rendered project, which stands for Barman's machine.
"""

import contextlib
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import psycopg
from recovery_servers import SUPERUSER, CommandError, Site, end, pause, read_contents, run

from apps.core.database.embedded.programs import drop_root, find_binaries

COMMANDS = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)


class Runbook(Site):
    """What comes before each block of commands, and what is true after it."""

    def __init__(self, folder, checkout):
        super().__init__(folder, find_binaries())
        self.checkout = checkout
        self.places = {"/srv": folder, "/var/lib/barman": folder / "barman", "backup.internal": folder}

    def run(self):
        document = Path("docs/disaster-recovery.md").read_text()
        blocks = [[line.removeprefix("$ ") for line in block.splitlines()] for block in COMMANDS.findall(document)]
        roles, setup, restart, copy, mistake, back, lost, again, verify = blocks
        first = self.server
        with (first.data / "postgresql.conf").open("a") as file:  # the restored ones have it, too
            file.write(f"listen_addresses = ''\nunix_socket_directories = '{self.folder}'\n")
        with first.started() as process:
            self.connection = first.connect("postgres")
            self.manage("migrate")
            self.make_roles(roles)
            self.set_up_checkout(setup[:3])
            self.type(*setup[3:], *restart)
            self.make_copy(copy)
            self.bring_back(mistake, back)
            self.connection = None
            end(process, signal.SIGQUIT)
        self.lose_barman()
        with self.started(lambda: self.type(*lost)):
            self.wait_until_ready("5432")
            self.connection = first.connect("postgres")
            self.type(*again, *verify)

    def type(self, *commands, **names):
        """Run commands as they stand there, but for the names of places and times."""
        for command in commands:
            print(f"$ {command}", flush=True)
            if "backup" in command:  # nobody types two in one second, which Barman cannot tell apart
                time.sleep(1 - time.time() % 1)
            user = drop_root() if command.startswith(("barman", "make", "pg_ctl")) else []
            line = command
            for name, value in {**self.places, **names}.items():
                line = line.replace(name, str(value))
            run(["sh", "-ec", line], user=user, meanwhile=self.work)
            if command == "barman cron":
                self.wait_until(self.is_receiving)

    def wait_until_ready(self, port):
        names = {"host": str(self.folder), "port": port, "user": SUPERUSER, "dbname": "postgres"}

        def is_ready():
            with psycopg.connect(**names) as connection:
                return connection.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)

        self.wait_until(is_ready)

    def wait_until(self, condition):
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline
            pause()

    def make_roles(self, commands):
        self.connection.execute("DROP OWNED BY barman; DROP ROLE barman, streaming_barman")
        with environment(PGHOST=str(self.folder), PGUSER=SUPERUSER):
            self.type(*commands)
        for role in "barman", "streaming_barman":
            self.connection.execute(f"ALTER ROLE {role} PASSWORD '{self.password}'")

    def set_up_checkout(self, commands):
        """On Barman's machine, where the project needs nothing but Barman."""
        home = self.folder / "checkout"
        home.mkdir()
        script = [f"cd '{self.checkout}'", *commands, "barman --version", "test -f ~/.barman.conf"]
        with environment(HOME=str(home)):
            print(*(f"$ {command}" for command in commands), sep="\n")
            run(["sh", "-ec", "\n".join(script)])
        programs = {path.name for path in (self.checkout / ".venv" / "bin").iterdir()}
        assert "barman" in programs
        assert "django-admin" not in programs

    def make_copy(self, commands):
        self.manage("backup_database")
        secret = self.folder / "restic"
        secret.write_text(self.password)
        with environment(RESTIC_REPOSITORY=str(self.folder / "elsewhere"), RESTIC_PASSWORD_FILE=str(secret)):
            self.type(*commands)

    def bring_back(self, mistake, back):
        server = self.server
        with server.connect() as database:
            contents = read_contents(database)
            (moment,) = database.execute("SELECT clock_timestamp()::text").fetchone()
            database.execute("TRUNCATE auth_permission CASCADE")
        with self.started(lambda: self.type(*mistake, **{"2026-11-03 14:05:00+00:00": moment})):
            self.wait_until_ready("5433")
            self.type(back[0])
        (dump,) = Path("backups/recovered").glob("*.dump")
        self.type(back[1], **{"backups/recovered/NAME.dump": str(dump)})
        with server.connect() as database:
            assert read_contents(database) == contents
        self.type(back[2])
        with server.connect() as database:
            assert database.execute("SELECT count(*) FROM auth_permission").fetchone() == (0,)

    def lose_barman(self):
        """With the place; what is left is the copy elsewhere."""
        archive = self.folder / "barman" / "main"
        shutil.rmtree(archive)
        shutil.move(f"{self.folder}/copy{archive}", archive)

    @contextlib.contextmanager
    def started(self, restore):
        """Have the commands of `restore` start the restored server, and stop it after the block."""
        restored = self.folder / "restored"
        try:
            restore()
            yield
        finally:
            with contextlib.suppress(CommandError):
                run(["pg_ctl", "--pgdata", str(restored), "--mode", "immediate", "stop"], user=drop_root())
            shutil.rmtree(restored)


@contextlib.contextmanager
def environment(**variables):
    """Set variables inside the block."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


if __name__ == "__main__":
    # Before the home of Barman's user takes the place of this user's.
    os.environ["UV_CACHE_DIR"] = run(["uv", "cache", "dir"]).strip()
    os.environ["UV_PYTHON_INSTALL_DIR"] = run(["uv", "python", "dir"]).strip()
    with tempfile.TemporaryDirectory() as folder:
        Runbook(Path(folder), Path(sys.argv[1])).run()
