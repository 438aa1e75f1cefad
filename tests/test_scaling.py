"""docs/scaling.md: its examples run, its names exist, and its arithmetic is that of processes which run."""

import re
import sys
import threading
from collections import Counter

import pytest
from conftest import TEMPLATE, fetch, free_port, manage, render, render_with_pages, running, wait_until
from load import burst

DOCUMENT = (TEMPLATE / "docs" / "scaling.md").read_text()
BLOCKS = dict(re.findall(r"^```python\n# (\S+)\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE))
APPS = "events", "orders"
DISTRIBUTE = "apps/orders/migrations/0002_distribute.py"  # after what makemigrations makes
OTHERS = {
    *("AddIndex", "AddIndexConcurrently", "CompositePrimaryKey", "ForeignKey", "ForeignObject", "UniqueConstraint"),
    *("makemigrations", "default_pool_size", "max_connections", "idle", "at", "unique"),
    *("compose.yaml", "compose.cluster.yaml", "synchronous_mode"),
}

USE_EVENTS = """
import datetime
from django.db import IntegrityError, connection
from apps.events.models import Event

at = datetime.datetime(2027, 6, 15, tzinfo=datetime.UTC)
event = Event.objects.create(at=at, kind="seen")
Event.objects.bulk_create([Event(at=at.replace(month=month), kind="made") for month in range(1, 13)])
assert Event.objects.get(pk=(at, event.id)).kind == "seen"
june = Event.objects.filter(at__gte=at.replace(day=1), at__lt=at.replace(month=7, day=1))
assert june.count() == 2
assert "events_event_2027_06" in june.explain() and "events_event_2027_05" not in june.explain()
assert "events_event_2027_05" in Event.objects.filter(kind="seen").explain()
event.kind = "heard"
event.save()
assert june.filter(kind="heard").count() == 1 and Event.objects.count() == 13
try:
    Event.objects.create(at=at.replace(year=2031), kind="late")
except IntegrityError as error:
    assert "no partition" in str(error)
else:
    raise AssertionError("there is a partition for 2031")
with connection.cursor() as cursor:
    cursor.execute("DROP TABLE events_event_2027_01")
assert Event.objects.count() == 12
"""

USE_ORDERS = r"""
import re
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from apps.orders.models import Line, Order
from apps.orders.queries import find_order, list_lines, lock_order, sum_orders

for tenant in (1, 2):
    for number in ("a", "b"):
        order = Order.objects.create(tenant_id=tenant, number=number)
        for amount in (1, 2):
            Line.objects.create(order=order, amount=amount * tenant)
with CaptureQueriesContext(connection) as queries, transaction.atomic():
    found = find_order(2, "a")
    assert lock_order(2, found.id) == found
    assert list(sum_orders(2)) == [("a", 6), ("b", 6)]
    assert {line.order.number for line in list_lines(1)} == {"a", "b"} and len(list_lines(1)) == 4
    found.number = "c"
    found.save()
statements = [query["sql"] for query in queries if "orders_" in query["sql"]]
assert len(statements) == 6, statements
for statement in statements:  # each is of one tenant, and joins by it
    tables, _, where = statement.partition(" WHERE ")
    named = re.search(r'tenant_id" = \d|"tenant_id", "orders_order"."id"\) = \(2, ', where)
    assert named, statement
    assert tables.partition(" ON ")[2].count('"tenant_id"') == 2 * ("JOIN" in tables), statement
try:
    Order.objects.create(tenant_id=2, number="c")
except IntegrityError as error:
    assert "orders_order_number" in str(error)
else:
    raise AssertionError("a number twice")
"""

# What is no Citus but notes what it is asked for, and refuses as Citus does a unique index without the column.
STAND_IN = """
CREATE TABLE distributed (name text, distribution_column text, colocate_with text);
CREATE FUNCTION create_distributed_table(
    table_name regclass, distribution_column text, distribution_type text DEFAULT 'hash',
    colocate_with text DEFAULT 'default', shard_count int DEFAULT NULL
) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    IF EXISTS (
        SELECT FROM pg_index WHERE indrelid = table_name AND indisunique AND NOT (
            SELECT attnum FROM pg_attribute WHERE attrelid = table_name AND attname = distribution_column
        ) = ANY (indkey)
    ) THEN RAISE 'cannot create constraint on %', table_name; END IF;
    INSERT INTO distributed VALUES (table_name::text, distribution_column, colocate_with);
END $$;
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """One with both examples, and the pages of the loads beside it."""
    project = render_with_pages(tmp_path_factory.mktemp("scaling"))
    settings = project / "config" / "settings" / "base.py"
    named = "".join(f'    "apps.{app}",\n' for app in ("users", *APPS))
    settings.write_text(settings.read_text().replace('    "apps.users",\n', named))
    for app in APPS:
        (project / "apps" / app / "migrations").mkdir(parents=True)
        (project / "apps" / app / "__init__.py").touch()
        (project / "apps" / app / "migrations" / "__init__.py").touch()
    for file, text in BLOCKS.items():
        if file != DISTRIBUTE:
            (project / file).write_text(text)
    manage(project, "makemigrations", "orders", DB_EMBEDDED="false", DB_PORT="1")
    (project / DISTRIBUTE).write_text(BLOCKS[DISTRIBUTE])
    return project


@pytest.fixture(scope="module")
def environment(project, server):
    """The variables of the project on plain PostgreSQL, where it is migrated."""
    environment = server.environment("scaling")
    manage(project, "migrate", **environment)
    return environment


def test_examples_are_what_their_migrations_make_and_pass_the_lint(project, environment):
    assert "No changes detected" in manage(project, "makemigrations", "--check", **environment).stdout
    assert "Nothing found." in manage(project, "lint_migrations", **environment).stdout


@pytest.mark.parametrize("use", [USE_EVENTS, USE_ORDERS], ids=APPS)
def test_examples_work_on_plain_postgresql(project, environment, use):
    manage(project, "shell", "--verbosity=0", "--command", use, **environment)


@pytest.fixture
def citus(server, tmp_path_factory):
    """The variables of a database with a stand-in for Citus, which any database of this server may then have."""
    folder = server.folder / "stand-in"
    (folder / "extension").mkdir(parents=True)
    (folder / "extension" / "citus.control").write_text("default_version = '1'\n")
    (folder / "extension" / "citus--1.sql").write_text(STAND_IN)
    environment = server.environment("citus")
    with server.connect("citus") as connection:
        connection.execute(f"SET extension_control_path = '{folder}:$system'")
        connection.execute("CREATE EXTENSION citus")
    return environment


def test_tables_are_distributed_where_citus_is(project, server, citus):
    manage(project, "migrate", **citus)
    with server.connect("citus") as connection:
        assert connection.execute("SELECT * FROM distributed").fetchall() == [
            ("orders_order", "tenant_id", "default"),
            ("orders_line", "tenant_id", "orders_order"),
        ]
    manage(project, "shell", "--verbosity=0", "--command", USE_ORDERS, **citus)


class Sessions:
    """Counts, inside the block, how many sessions each application has at once in a database of a server's."""

    QUESTION = "SELECT application_name, count(*)::int FROM pg_stat_activity WHERE datname = %s GROUP BY 1"

    def __init__(self, server, database):
        self.server, self.database, self.most = server, database, Counter()
        self.over, self.thread = threading.Event(), threading.Thread(target=self.count)

    def __enter__(self):
        self.thread.start()
        return self.most

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def count(self):
        with self.server.connect() as connection:
            while not self.over.wait(0.002):
                self.most |= Counter(dict(connection.execute(self.QUESTION, [self.database]).fetchall()))


def read_sum(project):
    """Return the rows of the sum of sessions in docs/operations.md, and what it says they make."""
    found = re.findall(r"(?m)^\| (.+) \| .+ \| (\d+) \|$", (project / "docs" / "operations.md").read_text())
    *rows, (_, total) = [(text, int(number)) for text, number in found]
    return dict(rows), total


@pytest.fixture(scope="module")
def planned(project):
    return read_sum(project)[0]


@pytest.mark.parametrize("edition", ["essential", "cluster"])
def test_sum_of_the_document_is_right(tmp_path, edition):
    rows, total = read_sum(render(tmp_path, edition))
    assert len(rows) > 6
    assert sum(rows.values()) == total


@pytest.mark.parametrize("way", [{}, {"DB_POOL": "true", "DB_POOL_MAX_SIZE": "2"}], ids=["threads", "pool"])
def test_web_has_as_many_sessions_as_planned(project, server, environment, way):
    port = free_port()
    values = environment | way | {"WEB_CONCURRENCY": "2", "WEB_THREADS": "3", "PORT": str(port)}
    production = {"ALLOWED_HOSTS": "127.0.0.1", "DB_SSLMODE": "disable", "SECURE_SSL_REDIRECT": "false"}
    production |= {"DJANGO_SETTINGS_MODULE": "loaded", "PYTHONPATH": str(project.parents[1])}
    web, probes = 2 * (2 if way else 3), 2  # of the document: workers times connections, and one each
    with (
        running(sys.executable, "manage.py", "serve", cwd=project, **values, **production) as (_, log),
        Sessions(server, "scaling") as most,
    ):
        assert fetch(f"http://127.0.0.1:{port}/static/", 60)[0] == 200, log.read_text()
        answers = burst(port, "slow/0.4", clients=16, each=1)
    assert answers.statuses() == {200: 16}
    assert web <= most["wsgi"] <= web + probes


def test_backup_has_as_many_sessions_as_planned_and_holds_the_partitions(
    project, server, environment, planned, tmp_path
):
    with Sessions(server, "scaling") as most:
        manage(project, "backup_database", "--folder", tmp_path, **environment)
    assert sum(most.values()) == planned["a dump"] + find_planned(planned, "`backup_database`")
    (dump,) = tmp_path.glob("*.dump")
    manage(project, "verify_backup", dump, **environment)


def test_migrate_that_waits_for_a_lock_has_as_many_sessions_as_planned(project, server, planned):
    environment = server.environment("waiting")
    with (
        server.connect("waiting") as holder,
        holder.transaction(force_rollback=True),
        Sessions(server, "waiting") as most,
    ):
        holder.execute("CREATE TABLE users_user ()")
        with running(sys.executable, "manage.py", "migrate", cwd=project, **environment) as (_, log):
            wait_until(lambda: "Waiting for a lock" in log.read_text(), 30)
    assert most["manage.py migrate"] == find_planned(planned, "`migrate`")


def find_planned(planned, command):
    return next(count for text, count in planned.items() if text.startswith(command))


def test_names_of_the_document_exist(project):
    """All that is between backticks and looks like a name of the project's."""
    names = set(re.findall(r"`(\w[\w.]*)(?:=\w+)?`", re.sub(r"(?ms)^```.*?^```$", "", DOCUMENT)))

    def find(pattern, *globs):
        texts = (file.read_text() for glob in globs for file in project.glob(glob))
        return {name for text in texts for name in re.findall(pattern, text, re.MULTILINE)}

    known = {
        "variable": find(r"^\| `([A-Z_]+)` \|", "docs/settings.md"),
        "check": find(r'id="(\w+\.[EW]\d+)"', "apps/**/*.py"),
        "figure": find(r'"((?:database|django)_\w+)"', "apps/metrics/*.py"),
        "alert": find(r"alert: (\w+)", "deploy/prometheus/alerts.yaml"),
        "command": {file.stem for file in project.glob("apps/*/management/commands/*.py")},
        "section": find(r'key="(\w+)"', "apps/insight/*.py"),
        "others'": OTHERS,
    }
    assert names <= set.union(*known.values())
    assert [kind for kind, found in known.items() if not names & found] == []
