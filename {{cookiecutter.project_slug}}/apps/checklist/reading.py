"""What the checks need to know of the live database, read by one query on a connection such as web processes have."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import LiteralString

from django.db.backends.base.base import BaseDatabaseWrapper

# What DB_USER may do besides its work are rights of others; a member of a role can do whatever that can.
QUERY: LiteralString = """
WITH schema AS (
    SELECT oid FROM pg_namespace WHERE NOT starts_with(nspname, 'pg_') AND nspname <> 'information_schema'
)
SELECT json_build_object(
    'user', rolname,
    'superuser', rolsuper,
    'powers', ARRAY(
        SELECT said FROM (VALUES
            (rolsuper, 'is a superuser'),
            (rolcreatedb, 'may create databases'),
            (rolcreaterole, 'may create roles'),
            (rolreplication, 'may copy the whole server as a replica does'),
            (rolbypassrls, 'sees rows that row security hides'),
            (pg_has_role(role.oid, datdba, 'MEMBER'), 'owns the database or belongs to its owner'),
            (EXISTS (SELECT FROM pg_class JOIN schema ON schema.oid = relnamespace
                WHERE pg_has_role(role.oid, relowner, 'MEMBER')), 'owns tables or belongs to their owner'),
            (has_database_privilege(role.oid, this.oid, 'CREATE'), 'may create schemas'),
            (EXISTS (SELECT FROM schema
                WHERE has_schema_privilege(role.oid, schema.oid, 'CREATE')), 'may create tables'),
            (EXISTS (SELECT FROM pg_roles AS r WHERE pg_has_role(role.oid, r.oid, 'MEMBER') AND r.rolname IN
                ('pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program')),
                'may use files or programs of the server')
        ) AS power (held, said) WHERE held
    ),
    'encoding', pg_encoding_to_char(encoding),
    'extensions', ARRAY(SELECT extname FROM pg_extension),
    'private', inet_server_addr() IS NULL OR (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()),
    'watches', pg_has_role('pg_read_all_stats', 'USAGE'),
    'settings', (SELECT json_object_agg(name, setting) FROM pg_settings),
    'defaults', (SELECT json_object_agg(name, reset_val) FROM pg_settings)
)
FROM pg_database AS this, pg_roles AS role
WHERE datname = current_database() AND rolname = session_user
"""


@dataclass(frozen=True)
class Reading:
    """
    What one query told.

    `settings` are those of this very connection and `defaults` what it began with, in PostgreSQL's units; a setting
    that the role may not see is in neither, nor is one of a library that is not loaded.
    """

    connection: BaseDatabaseWrapper
    user: str
    superuser: bool
    powers: Sequence[str]
    encoding: str
    extensions: Collection[str]
    private: bool  # whether the server's end is a Unix socket's or TLS's
    watches: bool  # whether the role sees what the sessions of others do
    settings: Mapping[str, str]
    defaults: Mapping[str, str]

    @property
    def major(self) -> int:
        """The server's major version."""
        return int(self.settings["server_version_num"]) // 10_000

    @property
    def pgbouncer(self) -> bool:
        """Whether a pgbouncer stands between."""
        return bool(self.connection.settings_dict["DISABLE_SERVER_SIDE_CURSORS"])


def read(connection: BaseDatabaseWrapper) -> Reading:
    """Return the reading; raises DatabaseError where the database cannot be asked."""
    with connection.cursor() as cursor:
        cursor.execute(QUERY)
        (facts,) = cursor.fetchone()
    return Reading(connection, **facts)
