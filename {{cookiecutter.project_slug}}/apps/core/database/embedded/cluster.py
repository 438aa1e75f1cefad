"""What the embedded PostgreSQL holds: its data directory, the project's role and database."""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import psycopg
from psycopg import sql

from .programs import command, run

logger = logging.getLogger(__name__)

SUPERUSER = "postgres"


def create_cluster(home: Path, *, keep_open: Sequence[int] = ()) -> None:
    """Make the data directory; it gets its name when it is complete, so a killed attempt leaves none."""
    if any(other.parent != home for other in home.parent.glob("*/data")):
        logger.warning("Starting with an empty database in %s; what another version holds stays beside it.", home)
    unfinished = home / "data.unfinished"
    if unfinished.exists():
        shutil.rmtree(unfinished)
    access = "--username", SUPERUSER, "--auth", "trust"
    language = "--encoding", "UTF8", "--no-locale", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"
    # There is nothing to lose yet, and waiting for the disk would take as long as all the rest.
    line = command("initdb", "--pgdata", unfinished, "--no-instructions", "--no-sync", *access, *language)
    run(line, keep_open=keep_open)
    unfinished.rename(home / "data")


def ensure_database(host: str, port: str, role: str, database: str) -> None:
    """Make the role, which may create databases as a test run does, and the database, where they are missing."""
    with psycopg.connect(host=host, port=port, user=SUPERUSER, dbname="postgres", autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone() is None:
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEDB").format(sql.Identifier(role)))
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone() is None:
            names = sql.Identifier(database), sql.Identifier(role)
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(*names))
