"""
Everything that an inspection finds, made to happen on servers of the oldest and newest version.

What a finding advises is done where it can be, and the finding is gone.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import psycopg
import pytest
from conftest import PASSWORD, Postgres, manage, postgres, run, unpack, wait_until
from psycopg import errors
from sites import pgbouncer

ONE_VERSION = pytest.mark.parametrize("watched", [18], indirect=True)

# Autovacuum is off, since it would undo what the tests do, save for what it does against the end of transaction ids.
SETTINGS = {
    "archive_mode": "on",
    "archive_command": "true",
    "autovacuum": "off",
    "autovacuum_freeze_max_age": "100000",
    "max_prepared_transactions": "2",
    "shared_buffers": "4MB",
    "shared_preload_libraries": "pg_stat_statements",
}

# Sections that say that there is nothing to read, since no extension is there, and nothing was recorded.
UNREAD = {"slow_queries", "expensive_queries", "history"}

# Asks again and again in one process of the project; a line is what to ask for.
ASK = """
import dataclasses, json, sys
import django
django.setup()
from apps.insight import inspection, sessions
for line in sys.stdin:
    request = json.loads(line)
    sessions.MONTH, sessions.QUESTION_LIMIT, sessions.INSPECTION_LIMIT = request["limits"]
    found = inspection.inspect(keys=request["keys"] or None)
    print(json.dumps(dataclasses.asdict(found), default=str), flush=True)
