"""What the project's own tables say: whether migrations are pending, and when there was a backup."""

import functools
from collections.abc import Iterator

from django.apps import apps
from django.db.migrations.loader import MigrationLoader
from psycopg import sql

from apps.core.database.session import Session

from . import questions
from .questions import Sample

Name = tuple[str, str]  # of an app and a migration


def ask(session: Session) -> Iterator[Sample]:
    """Yield what is in tables that are there."""
    yield Sample("database_migrations_pending", count_pending(session))
    if not apps.is_installed("apps.backups"):
        return
    table = apps.get_model("backups", "Backup")._meta.db_table  # noqa: SLF001  a public name
    if has_table(session, table):
        ((made, verified),) = session.execute(sql.SQL(questions.BACKUPS).format(sql.Identifier(table))).fetchall()
        yield Sample("database_backup_timestamp_seconds", float(made))
        yield Sample("database_restore_verified_timestamp_seconds", float(verified))


def count_pending(session: Session) -> int:
    """Return how many migrations of the code are not applied."""
    has = has_table(session, "django_migrations")
    applied = set(session.execute(questions.APPLIED).fetchall()) if has else set()
    return sum(not (name in applied or (parts and parts <= applied)) for name, parts in read_migrations().items())


@functools.cache
def read_migrations() -> dict[Name, set[Name]]:
    """Return the migrations of the code, and those that each of them stands for."""
    return {name: set(each.replaces) for name, each in MigrationLoader(None).graph.nodes.items()}


def has_table(session: Session, name: str) -> bool:
    """Tell whether there is such a table."""
    return session.execute(questions.HAS_TABLE, [name]).fetchone() == (True,)
