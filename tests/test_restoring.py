"""
A bad backup is refused or rolled back, and a good one takes the place of a database that is in use.

`pytest tests/test_restoring.py -rP | grep restore:` shows what users of a loaded project see of it.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from hashlib import sha256
from pathlib import Path

import psycopg
import pytest
from conftest import PASSWORD, free_port, manage, postgres, render_with_pages, run, running, unpack, wait_until
from load import Answers
from psycopg import sql
from sites import TABLES, Site, limits_of_the_role, pgbouncer, production

pytestmark = pytest.mark.long

ROWS = 1000
LARGE = "CREATE TABLE large AS SELECT g AS number, repeat(md5(g::text), 8) AS text FROM generate_series(1, 120000) AS g"
ALL_ROWS = "SELECT count(*), md5(string_agg(line::text, ' ' ORDER BY line::text)) FROM ledger AS line"
TOOK = re.compile(r"interrupted for (\d+) ms")
NAMES = re.compile(r"_(before|restore|verify)_\d{8}T\d{6}Z$")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """One of these tests' own, with the pages of the loads beside it; a second of patience has to do here."""
    project = render_with_pages(tmp_path_factory.mktemp("restoring"))
    swap = project / "apps" / "backups" / "swap.py"
    swap.write_text(swap.read_text().replace("PATIENCE = 5.0", "PATIENCE = 1.0"))
    return project


