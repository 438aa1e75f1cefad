"""Django's `sqlflush`, whose statements a production database refuses, too, wherever they are piped to."""

from typing import Any

from django.conf import settings
from django.core.management.commands import sqlflush
from django.db import connections
from psycopg import sql

from apps.core.database.environment import PRODUCTION, refuse_production

# The first statement of the transaction: the others fail with it, even where psql goes on after an error.
GUARD = """\
DO $guard$
BEGIN
    IF current_database() <> {unprotected} AND EXISTS (
        SELECT FROM pg_database
        WHERE datname = current_database()
        AND strpos(shobj_description(oid, 'pg_database'), {mark}) > 0
    ) THEN
        RAISE EXCEPTION 'Database "%" belongs to production: sqlflush would delete its data.', current_database()
        USING HINT = 'Set DB_UNPROTECTED to its name for sqlflush if that is what you want.';
    END IF;
END
$guard$;
"""


class Command(sqlflush.Command):
    """Django's own, but that it looks first whose data would be deleted, and its statements look again."""

    def handle(self, **options: Any) -> str:
        """Refuse, or return the statements behind a guard that lets DB_UNPROTECTED pass."""
        connection = connections[options["database"]]
        refuse_production(connection, "sqlflush would delete its data")
        statements = super().handle(**options)
        return f"{build_guard()}{statements}" if statements and connection.vendor == "postgresql" else statements


def build_guard() -> str:
    """Return the statement that fails on a production database."""
    mark = f"[environment: {PRODUCTION}]"
    literals = {"mark": sql.Literal(mark), "unprotected": sql.Literal(settings.DB_UNPROTECTED)}
    return sql.SQL(GUARD).format(**literals).as_string()
