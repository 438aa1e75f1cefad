"""
A big table that is written to all the time is changed, with DB_ZERO_DOWNTIME and without.

Each run prints how long the slowest write took: `pytest tests/test_zero_downtime.py -rP | grep downtime:`.
"""

import contextlib
import sys
import tempfile
import threading
import time
from pathlib import Path

import psycopg
import pytest
from conftest import manage, postgres, render, running, unpack, wait_until

pytestmark = pytest.mark.long

ROWS = 350_000
LOCK = 0.5  # seconds that `migrate` waits for a lock, and others behind it
ALLOWANCE = 0.5  # of a machine that others use
ZERO = {"DB_ZERO_DOWNTIME": "true"}

BEFORE = """
from django.db import models


class Author(models.Model):
    name = models.CharField(max_length=40)


class Book(models.Model):
    code = models.CharField(max_length=20)
    pages = models.IntegerField(null=True)
    author_number = models.BigIntegerField(null=True)
"""
# A column that is not null, indexes, a unique constraint, a check, a foreign key, and a column that is so no more.
AFTER = """
from django.db import models


class Author(models.Model):
    name = models.CharField(max_length=40)


class Book(models.Model):
    code = models.CharField(max_length=20)
    pages = models.IntegerField()
    author_number = models.BigIntegerField(null=True)
    stock = models.IntegerField(default=0)
    author = models.ForeignKey(Author, models.CASCADE, null=True)

    class Meta:
        indexes = [models.Index(fields=["pages", "code"], name="book_pages")]
        constraints = [
            models.UniqueConstraint(fields=["code"], name="book_code"),
            models.CheckConstraint(condition=models.Q(pages__gte=0), name="book_some_pages"),
        ]
"""
UNFINISHED = """
    SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid
    UNION ALL SELECT conname FROM pg_constraint WHERE NOT convalidated
"""
SCHEMA = """
    SELECT column_name, data_type, is_nullable, column_default FROM information_schema.columns
    WHERE table_name = 'shop_book'
    UNION ALL SELECT indexname, indexdef, '', '' FROM pg_indexes WHERE tablename = 'shop_book'
    UNION ALL SELECT conname, pg_get_constraintdef(oid), '', '' FROM pg_constraint
    WHERE conrelid = 'shop_book'::regclass
    ORDER BY 1, 2
"""
BUILDING = "SELECT FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONCURRENTLY%' AND wait_event_type = 'Lock'"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project whose migration 0002 of the shop is the one that Django makes."""
    project = render(tmp_path_factory.mktemp("zero-downtime"))
    (project / "apps" / "shop").mkdir()
    (project / "apps" / "shop" / "__init__.py").touch()
    settings = project / "config" / "settings" / "base.py"
    settings.write_text(settings.read_text().replace('    "apps.users",\n', '    "apps.users",\n    "apps.shop",\n'))
    for name, text in (("initial", BEFORE), ("more", AFTER)):
        (project / "apps" / "shop" / "models.py").write_text(text)
        manage(project, "makemigrations", "shop", "--name", name, "--no-input", DB_EMBEDDED="false", DB_PORT="1")
    return project


@pytest.fixture(scope="module", params=[18, 15])
def server(request, embedded_binaries):
    with contextlib.ExitStack() as stack:
        binaries = embedded_binaries
        if request.param != 18:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            folder.chmod(0o755)  # the server's user is another where the tests' is root
            binaries = unpack(request.param, folder)
        yield stack.enter_context(postgres(binaries))


@pytest.fixture(scope="module")
def template(project, server):
    """The name of a database before the migration, for copies."""
    environment = server.environment("template_of_shops")
    manage(project, "migrate", **environment)
    manage(project, "migrate", "shop", "0001", **environment)
    with server.connect("template_of_shops") as connection:
        insert = "INSERT INTO shop_book (code, pages, author_number) SELECT 'book ' || n, n % 500, n FROM "
        connection.execute(f"{insert} generate_series(1, {ROWS}) AS n")
        connection.execute("VACUUM ANALYZE shop_book")
    return "template_of_shops"


@pytest.fixture
def shop(server, template):
    """The variables that lead to a database of the test's own; what DB_MIGRATE_LOCK_TIMEOUT is has to be short."""
    environment = {**server.environment("shop"), "DB_MIGRATE_LOCK_TIMEOUT": str(LOCK)}
    with server.connect() as connection:
        connection.execute("DROP DATABASE shop")
        connection.execute(f"CREATE DATABASE shop TEMPLATE {template}")
        yield environment
        connection.execute("DROP DATABASE shop WITH (FORCE)")


