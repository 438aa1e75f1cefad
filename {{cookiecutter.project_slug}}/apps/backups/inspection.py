"""What has to be true of a backup and of a server before one is restored there; nothing is touched for it."""

import contextlib
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from django.core.management.base import CommandError
from django.db.migrations.loader import MigrationLoader

from apps.core.database.session import Session

from .archive import Manifest, read_manifest, verify_file
from .contents import read_migrations
from .programs import find_programs, start_program

Migrations = set[tuple[str, str]]

CLOCK_DIFFERENCE = 10  # seconds, between the two moments that PostgreSQL calls its start
NAMED = 3  # of many


@dataclass(frozen=True)
class Archive:
    """A backup that can be restored, and the program to do it."""

    dump: Path
    manifest: Manifest
    pg_restore: Path
    entries: Sequence[str]  # of its table of contents


def inspect(dump: Path, session: Session, known: Migrations | None) -> Archive:
    """
    Return a backup that can be restored on the session's server; raise CommandError for one that cannot.

    `known` are the migrations that it may hold beside the code's, or None where it may hold any.
    """
    if not dump.is_file():
        raise CommandError(f"There is no file {dump}.")
    manifest = read_manifest(dump)
    refuse_newer_server(dump, manifest, session.info.server_version)
    if known is not None:
        refuse_unknown(dump, {(app, name) for app, name in manifest.migrations} - known)
    verify_file(dump, manifest)
    pg_restore = find_programs(session.info.server_version) / "pg_restore"
    return Archive(dump, manifest, pg_restore, list_entries(pg_restore, dump))


def refuse_newer_server(dump: Path, manifest: Manifest, version: int) -> None:
    """Raise CommandError for a backup of a newer PostgreSQL than the server's."""
    if manifest.server_major > version // 10_000:
        raise CommandError(
            f"{dump} was made on PostgreSQL {manifest.server_major}, and cannot be restored on {version // 10_000}."
        )


def refuse_unknown(dump: Path, applied: Migrations) -> None:
    """Raise CommandError for a backup with migrations that the code does not have: of other apps, or newer ones."""
    migrations = MigrationLoader(None).disk_migrations
    known = set(migrations) | {replaced for migration in migrations.values() for replaced in migration.replaces}
    unknown = sorted(applied - known)
    if not unknown:
        return
    apps = {app for app, _ in migrations}
    if foreign := sorted({app for app, _ in unknown if app not in apps}):
        raise CommandError(
            f"{dump} is of another project: it has migrations of {enumerate_some(foreign)}, which this one has not. "
            "If the app was removed from this one: --accept-unknown."
        )
    names = enumerate_some([f"{app}.{name}" for app, name in unknown])
    raise CommandError(
        f"{dump} is newer than this code, which does not have {names}: restore it with the code that made it. "
        "If the migrations were removed from this one: --accept-unknown."
    )


def refuse_weak_role(session: Session) -> None:
    """Raise CommandError for a role that may not make databases."""
    query = "SELECT rolname FROM pg_roles WHERE rolname = current_user AND NOT rolcreatedb AND NOT rolsuper"
    if weak := session.execute(query).fetchone():
        raise CommandError(f"User '{weak[0]}' may not create databases: ALTER ROLE … CREATEDB, or set DB_MIGRATE_USER.")


def refuse_lack_of_space(session: Session, needed: int, tablespace: str) -> None:
    """Raise CommandError where the disk for another database is known and too small; `needed` is in bytes."""
    if not (folder := find_data_folder(session)):
        return
    query = "SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = %s"
    (location,) = session.execute(query, [tablespace]).fetchone() or ("",)
    free = shutil.disk_usage(location or folder).free
    if free < needed:
        raise CommandError(
            f"The restored database may need {needed / 1e6:.0f} MB, but the server's disk has {free / 1e6:.0f} left."
        )


def find_data_folder(session: Session) -> Path | None:
    """Return the server's data directory, if that is on this machine, which its pid file proves, and may be read."""
    query = """
        SELECT extract(epoch FROM pg_postmaster_start_time())::bigint,
            (SELECT setting FROM pg_settings WHERE name = 'data_directory')
    """
    started, told = session.execute(query).fetchone() or (0, None)
    for folder in filter(None, (told, session.info.host)):  # the second is a socket's, such as the embedded server's
        with contextlib.suppress(OSError, ValueError, IndexError):
            if abs(int(Path(folder, "postmaster.pid").read_text().splitlines()[2]) - started) <= CLOCK_DIFFERENCE:
                return Path(folder)
    return None


def list_entries(pg_restore: Path, dump: Path) -> list[str]:
    """Return the lines of a dump's table of contents; raises CommandError where pg_restore cannot read it."""
    with tempfile.TemporaryFile() as output:
        try:
            with start_program(pg_restore, "--list", str(dump), output=output):
                pass
        except CommandError as error:
            raise CommandError(f"{dump} is not an archive that can be restored: {error}") from None
        output.seek(0)
        # Of names, pg_restore replaces line feeds and carriage returns only.
        return [line for line in output.read().decode(errors="replace").split("\n") if line and line[0] != ";"]


def read_applied(session: Session) -> Migrations:
    """Return the migrations that were applied to the session's database."""
    return {(app, name) for app, name in read_migrations(session)}


def enumerate_some(names: Sequence[str]) -> str:
    """Return names as part of a sentence, the first of them where they are many."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
