"""
`migrate` by any number of processes at once, behind other sessions' locks, cut off half-way, and in all of its forms.

They migrate a rendered project with an app more, on the oldest supported PostgreSQL and the newest, and print figures:
`ROUNDS=10 pytest tests/test_migrating.py -k "at_once or pgbouncer" -rP | grep migrating:`.
"""

import contextlib
import copy
import functools
import os
import re
import shutil
import signal
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import PASSWORD, manage, postgres, render, run, running, unpack, wait_until, wait_until_stopped
from sites import pgbouncer

pytestmark = pytest.mark.long

ROUNDS = int(os.environ.get("ROUNDS", "1"))
CROWD = 8 if ROUNDS > 1 else 4  # where the way to connect is what differs
LOCK = "{}, {}".format(*(int.from_bytes(half) for half in (b"djan", b"migr")))

FILES = {
    "shop_settings.py": """
        import os
        from config.settings.development import *

        INSTALLED_APPS = [*(app for app in INSTALLED_APPS if app != os.environ.get("WITHOUT")), "shop"]
        DATABASES["second"] = {**DATABASES["default"], "NAME": "second"}
        DATABASES["light"] = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    """,
    "shop/__init__.py": "",
    "shop/models.py": """
        from django.db import models


        class Item(models.Model):
            name = models.CharField(max_length=50)
            price = models.IntegerField(default=0)
            note = models.TextField(default="")

            class Meta:
                indexes = [models.Index(fields=["name"], name="item_name")]
    """,
    "shop/migrations/__init__.py": "",
    "shop/migrations/0001_initial.py": """
        from django.db import migrations, models


        class Migration(migrations.Migration):
            initial = True
            operations = [
                migrations.CreateModel(
                    "Item",
                    [("id", models.BigAutoField(primary_key=True)), ("name", models.CharField(max_length=50))],
                )
            ]
    """,
    "shop/migrations/0002_index.py": """
        from django.contrib.postgres.operations import AddIndexConcurrently
        from django.db import migrations, models


        class Migration(migrations.Migration):
            atomic = False
            dependencies = [("shop", "0001_initial")]
            operations = [AddIndexConcurrently("item", models.Index(fields=["name"], name="item_name"))]
    """,
    "shop/migrations/0003_price.py": """
        import os
        import time
        from pathlib import Path

        from django.db import migrations, models


        def rest(apps, editor):
            editor.execute("INSERT INTO shop_item (name, price) VALUES ('half-way', 1)")
            while Path(os.environ.get("RESTING", "/nowhere")).exists():
                time.sleep(0.05)


        class Migration(migrations.Migration):
            dependencies = [("shop", "0002_index")]
            operations = [
                migrations.AddField("item", "price", models.IntegerField(default=0)),
                migrations.RunPython(rest, migrations.RunPython.noop),
            ]
    """,
    "shop/migrations/0004_note.py": """
        from django.db import migrations, models


        class Migration(migrations.Migration):
            atomic = False
            dependencies = [("shop", "0003_price")]
            operations = [
                migrations.AddField("item", "note", models.TextField(default="")),
                migrations.RunSQL("UPDATE django_content_type SET model = model", migrations.RunSQL.noop),
            ]
    """,
}

APPLIED = "SELECT name FROM django_migrations WHERE app = 'shop' ORDER BY id"
COLUMNS = "SELECT column_name FROM information_schema.columns WHERE table_name = 'shop_item'"
VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('item_name')"
SESSIONS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'manage.py migrate' AND datname = 'shop'"
HOLDERS = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"
LAST_ASKED = HOLDERS.replace("pid FROM pg_locks", "state_change FROM pg_locks JOIN pg_stat_activity USING (pid)")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """One with a shop, whose settings can leave out an app."""
    project = render(tmp_path_factory.mktemp("migrating"))
    for name, text in FILES.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(textwrap.dedent(text).lstrip())
    return project


