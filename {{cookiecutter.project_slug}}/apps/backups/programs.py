"""PostgreSQL's client programs: the folder of those that fit the server, and how to run one."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import conninfo, pq

DEBIAN = Path("/usr/lib/postgresql")
PATIENCE = 5  # seconds, for which a program that is told to end may tell the server
# A dump keeps the encoding of its database.
NOT_PASSED_ON = {"client_encoding", "dbname"}


def find_programs(server_version: int) -> Path:
    """
    Return the folder of pg_dump and pg_restore for a server of this version, such as 180006.

    They are of the server's own major version where there are such, or else of the next one. Raises CommandError where
    there are none, or older ones only.
    """
    needed = server_version // 10_000
    found = {int(version.partition(".")[0]): folder for folder in list_folders() if (version := read_version(folder))}
    if fitting := [major for major in found if major >= needed]:
        return found[min(fitting)]
    if found:
        newest = max(found)
        raise CommandError(
            f"pg_dump in {found[newest]} is version {newest}, but must be as new as the server, which is {needed}: "
            f"install Debian's postgresql-client-{needed}, or set DB_PROGRAMS to the folder of newer programs."
        )
    place = f" in {settings.DB_PROGRAMS}, which is DB_PROGRAMS" if settings.DB_PROGRAMS else ""
    raise CommandError(
        f"There are no pg_dump and pg_restore{place}: install Debian's postgresql-client-{needed}, "
        "or set DB_PROGRAMS to the folder that holds them."
    )


def list_folders() -> Iterator[Path]:
    """List where programs may be; of two with the same version the later one counts."""
    if settings.DB_PROGRAMS:
        yield Path(settings.DB_PROGRAMS)
        return
    embedded = []
    with contextlib.suppress(ImportError, ImproperlyConfigured):
        from apps.core.database.embedded.programs import find_binaries  # noqa: PLC0415  its folder may be deleted

        embedded = [find_binaries()]
    if not settings.DB_EMBEDDED:
        yield from embedded  # the last resort, since they have no TLS
    # Debian's on PATH is a wrapper, whose choice depends on the clusters of this machine.
    if (path := shutil.which("pg_dump")) and Path(path).resolve().name != "pg_wrapper":
        yield Path(path).parent
    yield from DEBIAN.glob("*/bin")
    if settings.DB_EMBEDDED:
        yield from embedded


def read_version(folder: Path) -> str:
    """Return the version of the programs in a folder, such as "18.6", empty where it does not hold both."""
    pg_dump, pg_restore = (shutil.which(name, path=str(folder)) for name in ("pg_dump", "pg_restore"))
    if not pg_dump or not pg_restore:
        return ""
    try:
        said = subprocess.run([pg_dump, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    except OSError:
        return ""
    found = re.search(r"\(PostgreSQL\) (\d+(?:\.\d+)?)", said)
    return found[1] if found else ""


@contextlib.contextmanager
def start_program(
    program: Path,
    *arguments: str,
    connection: BaseDatabaseWrapper | None = None,
    database: str = "",
    output: IO[bytes] | int = subprocess.DEVNULL,
    accept: Callable[[str], bool] = lambda _said: False,
) -> Iterator[subprocess.Popen[bytes]]:
    """
    Run a program of `find_programs`' folder beside the block, and wait for its end at the block's.

    It connects to where `connection` leads or, on the same server, to `database`, and writes to the file `output`. It
    is ended where the block raises, and where this process dies. Raises CommandError with its first complaint when it
    fails, unless `accept` says of all that it wrote that this is no failure.
    """
    line, environment = [*bind(), str(program), *arguments], {**os.environ, "LC_ALL": "C"}
    if connection:
        name, variables = describe(connection, database)
        line, environment = [*line, f"--dbname={name}"], environment | variables
    # A file, since nobody may be there to read a pipe.
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(  # noqa: S603  the app's own commands
            line, stdin=subprocess.DEVNULL, stdout=output, stderr=complaints, env=environment
        )
        try:
            yield process
            process.wait()
        finally:
            end(process)
        complaints.seek(0)
        said = complaints.read().decode(errors="replace").strip()
        if process.returncode and not accept(said):
            raise CommandError(f"{program.name} failed: {find_complaint(said, process.returncode)}.")


def bind() -> list[str]:
    """Return what to put before a command that must not outlive this process, nothing where that cannot be had."""
    setpriv = shutil.which("setpriv")
    can = setpriv and Path(setpriv).resolve().name == "setpriv"  # not busybox, whose own knows less
    return [str(setpriv), "--pdeathsig", "TERM"] if can else []


def describe(connection: BaseDatabaseWrapper, database: str) -> tuple[str, dict[str, str]]:
    """
    Return what --dbname takes, and the variables that libpq reads: the secret ones among them.

    Raises CommandError for a connection that leads through a pgbouncer in transaction mode: programs change the search
    path of their session, which another client would get afterwards.
    """
    if connection.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS"):
        raise CommandError("pg_dump and pg_restore cannot go through a pgbouncer: set DB_DIRECT_HOST to PostgreSQL.")
    given = connection.get_connection_params()
    named: dict[str, Any] = {"dbname": database or given.get("dbname")}
    variables = {}
    for option in pq.Conninfo.get_defaults():
        name = option.keyword.decode()
        if name in given and name not in NOT_PASSED_ON:
            if option.envvar:
                variables[option.envvar.decode()] = str(given[name])
            elif not option.dispchar:  # neither secret nor for debugging
                named[name] = given[name]
    return conninfo.make_conninfo(**named), variables


def find_complaint(said: str, code: int) -> str:
    """Return the first error that a program wrote, or how it ended where it wrote nothing."""
    if code < 0:
        return f"it was ended by {signal.Signals(-code).name}"
    found = re.search(r"error: (.+)", said) or re.match(r"(.+)", said)
    return found[1].rstrip(".") if found else f"it ended with {code}"


def end(process: subprocess.Popen[bytes]) -> None:
    """Have a program end, unless it has."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