"""


@pytest.fixture(scope="module", params=[15, 18])
def watched(request, embedded_binaries):
    """A server of each version with a database `shop`, of which statistics are kept."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        binaries = embedded_binaries if request.param == 18 else unpack(request.param, Path(folder))
        with postgres(binaries) as server:
            with server.connect() as connection:
                for name, value in SETTINGS.items():
                    connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
                connection.execute(f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'")
            server.stop("fast")
            server.launch()
            server.variables = {**server.environment("shop"), "DB_SLOW_QUERY": "0.015"}
            yield server


@contextlib.contextmanager
def asking(project, environment):
    """Yield a function that inspects the database: all of it, or one section by its key."""
    process = subprocess.Popen(
        [sys.executable, "-c", ASK],
        cwd=project,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings.development", **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def ask(key="", month=30 * 86400, limit=2.0, total=10.0):
        request = {"keys": [key] if key else [], "limits": [month, limit, total]}
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        found = json.loads(process.stdout.readline())
        return found["sections"][0] if key else found

    with process:
        try:
            yield ask
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def shop(watched, project):
    """A project whose database the server holds, migrated; what it reports before anything is wrong is kept."""
    manage(project, "migrate", **watched.variables)
    watched.checked = check(project, watched)
    return project


@pytest.fixture(scope="module")
def ask(shop, watched):
    with asking(shop, watched.variables) as ask:
        yield ask


@pytest.fixture
def owner(watched, shop):
    """A session of the superuser, and for what the test makes a schema `work` that goes with it."""
    with connect(watched) as connection:
        connection.execute("CREATE SCHEMA work")
        yield connection
        connection.execute("DROP SCHEMA work CASCADE")


@pytest.fixture(scope="module", autouse=True)
def idlers(shop, watched):
    """Two transactions that nobody ends, from the beginning, of which neither keeps VACUUM from anything."""
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(connect(watched, application_name=name)) for name in ("idler", "worker")]
        for connection in found:
            connection.execute("BEGIN; SELECT 'sec' || 'ret'")
        yield found


def connect(server, **options):
    """Return a session with the database that the block closes, whatever has become of it."""
    return contextlib.closing(server.connect("shop", options="-c search_path=work,public", **options))


def check(project, server):
    """Return the app's messages of `check --deploy`."""
    said = manage(project, "check", "--deploy", "--database", "default", check=False, **server.variables).stderr
    return [line.split("(")[1].split(")")[0] for line in said.splitlines() if "(insight." in line]


def find_missing(found):
    """Return the keys of the sections that say why they could not be read."""
    return {section["key"] for section in found["sections"] if section["missing"]}


def texts(section):
    return [finding["text"] for finding in section["findings"]]


def obey(connection, section):
    """Run the statements that findings advise."""
    for finding in section["findings"]:
        connection.execute(finding["remedy"].partition(";")[0])


def write_statistics(server, *statements):
    """Run statements in a session that ends, which makes its statistics seen."""
    with connect(server) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.execute("SELECT pg_stat_force_next_flush()")


# Who does what, and who waits for whom.


def test_chain_of_three_is_told_from_its_root(ask, watched, owner):
    owner.execute("CREATE TABLE chain AS SELECT n FROM generate_series(1, 2) AS n")
    with contextlib.ExitStack() as stack:
        root, middle, last = (
            stack.enter_context(connect(watched, application_name=name)) for name in ("root", "middle", "last")
        )
        root.execute("BEGIN; UPDATE chain SET n = 1 WHERE n = 1")
        middle.execute("BEGIN; UPDATE chain SET n = 2 WHERE n = 2")
        waiters = [
            threading.Thread(target=session.execute, args=["UPDATE chain SET n = 0 WHERE n = %s /* why */", [n]])
            for session, n in ((middle, 1), (last, 2))
        ]
        for waiter in waiters:
            waiter.start()
        pids = [session.info.backend_pid for session in (root, middle, last)]
        wait_until(lambda: ask("blocking")["findings"])
        found = ask("blocking")
        assert [(row["depth"], row["pid"], row["root"]) for row in found["rows"]] == [
            (depth, pid, pids[0]) for depth, pid in enumerate(pids)
        ]
        assert [row["waits_for"] for row in found["rows"]] == [[], pids[:1], pids[1:2]]
        assert found["rows"][1]["query"] == "UPDATE chain SET n = ? WHERE n = $1 /* why */"
        (text,) = texts(found)
        assert text.startswith(f"Session {pids[0]} (owner, root, idle in transaction) holds up 2 others for up to ")
        obey(owner, found)
        waiters[0].join()
        middle.rollback()
        waiters[1].join()
        assert ask("blocking")["rows"] == []


def test_prepared_transaction_that_blocks_is_a_root(ask, watched, owner):
    owner.execute("CREATE TABLE kept (n int)")
    owner.execute("BEGIN; INSERT INTO kept VALUES (1); PREPARE TRANSACTION 'forgotten'")
    with connect(watched) as waiting:
        waiter = threading.Thread(target=waiting.execute, args=["DROP TABLE kept"])
        waiter.start()
        wait_until(lambda: ask("blocking")["findings"])
        found, pid = ask("blocking"), waiting.info.backend_pid
        owner.execute("ROLLBACK PREPARED 'forgotten'")
        waiter.join()
    assert texts(found)[0].startswith("A prepared transaction holds up another session for up to ")
    assert [row["pid"] for row in found["rows"]] == [0, pid]


def test_activity_has_queries_without_their_values(ask, idlers):
    rows = {row["application"]: row for row in ask("activity")["rows"]}
    assert rows["idler"]["state"] == "idle in transaction"
    assert rows["idler"]["query"] == "BEGIN; SELECT ? || ?"
    assert rows["idler"]["transaction_seconds"] > 0


def test_connections_near_their_maximum_and_the_most_expensive_query(ask, watched, owner):
    owner.execute("CREATE EXTENSION pg_stat_statements SCHEMA work")
    assert texts(ask("connections")) == []
    with contextlib.ExitStack() as stack:
        many = [stack.enter_context(connect(watched, application_name="many")) for _ in range(80)]
        for session in many:
            session.pgconn.send_query(b"SELECT pg_sleep(0.8)")
        found = ask("connections")
        (text,) = texts(found)
        assert " of 97 connections are in use (" in text
        assert next(row for row in found["rows"] if row["application"] == "many")["count"] == 80
        for session in many:
            while session.pgconn.get_result():
                pass
    found = ask("expensive_queries")
    assert "of the time of all queries" in texts(found)[0]
    assert found["rows"][0]["query"] == "SELECT pg_sleep($1)"
    owner.execute("SELECT pg_stat_statements_reset()")
    assert texts(ask("expensive_queries")) == []
    wait_until(lambda: not texts(ask("connections")))


# Queries.


def test_missing_extension_is_told_in_words(ask, owner):
    found = ask("slow_queries")
    assert found["missing"] == "The extension is not there: CREATE EXTENSION pg_stat_statements."
    assert found["rows"] == []


def test_slow_query_is_found_in_whichever_schema_the_statistics_are(ask, owner):
    owner.execute('CREATE SCHEMA "its own"; CREATE EXTENSION pg_stat_statements SCHEMA "its own"')
    for _ in range(10):
        owner.execute("SELECT pg_sleep(0.02), 'slow'")
    found = ask("slow_queries")
    (text,) = texts(found)
    assert text.endswith(" s in the mean of 10 calls: whoever needs it waits as long.")
    assert found["rows"][0]["query"] == "SELECT pg_sleep($1), $2"
    owner.execute('DROP SCHEMA "its own" CASCADE')


@ONE_VERSION
def test_extension_without_its_library_is_told_in_words(project, server):
    environment = server.environment("unloaded")
    with server.connect("unloaded") as connection:
        connection.execute("CREATE EXTENSION pg_stat_statements")
    with asking(project, environment) as ask:
        assert "shared_preload_libraries" in ask("slow_queries")["missing"]


# Indexes and tables.


def test_unused_and_duplicate_indexes(ask, watched, owner):
    owner.execute("CREATE TABLE item AS SELECT n, n % 7 AS kind FROM generate_series(1, 60000) AS n")
    owner.execute("CREATE INDEX by_kind ON item (kind)")
    owner.execute("CREATE INDEX by_both ON item (kind, n)")
    owner.execute("CREATE INDEX by_both_again ON item (kind, n)")
    owner.execute("CREATE INDEX by_other ON item (kind DESC)")
    owner.execute("CREATE INDEX by_some ON item (kind) WHERE n > 5")
    assert texts(ask("unused_indexes")) == []  # who knows after a day?
    assert {row["name"] for row in ask("unused_indexes")["rows"]} >= {"work.by_kind", "work.by_both"}
    large = [text.split(" (")[0] for text in texts(ask("unused_indexes", month=0))]
    assert sorted(large) == [f"Index work.{name} of work.item" for name in ("by_both", "by_both_again")]
    write_statistics(watched, "SET enable_seqscan = off; SELECT count(*) FROM item WHERE kind = 1 AND n = 1")
    assert len(texts(ask("unused_indexes", month=0))) == 1
    found = ask("duplicate_indexes")
    assert {(row["name"], row["covered_by"]) for row in found["rows"] if row["table"] == "work.item"} == {
        ("work.by_kind", "work.by_both"),
        ("work.by_both_again", "work.by_both"),
    }
    assert "does nothing that work.by_both does not: it only costs." in texts(found)[0]
    obey(owner, found)
    assert texts(ask("duplicate_indexes")) == []


def test_duplicate_constraint_is_dropped_as_one(ask, owner):
    owner.execute("CREATE TABLE item AS SELECT n FROM generate_series(1, 60000) AS n")
    owner.execute("ALTER TABLE item ADD PRIMARY KEY (n), ADD CONSTRAINT twice UNIQUE (n)")
    obey(owner, ask("duplicate_indexes"))
    assert texts(ask("duplicate_indexes")) == []
    assert owner.execute("SELECT count(*) FROM pg_constraint WHERE conname = 'twice'").fetchone() == (0,)


def test_invalid_index_of_a_build_that_failed(ask, owner):
    owner.execute("CREATE TABLE item AS SELECT 1 AS n FROM generate_series(1, 2)")
    with pytest.raises(errors.UniqueViolation):
        owner.execute("CREATE UNIQUE INDEX CONCURRENTLY one ON item (n)")
    found = ask("invalid_indexes")
    assert texts(found) == ["Index work.one of work.item is invalid: it is written to, but never used."]
    with pytest.raises(errors.UniqueViolation):
        owner.execute("REINDEX INDEX CONCURRENTLY one")
    assert len(texts(ask("invalid_indexes"))) == 2
    owner.execute("DELETE FROM item WHERE ctid = '(0,1)'")
    leftover, invalid = sorted(ask("invalid_indexes")["findings"], key=lambda finding: finding["remedy"])
    assert leftover["remedy"] == "DROP INDEX CONCURRENTLY work.one_ccnew;"
    obey(owner, {"findings": [leftover, invalid]})
    assert texts(ask("invalid_indexes")) == []


def test_index_that_is_being_built_is_not_invalid(ask, watched, owner):
    owner.execute("CREATE TABLE item AS SELECT 1 AS n")
    with connect(watched) as building, connect(watched) as writing:
        writing.execute("BEGIN; INSERT INTO item VALUES (2)")
        builder = threading.Thread(target=building.execute, args=["CREATE INDEX CONCURRENTLY one ON item (n)"])
        builder.start()
        wait_until(lambda: ask("maintenance")["rows"])
        (row,) = ask("maintenance")["rows"]
        assert (row["task"], row["name"]) == ("create index concurrently", "work.item")
        assert owner.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = 'one'::regclass").fetchone() == (
            False,
        )
        assert texts(ask("invalid_indexes")) == []
        writing.rollback()
        builder.join()