@pytest.fixture(scope="module")
def shops(project, embedded_binaries):
    """Return the shop on a server of a version, started when first asked for."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def start(major):
            binaries = embedded_binaries
            if major != 18:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                folder.chmod(0o755)  # the server's user is another where the tests' is root
                binaries = unpack(major, folder)
            return Shop(project, stack.enter_context(postgres(binaries)))

        yield start


@pytest.fixture
def shop(request, shops):
    """The shop on the newest PostgreSQL, or on which one the test is for."""
    return shops(getattr(request, "param", 18))


BOTH = pytest.mark.parametrize("shop", [15, 18], indirect=True)


class Shop:
    """
    The project, on the database `shop` of a server.

    Beside it are databases to copy: `whole` lacks nothing, and `half` lacks the last two migrations.
    """

    def __init__(self, project, server):
        self.project, self.server = project, server
        limits = {"DJANGO_SETTINGS_MODULE": "shop_settings", "DB_MIGRATE_LOCK_TIMEOUT": "1"}
        self.environment = server.environment("shop") | limits
        self.migrate()
        self.copy("shop", "whole")
        self.migrate("shop", "0002")
        self.ask("DELETE FROM shop_item RETURNING 1")
        self.copy("shop", "half")

    def copy(self, template, name="shop"):
        """Make one database anew like another; `template0` is empty."""
        with self.server.connect() as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")

    def connect(self, **options):
        return self.server.connect("shop", **options)

    def ask(self, question):
        with self.connect() as connection:
            return [value for (value,) in connection.execute(question)]

    def manage(self, *arguments, **options):
        return manage(self.project, *arguments, **{**self.environment, **options})

    def migrate(self, *arguments, **options):
        return self.manage("migrate", *arguments, **options)

    def migrate_at_once(self, number, title, **options):
        """Run so many, let each come to its end, say how it went, and return them."""
        began = time.monotonic()
        with ThreadPoolExecutor(number) as pool:
            done = list(pool.map(lambda _: self.migrate(check=False, **options), range(number)))
        failed = [process.stderr.strip().rpartition("\n")[2] for process in done if process.returncode]
        figures = f"{number - len(failed)} of {number} succeed, {time.monotonic() - began:.1f} s"
        print(f"migrating: {number} at once, {title}: {figures}", *failed, sep="; ")
        return done

    @contextlib.contextmanager
    def migrating(self, *arguments, **environment):
        """Run one inside the block, in the background."""
        command = sys.executable, "manage.py", "migrate", *arguments
        with running(*command, cwd=self.project, **{**self.environment, **environment}) as (process, log):
            yield Migrating(process, log)


class Migrating:
    """A `migrate` in the background."""

    def __init__(self, process, log):
        self.process, self.log = process, log

    def says(self, text):
        return re.search(text, self.log.read_text())

    def wait_for(self, text):
        wait_until(lambda: self.says(text) or self.process.poll() is not None, 30)
        assert self.says(text), self.log.read_text()

    def end(self):
        """Return the code with which it ends, and all that it said."""
        return self.process.wait(60), self.log.read_text()


@pytest.fixture
def rest(tmp_path):
    """A file while which exists, 0003 waits with its work half done."""
    file = tmp_path / "rest"
    file.touch()
    return file


def assert_one_applied(done):
    """The others say that there is nothing left; some come late enough not to wait, or to make content types, too."""
    assert [process.stderr for process in done if process.returncode] == []
    (applied,) = (process for process in done if "Applying shop.0002_index... OK" in process.stdout)
    assert re.search(r"Applying shop\.0004_note\.\.\. OK \(\d+\.\d+s\)", applied.stdout)
    assert all("No migrations to apply." in process.stdout for process in done if process is not applied)


@pytest.mark.parametrize(("number", "shop"), [(2, 18), (8, 15), (8, 18)], indirect=["shop"])
def test_any_number_at_once_migrate_an_empty_database(shop, number):
    """One of the migrations makes an index concurrently, which must not wait for those that wait for it."""
    for _ in range(ROUNDS):
        shop.copy("template0")
        assert_one_applied(shop.migrate_at_once(number, "empty"))
        assert shop.ask(APPLIED) == ["0001_initial", "0002_index", "0003_price", "0004_note"]
        assert shop.ask(VALID) == [True]


def test_djangos_own_fails_where_eight_migrate_at_once(shop):
    """Which shows that the race is one."""
    for _ in range(max(5, ROUNDS)):
        shop.copy("template0")
        done = shop.migrate_at_once(8, "empty, Django's own", WITHOUT="apps.schema")
        if any(process.returncode for process in done) and ROUNDS == 1:
            break
    else:
        assert ROUNDS > 1, "it never failed"


@pytest.fixture(scope="module")
def bouncer(shops):
    """The variables that lead through a pgbouncer to a database of the role `app`, and those that lead round it."""
    shop = shops(18)
    with shop.server.connect() as connection:
        connection.execute(f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'")
    with pgbouncer(shop.server.port) as port:
        through = {"DB_PGBOUNCER": "true", "DB_PORT": str(port), "DB_NAME": "app", "DB_USER": "app"}
        yield through, {"DB_DIRECT_HOST": "127.0.0.1", "DB_DIRECT_PORT": str(shop.server.port)}


def test_pgbouncer_that_is_bypassed_changes_nothing(shop, bouncer):
    through, round_it = bouncer
    for _ in range(ROUNDS):
        make_empty(shop)
        assert_one_applied(shop.migrate_at_once(CROWD, "empty, round pgbouncer", **through, **round_it))


def test_lock_through_pgbouncer_is_refused(shop, bouncer):
    """The session behind it changes from statement to statement; without anything to apply there is no lock."""
    through, round_it = bouncer
    make_empty(shop)
    done = shop.migrate(check=False, **through)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"CommandError: .*DB_PGBOUNCER.*DB_DIRECT_HOST.*\.", done.stderr.splitlines()[-1])
    shop.migrate(**through, **round_it)
    assert "No migrations to apply." in shop.migrate(**through).stdout


def test_test_run_bypasses_pgbouncer(shop, bouncer):
    """It makes a database, and migrates it."""
    through, round_it = bouncer
    make_empty(shop)
    with shop.connect() as connection:
        connection.execute("ALTER ROLE app CREATEDB")
    environment = {**shop.environment, **through, **round_it, "DJANGO_SETTINGS_MODULE": "config.settings.testing"}
    command = sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/test_database.py"
    assert " passed" in run(*command, cwd=shop.project, **environment).stdout


def make_empty(shop):
    shop.copy("template0", "app")
    with shop.connect() as connection:
        connection.execute("ALTER DATABASE app OWNER TO app")


def test_pool_changes_nothing(shop):
    for _ in range(ROUNDS):
        shop.copy("template0")
        assert_one_applied(shop.migrate_at_once(CROWD, "empty, pool", DB_POOL="true"))


def test_embedded_server_changes_nothing(shop):
    """Which all of them start, too."""
    for _ in range(ROUNDS):
        shutil.rmtree(shop.project / ".postgres", ignore_errors=True)
        assert_one_applied(shop.migrate_at_once(CROWD, "empty, embedded", DB_EMBEDDED="true"))
        wait_until_stopped(shop.project)


def test_nothing_to_apply_needs_no_lock(shop):
    shop.copy("whole")
    with shop.connect() as holder:
        holder.execute(f"SELECT pg_advisory_lock({LOCK})")
        done = shop.migrate_at_once(8, "nothing to apply, lock held")
    assert [process.returncode for process in done] == [0] * 8
    assert all("No migrations to apply." in process.stdout for process in done)


def test_what_two_make_beside_migrations_fails_neither(shop):
    """As after a migrate that was killed before its end: they find nothing to apply, and make the same."""
    shop.copy("whole")
    with shop.connect() as connection:
        connection.execute("TRUNCATE auth_permission CASCADE; DELETE FROM django_content_type WHERE app_label = 'shop'")
    waiting = f"{SESSIONS} AND wait_event_type = 'Lock'"
    with shop.connect() as other, shop.migrating(DB_MIGRATE_LOCK_TIMEOUT="30") as migrating:
        other.execute("BEGIN")
        other.execute("INSERT INTO django_content_type (app_label, model) VALUES ('shop', 'item')")
        wait_until(lambda: shop.ask(waiting), 30)
        other.commit()
        code, said = migrating.end()
    assert code == 0, said
    assert "once more, under the lock" in said


def test_loser_waits_then_finds_nothing(shop, rest):
    shop.copy("half")
    waits = r"Waiting for another migrate to end: pid (\d+) \(owner, manage\.py migrate\), begun \d+ s ago\."
    with shop.migrating(RESTING=str(rest)) as winner:
        winner.wait_for("Applying shop.0003_price")
        with shop.migrating() as loser:
            loser.wait_for(waits)
            assert [int(loser.says(waits)[1])] == shop.ask(HOLDERS)
            rest.unlink()
            assert winner.end()[0] == 0
            code, said = loser.end()
    assert code == 0
    assert "No migrations to apply." in said
    assert shop.ask(HOLDERS) == []


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_run_that_is_ended_leaves_nothing_locked(shop, rest, end):
    """What it had half done is rolled back, and the next one goes on."""
    shop.copy("half")
    with shop.migrating(RESTING=str(rest)) as migrating:
        wait_until(lambda: shop.ask("SELECT 1 FROM pg_locks WHERE relation = 'shop_item'::regclass"), 30)
        migrating.process.send_signal(end)
        migrating.end()
    began = time.monotonic()
    done = shop.migrate()
    assert time.monotonic() - began < 20
    assert "Waiting" not in done.stdout
    assert shop.ask("SELECT name FROM shop_item") == ["half-way"]
    assert shop.ask(APPLIED)[-2:] == ["0003_price", "0004_note"]
    assert shop.ask(SESSIONS) == []


HEAD = "from django.db import migrations\n\n\nclass Migration(migrations.Migration):\n"
EFFECT = """
    import os
    import time
    from pathlib import Path

    from django.db import migrations


    def add(editor):
        editor.execute("INSERT INTO shop_item (name, price, note) VALUES ('effect', 1, '')")


    def rest():
        while Path(os.environ.get("RESTING", "/nowhere")).exists():
            time.sleep(0.05)


    def change(apps, editor):
        {}


    class Migration(migrations.Migration):
        atomic = {}
        dependencies = [("shop", "0004_note")]
        operations = [migrations.RunPython(change, {})]