@pytest.fixture(scope="module")
def older():
    """The programs of PostgreSQL 15."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield unpack(15, Path(folder))


@pytest.fixture(scope="module")
def backup(project, server, tmp_path_factory):
    """A backup of a database with ROWS rows, of which the databases of the tests are copies."""
    return make_origin(project, server, tmp_path_factory.mktemp("backups"))


def make_origin(project, server, folder):
    environment = server.environment("origin") | {"BACKUP_FOLDER": str(folder)}
    manage(project, "migrate", **environment)
    with server.connect("origin") as connection:
        connection.execute(TABLES)
        connection.execute(f"INSERT INTO ledger SELECT generate_series(1, {ROWS})")
    manage(project, "backup_database", **environment)
    return next(folder.glob("*.dump"))


def back_up(shop, folder):
    manage(shop.project, "backup_database", **shop.environment, BACKUP_FOLDER=str(folder))
    return next(folder.glob("*.dump"))


@pytest.fixture
def shop(request, project, server, backup):
    """A database in use that has other rows than the backup."""
    with Shop(project, server, f"shop_{abs(hash(request.node.name)) % 10**8}") as shop:
        yield shop


class Shop:
    """A copy of the database that was backed up, with other rows, and somebody who uses it."""

    def __init__(self, project, server, name, **environment):
        self.project, self.server, self.name = project, server, name
        self.environment = {
            "DB_EMBEDDED": "false",
            "DB_HOST": "127.0.0.1",
            "DB_PORT": str(server.port),
            "DB_NAME": name,
            "DB_USER": "owner",
            "DB_PASSWORD": PASSWORD,
            "DB_MIGRATE_USER": "",
            "DB_ADMIN_USER": "",
            **environment,
        }

    def __enter__(self):
        with self.server.connect() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE origin").format(sql.Identifier(self.name)))
        with self.server.connect(self.name) as connection:
            connection.execute("DELETE FROM ledger WHERE number > 300")
            connection.execute("INSERT INTO ledger VALUES (5000)")
        return self

    def __exit__(self, *error):
        """Drop it, and what is beside it."""
        with self.server.connect() as connection:
            for name in self.databases():
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def databases(self):
        """Return the names of this database and of those beside it."""
        with self.server.connect() as connection:
            names = [name for (name,) in connection.execute("SELECT datname FROM pg_database ORDER BY 1")]
        return [name for name in names if name == self.name or (self.name[:20] in name and NAMES.search(name))]

    def rows(self, name=""):
        with self.server.connect(name or self.name) as connection:
            return connection.execute(ALL_ROWS).fetchone()

    def restore(self, *arguments, check=True, **environment):
        return manage(self.project, "restore_database", *arguments, check=check, **{**self.environment, **environment})

    @contextlib.contextmanager
    def restoring(self, *arguments, **environment):
        """Begin to restore in the background, and go on as soon as there is a new database."""
        line = [sys.executable, "manage.py", "restore_database", *map(str, arguments)]
        with subprocess.Popen(
            line,
            cwd=self.project,
            env={**os.environ, **self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                wait_until(lambda: len(self.databases()) > 1 or process.poll() is not None)
                assert process.poll() is None, process.communicate()
                yield process
            finally:
                process.kill()

    @contextlib.contextmanager
    def untouched(self):
        """Assert that all is as before, and that whoever is connected, or connects, was served throughout."""
        before, asked, failed, over = self.rows(), [], [], threading.Event()
        with self.server.connect(self.name) as kept:

            def use():
                try:
                    while not over.wait(0.02):
                        with self.server.connect(self.name) as connection:
                            asked.append(connection.execute(ALL_ROWS).fetchone())
                        asked.append(kept.execute(ALL_ROWS).fetchone())
                except psycopg.Error as error:
                    failed.append(error)

            user = threading.Thread(target=use)
            user.start()
            try:
                yield
            finally:
                over.set()
                user.join()
        assert not failed
        assert len(asked) > 10
        assert {*asked, self.rows()} == {before}
        assert self.databases() == [self.name]


def rewrite(dump, **changes):
    """Change what the manifest of a dump says, as whoever forges one would."""
    manifest = dump.with_suffix(".json")
    content = json.loads(manifest.read_text())
    changes = {name: change(content[name]) if callable(change) else change for name, change in changes.items()}
    manifest.write_text(json.dumps(content | changes))


def truncate(dump):
    os.truncate(dump, dump.stat().st_size // 2)


def alter(dump):
    content = bytearray(dump.read_bytes())
    content[len(content) // 2] ^= 1
    dump.write_bytes(content)


def replace_by_text(dump):
    content = b"INSERT INTO ledger VALUES (1);\n"
    dump.write_bytes(content)
    rewrite(dump, size=len(content), sha256=sha256(content).hexdigest())


REFUSALS = {
    "no file": (lambda dump: dump.unlink(), "There is no file .*"),
    "no manifest": (lambda dump: dump.with_suffix(".json").unlink(), "The manifest .* cannot be read: No such file .*"),
    "truncated": (truncate, r".*\.dump is truncated: it has \d+ bytes of \d+\."),
    "one byte changed": (alter, r".*\.dump was altered after it was made: .*"),
    "no archive": (replace_by_text, r".*\.dump is not an archive that can be restored: pg_restore failed: .*"),
    "foreign": (
        lambda dump: rewrite(dump, migrations=lambda known: [*known, ["warehouse", "0001_initial"]]),
        r".*\.dump is of another project: it has migrations of warehouse, .* --accept-unknown\.",
    ),
    "newer": (
        lambda dump: rewrite(dump, migrations=lambda known: [*known, ["users", "0099_later"]]),
        r".*\.dump is newer than this code, which does not have users\.0099_later: .* --accept-unknown\.",
    ),
    "newer server": (
        lambda dump: rewrite(dump, server_version="19.1"),
        r".*\.dump was made on PostgreSQL 19, and cannot be restored on 18\.",
    ),
    # These are found out by restoring.
    "other rows": (
        lambda dump: rewrite(dump, rows=lambda rows: rows | {"public.ledger": ROWS + 1}),
        rf".* does not hold what was dumped: {ROWS} rows of public\.ledger instead of {ROWS + 1}\.",
    ),
    "lacking index": (
        lambda dump: rewrite(dump, objects=lambda objects: objects | {"indexes": objects["indexes"] + 1}),
        r".* does not hold what was dumped: \d+ indexes instead of \d+\.",
    ),
}


def copy(backup, folder):
    """Copy a backup with its manifest."""
    shutil.copy(backup.with_suffix(".json"), folder)
    return Path(shutil.copy(backup, folder))


def assert_refused(done, sentence):
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.fullmatch(f"CommandError: {sentence}", done.stderr.strip().splitlines()[-1]), done.stderr
    assert "Traceback" not in done.stderr
    assert PASSWORD not in done.stdout + done.stderr


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_backup_changes_nothing(case, shop, backup, tmp_path):
    dump = copy(backup, tmp_path)
    damage, sentence = REFUSALS[case]
    damage(dump)
    with shop.untouched():
        assert_refused(shop.restore(dump, check=False), sentence)


def test_older_programs_are_refused(shop, backup, older):
    with shop.untouched():
        done = shop.restore(backup, check=False, DB_PROGRAMS=str(older))
    assert_refused(done, "pg_dump in .* is version 15, but must be as new as the server, which is 18: .*")


def test_production_is_refused(shop, backup):
    with shop.server.connect() as connection:
        connection.execute(f"COMMENT ON DATABASE {shop.name} IS '[environment: production]'")
    remedy = f"Set DB_UNPROTECTED={shop.name} for this one command if that is what you want."
    said = (
        f"Database '{shop.name}' belongs to production: restore_database would put another one in its place. {remedy}"
    )
    with shop.untouched():
        assert_refused(shop.restore(backup, check=False), re.escape(said))
    assert shop.restore(backup, DB_UNPROTECTED=shop.name).returncode == 0
    assert_refused(shop.restore("--drop-kept", check=False), re.escape(said))


def test_role_that_may_not_is_refused(shop, backup):
    with shop.server.connect() as connection:
        connection.execute(f"CREATE ROLE weak LOGIN PASSWORD '{PASSWORD}'")
    try:
        with shop.untouched():
            done = shop.restore(backup, check=False, DB_USER="weak")
            assert_refused(done, "User 'weak' may not create databases: .*")
            with shop.server.connect() as connection:
                connection.execute("ALTER ROLE weak CREATEDB")
            done = shop.restore(backup, check=False, DB_USER="weak")
            assert_refused(done, f"Database '{shop.name}' belongs to 'owner', not to this user\\.")
    finally:
        with shop.server.connect() as connection:
            connection.execute("DROP ROLE weak")


# What fails half-way.


BROKEN = """
    CREATE TABLE child (parent bigint REFERENCES ledger);
    SET session_replication_role = replica;
    INSERT INTO child VALUES (-1)