def test_missing_indexes(ask, watched, owner):
    owner.execute("CREATE TABLE customer (id int PRIMARY KEY)")
    owner.execute("CREATE TABLE item (id int PRIMARY KEY, customer int REFERENCES customer (id))")
    filling = "INSERT INTO customer SELECT 1", "INSERT INTO item SELECT n, 1 FROM generate_series(1, 10001) AS n"
    write_statistics(watched, *filling, *["SELECT count(*) FROM item WHERE customer = 2"] * 50)
    found = ask("missing_indexes")
    assert sorted(texts(found)) == [
        "Foreign key customer of work.item (10001 rows) has no index: each deletion of what it refers to reads the "
        "whole table.",
        "Table work.item was read as a whole 50 times, 10001 rows each time: an index would find the few that were "
        "wanted.",
    ]
    obey(owner, {"findings": [finding for finding in found["findings"] if "CREATE" in finding["remedy"]]})
    assert len(texts(ask("missing_indexes"))) == 1


def test_bloat_of_a_table_and_its_index(ask, owner):
    owner.execute("CREATE TABLE item AS SELECT n, repeat('x', 250) AS text FROM generate_series(1, 75000) AS n")
    owner.execute("CREATE INDEX by_text ON item (n, text)")
    owner.execute("VACUUM ANALYZE item")
    assert texts(ask("bloat")) == []
    owner.execute("DELETE FROM item WHERE n % 10 < 7")
    owner.execute("VACUUM ANALYZE item")
    found = ask("bloat")
    assert {row["name"]: row["kind"] for row in found["rows"]} == {"work.item": "table", "work.by_text": "index"}
    assert all(60 < row["share"] < 75 for row in found["rows"])
    owner.execute("REINDEX INDEX CONCURRENTLY by_text")
    owner.execute("VACUUM (FULL, ANALYZE) item")
    assert ask("bloat")["rows"] == []