"""
ADD = "INSERT INTO shop_item VALUES (DEFAULT, 'effect', 1, '')"
CLOSE = "if not os.environ.get('KEEP'): editor.connection.close()"


@pytest.fixture
def shop_with_effect(shop, tmp_path):
    """Return a function that makes the shop's fifth migration, a change of data and of nothing else."""
    shop.copy("whole")
    changed = copy.copy(shop)
    changed.project = Path(shutil.copytree(shop.project, tmp_path / "project"))

    def add(*lines, atomic, backwards="migrations.RunPython.noop"):
        text = textwrap.dedent(EFFECT).format("\n    ".join(lines), atomic, backwards)
        (changed.project / "shop" / "migrations" / "0005_effect.py").write_text(text.lstrip())
        return changed

    return add


def count_effects(shop):
    return len(shop.ask("SELECT 1 FROM shop_item WHERE name = 'effect'"))


CHANGES = {
    "atomic": (True, "add(editor)", "rest()"),
    "not atomic": (False, "rest()", "add(editor)"),
    "reconnecting": (False, "rest()", CLOSE, "add(editor)"),
}


@pytest.mark.parametrize("ended", [HOLDERS, SESSIONS], ids=["holder", "all sessions"])
@pytest.mark.parametrize(("atomic", "lines"), [(atomic, lines) for atomic, *lines in CHANGES.values()], ids=CHANGES)
def test_effect_is_there_once_where_the_sessions_of_a_run_are_ended(shop_with_effect, rest, atomic, lines, ended):
    shop = shop_with_effect(*lines, atomic=atomic)
    for _ in range(ROUNDS):
        shop.copy("whole")
        rest.touch()
        with shop.migrating(RESTING=str(rest)) as first:
            first.wait_for("Applying shop.0005_effect")
            time.sleep(1)  # in which the migration begins, and its other session may
            ended_pids = shop.ask(ended)
            with shop.migrating(KEEP="true") as second:
                second.wait_for("Waiting for another migrate")
                for pid in ended_pids:
                    shop.ask(f"SELECT pg_terminate_backend({pid}, 5000)")
                assert second.end()[0] == 0, second.log.read_text()
            rest.unlink()
            code, said = first.end()
        assert (code, count_effects(shop)) == (1, 1), said
        assert "CommandError: The lock of migrate was lost" in said
        assert shop.ask(APPLIED).count("0005_effect") == 1


