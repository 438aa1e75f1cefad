"""What a database holds, so that a restored one can be compared with the one that was dumped."""

from collections.abc import Callable
from dataclasses import dataclass

from psycopg import Connection, sql

# Tables, views and sequences of the project's: neither the system's nor an extension's.
OWN = """
    SELECT pg_class.oid, nspname, relname, relkind, relpersistence
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' AND NOT EXISTS (
        SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype = 'e'
    )
"""
# What is not logged does not outlive a crash of the server, and a standby has none of it.
TABLES = f"""
    SELECT nspname, relname, format('%I.%I', nspname, relname) FROM ({OWN}) AS own
    WHERE relkind = 'r' AND relpersistence = 'p' ORDER BY 3
"""  # noqa: S608  of constants
# Not counted are constraints NOT NULL, which are entries of their own from 18 on, and what belongs to a partition since
# it belongs to the whole, for which versions have different numbers of entries.
OBJECTS = f"""
    WITH own AS ({OWN})
    SELECT 'constraints', count(*) FROM pg_constraint JOIN own ON own.oid = conrelid
    WHERE convalidated AND conparentid = 0 AND contype <> 'n'
    UNION ALL SELECT 'functions', count(*) FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
    WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' AND NOT EXISTS (
        SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = pg_proc.oid AND deptype = 'e'
    )
    UNION ALL SELECT 'indexes', count(*) FROM pg_index JOIN own ON own.oid = indrelid WHERE indisvalid
    UNION ALL SELECT 'policies', count(*) FROM pg_policy JOIN own ON own.oid = polrelid
    UNION ALL SELECT 'sequences', count(*) FROM own WHERE relkind = 'S'
    UNION ALL SELECT 'triggers', count(*) FROM pg_trigger JOIN own ON own.oid = tgrelid
    WHERE NOT tgisinternal AND tgparentid = 0
    UNION ALL SELECT 'views', count(*) FROM own WHERE relkind IN ('m', 'v')
"""  # noqa: S608  of constants


@dataclass(frozen=True)
class Contents:
    """What a database holds."""

    rows: dict[str, int]  # of each table, by its quoted name with its schema
    migrations: list[list[str]]  # app and name
    objects: dict[str, int]  # how many there are of each kind; of constraints and indexes the valid ones


def read_contents(connection: Connection, on_table: Callable[[int, int], None] = lambda _done, _all: None) -> Contents:
    """
    Return what the database holds, counted exactly, in the transaction that the connection is in.

    `on_table` is told after each table how many of how many are counted.
    """
    tables = list_tables(connection)
    rows = {}
    for done, (schema, name, quoted) in enumerate(tables, 1):
        count = sql.SQL("SELECT count(*) FROM ONLY {}").format(sql.Identifier(schema, name))
        ((rows[quoted],),) = connection.execute(count)
        on_table(done, len(tables))
    return Contents(rows, read_migrations(connection), dict(connection.execute(OBJECTS).fetchall()))


def list_tables(connection: Connection) -> list[tuple[str, str, str]]:
    """Return schema, name and both quoted of each table that holds rows."""
    return connection.execute(TABLES).fetchall()


def read_migrations(connection: Connection) -> list[list[str]]:
    """Return app and name of each migration that was applied."""
    ((table,),) = connection.execute("SELECT to_regclass('django_migrations')")
    if table is None:
        return []
    return [list(row) for row in connection.execute("SELECT app, name FROM django_migrations ORDER BY app, name")]