"""


@pytest.fixture(scope="module")
def large(project, server, backup, tmp_path_factory):
    """A backup that needs more room than the database that it is of."""
    with Shop(project, server, "large") as shop:
        with server.connect("large") as connection:
            connection.execute(LARGE)
        return back_up(shop, tmp_path_factory.mktemp("large"))


def test_rows_that_break_a_rule_are_rolled_back(shop, tmp_path):
    """The file is whole, but nobody can make a foreign key of what is in it."""
    with shop.server.connect(shop.name) as connection:
        connection.execute(BROKEN)
    broken = back_up(shop, tmp_path)
    with shop.untouched():
        assert_refused(shop.restore(broken, check=False), r"pg_restore failed: .* violates foreign key constraint .*")


def test_restore_that_is_told_to_end_leaves_nothing(shop, large):
    with shop.untouched(), shop.restoring(large) as process:
        process.terminate()
        _, said = process.communicate(timeout=60)
        assert process.returncode == 1
        # Where the signal came between a query and its answer, psycopg logs that it could not roll back.
        told = [line for line in said.splitlines() if "error ignored in rollback" not in line]
        assert told == ["CommandError: the command was interrupted by SIGTERM."]


def test_restore_that_is_killed_is_cleaned_up_by_the_next(shop, backup, large):
    before = shop.rows()
    with shop.restoring(large) as process:
        process.send_signal(signal.SIGSTOP)
        done = shop.restore(backup, check=False)
        assert_refused(done, f"Another restore of database '{shop.name}' is running.")
        process.kill()
    (left,) = set(shop.databases()) - {shop.name}
    wait_until(lambda: not find_sessions(shop.server, left))  # pg_restore ends with it
    assert shop.rows() == before
    shop.restore(backup)
    assert left not in shop.databases()
    assert shop.rows() != before


def find_sessions(server, database):
    with server.connect() as connection:
        query = "SELECT pid FROM pg_stat_activity WHERE datname = %s"
        return [pid for (pid,) in connection.execute(query, [database])]


@pytest.fixture
def small_disk(server):
    """Mount a file system for a tablespace of the server's."""
    if os.geteuid() != 0:
        pytest.skip("Only root may mount.")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        run("mount", "-t", "tmpfs", "-o", "size=24m", "small", folder, cwd="/")
        try:
            run("chown", "nobody", folder, cwd="/")
            with server.connect() as connection:
                connection.execute(f"CREATE TABLESPACE small LOCATION '{folder}'")
            yield Path(folder)
            with server.connect() as connection:
                connection.execute("DROP TABLESPACE small")
        finally:
            run("umount", folder, cwd="/")


