"""
Text that comes from a dump, a manifest, a name or a catalog is never a statement, nor part of a printed one.

The owner of the database is hostile here, and DB_ADMIN_USER a superuser.
"""

import json
import re
import shlex
from hashlib import sha256

import pytest
from conftest import PASSWORD, manage
from psycopg import sql

pytestmark = pytest.mark.long

ATTACK = "CREATE EXTENSION cube;ALTER ROLE hostile_app SUPERUSER"
# What ends a name, a literal, a comment or a body, on a line of its own or not.
SHAPES = [
    f"x\n{ATTACK};--",
    f'x";\n{ATTACK};--',
    f"x';\n{ATTACK};--",
    f"$$;{ATTACK};$$",
    f"*/{ATTACK};/*",
    f"\x0c\r\x1c\x85{ATTACK}",
    "7; 3079 7 EXTENSION - cube ",
    "\u20288; 3079 8 EXTENSION - cube ",
    "\\! touch intruder",
]
EXTENSION = "hostile_schema_that_an_extension_is_in"


@pytest.fixture(scope="module")
def hostile(project, server):
    """The variables that lead to a database of five roles, in which all has a hostile name that its owner can give."""
    environment = server.environment("hostile")
    with server.connect() as connection:
        connection.execute("DROP DATABASE hostile")
    environment |= {
        "DB_USER": "hostile_app",
        "DB_MIGRATE_USER": "hostile_migrator",
        "DB_MIGRATE_PASSWORD": f"{PASSWORD}-2",
        "DB_ADMIN_USER": "owner",
        "DB_ADMIN_PASSWORD": PASSWORD,
    }
    manage(project, "prepare_database", **environment)
    with server.connect("hostile") as connection:
        connection.execute("CREATE SCHEMA statistics AUTHORIZATION hostile_owner")
        connection.execute("CREATE EXTENSION pg_stat_statements SCHEMA statistics")
        connection.execute("CREATE EXTENSION dblink SCHEMA statistics")
        connection.execute("SET ROLE hostile_owner")
        for text in SHAPES:
            make_hostile(connection, text)
        connection.execute(f"CREATE SCHEMA {EXTENSION}")
        connection.execute(f"CREATE EXTENSION pg_trgm SCHEMA {EXTENSION}")
        connection.execute(sql.SQL("COMMENT ON EXTENSION pg_trgm IS {}").format(f"words\n{ATTACK};\n"))
        connection.execute(f"CREATE TABLE words (word text DEFAULT '\n{ATTACK};')")
        connection.execute(f"CREATE INDEX words_index ON words USING gin (word {EXTENSION}.gin_trgm_ops)")
    yield environment | {"DB_EXTENSIONS": "pg_stat_statements"}
    with server.connect() as connection:
        for (name,) in connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'hostile%'").fetchall():
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def cut(text):
    """Return as much of a text as is a name in PostgreSQL."""
    return text.encode()[:63].decode(errors="ignore")


def make_hostile(connection, text):
    """Have the text in everything that the owner of a database may give a name, a body or a comment."""
    name, index, kind, view = (sql.Identifier(cut(f"{first}{text}")) for first in ("", "i", "t", "v"))
    names = {"name": name, "index": index, "kind": kind, "view": view, "text": sql.Literal(text)}
    body = sql.Literal(f"SELECT {sql.Literal(text).as_string()}")
    for statement in (
        "CREATE SCHEMA {name}",
        "COMMENT ON SCHEMA {name} IS {text}",
        "CREATE TABLE {name}.{name} ({name} text DEFAULT {text}, CONSTRAINT {name} CHECK ({name} <> {text}))",
        "COMMENT ON TABLE {name}.{name} IS {text}",
        "COMMENT ON COLUMN {name}.{name}.{name} IS {text}",
        "INSERT INTO {name}.{name} VALUES ('row')",
        "CREATE INDEX {index} ON {name}.{name} ({name})",
        "CREATE FUNCTION {name}.{name}() RETURNS text LANGUAGE sql AS {body}",
        "CREATE TYPE {name}.{kind} AS ENUM ({name_literal})",
        "CREATE VIEW {name}.{view} AS SELECT {name} FROM {name}.{name}",
    ):
        literal = sql.Literal(cut(text))
        connection.execute(sql.SQL(statement).format(**names, body=body, name_literal=literal))


@pytest.fixture
def backup(project, hostile, tmp_path):
    """A new backup of it."""
    manage(project, "backup_database", **hostile, BACKUP_FOLDER=str(tmp_path))
    (dump,) = tmp_path.glob("*.dump")
    return dump