@pytest.mark.parametrize("atomic", [True, False])
def test_run_whose_sessions_are_ended_begins_no_other_migration(shop, rest, atomic):
    """The first of two is ended; with the engine for migrations without downtime it is not atomic."""
    shop.copy("half")
    with shop.migrating(RESTING=str(rest), DB_ZERO_DOWNTIME=str(not atomic)) as migrating:
        wait_until(lambda: shop.ask("SELECT 1 FROM pg_locks WHERE relation = 'shop_item'::regclass") or not atomic, 30)
        migrating.wait_for("Applying shop.0003_price")
        time.sleep(1)
        for pid in shop.ask(SESSIONS):
            shop.ask(f"SELECT pg_terminate_backend({pid}, 5000)")
        rest.unlink()
        code, said = migrating.end()
    assert code == 1
    assert "CommandError: The lock of migrate was lost" in said
    assert "0004" not in said
    assert shop.ask(APPLIED) == ["0001_initial", "0002_index"]


def test_migration_that_reconnects_is_not_recorded(shop_with_effect):
    """Nor is one taken back: neither has a statement of its own after that."""
    shop = shop_with_effect(CLOSE, atomic=False, backwards="change")
    done = shop.migrate(check=False)
    assert (done.returncode, shop.ask(APPLIED)[-1]) == (1, "0004_note"), done.stdout
    assert done.stderr.startswith("CommandError: The lock of migrate was lost")
    shop.migrate("--fake")
    done = shop.migrate("shop", "0004", check=False)
    assert (done.returncode, shop.ask(APPLIED)[-1]) == (1, "0005_effect"), done.stdout
    assert done.stderr.startswith("CommandError: The lock of migrate was lost")