def test_disk_that_gets_full_is_no_loss(small_disk, shop, large, tmp_path):
    """It is known beforehand how much is needed, unless somebody else takes it meanwhile."""
    with shop.server.connect() as connection:
        connection.execute(f"ALTER DATABASE {shop.name} SET TABLESPACE small")
    with shop.untouched():
        done = shop.restore(large, check=False)
        assert_refused(done, r"The restored database may need \d+ MB, but the server's disk has \d+ left\.")
        dump = copy(large, tmp_path)
        rewrite(dump, database_size=1)
        assert_refused(shop.restore(dump, check=False), r"pg_restore failed: .*No space left on device.*")


@pytest.fixture(scope="module")
def recovered(project, embedded_binaries, backup):
    """An empty server, and what the command said that has brought the database there."""
    with postgres(embedded_binaries) as server:
        with server.connect() as connection:
            connection.execute("ALTER SYSTEM SET max_prepared_transactions = 1")
        shop = Shop(project, server, "shop", DB_ENVIRONMENT="production")
        yield shop, shop.restore(backup)


def test_empty_server_gets_the_database_back(recovered):
    """A disaster: there is neither the database nor anything that it could be like."""
    shop, done = recovered
    assert done.stdout.endswith("Database 'shop' is there; it was not before\n")
    assert shop.rows()[0] == ROWS
    assert shop.databases() == ["shop"]
    with shop.server.connect() as connection:
        assert read_properties(connection, "shop")[1] == "[environment: production]"


def test_server_that_crashes_half_way_has_lost_nothing(recovered, backup):
    """Nor does a transaction get lost that was left prepared: nobody may end that."""
    shop, _ = recovered
    before = shop.rows()
    with shop.restoring(backup, DB_UNPROTECTED="shop") as process:
        process.send_signal(signal.SIGSTOP)
        shop.server.stop("immediate")
        shop.server.launch()
        process.send_signal(signal.SIGCONT)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 1
    assert said.startswith("CommandError: ")
    assert "Traceback" not in said
    assert shop.rows() == before
    assert shop.databases() == ["shop"]
    with shop.server.connect("shop") as connection:
        connection.execute("BEGIN; INSERT INTO ledger VALUES (8000); PREPARE TRANSACTION 'left'")
        with shop.untouched():
            done = shop.restore(backup, check=False, DB_UNPROTECTED="shop")
        said = "Database 'shop' is in use by prepared transaction left of user owner: that has to end first."
        assert_refused(done, re.escape(said))
        connection.execute("ROLLBACK PREPARED 'left'")


# What is good takes the place of what is in use.


def test_restored_database_takes_the_place_of_one_in_use(shop, backup):
    """Whoever is connected, idle, at work or in a transaction, is ended; the former database is kept until told."""
    before = shop.rows()
    with (
        shop.server.connect(shop.name) as idle,
        shop.server.connect(shop.name) as writing,
        shop.server.connect(shop.name) as working,
    ):
        writing.execute("BEGIN; INSERT INTO ledger VALUES (6000)")
        working.pgconn.send_query(b"SELECT pg_sleep(60)")
        done = shop.restore(backup)
        for connection in (idle, writing):
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
        working.close()
    server, *said = done.stdout.splitlines()
    place = f"Server 127.0.0.1:{shop.server.port}, database '{shop.name}', connected as 'owner'"
    assert server == place
    assert re.fullmatch(r"Checked the backup: \d+\.\d s", said[0])
    assert re.fullmatch(rf"Restored into {shop.name}_restore_\d{{8}}T\d{{6}}Z: \d+\.\d s", said[1])
    assert re.fullmatch(r"Compared rows, migrations, indexes and constraints: \d+\.\d s", said[2])
    kept = re.fullmatch(rf"Kept the former database as ({shop.name}_before_\d{{8}}T\d{{6}}Z): --undo .*", said[3])[1]
    took = re.fullmatch(rf"Replaced database '{shop.name}', which was interrupted for (\d+) ms", said[4])[1]
    assert 500 <= int(took) < 3000  # the time that transactions get
    assert len(said) == 5
    assert done.stderr == ""
    restored = shop.rows()
    assert (restored[0], shop.rows(kept)) == (ROWS, before)

    shop.restore("--undo")
    assert shop.rows() == before
    assert shop.rows(shop.databases()[1]) == restored
    done = shop.restore("--drop-kept")
    assert re.fullmatch(rf"{place}\nDropped {shop.name}_before_\d{{8}}T\d{{6}}Z\n", done.stdout)
    assert shop.databases() == [shop.name]
    assert_refused(shop.restore("--undo", check=False), f"No database is kept that '{shop.name}' had been before.")