@pytest.fixture(autouse=True)
def unharmed(server):
    """Assert that no role has become more powerful."""
    yield
    with server.connect() as connection:
        query = "SELECT rolname FROM pg_roles WHERE rolname ~ '^hostile' AND (rolsuper OR rolcreaterole)"
        powerful = connection.execute(query).fetchall()
        for (name,) in powerful:
            connection.execute(f"ALTER ROLE {name} NOSUPERUSER NOCREATEROLE")
    assert powerful == []


def find_extensions(server, database="hostile"):
    with server.connect(database) as connection:
        query = "SELECT extname::text, nspname::text FROM pg_extension JOIN pg_namespace AS n ON n.oid = extnamespace"
        return dict(connection.execute(f"{query} WHERE extname <> 'plpgsql'").fetchall())


def assert_without_traceback(done, code=0):
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def rewrite(dump, **changes):
    manifest = dump.with_suffix(".json")
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changes))


def forge(dump, old, new):
    """Change a text of the dump as an attacker would that can write the folder, and have the manifest agree."""
    content = dump.read_bytes()
    assert len(old) == len(new)
    assert old in content
    content = content.replace(old, new)
    dump.write_bytes(content)
    rewrite(dump, sha256=sha256(content).hexdigest())


def test_restoring_executes_no_text_of_the_database(project, server, hostile, backup):
    """Each extension is in its schema again, but one that only a superuser can make and DB_EXTENSIONS does not name."""
    left_out = 'Warning: An extension is left out: permission denied to create extension "dblink". '
    for command in ("verify_backup", "restore_database"):
        done = manage(project, command, backup, check=False, **hostile)
        assert_without_traceback(done)
        assert done.stderr.startswith(left_out)
        assert "DB_EXTENSIONS" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert find_extensions(server) == {"pg_stat_statements": "statistics", "pg_trgm": EXTENSION}
    manage(project, "restore_database", "--undo", **hostile)
    assert find_extensions(server) == {"dblink": "statistics", "pg_stat_statements": "statistics", "pg_trgm": EXTENSION}


@pytest.mark.parametrize("text", SHAPES)
def test_schema_of_an_extension_may_have_any_name(project, server, hostile, tmp_path, text):
    name = cut(text)
    with server.connect("hostile") as connection:
        connection.execute("SET ROLE hostile_owner")
        connection.execute(sql.SQL("CREATE EXTENSION citext SCHEMA {}").format(sql.Identifier(name)))
        manage(project, "backup_database", **hostile, BACKUP_FOLDER=str(tmp_path))
        connection.execute("DROP EXTENSION citext")
    (dump,) = tmp_path.glob("*.dump")
    done = manage(project, "restore_database", dump, check=False, **hostile)
    assert_without_traceback(done)
    assert find_extensions(server)["citext"] == name
    manage(project, "restore_database", "--undo", **hostile)


def test_forged_dump_gives_the_administrator_nothing_to_execute(project, server, hostile, backup):
    """Whatever it holds is the owner's to execute, who may do nothing of it."""
    statement = f"WITH SCHEMA {EXTENSION};".encode()
    attack = b";ALTER ROLE hostile_app SUPERUSER;--".ljust(len(statement))
    forge(backup, statement, attack)
    for command in ("verify_backup", "restore_database"):
        assert_without_traceback(manage(project, command, backup, check=False, **hostile))
    assert find_extensions(server)["pg_trgm"] == EXTENSION
    manage(project, "restore_database", "--undo", **hostile)


@pytest.mark.parametrize(
    "extensions",
    [
        [[f"pg_trgm; {ATTACK}", f"public; {ATTACK}"], ["pg_trgm", f"public; {ATTACK}"]],
        [["pg_stat_statements", f'public"; {ATTACK}; --'], ["cube", "public"]],
        [["pg_trgm"], ["pg_trgm", "public", "public"], 5, {"pg_trgm": "public"}, [5, 6]],
        [f"pg_trgm; {ATTACK}", ATTACK],
        [["pg_trgm", "a\0b"]],
    ],
)
def test_forged_manifest_is_no_statement(project, server, hostile, backup, extensions):
    rewrite(backup, extensions=extensions)
    done = manage(project, "verify_backup", backup, check=False, **hostile)
    assert done.returncode in {0, 1}
    assert "Traceback" not in done.stderr
    assert find_extensions(server)["pg_trgm"] == EXTENSION