def test_dead_rows_and_a_table_that_was_never_analysed(ask, watched, owner):
    owner.execute("CREATE TABLE item (n int)")
    write_statistics(watched, "INSERT INTO item SELECT generate_series(1, 1000)")
    found = ask("vacuum")
    assert texts(found) == [
        "Table work.item was never analysed, though 1000 of its rows are new: queries are planned blindly."
    ]
    obey(owner, found)
    assert texts(ask("vacuum")) == []
    write_statistics(watched, "INSERT INTO item SELECT generate_series(1, 20000)", "DELETE FROM item WHERE n > 10000")
    found = ask("vacuum")
    assert texts(found) == [
        "10000 rows of table work.item are dead (47.6 %): autovacuum does not keep up, or is held back."
    ]
    obey(owner, found)
    assert texts(ask("vacuum")) == []


def test_sequences_near_their_end(ask, owner):
    owner.execute("CREATE SEQUENCE small AS smallint")
    owner.execute("CREATE SEQUENCE limited MAXVALUE 1000")
    owner.execute("CREATE SEQUENCE endless")
    owner.execute("CREATE SEQUENCE again AS smallint CYCLE")
    owner.execute("CREATE TABLE item (id int)")  # whose sequence outlives its column
    owner.execute("CREATE SEQUENCE of_item OWNED BY item.id")
    for name, value in {
        "small": 30_000,
        "limited": 799,
        "endless": 2**62,
        "again": 32_000,
        "of_item": 2**31 - 9,
    }.items():
        owner.execute(f"SELECT setval('{name}', {value})")
    found = ask("sequences")
    names = [row["name"].removeprefix("work.") for row in found["rows"]]
    assert names[:3] == ["of_item", "small", "limited"]
    assert not {"endless", "again"} & set(names)
    assert found["rows"][0]["column"] == "work.item.id"
    assert texts(found) == [
        "Sequence work.of_item has used 100.0 % of 2147483647 numbers: at the end no row can be added.",
        "Sequence work.small has used 91.6 % of 32767 numbers: at the end no row can be added.",
    ]
    owner.execute("ALTER TABLE item ALTER id TYPE bigint; ALTER SEQUENCE small AS bigint")
    assert texts(ask("sequences")) == []