def test_what_no_dump_carries_is_kept(shop, backup):
    with shop.server.connect() as connection:
        for statement in (
            f"COMMENT ON DATABASE {shop.name} IS 'It''s ours [environment: staging]'",
            f"ALTER DATABASE {shop.name} CONNECTION LIMIT 50",
            f"ALTER DATABASE {shop.name} SET search_path = public, 'Odd, one'",
            f"ALTER DATABASE {shop.name} SET app.colour = 'it''s red'",
            f"ALTER ROLE owner IN DATABASE {shop.name} SET statement_timeout = '7min'",
            f"REVOKE ALL ON DATABASE {shop.name} FROM PUBLIC",
            f"GRANT CONNECT ON DATABASE {shop.name} TO pg_read_all_stats WITH GRANT OPTION",
            f"ALTER DATABASE {shop.name} OWNER TO pg_monitor",
        ):
            connection.execute(statement)
        before = read_properties(connection, shop.name)
        shop.restore(backup)
        assert read_properties(connection, shop.name) == before
    with shop.server.connect(shop.name) as connection:
        shown = [connection.execute(f"SHOW {name}").fetchone()[0] for name in ("search_path", "statement_timeout")]
        assert shown == ['public, "Odd, one"', "7min"]
        owners = "SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        assert connection.execute(owners).fetchall() == [("pg_monitor",)]


def read_properties(connection, database):
    """Return all that PostgreSQL knows of a database outside it."""
    query = """
        SELECT to_jsonb(d) - 'oid' - 'datacl' - 'datfrozenxid' - 'datminmxid',
            shobj_description(oid, 'pg_database'),
            ARRAY(SELECT entry FROM unnest(datacl::text[]) AS entry ORDER BY 1),
            ARRAY(SELECT (setrole::regrole, setconfig)::text FROM pg_db_role_setting WHERE setdatabase = oid ORDER BY 1)
        FROM pg_database AS d WHERE datname = %s
    """
    return connection.execute(query, [database]).fetchone()


@pytest.mark.parametrize("name", ["Shöp \"of\" 100% 'odd' names; --", "long" * 15 + "er!"])
def test_any_name_will_do(name, project, server, backup):
    with Shop(project, server, name) as shop:
        before = shop.rows()
        shop.restore(backup)
        assert shop.rows()[0] == ROWS
        (kept,) = {*shop.databases()} - {name}
        assert len(kept.encode()) <= 63
        shop.restore("--undo")
        assert shop.rows() == before


def test_older_server(project, older, embedded_binaries, tmp_path):
    """Of newer programs than the server's one error is no failure, but others are."""
    newer = {"DB_PROGRAMS": str(embedded_binaries)}
    with postgres(older) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DB_PROGRAMS", str(older))
        backup = make_origin(project, server, tmp_path)
        with Shop(project, server, "shop") as shop:
            before = shop.rows()
            shop.restore(backup)
            assert shop.rows()[0] == ROWS
            shop.restore("--undo", **newer)
            assert shop.rows() == before
            shop.restore(backup, **newer)
            assert shop.rows()[0] == ROWS
            shop.restore("--drop-kept")
            with server.connect("shop") as connection:
                connection.execute(BROKEN)
            broken = back_up(shop, tmp_path / "broken")
            with shop.untouched():
                assert_refused(shop.restore(broken, check=False, **newer), ".* violates foreign key constraint .*")


# Roles that may do no more than they need.


