"""What a database has that no dump carries: how it was made, who may connect to it, its comment and its settings."""

from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import sql

from apps.core.database.session import Session

Place = Mapping[str, str | int]  # parameters of CREATE DATABASE

PROVIDERS = {"b": "builtin", "c": "libc", "i": "icu"}

READ = """
SELECT to_jsonb(d) || jsonb_build_object(
    'owner', pg_get_userbyid(datdba), 'encoding', pg_encoding_to_char(encoding), 'tablespace', spcname,
    'owned', pg_has_role(datdba, 'USAGE')
)
FROM pg_database AS d JOIN pg_tablespace AS t ON t.oid = dattablespace
WHERE datname = %s
"""

# A statement for each of the privileges, if they are others than a new database's, and for the comment.
PRIVILEGES = """
SELECT format('REVOKE ALL ON DATABASE %%I FROM PUBLIC', %(target)s::text) FROM pg_database
WHERE datname = %(source)s AND datacl IS NOT NULL
UNION ALL
SELECT format(
    'GRANT %%s ON DATABASE %%I TO %%s', privilege_type, %(target)s::text,
    CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END
    || CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
)
FROM pg_database CROSS JOIN LATERAL aclexplode(datacl) WHERE datname = %(source)s
UNION ALL
SELECT format('COMMENT ON DATABASE %%I IS %%L', %(target)s::text, shobj_description(oid, 'pg_database'))
FROM pg_database WHERE datname = %(source)s AND shobj_description(oid, 'pg_database') IS NOT NULL
"""

# Statements by which another database of the same owner gives what is made in it to the same roles.
DEFAULTS = """
WITH given (clause, kind, entries) AS (
    SELECT '', 'SCHEMA public', nspacl FROM pg_namespace WHERE nspname = 'public'
    UNION ALL
    SELECT
        format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA public ', pg_get_userbyid(defaclrole)),
        CASE defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS' END, defaclacl
    FROM pg_default_acl JOIN pg_database ON datdba = defaclrole AND datname = current_database()
    WHERE defaclnamespace = 'public'::regnamespace AND defaclobjtype IN ('r', 'S', 'f')
)
SELECT 'REVOKE ALL ON SCHEMA public FROM PUBLIC'
UNION ALL
SELECT concat(
    clause, 'GRANT ', privilege_type, ' ON ', kind, ' TO ',
    CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END
)
FROM given CROSS JOIN LATERAL aclexplode(entries)
"""

SETTINGS = """
SELECT CASE setrole WHEN 0 THEN '' ELSE pg_get_userbyid(setrole) END, unnest(setconfig)
FROM pg_db_role_setting JOIN pg_database ON pg_database.oid = setdatabase
WHERE datname = %s
"""


def read_properties(session: Session, database: str) -> dict[str, Any] | None:
    """Return a database's line of pg_database, with names in place of numbers, or None where there is none."""
    row = session.execute(READ, [database]).fetchone()
    return row[0] if row else None


def read_defaults(session: Session) -> list[str]:
    """Return the statements by which another database treats what is made in it as the session's does."""
    return [statement for (statement,) in session.execute(DEFAULTS)]


def describe_place(properties: Mapping[str, Any]) -> Place:
    """Return the parameters of CREATE DATABASE that make one like another, by its properties."""
    place: dict[str, str | int] = {"OWNER": properties["owner"], "CONNECTION LIMIT": properties["datconnlimit"]}
    if properties["tablespace"] != "pg_default":  # which everybody may use, but not name
        place["TABLESPACE"] = properties["tablespace"]
    locale = {
        "provider": properties["datlocprovider"],
        "collate": properties["datcollate"],
        "ctype": properties["datctype"],
        "locale": properties.get("datlocale") or properties.get("daticulocale"),  # the second before PostgreSQL 17
        "rules": properties.get("daticurules"),
    }
    return {**place, **describe_locale(properties["encoding"], locale)}


def describe_locale(encoding: str, locale: Mapping[str, str]) -> Place:
    """Return the parameters of CREATE DATABASE for an encoding and what a manifest calls a locale."""
    provider = PROVIDERS[locale["provider"]]
    parameters = {
        "ENCODING": encoding,
        "LOCALE_PROVIDER": provider,
        "LC_COLLATE": locale["collate"],
        "LC_CTYPE": locale["ctype"],
        f"{provider}_LOCALE".upper(): locale["locale"],
        "ICU_RULES": locale["rules"],
    }
    return {name: value for name, value in parameters.items() if value}


def create(session: Session, database: str, place: Place) -> None:
    """Make an empty database, with these parameters of CREATE DATABASE."""
    clauses = [sql.SQL(name) + sql.SQL(" ") + quote(name, value) for name, value in place.items()]
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ").format(sql.Identifier(database))
    session.execute(statement + sql.SQL(" ").join(clauses))


def quote(parameter: str, value: str | int) -> sql.Composable:
    """Return a value as CREATE DATABASE takes it."""
    return sql.Identifier(str(value)) if parameter in {"OWNER", "TABLESPACE"} else sql.Literal(value)


def copy_properties(session: Session, source: str, target: str) -> list[str]:
    """Give one database the privileges, comment and settings of another; return the settings that this role may not."""
    for (statement,) in session.execute(PRIVILEGES, {"source": source, "target": target}).fetchall():
        session.execute(statement)
    refused = []
    for role, setting in session.execute(SETTINGS, [source]).fetchall():
        try:
            copy_setting(session, target, role, *setting.split("=", 1))
        except psycopg.Error:
            refused.append(f"{f'of role {role} ' if role else ''}{setting}")
    return refused


def copy_setting(session: Session, database: str, role: str, name: str, value: str) -> None:
    """Set a parameter for a database, or for a role in it; taken from the session, since a value may be a list."""
    whose = sql.SQL("DATABASE {}").format(sql.Identifier(database))
    if role:
        whose = sql.SQL("ROLE {} IN ").format(sql.Identifier(role)) + whose
    parameter = sql.SQL(".").join(map(sql.Identifier, name.split(".")))
    with session.transaction():
        session.execute("SELECT set_config(%s, %s, true)", [name, value])
        session.execute(sql.SQL("ALTER {} SET {} FROM CURRENT").format(whose, parameter))