class Writer(threading.Thread):
    """Writes to the table as fast as it can, and remembers how long the slowest write took."""

    def __init__(self, server, number):
        super().__init__()
        self.connection, self.number = server.connect("shop"), number
        self.over, self.slowest, self.writes, self.error = threading.Event(), 0.0, 0, None

    def run(self):
        try:
            while not self.over.wait(0.002):
                begun = time.monotonic()
                self.connection.execute(
                    "UPDATE shop_book SET pages = pages + 1 WHERE id = %s", [self.writes % 1000 * 10 + self.number]
                )
                self.slowest, self.writes = max(self.slowest, time.monotonic() - begun), self.writes + 1
        except psycopg.Error as error:
            self.error = error
        finally:
            self.connection.close()


@contextlib.contextmanager
def writers(server):
    threads = [Writer(server, number) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield threads
    finally:
        for thread in threads:
            thread.over.set()
            thread.join()


def measure(project, server, shop, **environment):
    """Migrate beside writers and return how long the slowest write took, in seconds."""
    with writers(server) as threads:
        wait_until(lambda: all(thread.writes for thread in threads))
        begun = time.monotonic()
        manage(project, "migrate", **shop, **environment)
        took = time.monotonic() - begun
    assert [thread.error for thread in threads] == [None, None]
    slowest, writes = max(thread.slowest for thread in threads), sum(thread.writes for thread in threads)
    with server.connect() as connection:
        major = connection.info.server_version // 10_000
    name = "zero downtime" if environment else "stock"
    print(f"downtime: {ROWS} rows, PostgreSQL {major}, {name}: {took:.1f} s, {writes} writes, slowest {slowest:.2f} s")
    return slowest


def read(server, query):
    with server.connect("shop") as connection:
        return connection.execute(query).fetchall()


def test_writes_go_on_while_a_big_table_is_changed(project, server, shop, template):
    blocked = measure(project, server, shop)
    expected = read(server, SCHEMA)
    with server.connect() as connection:
        connection.execute("DROP DATABASE shop")
        connection.execute(f"CREATE DATABASE shop TEMPLATE {template}")
    slowest = measure(project, server, shop, **ZERO)
    assert slowest < LOCK + ALLOWANCE
    assert slowest < blocked / 2, blocked
    # Both ways lead to the same tables, of which nothing is left unfinished.
    assert read(server, SCHEMA) == expected
    assert read(server, UNFINISHED) == []
    assert "No changes detected" in manage(project, "makemigrations", "--check", **shop).stdout
    assert "No migrations to apply" in manage(project, "migrate", **shop).stdout
    manage(project, "migrate", "shop", "0001", **shop, **ZERO)
    assert "No planned migration operations" not in manage(project, "migrate", "--plan", **shop).stdout


@pytest.mark.parametrize("server", [18], indirect=True)  # what is left of an index is the same on each
def test_migration_that_is_killed_half_way_goes_on_where_it_was(project, server):
    """No transaction takes back what it has done, and what is done is not done again."""
    shop = server.environment("shop")
    manage(project, "migrate", **shop)
    manage(project, "migrate", "shop", "0001", **shop)
    command = sys.executable, "manage.py", "migrate"
    with server.connect("shop") as reader, running(*command, cwd=project, **shop, **ZERO) as (process, log):
        # For a transaction that may see what is not indexed yet, PostgreSQL waits for ever.
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM shop_author")
        wait_until(lambda: read(server, BUILDING) or process.poll() is not None, 60)
        assert process.poll() is None, log.read_text()
        process.kill()
        process.wait()
        wait_until(lambda: not read(server, BUILDING))
        reader.execute("ROLLBACK")
    assert read(server, UNFINISHED) != []
    assert "OK" in manage(project, "migrate", **shop, **ZERO).stdout
    assert read(server, UNFINISHED) == []
    assert "No planned migration operations" in manage(project, "migrate", "--plan", **shop).stdout


def test_engine_is_for_migrations_only(project):
    code = "print(settings.DATABASES['default']['ENGINE'])"
    done = manage(project, "shell", "--verbosity=0", "--command", code, DB_EMBEDDED="false", **ZERO)
    assert done.stdout == "django.db.backends.postgresql\n"