@pytest.fixture(scope="module")
def least(project, server):
    """A database of five roles, with an extension that its owner may make, and one that a superuser had to make."""
    shop = Shop(
        project,
        server,
        "least",
        DB_USER="least_app",
        DB_MIGRATE_USER="least_migrator",
        DB_MIGRATE_PASSWORD=f"{PASSWORD}-2",
        DB_ADMIN_PASSWORD=PASSWORD,
    )
    manage(project, "prepare_database", **{**shop.environment, "DB_ADMIN_USER": "owner"})
    with server.connect("least") as connection:
        for statement in (
            "CREATE EXTENSION pg_stat_statements",
            "SET ROLE least_owner",
            TABLES,
            f"INSERT INTO ledger SELECT generate_series(1, {ROWS})",
            "CREATE SCHEMA search",
            "CREATE EXTENSION pg_trgm SCHEMA search",
            "CREATE TABLE words (word text)",
            "CREATE INDEX words_trigrams ON words USING gin (word search.gin_trgm_ops)",
        ):
            connection.execute(statement)
    yield shop
    shop.__exit__()


@pytest.fixture(scope="module")
def least_backup(least, tmp_path_factory):
    return back_up(least, tmp_path_factory.mktemp("least"))


def connect_as_app(server):
    names = {"host": "127.0.0.1", "port": server.port, "dbname": "least", "user": "least_app", "password": PASSWORD}
    return psycopg.connect(**names, autocommit=True)


