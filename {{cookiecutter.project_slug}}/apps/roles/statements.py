r"""
Queries whose rows are the statements that still have to be run, in this order.

psql runs the rows by its \gexec and `plan.run` does the same: what is printed is what is applied, and a second time
there are none.
"""

from collections.abc import Sequence
from typing import LiteralString

from django.conf import settings
from psycopg import sql

from config.connection import build_limits
from config.process import Role

from .names import Names

# Milliseconds. Reports may take longer than pages, but an old snapshot keeps VACUUM from its work.
READONLY_LIMITS = {"statement_timeout": 300_000, "idle_in_transaction_session_timeout": 60_000}
MONITOR_LIMITS = {"statement_timeout": 10_000}

DATABASE: LiteralString = """
SELECT format('CREATE DATABASE %I', {database}) || CASE WHEN {owner} <> '' THEN format(' OWNER %I', {owner}) ELSE '' END
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = {database})
"""

# Nobody's superuser is made into less. A project can do without the last two, which wait for a password.
ROLES: LiteralString = """
WITH role (name, variable, login, createdb) AS (VALUES
    ({owner}, 'DB_NAME', false, true),
    ({migrator}, 'DB_MIGRATE_USER', true, false),
    ({app}, 'DB_USER', true, false),
    ({readonly}, 'DB_NAME', {readonly_login}, false),
    ({monitor}, 'DB_NAME', {monitor_login}, false)
)
SELECT format('DO %L', format('BEGIN RAISE EXCEPTION USING MESSAGE = %L; END', format(
    'Role ''%s'' is a superuser, which no role of the project may be: set %s to another name.', name, variable)))
FROM role JOIN pg_roles ON rolname = name WHERE rolsuper
UNION ALL
SELECT format('CREATE ROLE %I %s', name, concat_ws(' ',
    CASE WHEN login THEN 'LOGIN' ELSE 'NOLOGIN' END, CASE WHEN createdb THEN 'CREATEDB' END))
FROM role WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
UNION ALL
SELECT format('ALTER ROLE %I %s', name, changes)
FROM role JOIN pg_roles ON rolname = name, LATERAL concat_ws(' ',
    CASE WHEN rolcanlogin <> login THEN CASE WHEN login THEN 'LOGIN' ELSE 'NOLOGIN' END END,
    CASE WHEN rolcreatedb <> createdb THEN CASE WHEN createdb THEN 'CREATEDB' ELSE 'NOCREATEDB' END END,
    CASE WHEN rolcreaterole THEN 'NOCREATEROLE' END,
    CASE WHEN rolreplication THEN 'NOREPLICATION' END,
    CASE WHEN rolbypassrls THEN 'NOBYPASSRLS' END) AS changes
WHERE changes <> '' AND NOT rolsuper
"""

# An administrator that is no superuser has to be a member of the owner to give it anything.
# Who else a role belongs to is left alone unless it gives power: a provider may admit logins by groups.
MEMBERSHIPS: LiteralString = """
WITH wanted (granted, member, without) AS (VALUES
    ({owner}, {migrator}, NULL),
    ('pg_read_all_stats', {migrator}, 'migrate cannot show what the sessions do that hold it up'),
    ('pg_signal_backend', {owner}, 'it cannot end the sessions of others'),
    ('pg_monitor', {monitor}, 'it sees no more than anybody')
),
has AS (
    SELECT a.rolname::text AS granted, b.rolname::text AS member, grantor, a.rolsuper OR a.rolcreaterole AS powerful
    FROM pg_auth_members JOIN pg_roles AS a ON a.oid = roleid JOIN pg_roles AS b ON b.oid = member
),
lacking AS (
    SELECT wanted.*, oid FROM wanted JOIN pg_roles ON rolname = granted
    WHERE NOT EXISTS (SELECT FROM has WHERE has.granted = wanted.granted AND has.member = wanted.member)
)
"""
CHANGE_MEMBERSHIPS: LiteralString = """
SELECT format('GRANT %I TO CURRENT_USER', rolname)
FROM pg_roles WHERE rolname = {owner} AND NOT pg_has_role(oid, 'USAGE')
UNION ALL
SELECT format('GRANT %I TO %I', granted, member) FROM lacking
WHERE without IS NULL OR pg_has_role(oid, 'MEMBER WITH ADMIN OPTION')
OR current_setting('server_version_num')::int < 160000
AND (SELECT rolcreaterole FROM pg_roles WHERE rolname = current_user)
UNION ALL
SELECT format('REVOKE %I FROM %I', granted, member)
    || CASE WHEN current_setting('server_version_num')::int >= 160000
    THEN format(' GRANTED BY %I', pg_get_userbyid(grantor)) ELSE '' END
FROM has WHERE member IN ({owner}, {migrator}, {app}, {readonly}, {monitor})
AND (powerful OR starts_with(granted, 'pg_') OR granted IN ({owner}, {migrator}, {app}, {readonly}, {monitor}))
AND (granted, member) NOT IN (SELECT granted, member FROM wanted)
"""
# No statements, but sentences.
TELL_LACKING: LiteralString = """
SELECT format('Role ''%s'' is not a member of %s, which a superuser may grant: %s.', member, granted, without) AS said
FROM lacking WHERE without IS NOT NULL
"""

