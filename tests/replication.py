"""Real streaming replication: servers that follow a primary, and what can become of either."""

import contextlib
import os
import signal
import subprocess
import tempfile
from pathlib import Path

import psycopg
from conftest import PASSWORD, Postgres, run, wait_until
from sites import children


class Standby(Postgres):
    """A server that follows a primary; what was set there by ALTER SYSTEM holds here, too."""

    def __init__(self, primary, folder):
        super().__init__(primary.binaries, folder)
        self.primary = primary

    def start(self):
        if self.user:
            subprocess.run(["chown", "nobody", self.folder], check=True)
        place = "--host", "127.0.0.1", "--port", str(self.primary.port), "--username", "owner"
        options = "--write-recovery-conf", "--checkpoint", "fast", "--no-sync", "--pgdata", self.folder / "data"
        program = self.binaries / "pg_basebackup"
        run(*self.user, program, *place, *options, cwd="/", PGPASSWORD=PASSWORD, PGAPPNAME=self.folder.name)
        self.launch()
        self.catch_up()

    def set(self, **parameters):
        """Change parameters of a running server, which takes them on at once; None takes one back."""
        with self.connect() as connection:
            for name, value in parameters.items():
                is_set = f"SET {name} = '{value}'" if value is not None else f"RESET {name}"
                connection.execute(f"ALTER SYSTEM {is_set}")
            connection.execute("SELECT pg_reload_conf()")

    def follow(self, primary):
        """Follow another primary from now on."""
        self.primary = primary
        keys = {"host": "127.0.0.1", "port": primary.port, "user": "owner", "password": PASSWORD}
        self.set(primary_conninfo=" ".join(f"{key}={value}" for key, value in keys.items()))

    def pause(self):
        """Stop replaying what is received; returns once it has stopped."""
        self.ask("pg_wal_replay_pause()")
        wait_until(lambda: self.ask("pg_get_wal_replay_pause_state()") == "paused")

    def resume(self):
        self.ask("pg_wal_replay_resume()")

    @contextlib.contextmanager
    def delayed(self, seconds):
        """Have it replay each transaction so late inside the block."""
        self.set(recovery_min_apply_delay=f"{seconds}s")
        try:
            yield
        finally:
            self.set(recovery_min_apply_delay=None)
            self.catch_up()

    def promote(self):
        """Make it a primary; returns once it is one."""
        assert self.ask("pg_promote()")

    def catch_up(self, seconds=20):
        """Return once all is replayed that was committed on the primary so far."""
        position = ask(self.primary, "pg_current_wal_flush_lsn()")
        wait_until(lambda: accepts(self) and self.ask(f"pg_last_wal_replay_lsn() >= '{position}'"), seconds)

    def ask(self, question):
        return ask(self, question)


def ask(server, question):
    """Return the only value of a SELECT's answer."""
    with server.connect() as connection:
        return connection.execute(f"SELECT {question}").fetchone()[0]


@contextlib.contextmanager
def standbys(primary, number):
    """Run so many servers that follow the primary inside the block."""
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(number):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            standby = Standby(primary, folder)
            stack.callback(stop_if_running, standby)
            standby.start()
            found.append(standby)
        yield found


def stop_if_running(server):
    if is_running(server):
        server.stop()


def is_running(server):
    """Tell whether it was started and not stopped since."""
    return (server.folder / "data" / "postmaster.pid").exists()


def accepts(server):
    """Tell whether it can be connected to."""
    try:
        server.connect(connect_timeout=1).close()
    except psycopg.OperationalError:
        return False
    return True


def list_processes(server):
    """Return the ids of all processes of a server, the first one that which starts the others."""
    main = int((server.folder / "data" / "postmaster.pid").read_text().split()[0])
    return [main, *children(main)]


@contextlib.contextmanager
def frozen(server):
    """Stop all processes of a server inside the block, as a machine does that has lost its disk."""
    main, *_ = list_processes(server)
    stopped = [main]
    try:
        os.kill(main, signal.SIGSTOP)  # first, so that it starts no other
        stopped = list_processes(server)
        for process in stopped[1:]:
            with contextlib.suppress(ProcessLookupError):  # a session that has just ended
                os.kill(process, signal.SIGSTOP)
        yield
    finally:
        for process in reversed(stopped):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)


def kill(server):
    """End all processes of a server at once, as a machine that loses its power does."""
    processes = list_processes(server)
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    wait_until(lambda: not accepts(server))
    (server.folder / "data" / "postmaster.pid").unlink()
