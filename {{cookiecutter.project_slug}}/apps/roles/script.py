"""The roles as a script for psql, for an administrator to read and run: it needs no connection, and holds no secret."""

from typing import LiteralString

from psycopg import sql
from psycopg.conninfo import make_conninfo

from .names import Names
from .statements import build_creation, build_lacking, build_lock_timeout, build_queries

SCRIPT: LiteralString = """\
-- The roles of database {database}. As an administrator: psql --dbname=postgres -v ON_ERROR_STOP=1 -f -
-- Each query finds the statements that are still needed, and \\gexec runs them: a second time there are none.
-- Nothing that others have put into a database stands in for what is meant.
SET search_path = pg_catalog;
{creation}\\gexec

\\connect -reuse-previous=on {place}
SET search_path = pg_catalog;
BEGIN;
SET LOCAL lock_timeout = {lock_timeout};
{queries}{lacking};
COMMIT;

-- Passwords are no part of this: each of these asks for one, and sends it encrypted.
{passwords}
"""


def build_script(names: Names) -> str:
    """Return the script."""
    place = make_conninfo(dbname=names.database)
    queries = [sql.SQL("{}\\gexec\n").format(query) for query in build_queries(names)]
    logins = names.migrator, names.app, names.readonly, names.monitor
    passwords = (sql.SQL("-- \\password {}").format(sql.Identifier(name)) for name in logins)
    script = sql.SQL(SCRIPT).format(
        database=sql.Identifier(names.database),
        creation=build_creation(names.database),
        place=sql.Identifier(place),  # which psql takes apart like a name
        lock_timeout=build_lock_timeout(),
        queries=sql.Composed(queries),
        lacking=build_lacking(names),
        passwords=sql.SQL("\n").join(passwords),
    )
    return script.as_string()