SETTINGS: LiteralString = """
SELECT format('ALTER ROLE %I SET %I = %L', rolname, setting, value)
FROM (VALUES {settings}) AS wanted (name, setting, value) JOIN pg_roles ON rolname = name
WHERE concat(setting, '=', value) <> ALL (coalesce(rolconfig, ARRAY[]::text[]))
"""

# All that those who log in own here, extensions and large objects too; their other databases are given back.
REASSIGN: LiteralString = """
SELECT unnest(array_remove(ARRAY[
    CASE WHEN NOT joined THEN format('GRANT %I TO CURRENT_USER', rolname) END,
    format('REASSIGN OWNED BY %I TO %I', rolname, {owner})
] || ARRAY(
    SELECT format('ALTER DATABASE %I OWNER TO %I', datname, rolname)
    FROM pg_database WHERE datdba = role.oid AND datname <> current_database()
) || ARRAY[
    CASE WHEN NOT joined THEN format('REVOKE %I FROM CURRENT_USER', rolname) END
], NULL))
FROM pg_roles AS role, pg_database AS this, LATERAL pg_has_role(role.oid, 'USAGE') AS joined
WHERE rolname IN ({migrator}, {app}, {readonly}, {monitor}) AND this.datname = current_database()
AND (this.datdba = role.oid OR EXISTS (
    SELECT FROM pg_shdepend
    WHERE dbid = this.oid AND refclassid = 'pg_authid'::regclass AND refobjid = role.oid AND deptype = 'o'))
"""

# What anybody else owns. pg_database_owner, who has the schema of a new database, stands for the database's owner.
OWNERS: LiteralString = """
SELECT format('ALTER %s %s OWNER TO %I', kind, name, {owner})
FROM (
    SELECT 'DATABASE', 'pg_database'::regclass, oid, quote_ident(datname), datdba
    FROM pg_database WHERE datname = current_database()
    UNION ALL
    SELECT 'SCHEMA', 'pg_namespace'::regclass, oid, quote_ident(nspname), nspowner
    FROM pg_namespace WHERE nspname = 'public' AND nspowner <> 'pg_database_owner'::regrole
    UNION ALL
    SELECT 'TABLE', 'pg_class'::regclass, oid, oid::regclass::text, relowner
    FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
    AND NOT EXISTS (  -- the sequence of a column, whose owner is its table's
        SELECT FROM pg_depend
        WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND relkind = 'S' AND deptype IN ('a', 'i'))
    UNION ALL
    SELECT 'ROUTINE', 'pg_proc'::regclass, oid, oid::regprocedure::text, proowner
    FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'TYPE', 'pg_type'::regclass, pg_type.oid, pg_type.oid::regtype::text, typowner
    FROM pg_type LEFT JOIN pg_class ON pg_class.oid = typrelid
    WHERE typnamespace = 'public'::regnamespace AND (typtype IN ('d', 'e', 'r') OR relkind = 'c')
) AS found (kind, catalog, oid, name, owner)
WHERE pg_get_userbyid(owner) <> {owner}
AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = catalog AND objid = found.oid AND deptype = 'e')
"""

# What is not wanted is taken away from these roles and from PUBLIC. UPDATE of a sequence is for loaddata, which goes on
# counting behind what it loaded; the monitor reads the views of extensions, such as pg_stat_statements.
PRIVILEGES: LiteralString = """
WITH wanted AS (
    SELECT kind, quote_ident(name) AS role, unnest(string_to_array(privileges, ' ')) AS privilege
    FROM (VALUES
        ('DATABASE', {migrator}, 'CONNECT'),
        ('DATABASE', {app}, 'CONNECT'),
        ('DATABASE', {readonly}, 'CONNECT'),
        ('DATABASE', {monitor}, 'CONNECT'),
        ('SCHEMA', {app}, 'USAGE'),
        ('SCHEMA', {readonly}, 'USAGE'),
        ('SCHEMA', {monitor}, 'USAGE'),
        ('TABLE', {app}, 'SELECT INSERT UPDATE DELETE'),
        ('TABLE', {readonly}, 'SELECT'),
        ('SEQUENCE', {app}, 'SELECT USAGE UPDATE'),
        ('SEQUENCE', {readonly}, 'SELECT')
    ) AS each (kind, name, privileges)
),
found (kind, clause, target, name, acl) AS (
    SELECT 'DATABASE', '', 'DATABASE', quote_ident(datname), coalesce(datacl, acldefault('d', datdba))
    FROM pg_database WHERE datname = current_database()
    UNION ALL
    SELECT 'SCHEMA', '', 'SCHEMA', 'public', coalesce(nspacl, acldefault('n', nspowner))
    FROM pg_namespace WHERE nspname = 'public'
    UNION ALL
    SELECT kind, '', kind, oid::regclass::text, relacl
    FROM pg_class, LATERAL (SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END) AS named (kind)
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
    AND NOT EXISTS (
        SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype = 'e')
    UNION ALL  -- those of what the owner will make
    SELECT kind, format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA public ', {owner}), kind || 'S', NULL, defaclacl
    FROM (VALUES ('TABLE', 'r'), ('SEQUENCE', 'S')) AS made (kind, type)
    LEFT JOIN pg_default_acl ON defaclobjtype = type AND defaclnamespace = 'public'::regnamespace
    AND pg_get_userbyid(defaclrole) = {owner}
),
has AS (
    SELECT clause, target, name, coalesce(quote_ident(rolname), 'PUBLIC') AS role, privilege_type
    FROM found, aclexplode(acl) LEFT JOIN pg_roles ON oid = grantee
    WHERE grantee = 0 OR rolname IN ({migrator}, {app}, {readonly}, {monitor})
),
should_have AS (
    SELECT clause, target, name, role, privilege FROM wanted JOIN found USING (kind)
),
difference (verb, preposition, clause, target, name, role, privilege) AS (
    SELECT 'REVOKE', 'FROM', * FROM (TABLE has EXCEPT TABLE should_have) AS too_much
    UNION ALL
    SELECT 'GRANT', 'TO', * FROM (TABLE should_have EXCEPT TABLE has) AS too_little
),
each AS (
    SELECT verb, preposition, clause, target, name, role, string_agg(privilege, ', ' ORDER BY privilege) AS privileges
    FROM difference GROUP BY verb, preposition, clause, target, name, role
)
SELECT clause || concat_ws(' ', verb, privileges, 'ON', target, string_agg(name, ', ' ORDER BY name), preposition, role)
FROM each GROUP BY clause, verb, privileges, target, preposition, role ORDER BY verb DESC, clause, target, role
"""