def test_administrator_makes_no_other_extension_than_those_of_the_settings(project, server, hostile, backup):
    done = manage(project, "restore_database", backup, **{**hostile, "DB_EXTENSIONS": "pg_trgm, cube"})
    assert 'permission denied to create extension "pg_stat_statements"' in done.stderr
    assert find_extensions(server) == {"pg_trgm": EXTENSION}
    manage(project, "restore_database", "--undo", **hostile)


def test_backup_of_an_earlier_version_is_restored_into_the_schemas_of_today(project, server, hostile, backup):
    """Whose manifest has the names of extensions only."""
    rewrite(backup, extensions=["dblink", "pg_stat_statements", "pg_trgm"])
    assert_without_traceback(manage(project, "restore_database", backup, **hostile))
    assert find_extensions(server) == {"pg_stat_statements": "statistics", "pg_trgm": EXTENSION}
    manage(project, "restore_database", "--undo", **hostile)


def test_extension_that_needs_another_one_is_made_after_it(project, server, tmp_path):
    environment = server.environment("ordered") | {"BACKUP_FOLDER": str(tmp_path), "DB_EXTENSIONS": ""}
    manage(project, "migrate", **environment)
    with server.connect("ordered") as connection:
        connection.execute("CREATE SCHEMA z; CREATE SCHEMA a")
        connection.execute("CREATE EXTENSION cube SCHEMA z")
        connection.execute("CREATE EXTENSION earthdistance SCHEMA a")
    manage(project, "backup_database", **environment)
    (dump,) = tmp_path.glob("*.dump")
    manage(project, "restore_database", dump, **environment)
    assert find_extensions(server, "ordered") == {"cube": "z", "earthdistance": "a"}


# What is printed to be pasted.


@pytest.fixture(params=['Odd "name"; DROP TABLE x; --\'', "$(touch intruder) `x`", "Shop", "shop"])
def odd(request, server, project):
    """The variables that lead to a migrated database with an odd name."""
    environment = server.environment(request.param.replace('"', '""')) | {"DB_NAME": request.param}
    yield environment
    with server.connect() as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(request.param)))


def test_remedies_can_be_pasted_whatever_the_database_is_called(project, server, odd):
    """The statement changes this database's comment and nothing else; the assignment is one word of a shell."""
    production = {"DJANGO_SETTINGS_MODULE": "config.settings.production", "ALLOWED_HOSTS": "x", "DB_SSLMODE": "disable"}
    manage(project, "migrate", **odd, DB_ENVIRONMENT="staging")
    check = "check", "--deploy", "--tag=database", "--database=default"
    done = manage(project, *check, check=False, **odd, **production)
    statement = re.search(r"COMMENT ON DATABASE .* IS '\[environment: production\]'", done.stderr)[0]
    with server.connect(odd["DB_NAME"]) as connection:
        connection.execute(f"SELECT; {statement}")
    done = manage(project, "flush", "--no-input", check=False, **odd)
    words = shlex.split(re.search("Set (DB_UNPROTECTED=.*) for this one command", done.stderr)[1])
    assert words == [f"DB_UNPROTECTED={odd['DB_NAME']}"]


def test_statement_for_the_time_zone_can_be_pasted(project, server, odd):
    manage(project, "migrate", **odd)
    with server.connect(odd["DB_NAME"]) as connection:
        name = sql.Identifier(odd["DB_NAME"])
        connection.execute(sql.SQL("ALTER DATABASE {} SET timezone = 'Europe/Vienna'").format(name))
        done = manage(project, "production_checklist", check=False, **odd)
        connection.execute(re.search("ALTER DATABASE .* SET timezone = 'UTC'", done.stdout + done.stderr)[0])
    with server.connect(odd["DB_NAME"]) as connection:
        assert connection.execute("SHOW timezone").fetchone() == ("UTC",)


def test_statements_of_the_roles_quote_every_name(project, server, hostile):
    """The administrator runs what queries of the catalog return, and the catalog has the owner's names."""
    with server.connect("hostile") as connection:
        for text in SHAPES:
            table, kind = (sql.Identifier(cut(f"{first}{text}")) for first in "tk")
            connection.execute(sql.SQL("CREATE TABLE public.{} ()").format(table))  # of another owner
            connection.execute(sql.SQL("CREATE TYPE public.{} AS ENUM ()").format(kind))
            connection.execute(sql.SQL("GRANT ALL ON public.{} TO PUBLIC").format(table))
    assert_without_traceback(manage(project, "prepare_database", check=False, **hostile))
    with server.connect("hostile") as connection:
        owners = "SELECT DISTINCT tableowner::text FROM pg_tables WHERE schemaname = 'public'"
        assert connection.execute(owners).fetchall() == [("hostile_owner",)]
