"""Making a backup: pg_dump, and the counting of what it dumps on one and the same snapshot."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import Connection, sql

from apps.core.database.environment import read_environment
from config import TEMPLATE_VERSION

from .archive import Manifest, hash_file, write_manifest
from .contents import list_tables, read_contents
from .folder import choose_name, hide, new_files, occupy
from .programs import find_programs, read_version, start_program

COMPRESSION = 3  # of gzip, which every pg_restore reads: half the time of its default, 6, at 4 to 8 % more bytes
INTERVAL = 0.1  # seconds
LOCK_WAIT = 30_000  # milliseconds, for who changes a table: migrate waits for 5 s, and others behind it

NO_LIMITS = """
    SELECT set_config(name, '0', true) FROM pg_settings
    WHERE name IN ('idle_in_transaction_session_timeout', 'statement_timeout', 'transaction_timeout')
"""
# Which columns there are depends on the server's version.
PLACE = """
    SELECT pg_database_size(oid), pg_encoding_to_char(encoding), datlocprovider, datcollate, datctype,
        coalesce(line ->> 'datlocale', line ->> 'daticulocale', ''), coalesce(line ->> 'daticurules', '')
    FROM pg_database, to_jsonb(pg_database) AS line WHERE datname = current_database()
"""
EXTENSIONS = """SELECT extname, nspname FROM pg_extension JOIN pg_namespace AS schema ON schema.oid = extnamespace
    WHERE extname <> 'plpgsql' ORDER BY 1"""
# Whom privileges, default ones among them, and policies name.
ROLES = """
    SELECT DISTINCT rolname FROM pg_shdepend JOIN pg_roles ON pg_roles.oid = refobjid
    WHERE refclassid = 'pg_authid'::regclass
    AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (deptype IN ('a', 'r') OR classid = 'pg_default_acl'::regclass)
    ORDER BY 1
"""


def make_backup(using: str, folder: Path, tell: Callable[[str], None]) -> tuple[Path, Manifest]:
    """
    Dump the database with the alias `using` into the folder; return the dump's path and its manifest.

    `tell` gets how far it is, now and then. Whatever goes wrong is raised, as CommandError, OSError or an error of
    Django's or psycopg's, and leaves nothing behind.
    """
    connection = connections[using]
    connection.ensure_connection()
    database, version = connection.connection.info.dbname, connection.connection.info.server_version
    programs = find_programs(version)
    with occupy(folder):
        made_at, dump = choose_name(folder, database)
        with new_files(dump) as (content, description):
            found = dump_database(connection, programs / "pg_dump", content, tell)
            manifest = Manifest(
                made_at=made_at.isoformat(),
                database=database,
                server_version=f"{version // 10_000}.{version % 10_000}",
                client_version=read_version(programs),
                template_version=TEMPLATE_VERSION,
                size=os.fstat(content.fileno()).st_size,
                sha256=hash_file(hide(dump)),
                **found,
            )
            write_manifest(manifest, description)
    return dump, manifest


def dump_database(
    connection: BaseDatabaseWrapper, pg_dump: Path, file: IO[bytes], tell: Callable[[str], None]
) -> dict[str, Any]:
    """Write the dump to a file, and return what the manifest says of its contents."""

    def tell_progress(counted: int, tables: int) -> None:
        written = os.fstat(file.fileno()).st_size / 1e6
        tell(f"{written:.1f} MB written, {counted} of {tables} tables counted")

    with share_snapshot(connection) as snapshot:
        options = "--format=custom", f"--compress={COMPRESSION}", "--no-password"
        waiting = f"--lock-wait-timeout={LOCK_WAIT}", f"--snapshot={snapshot}"
        with start_program(pg_dump, *options, *waiting, connection=connection, output=file) as process:
            contents = read_contents(connection.connection, tell_progress)
            facts = read_facts(connection)
            # The snapshot is there for as long as this transaction.
            while process.poll() is None:
                tell_progress(len(contents.rows), len(contents.rows))
                time.sleep(INTERVAL)
    return asdict(contents) | facts


@contextmanager
def share_snapshot(connection: BaseDatabaseWrapper) -> Iterator[str]:
    """
    Begin a transaction that only reads, and yield the name by which others see what it sees.

    Its tables are locked against changes of their form: what a TRUNCATE or an ALTER TABLE does, older snapshots see.
    """
    with transaction.atomic(connection.alias, durable=True):
        server: Connection = connection.connection
        server.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        server.execute(NO_LIMITS)
        # An error instead of fewer rows, where a policy would hide some from this role.
        server.execute(f"SET LOCAL row_security = off; SET LOCAL lock_timeout = {LOCK_WAIT}")
        for schema, name, _ in list_tables(server):
            server.execute(sql.SQL("LOCK TABLE ONLY {} IN ACCESS SHARE MODE").format(sql.Identifier(schema, name)))
        ((snapshot,),) = server.execute("SELECT pg_export_snapshot()")
        yield snapshot


def read_facts(connection: BaseDatabaseWrapper) -> dict[str, Any]:
    """Return what the manifest says of the database beside its contents."""
    server: Connection = connection.connection
    ((size, encoding, *place),) = server.execute(PLACE)
    return {
        "database_size": size,
        "environment": read_environment(connection),
        "encoding": encoding,
        "locale": dict(zip(("provider", "collate", "ctype", "locale", "rules"), place, strict=True)),
        "extensions": [list(row) for row in server.execute(EXTENSIONS)],
        "roles": [name for (name,) in server.execute(ROLES)],
    }