def test_migration_that_gives_the_lock_away_is_the_last(shop_with_effect):
    """The session goes on, but has no lock any more."""
    shop = shop_with_effect("editor.execute('SELECT pg_advisory_unlock_all()')", atomic=False)
    (shop.project / "shop" / "migrations" / "0006_last.py").write_text(
        f'{HEAD}    dependencies = [("shop", "0005_effect")]\n'
    )
    done = shop.migrate(check=False)
    assert (done.returncode, "0006_last" in shop.ask(APPLIED)) == (1, False), done.stdout
    assert done.stderr.startswith("CommandError: The lock of migrate was lost")


def test_migration_that_was_applied_meanwhile_is_not_run_again(shop_with_effect):
    """By Django's own migrate, such as that of an older release, which knows no lock."""
    record = "INSERT INTO django_migrations (app, name, applied) VALUES ('shop', '0006_next', now())"
    shop = shop_with_effect(f'editor.execute("{record}")', atomic=True)
    (shop.project / "shop" / "migrations" / "0006_next.py").write_text(
        f'{HEAD}    dependencies = [("shop", "0005_effect")]\n    operations = [migrations.RunSQL("""{ADD}""")]\n'
    )
    done = shop.migrate()
    assert (count_effects(shop), shop.ask(APPLIED).count("0006_next")) == (0, 1), done.stdout
    assert "Applying shop.0006_next" not in done.stdout