def test_reads_that_miss_the_cache(ask, watched, owner):
    owner.execute("CREATE TABLE item AS SELECT n, repeat('x', 900) AS text FROM generate_series(1, 12000) AS n")
    owner.execute("SELECT pg_stat_reset()")
    assert texts(ask("cache")) == []
    write_statistics(watched, *["SELECT count(*) FROM item"] * 75)
    (text,) = texts(ask("cache"))
    assert text.startswith("Only ")
    assert {row["name"] for row in ask("cache")["rows"]} == {"database", "indexes", "tables"}
    owner.execute("SELECT pg_stat_reset()")
    assert texts(ask("cache")) == []
    assert ask("tables")["rows"][0]["name"] == "work.item"


# The server.


def test_slot_that_nobody_uses_and_one_that_is_lost(ask, watched, owner):
    owner.execute("SELECT pg_create_physical_replication_slot('forgotten', true)")
    found = ask("slots")
    assert texts(found)[0].startswith("Replication slot forgotten is used by nobody and keeps ")
    owner.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
    owner.execute("SELECT pg_reload_conf()")
    owner.execute("SELECT pg_logical_emit_message(false, '', repeat('x', 1000000)) FROM generate_series(1, 40)")
    owner.execute("SELECT pg_switch_wal()")
    owner.execute("CHECKPOINT")
    wait_until(lambda: texts(ask("slots")) == ["Replication slot forgotten is lost: who reads it cannot go on."])
    owner.execute("ALTER SYSTEM RESET max_slot_wal_keep_size")
    owner.execute("SELECT pg_reload_conf()")
    owner.execute("SELECT pg_drop_replication_slot('forgotten')")
    assert ask("slots")["rows"] == []


def test_early_checkpoints_and_an_archive_that_fails(ask, owner):
    owner.execute("SELECT pg_stat_reset_shared('bgwriter'), pg_stat_reset_shared('archiver')")
    with contextlib.suppress(errors.InvalidParameterValue):  # before 17
        owner.execute("SELECT pg_stat_reset_shared('checkpointer')")
    assert texts(ask("checkpoints")) == []
    for _ in range(10):
        owner.execute("SELECT pg_logical_emit_message(true, '', '')")
        owner.execute("CHECKPOINT")
    wait_until(lambda: len(texts(ask("checkpoints"))) == 1)
    assert " of 10 checkpoints came before their time" in texts(ask("checkpoints"))[0]
    owner.execute("ALTER SYSTEM SET archive_command = 'false'")
    owner.execute("SELECT pg_reload_conf()")
    owner.execute("SELECT pg_switch_wal()")
    wait_until(lambda: len(texts(ask("checkpoints"))) == 2)
    assert texts(ask("checkpoints"))[1].startswith("The archive does not take 0000")
    owner.execute("ALTER SYSTEM SET archive_command = 'true'")
    owner.execute("SELECT pg_reload_conf()")
    wait_until(lambda: len(texts(ask("checkpoints"))) == 1)


def test_dangerous_settings(ask, owner):
    assert sorted(text.split()[0] for text in texts(ask("settings"))) == ["autovacuum", "fsync"]  # as the tests have it
    assert {"name": "track_io_timing", "value": "off", "look": "off: nobody sees how long the disk takes"} in ask(
        "settings"
    )["rows"]