def assert_app_may_work(server):
    with connect_as_app(server) as connection:
        connection.execute("INSERT INTO ledger VALUES (7000)")
        assert connection.execute("SELECT count(*) FROM ledger").fetchone() == (ROWS + 1,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("CREATE TABLE mine (number bigint)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("TRUNCATE ledger")


def find_owners(server):
    with server.connect("least") as connection:
        query = """
            SELECT DISTINCT relowner::regrole::text FROM pg_class
            WHERE relnamespace IN ('public'::regnamespace, 'search'::regnamespace)
            UNION SELECT datdba::regrole::text FROM pg_database WHERE datname = 'least'
        """
        return {name for (name,) in connection.execute(query)} - {"owner"}


def test_session_that_may_not_be_ended_stops_the_swap(least, least_backup):
    with least.untouched():  # by a superuser, who is the session
        done = least.restore(least_backup, check=False)
    assert_refused(done, r"Database 'least' is in use by process \d+ of user owner(, .*)?: that has to end first\.")


def test_owner_that_is_no_superuser(least, least_backup):
    """It ends the sessions of other roles, and goes on without what only a superuser may make."""
    server = least.server
    with connect_as_app(server) as idle, connect_as_app(server) as writing, server.connect() as connection:
        writing.execute("BEGIN; INSERT INTO ledger VALUES (6000)")
        before = read_properties(connection, "least")
        done = least.restore(least_backup)
        for session in (idle, writing):
            with pytest.raises(psycopg.OperationalError):
                session.execute("SELECT 1")
        assert read_properties(connection, "least") == before
    refusal = 'Warning: An extension is left out: permission denied to create extension "pg_stat_statements". '
    assert done.stderr == f"{refusal}DB_ADMIN_USER makes it where DB_EXTENSIONS names it.\n"
    assert least.restore(least_backup, DB_ADMIN_USER="owner").stderr == done.stderr
    assert_app_may_work(server)
    assert find_owners(server) == {"least_owner"}
    done = least.restore(least_backup, DB_ADMIN_USER="owner", DB_EXTENSIONS="pg_stat_statements")
    assert done.stderr == ""
    with server.connect("least") as connection:
        names = {name for (name,) in connection.execute("SELECT extname FROM pg_extension")}
        assert names == {"plpgsql", "pg_stat_statements", "pg_trgm"}


def test_privileges_of_strangers_are_left_out(least, tmp_path):
    """The roles of the place where it was made are not here: those that are here do as before."""
    with least.server.connect("least") as connection:
        connection.execute("CREATE ROLE visitor; GRANT SELECT ON ledger TO visitor")
        backup = back_up(least, tmp_path)
        connection.execute("DROP OWNED BY visitor; DROP ROLE visitor")
    with least.server.connect() as connection:
        connection.execute("ALTER ROLE least_app IN DATABASE least SET work_mem = '9MB'")
    with connect_as_app(least.server):
        done = least.restore(backup)
    left_out = "which this role may not make, is left out: of role least_app work_mem=9MB."
    assert f"Warning: A setting in the database, {left_out}" in done.stderr
    assert int(TOOK.search(done.stdout)[1]) < 500  # it sees who is idle
    assert "Warning: The backup's privileges are left out, since there is no role visitor; " in done.stderr
    assert_app_may_work(least.server)


def test_trial_of_a_backup(shop, backup, tmp_path):
    """It leaves nothing but a note; the newest backup is tried unless told otherwise."""
    folder = {"BACKUP_FOLDER": str(tmp_path)}

    def verify(*arguments, **options):
        return manage(shop.project, "verify_backup", *arguments, **{**shop.environment, **folder, **options})

    with shop.untouched():
        done = verify(backup)
        assert re.search(r"\.dump: good, \d+ rows of \d+ tables, \d+\.\d s\n$", done.stdout)
        newest = back_up(shop, tmp_path)
        assert str(newest) in verify().stdout
        alter(newest)
        assert_refused(verify(check=False), ".* was altered after it was made: .*")
    with shop.server.connect(shop.name) as connection:
        query = "SELECT name, size > 0 FROM backups_backup WHERE verified_at > now() - interval '1 minute' ORDER BY 1"
        assert connection.execute(query).fetchall() == [(backup.name, True), (newest.name, True)]


# What users of the project see.


@pytest.fixture(scope="module")
def loaded(project, server, tmp_path_factory):
    """The database of a project that is being served, whose only role is nobody in particular."""
    with server.connect() as connection:
        connection.execute(f"CREATE ROLE app LOGIN CREATEDB PASSWORD '{PASSWORD}'")
        connection.execute("CREATE DATABASE app OWNER app")
    shop = Shop(project, server, "app", DB_USER="app")
    manage(project, "migrate", **shop.environment)
    with server.connect("app") as connection:
        connection.execute(f"SET ROLE app; {TABLES}")
    yield shop, back_up(shop, tmp_path_factory.mktemp("loaded"))
    shop.__exit__()
    with server.connect() as connection:
        connection.execute("DROP ROLE app")


@contextlib.contextmanager
def serve(way, shop):
    """Serve the project, in one of the ways to connect."""
    port = str(free_port())
    values = {**shop.environment, **production(shop.server), "PORT": port, "PYTHONPATH": str(shop.project.parents[1])}
    with contextlib.ExitStack() as stack:
        if way == "pgbouncer":
            stack.enter_context(limits_of_the_role(shop.server))
            bouncer = stack.enter_context(pgbouncer(shop.server.port))
            values |= {"DB_PGBOUNCER": "true", "DB_PORT": str(bouncer)}
        line = [sys.executable, "manage.py", "serve", *(["--asgi"] if way == "pool" else [])]
        process, log = stack.enter_context(running(*line, cwd=shop.project, **values))
        site = Site(int(port), process, log)
        wait_until(lambda: process.poll() is not None or site.serves(int(values["WEB_CONCURRENCY"])), 60)
        assert process.poll() is None, log.read_text()
        yield site


@pytest.mark.parametrize("way", ["persistent", "pool", "pgbouncer"])
def test_restore_under_load(way, loaded):
    """No request fails by another answer than 503, and nothing is lost that was acknowledged."""
    shop, backup = loaded
    with serve(way, shop) as site, site.load() as load:
        time.sleep(1)
        began = time.monotonic()
        done = shop.restore(backup)
        ended = time.monotonic()
        time.sleep(1.5)
        logged = site.log.read_text()
    took = int(TOOK.search(done.stdout)[1])
    failed = Answers(answer for answer in load.answers if answer.status != 200)
    print(f"restore: {way}: interrupted for {took} ms, slowest answer {load.answers.slowest():.2f} s; {load.answers}")
    assert failed.statuses().keys() <= {503}
    assert len(failed) <= 12  # each client twice
    assert all(began < answer.ended < ended + 1 for answer in failed)
    assert load.answers.where("one", status=200, begun_after=ended)
    assert "Traceback" not in logged
    written = load.answers.where("write/{}", status=200).numbers()
    found = set()
    for name in shop.databases():
        with shop.server.connect(name) as connection:
            found |= {number for (number,) in connection.execute("SELECT number FROM ledger")}
    assert written <= found