def test_idle_session_keeps_the_lock(shop_with_effect, rest):
    shop = shop_with_effect("rest()", "add(editor)", atomic=False)
    with shop.connect() as connection:
        connection.execute("ALTER DATABASE shop SET idle_session_timeout = '500ms'")
    with shop.migrating(RESTING=str(rest)) as first, shop.migrating() as second:
        time.sleep(3)
        rest.unlink()
        assert [first.end()[0], second.end()[0]] == [0, 0], first.log.read_text() + second.log.read_text()
    assert count_effects(shop) == 1


@contextlib.contextmanager
def transaction(shop, statement):
    """Leave a transaction open inside the block; what is yielded ends it sooner, and knows the session's process id."""
    with shop.connect(application_name="report") as other:
        other.execute("BEGIN")
        other.execute(statement)
        yield Transaction(other.info.backend_pid, other.rollback)


class Transaction(NamedTuple):
    pid: int
    end: Callable[[], None]


CHANGE = "INSERT INTO shop_item (name) VALUES ('private')"


@BOTH
def test_migration_behind_a_transaction_says_so_and_succeeds_after_it(shop):
    shop.copy("half")
    with transaction(shop, CHANGE) as other, shop.migrating() as migrating:
        migrating.wait_for("Attempt 3 of 5 begins in 2 s")
        other.end()
        code, said = migrating.end()
    assert code == 0, said
    activity = r"begun \d+ s ago, idle in transaction: INSERT INTO shop_item \(name\) VALUES \(…\."
    assert re.search(rf"Waiting for a lock of pid {other.pid} \(owner, report\), {activity}", said)
    assert "private" not in said
    assert shop.ask("SELECT name FROM shop_item") == ["half-way"]
    assert shop.ask(APPLIED)[-2:] == ["0003_price", "0004_note"]


def test_migration_behind_a_transaction_that_does_not_end_fails_in_a_sentence(shop, tmp_path):
    """Shorter pauses have to do here: the test before this one goes through some of the real ones."""
    shop.copy("half")
    shop = copy.copy(shop)
    shop.project = shutil.copytree(shop.project, tmp_path / "project")
    attempts = shop.project / "apps" / "schema" / "attempts.py"
    attempts.write_text(re.sub(r"(?m)^PAUSES = (.+?)  #", "PAUSES = 0.1, 0.1, 0.1, 0.1  #", attempts.read_text()))
    with transaction(shop, CHANGE) as other:
        done = shop.migrate(check=False)
    assert "Attempt 5 of 5 begins in 0.1 s." in done.stdout
    assert done.returncode == 1
    said = r"CommandError: shop\.0003_price did not get a lock in 5 attempts, and is not done\. In the way was "
    assert re.fullmatch(rf"{said}pid {other.pid} \(owner, report\), begun \d+ s ago, .*\.\n", done.stderr)
    assert shop.ask(COLUMNS) == ["id", "name"]
    assert shop.ask(APPLIED) == ["0001_initial", "0002_index"]
    assert shop.ask(HOLDERS) == []