@ONE_VERSION
def test_standby_that_is_behind(ask, watched, shop, owner):
    with tempfile.TemporaryDirectory() as folder:
        standby = Postgres(watched.binaries, Path(folder))
        if standby.user:
            run("chown", "nobody", folder, cwd="/")
        source = f"host=127.0.0.1 port={watched.port} user=owner password={PASSWORD} application_name=second"
        options = "--checkpoint=fast", "--no-sync", "--write-recovery-conf"
        standby.run("pg_basebackup", "--dbname", source, "--pgdata", Path(folder, "data"), *options)
        standby.launch()
        try:
            wait_until(lambda: ask("replication")["rows"])
            assert texts(ask("replication")) == []
            with standby.connect() as second:
                second.execute("SELECT pg_wal_replay_pause()")
                wait_until(lambda: second.execute("SELECT pg_get_wal_replay_pause_state()").fetchone() == ("paused",))
                owner.execute(
                    "SELECT pg_logical_emit_message(false, '', repeat('x', 1000000)) FROM generate_series(1, 70)"
                )
                wait_until(lambda: texts(ask("replication")))
                assert texts(ask("replication"))[0].startswith("Standby second is behind by ")
                with asking(shop, {**watched.variables, **look_at(standby)}) as ask_standby:
                    found = ask_standby()
                    (row,) = ask_standby("replication")["rows"]
                    wait_until(lambda: texts(ask_standby("replication")))
                assert (row["name"], row["state"]) == ("this server", "paused")
                assert find_missing(found) <= UNREAD
                second.execute("SELECT pg_wal_replay_resume()")
            wait_until(lambda: not texts(ask("replication")))
        finally:
            standby.stop()


def look_at(standby):
    return {"DB_PORT": str(standby.port), "DB_TARGET_SESSION_ATTRS": "any"}


# Who asks.


def test_monitor_asks_where_it_can_and_else_a_role_that_sees_only_its_own(shop, watched, owner):
    owner.execute("CREATE ROLE shop_monitor LOGIN PASSWORD 'monitor-Secret4' IN ROLE pg_monitor")
    owner.execute("GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO app")
    environment = {**watched.variables, "DB_USER": "app", "DB_MONITOR_PASSWORD": "monitor-Secret4"}
    with asking(shop, environment) as ask:
        found = ask()
        assert (found["user"], found["notes"]) == ("shop_monitor", [])
        sections = {section["key"]: section for section in found["sections"]}
        assert any(row["application"] == "idler" for row in sections["activity"]["rows"])
        assert sections["sequences"]["rows"]  # which the monitor may not read
        owner.execute("ALTER ROLE shop_monitor PASSWORD 'another'")
        found = ask()
    assert found["user"] == "app"
    refused, limited = found["notes"]
    assert refused.startswith(
        "The monitor cannot log in, so that app asks. Authentication failed for user 'shop_monitor'."
    )
    assert limited == (
        "app is no member of pg_monitor: what other roles do is not seen. "
        "Set DB_MONITOR_PASSWORD, or GRANT pg_monitor to it."
    )
    assert find_missing(found) <= UNREAD
    assert "ecret" not in json.dumps(found)


@ONE_VERSION
def test_inspection_through_pgbouncer_leaves_nothing_in_the_session(shop, watched, owner):
    owner.execute("CREATE DATABASE app OWNER owner")
    with pgbouncer(watched.port) as port:
        environment = {**watched.variables, "DB_USER": "app", "DB_NAME": "app", "DB_PORT": str(port)}
        with asking(shop, {**environment, "DB_PGBOUNCER": "true"}) as ask:
            found = ask()
        assert find_missing(found) <= UNREAD
        names = {"host": "127.0.0.1", "port": port, "user": "app", "dbname": "app", "password": PASSWORD}
        with psycopg.connect(**names, autocommit=True) as connection:
            assert connection.execute("SHOW statement_timeout").fetchone() == ("0",)
            assert connection.execute("SHOW transaction_read_only").fetchone() == ("off",)


def test_section_that_would_wait_or_take_too_long_fails_alone(ask, watched, owner):
    with connect(watched) as locking:
        locking.execute("BEGIN; LOCK TABLE pg_sequence")
        found = {section["key"]: section["missing"] for section in ask()["sections"]}
        locking.rollback()
    assert found["sequences"] == "Somebody holds a lock that it would have to wait for."
    assert found["tables"] == found["settings"] == ""


def test_locked_table_holds_up_nothing(ask, watched, owner):
    owner.execute("CREATE TABLE item AS SELECT n FROM generate_series(1, 20000) AS n")
    with connect(watched) as locking:
        locking.execute("BEGIN; LOCK TABLE item")
        found = ask()
        locking.rollback()
    assert find_missing(found) <= UNREAD


