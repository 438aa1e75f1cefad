"""What a database holds, and how that is compared with what it held before."""

from collections.abc import Mapping
from typing import NamedTuple

import psycopg
from psycopg import sql

from .processes import DrillError

TABLES = """
SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')
"""
CONTENT = "SELECT count(*), md5(string_agg(md5({0}::text), '' ORDER BY md5({0}::text))) FROM {1} AS {0}"


class Content(NamedTuple):
    """How many rows a table has, and a checksum of them all."""

    rows: int
    checksum: str | None


def read_contents(connection: psycopg.Connection) -> dict[str, Content]:
    """Return what each table of the database holds, by its name; all of it is read."""
    contents = {}
    for schema, table in connection.execute(TABLES).fetchall():
        names = sql.Identifier("content"), sql.Identifier(schema, table)
        row = connection.execute(sql.SQL(CONTENT).format(*names)).fetchone()
        contents[f"{schema}.{table}"] = Content(*row)  # type: ignore[misc]  # an aggregate always has one
    return contents


def compare(expected: Mapping[str, Content], found: Mapping[str, Content]) -> None:
    """Raise DrillError in a sentence that names the tables which are not as expected."""
    problems = [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    problems += [f"{name} should not be there" for name in sorted(found.keys() - expected.keys())]
    for name in sorted(expected.keys() & found.keys()):
        before, after = expected[name], found[name]
        if before.rows != after.rows:
            problems.append(f"{name} has {after.rows} rows instead of {before.rows}")
        elif before != after:
            problems.append(f"{name} has other values in its {after.rows} rows")
    if problems:
        raise DrillError(f"The restored database is not what it was: {', '.join(problems)}.")