# As the owner where that is allowed, who may then change and drop them.
EXTENSIONS: LiteralString = """
SELECT CASE WHEN (trusted OR NOT superuser) AND pg_has_role({owner}, 'USAGE')
    THEN format('SET ROLE %I; %s; RESET ROLE', {owner}, statement) ELSE statement END
FROM unnest({extensions}::text[]) WITH ORDINALITY AS wanted (extension, number)
LEFT JOIN pg_available_extensions AS available ON available.name = extension
LEFT JOIN pg_available_extension_versions AS found ON found.name = extension AND version = default_version,
LATERAL concat(
    format('CREATE EXTENSION IF NOT EXISTS %I', extension), CASE WHEN schema IS NULL THEN ' SCHEMA public' END
) AS statement
WHERE NOT EXISTS (SELECT FROM pg_extension WHERE extname = extension)
ORDER BY number
"""


def build_creation(database: str, owner: str = "") -> sql.Composed:
    """Return the query for the database, to be run outside it and outside a transaction."""
    return sql.SQL(DATABASE).format(database=sql.Literal(database), owner=sql.Literal(owner))


def build_queries(names: Names) -> list[sql.Composed]:
    """Return the queries for the roles, to be run inside the database."""
    queries = ROLES, MEMBERSHIPS + CHANGE_MEMBERSHIPS, SETTINGS, REASSIGN, OWNERS, PRIVILEGES
    return [fill(query, names) for query in queries]


def build_lacking(names: Names) -> sql.Composed:
    """Return the query for what could not be granted; its rows are sentences."""
    return fill(MEMBERSHIPS + TELL_LACKING, names)


def build_extensions(extensions: Sequence[str], owner: str) -> sql.Composed:
    """Return the query for extensions, to be run inside the database as well."""
    return sql.SQL(EXTENSIONS).format(owner=sql.Literal(owner), extensions=sql.Literal(list(extensions)))


def fill(query: LiteralString, names: Names) -> sql.Composed:
    """Return a query about these roles."""
    wanted = (sql.SQL("({})").format(sql.SQL(", ").join(map(sql.Literal, row))) for row in list_settings(names))
    return sql.SQL(query).format(
        settings=sql.SQL(", ").join(wanted),
        # Where there is no password, whether a role may log in is left as it is.
        readonly_login=sql.Literal(bool(settings.DB_READONLY_PASSWORD) or None),
        monitor_login=sql.Literal(bool(settings.DB_MONITOR_PASSWORD) or None),
        **{role: sql.Literal(name) for role, name in names._asdict().items()},
    )


def list_settings(names: Names) -> list[tuple[str, str, str]]:
    """Return role, name and value of what holds from the first statement on, also behind pgbouncer."""
    limits = {
        names.app: build_limits(Role.WSGI),
        names.migrator: build_limits(Role.MIGRATE),
        names.readonly: READONLY_LIMITS,
        names.monitor: MONITOR_LIMITS,
    }
    return [
        # The migrator acts as the owner, so that whatever it makes is the owner's.
        (names.migrator, "role", names.owner),
        (names.readonly, "default_transaction_read_only", "on"),
        *((role, "search_path", "public") for role in limits),
        *((role, name, f"{value}ms") for role, values in limits.items() for name, value in values.items()),
    ]


def build_lock_timeout() -> sql.Literal:
    """Return how long a change waits for its lock, while everybody else waits behind it."""
    return sql.Literal(f"{build_limits(Role.MIGRATE)['lock_timeout']}ms")