def test_question_and_inspection_end_after_their_time(ask, owner):
    owner.execute("CREATE EXTENSION pg_stat_statements SCHEMA work")
    owner.execute("ALTER EXTENSION pg_stat_statements DROP VIEW pg_stat_statements")
    owner.execute("ALTER VIEW pg_stat_statements RENAME TO fast")
    owner.execute("CREATE VIEW work.pg_stat_statements AS SELECT fast.* FROM fast, pg_sleep(60)")
    assert ask("slow_queries", limit=0.1)["missing"] == "It took longer than the 2 seconds that a question may take."
    found = {section["key"]: section["missing"] for section in ask(total=0.5)["sections"]}
    assert found["activity"] == found["connections"] == ""
    assert found["slow_queries"] == "It took longer than the 2 seconds that a question may take."
    for key in ("expensive_queries", "settings"):
        assert found[key] == "The other questions took all of the 10 seconds that an inspection may take."


# The command.


@ONE_VERSION
def test_command_tells_findings_first_and_ends_well(shop, watched, owner):
    done = manage(shop, "inspect_database", "--section", "settings", "connections", **watched.variables)
    first, _, rest = done.stdout.partition("\n\n")
    assert first.startswith("shop, PostgreSQL 1")
    assert rest.startswith("! autovacuum is off: ")
    assert rest.index("! fsync is off") < rest.index("Connections [connections]") < rest.index("[settings]")
    assert done.stderr == ""


@ONE_VERSION
def test_command_records_a_sample(shop, watched, owner):
    done = manage(shop, "inspect_database", "--record", **watched.variables)
    assert (done.stdout, done.stderr) == ("", "")
    assert owner.execute("SELECT count(*) FROM insight_sample").fetchone() == (1,)


@ONE_VERSION
def test_command_that_cannot_log_in_says_so_in_a_sentence(shop, watched):
    done = manage(shop, "inspect_database", check=False, **{**watched.variables, "DB_PASSWORD": "wrong-Secret"})
    assert done.returncode == 1
    assert done.stderr.startswith("CommandError: Authentication failed for user 'owner'.")
    assert len(done.stderr.splitlines()) == 1
    assert "Secret" not in done.stderr


# What takes its time: last, so that most of it has gone by.


def test_long_transactions(ask, watched, owner, idlers):
    _, worker = idlers
    worker.pgconn.send_query(b"SELECT pg_sleep(600)")
    wait_until(lambda: len(texts(ask("long_running"))) == 2, 20)
    found = ask("long_running")
    says = {text.split(")")[0].split(", ")[1]: text for text in texts(found)}
    assert ", and does nothing: " in says["idler"]
    assert ", and works: " in says["worker"]
    obey(owner, found)
    wait_until(lambda: len(texts(ask("long_running"))) <= 1)
    worker.close()
    wait_until(lambda: texts(ask("long_running")) == [])


def test_checks_report_what_comes_to_an_end(ask, shop, watched, owner):
    assert watched.checked == []
    with connect(watched) as holding:
        holding.execute("BEGIN; SELECT pg_current_xact_id()")  # lest autovacuum renews what is older
        owner.execute("CREATE TABLE burnt (n int)")
        owner.execute(
            "DO $$ BEGIN FOR n IN 1..126000 LOOP BEGIN INSERT INTO burnt VALUES (n); "
            "EXCEPTION WHEN division_by_zero THEN END; END LOOP; END $$"
        )
        assert "as old as where autovacuum begins to renew them" in texts(ask("wraparound"))[0]
        owner.execute("CREATE SEQUENCE small AS smallint; SELECT setval('small', 30000)")
        owner.execute("SELECT pg_create_physical_replication_slot('forgotten', true)")
        with pytest.raises(errors.NumericValueOutOfRange):
            owner.execute("CREATE INDEX CONCURRENTLY broken ON burnt (((n + 2147483647)))")
        assert sorted(set(check(shop, watched))) == [f"insight.W00{n}" for n in (1, 2, 3, 4)]
        holding.rollback()
    owner.execute("DROP TABLE burnt; DROP SEQUENCE small; SELECT pg_drop_replication_slot('forgotten')")