def test_migration_that_is_not_atomic_is_not_tried_again(shop, rest):
    """Its first half is done, and would fail; whoever came in the way while it ran is named, too."""
    shop.copy("half")
    with shop.migrating(RESTING=str(rest), DB_MIGRATE_LOCK_TIMEOUT="3") as migrating:
        migrating.wait_for("Applying shop.0003_price")
        time.sleep(1)  # in which it has looked around
        with transaction(shop, "LOCK TABLE django_content_type IN SHARE MODE") as other:
            rest.unlink()
            code, said = migrating.end()
    assert code == 1
    reason = r"did not get a lock, and a part of it may be done, since it is not atomic: "
    assert re.search(
        rf"CommandError: shop\.0004_note {reason}.* In the way was pid {other.pid} \(owner, report\)", said
    )
    assert "Attempt" not in said
    assert "Traceback" not in said
    assert "note" in shop.ask(COLUMNS)


def test_statement_that_is_not_in_a_transaction_is_tried_again(shop):
    """With the engine for migrations without downtime, none is."""
    shop.copy("half")
    with transaction(shop, CHANGE) as other, shop.migrating(DB_ZERO_DOWNTIME="true") as migrating:
        migrating.wait_for("Attempt 3 of 5 begins in 2 s")
        other.end()
        code, said = migrating.end()
    assert code == 0, said
    assert shop.ask(APPLIED)[-2:] == ["0003_price", "0004_note"]


