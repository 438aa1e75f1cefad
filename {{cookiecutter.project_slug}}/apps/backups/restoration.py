"""A backup put into a new, empty database, and the comparison of what is there now with what was dumped."""

import contextlib
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from django.conf import settings
from django.core.management.base import CommandError
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import sql

from apps.core.database.session import Session

from .contents import Contents, read_contents
from .inspection import Archive, enumerate_some
from .neighbours import Purpose, connect, drop, maintain, name_neighbour
from .programs import find_complaint, start_program
from .properties import Place, create
from .report import Report

INTERVAL = 0.2  # seconds between two looks at how far it is

# In the table of contents. Extensions are made one by one, in their schemas, since this role may not make every one;
# by statements of our own, since the dump's are text that the owner of the database had a say in.
SCHEMA = re.compile(r"\d+; \d+ \d+ SCHEMA - ")
EXTENSION = re.compile(r"\d+; \d+ \d+ (?:EXTENSION - (?P<name>.*) |COMMENT - EXTENSION )")

# What comes of a statement that pg_restore begins with from version 17 on, and older servers do not know.
TIMEOUT = re.compile(r"^.*error: .*\nCommand was: SET transaction_timeout = 0;$", re.MULTILINE)
SERVER_WITH_TIMEOUT = 170_000


@dataclass(frozen=True)
class Restoration:
    """How a backup is restored on the server of a connection, and to whom it is told."""

    connection: BaseDatabaseWrapper
    archive: Archive
    place: Place
    defaults: Sequence[str]  # statements about privileges, for a backup whose own cannot be given
    schemas: Mapping[str, str]  # of extensions
    jobs: int  # tables at once
    report: Report

    @contextmanager
    def restored(self, purpose: Purpose) -> Iterator[str]:
        """
        Restore into a new database beside the connection's, compare, and yield its name.

        It is dropped after the block, unless it has been renamed. Raises CommandError where it differs from what was
        dumped.
        """
        with maintain(self.connection) as session:
            database = name_neighbour(session, str(self.connection.settings_dict["NAME"]), purpose)
        try:
            with maintain(self.connection) as session:
                create(session, database, self.place)
            with connect(self.connection, database) as session:
                with self.report.step(f"Restored into {database}"):
                    self.restore(session)
                with self.report.step("Compared rows, migrations, indexes and constraints"):
                    self.compare(session)
            yield database
        finally:
            # On a new connection, for the server may have been restarted. Where it is away, the next one drops it.
            with contextlib.suppress(psycopg.OperationalError), maintain(self.connection) as session:
                drop(session, database)

    def restore(self, session: Session) -> None:
        """Restore into the session's database; raises CommandError with the first error."""
        options = [f"--role={self.place['OWNER']}", "--no-owner"]
        if missing := find_missing_roles(session, self.archive.manifest.roles):
            self.report.warn(
                f"The backup's privileges are left out, since there is no role {enumerate_some(missing)}; "
                "tables get those that the present database gives to new ones."
            )
            options.append("--no-privileges")
            for statement in self.defaults:
                session.execute(statement)
        entries = self.archive.entries
        if any(map(EXTENSION.match, entries)):
            self.run(session, options, filter(SCHEMA.match, entries))
            self.make_extensions(session)
            entries = [entry for entry in entries if not SCHEMA.match(entry) and not EXTENSION.match(entry)]
        self.run(session, [*options, f"--jobs={self.jobs}"], entries)

    def make_extensions(self, session: Session) -> None:
        """Make the extensions, as DB_ADMIN_USER those of DB_EXTENSIONS only; warn of each that cannot be made."""
        for name in [found["name"] for found in map(EXTENSION.match, self.archive.entries) if found and found["name"]]:
            statement = sql.SQL("CREATE EXTENSION IF NOT EXISTS {}").format(sql.Identifier(name))
            if schema := self.schemas.get(name):
                statement += sql.SQL(" SCHEMA {}").format(sql.Identifier(schema))
            refusal = try_out(session, statement)
            if refusal and settings.DB_ADMIN_USER and name in settings.DB_EXTENSIONS:
                account = {"user": settings.DB_ADMIN_USER, "password": settings.DB_ADMIN_PASSWORD}
                with connect(self.connection, session.info.dbname, **account) as administrator:
                    refusal = try_out(administrator, statement)
            if refusal:
                self.report.warn(
                    f"An extension is left out: {refusal}. DB_ADMIN_USER makes it where DB_EXTENSIONS names it."
                )

    def run(self, session: Session, options: Sequence[str], entries: Iterable[str]) -> None:
        """Restore some entries of the table of contents."""
        if session.info.server_version >= SERVER_WITH_TIMEOUT:  # with an older one it would end at TIMEOUT
            options = [*options, "--exit-on-error"]
        with (
            choose(entries) as chosen,
            start_program(
                self.archive.pg_restore,
                *(*options, chosen, "--no-password", str(self.archive.dump)),
                connection=self.connection,
                database=session.info.dbname,
                accept=accept_timeout,
            ) as process,
        ):
            while process.poll() is None:
                (size,) = session.execute("SELECT pg_database_size(current_database())").fetchone() or (0,)
                self.report.tell(f"{size / 1e6:.0f} MB restored")
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(INTERVAL)

    def compare(self, session: Session) -> None:
        """Raise CommandError where the database of the session is not as it was dumped; have the planner know it."""
        session.execute("ANALYZE")
        session.execute("SET row_security = off")  # an error instead of fewer rows
        found = read_contents(session, lambda done, of: self.report.tell(f"{done} of {of} tables compared"))
        if differences := list_differences(found, self.archive.manifest):
            raise CommandError(f"{self.archive.dump} does not hold what was dumped: {enumerate_some(differences)}.")


def try_out(session: Session, statement: sql.Composed) -> str:
    """Execute a statement; return the server's refusal, empty where there is none."""
    try:
        session.execute(statement)
    except psycopg.Error as error:
        return error.diag.message_primary or str(error)
    return ""


@contextmanager
def choose(entries: Iterable[str]) -> Iterator[str]:
    """Yield the option by which pg_restore takes these entries only."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", delete_on_close=False) as file:
        file.writelines(f"{entry}\n" for entry in entries)
        file.close()
        yield f"--use-list={file.name}"


def accept_timeout(said: str) -> bool:
    """Tell whether TIMEOUT is why pg_restore failed; raises CommandError with what it complained of besides."""
    rest = TIMEOUT.sub("", said)
    if rest != said and "error: " in rest:
        raise CommandError(f"pg_restore failed: {find_complaint(rest, 1)}.")
    return rest != said


def find_missing_roles(session: Session, roles: Sequence[str]) -> list[str]:
    """Return the roles that are not on the server."""
    query = "SELECT name FROM unnest(%s::text[]) AS name WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)"
    return [name for (name,) in session.execute(query, [list(roles)])]


def list_differences(found: Contents, expected: Contents) -> list[str]:
    """Return a phrase for each difference between what was found and what was expected."""
    counted, dumped = flatten(found), flatten(expected)
    return [
        f"{counted.get(name, 'no')} {name} instead of {dumped.get(name, 'none')}"
        for name in sorted(counted.keys() | dumped.keys())
        if counted.get(name) != dumped.get(name)
    ]


def flatten(contents: Contents) -> dict[str, int]:
    """Return the number of everything that is compared."""
    rows = {f"rows of {table}": count for table, count in contents.rows.items()}
    return rows | {f"migration {app}.{name}": 1 for app, name in contents.migrations} | contents.objects