@pytest.fixture
def lesser(shop):
    """The variables for a role that acts as the owner of the tables, neither of which may see what others do."""
    shop.copy("half")
    with shop.connect() as connection:
        connection.execute("CREATE ROLE lesser; GRANT ALL ON SCHEMA public TO lesser")
        connection.execute(f"CREATE ROLE login LOGIN PASSWORD '{PASSWORD}' IN ROLE lesser")
        connection.execute("ALTER ROLE login SET role = lesser")
        for (table,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall():
            connection.execute(f"ALTER TABLE {table} OWNER TO lesser")
        yield {"DB_USER": "login"}
        connection.execute("DROP OWNED BY lesser; DROP ROLE login; DROP ROLE lesser")


@pytest.mark.parametrize(
    ("grant", "seen"),
    [
        ("SELECT", r", with a query that only pg_read_all_stats may see\."),
        ("GRANT pg_read_all_stats TO login", r", begun \d+ s ago, idle in transaction: INSERT INTO shop_item"),
    ],
)
def test_query_of_another_role_is_told_where_it_may_be_seen(shop, lesser, grant, seen):
    with shop.connect() as connection:
        connection.execute(grant)
    with transaction(shop, CHANGE) as other, shop.migrating("shop", "0003", **lesser) as migrating:
        migrating.wait_for("Attempt 2 of 5")
        other.end()
        code, said = migrating.end()
    assert code == 0, said
    assert re.search(rf"pid {other.pid} \(owner, report\){seen}", said)


@pytest.fixture
def unindexed(shop):
    """The shop without its index, and with transactions that see the same all the time."""
    shop.copy("half")
    shop.migrate("shop", "0001")
    with shop.connect() as connection:
        connection.execute("ALTER DATABASE shop SET default_transaction_isolation = 'repeatable read'")
    return shop


@BOTH
def test_index_that_is_made_concurrently_waits_as_long_as_it_takes(unindexed):
    """
    While it waits it is in nobody's way, and it leaves an index that is not valid where it gives up.

    It would wait for ever for a transaction that it saw at work, such as the one in which the lock is.
    """
    with transaction(unindexed, "SELECT FROM shop_item") as other, unindexed.migrating("shop", "0002") as migrating:
        migrating.wait_for(f"Waiting for a lock of pid {other.pid}")
        last_asked = unindexed.ask(LAST_ASKED)
        time.sleep(2)  # longer than DB_MIGRATE_LOCK_TIMEOUT
        assert migrating.process.poll() is None
        assert unindexed.ask(LAST_ASKED) == last_asked
        other.end()
        code, said = migrating.end()
    assert code == 0, said
    assert unindexed.ask(VALID) == [True]


def test_index_that_was_left_unfinished_is_made_anew(unindexed):
    with transaction(unindexed, "SELECT FROM shop_item"), unindexed.migrating("shop", "0002") as migrating:
        migrating.wait_for("Waiting for a lock")
        migrating.process.kill()
        wait_until(lambda: unindexed.ask(SESSIONS) == [])
    assert unindexed.ask(VALID) == [False]
    done = unindexed.migrate("shop", "0002")
    assert 'Index "item_name" was left unfinished and is made anew.' in done.stdout
    assert unindexed.ask(VALID) == [True]


def test_forms_that_ask_change_nothing(shop):
    """Nor do they wait for the lock."""
    shop.copy("half")
    with shop.connect() as holder:
        holder.execute(f"SELECT pg_advisory_lock({LOCK})")
        assert "shop.0003_price" in shop.migrate("--plan").stdout
        assert shop.migrate("--check", check=False).returncode == 1
        assert "[ ] 0003_price" in shop.manage("showmigrations", "shop").stdout
        assert "ADD COLUMN" in shop.manage("sqlmigrate", "shop", "0004").stdout
    assert shop.ask(APPLIED) == ["0001_initial", "0002_index"]


def test_forms_that_change_do_as_they_are_told(shop):
    shop.copy("half")
    assert shop.migrate("shop", "0003", "--verbosity", "0").stdout == ""
    assert "Applying shop.0004_note... FAKED" in shop.migrate("shop", "--fake").stdout
    assert shop.migrate("--check").returncode == 0
    assert "note" not in shop.ask(COLUMNS)
    assert shop.migrate("shop", "zero", "--fake").stdout.count("FAKED") == 4
    assert "Applying shop.0001_initial... FAKED" in shop.migrate("shop", "0001", "--fake-initial").stdout
    assert "Unapplying shop.0001_initial... OK" in shop.migrate("shop", "zero").stdout
    assert shop.ask(COLUMNS) == []
    assert shop.migrate("shop").stdout.count(" OK ") == 4
    assert "Synchronize unmigrated apps" in shop.migrate("--run-syncdb").stdout


def test_other_databases_are_migrated_likewise(shop):
    """One of another kind, which the project's checks refuse, by Django alone."""
    shop.copy("half", "second")
    with shop.connect() as holder:  # of the lock of another database
        holder.execute(f"SELECT pg_advisory_lock({LOCK})")
        assert "Applying shop.0004_note... OK" in shop.migrate("--database", "second").stdout
    assert "shop.0001_initial... OK" in shop.migrate("shop", "0001", "--database", "light", "--skip-checks").stdout


def test_migrations_that_are_merged_replaced_and_pruned(shop, tmp_path):
    shop.copy("whole")
    shop = copy.copy(shop)
    shop.project = Path(shutil.copytree(shop.project, tmp_path / "project"))
    migrations = shop.project / "shop" / "migrations"
    last = '[("shop", "0003_price")]'
    (migrations / "0004_beside.py").write_text(f"{HEAD}    dependencies = {last}\n")
    assert "Conflicting migrations detected" in shop.migrate(check=False).stderr
    shop.manage("makemigrations", "--merge", "--no-input", "shop")
    assert shop.migrate().stdout.count(" OK ") == 2
    replaced = [file.stem for file in sorted(migrations.glob("0*.py"))]
    (migrations / "0001_all.py").write_text(f"{HEAD}    replaces = {[('shop', name) for name in replaced]}\n")
    with shop.connect() as holder:
        holder.execute(f"SELECT pg_advisory_lock({LOCK})")
        with shop.migrating() as migrating:
            migrating.wait_for("Waiting for another migrate")  # for there is one to record
            holder.execute(f"SELECT pg_advisory_unlock({LOCK})")
            assert migrating.end()[0] == 0
    assert shop.ask(APPLIED)[-1] == "0001_all"
    for name in replaced:
        (migrations / f"{name}.py").unlink()
    (migrations / "0001_all.py").write_text(HEAD + "    pass\n")
    assert shop.migrate("shop", "--prune").stdout.count("Pruning shop.") == len(replaced)
    assert shop.ask(APPLIED) == ["0001_all"]
