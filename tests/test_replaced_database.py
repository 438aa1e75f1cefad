"""
Reads after restore_database has put another database in the place of the one that is served, and after --undo.

PostgreSQL renames a database under the sessions of its standbys, which go on in what was replaced.
"""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import wait_until
from load import Answers
from reading import CLIENTS, LAG, Client, clustered

pytestmark = pytest.mark.long

SEEN = 3  # seconds, within which a process reads from the database that took the name
LONG = 120  # seconds, by which a replica may be behind: longer than the test takes

BEFORE, AFTER = "1", "2"  # what the counter says in the backup, and in the database that is replaced

# In a command: one block for all of its reads.
TASK = """
import time
from replica_pages import find
from apps.replicas.choice import using_replica
with using_replica():
    first, port = find()
    print(first, port, flush=True)
    deadline = time.monotonic() + 30
    while find()[0] == first and time.monotonic() < deadline:
        time.sleep(0.1)
    print(*find(), flush=True)
"""


@pytest.fixture(scope="module")
def cluster(embedded_binaries, tmp_path_factory):
    with clustered(embedded_binaries, tmp_path_factory.mktemp("replaced")) as cluster:
        with cluster.primary.connect() as connection:
            connection.execute("ALTER ROLE app CREATEDB")
        cluster.environment |= {"DB_UNPROTECTED": "app", "DB_REPLICA_MAX_LAG": str(LONG)}
        yield cluster


@pytest.fixture
def backup(cluster, tmp_path):
    """A backup in which the counter is another one than in the database."""
    set_counter(cluster, BEFORE)
    cluster.manage("backup_database", "--folder", tmp_path)
    set_counter(cluster, AFTER)
    yield next(tmp_path.glob("*.dump"))
    cluster.manage("restore_database", "--drop-kept")


def set_counter(cluster, value):
    with cluster.primary.connect("app") as connection:
        connection.execute("UPDATE counter SET value = %s", [value])


def restore(cluster, *words):
    """Put another database in the place of the present one; return when that was done."""
    cluster.manage("restore_database", *words)
    return time.monotonic()


def assert_replaced(cluster, load, replaced, value):
    """Answers have the value of the database that took the name from soon on, and come from replicas again."""
    wait_until(lambda: time.monotonic() > replaced + SEEN + 3, SEEN + 5)
    answers = Answers(load.answers).where(begun_after=replaced + SEEN)
    assert answers.statuses().keys() == {200}
    assert {answer.text.split()[0] for answer in answers} == {value}
    assert {answer.text.split()[-1] for answer in answers} >= cluster.ports


@pytest.mark.parametrize(
    ("asgi", "changes"),
    [(False, {}), (False, {"DB_POOL": "true"}), (True, {})],
    ids=["kept", "pool", "asgi"],
)
def test_replicas_answer_from_the_database_that_took_the_name(cluster, backup, asgi, changes):
    with cluster.serve(asgi=asgi, **changes) as site:
        cluster.wait(site)
        with site.load({"read": 6}) as load:
            assert_replaced(cluster, load, restore(cluster, backup), BEFORE)
            assert_replaced(cluster, load, restore(cluster, "--undo"), AFTER)
        assert load.answers.statuses().keys() == {200}
        assert not [line for line in site.lines() if line["level"] == "error" and "replica" in line["event"]]


def test_user_reads_what_was_written_after_the_swap(cluster, backup):
    with cluster.serve() as site:
        cluster.wait(site)
        restore(cluster, backup)
        for value in range(100, 100 + 4 * CLIENTS):
            browser = Client(site.port)
            browser.write(1, value)
            assert browser.get("read")[0] == str(value)


def test_block_of_a_command_goes_on_in_the_database_that_took_the_name(cluster, backup):
    with ThreadPoolExecutor(1) as pool:
        task = pool.submit(cluster.manage, "shell", "--verbosity=0", "--command", TASK)
        wait_until(lambda: is_read_from(cluster), 30)
        restore(cluster, backup)
        first, last = [line.split() for line in task.result().stdout.splitlines()]
    assert first[0] == AFTER
    assert first[1] in cluster.ports
    assert last[0] == BEFORE


def is_read_from(cluster):
    """Tell whether a command has a session with a replica."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'manage.py shell'"
    return any(count_rows(replica, query) for replica in cluster.replicas)


def count_rows(server, query):
    with server.connect() as connection:
        return connection.execute(query).fetchone()[0]


def test_replica_that_replays_the_swap_late_is_read_from_with_the_new_data_only(cluster, backup):
    """Until then it is as old as any that lags, so that the primary answers once it is too old."""
    with cluster.serve(DB_REPLICA_MAX_LAG=str(LAG)) as site:
        cluster.wait(site)
        with site.load({"read": 6}) as load:
            for replica in cluster.replicas:
                replica.pause()
            replaced = restore(cluster, backup)
            wait_until(lambda: time.monotonic() > replaced + LAG + SEEN, LAG + SEEN + 5)
            for replica in cluster.replicas:
                replica.resume()
            wait_until(lambda: {answer.text.split()[-1] for answer in load.answers[-20:]} >= cluster.ports, 20)
        late = load.answers.where(begun_after=replaced + LAG + SEEN - 1)
    assert load.answers.statuses().keys() == {200}
    assert {answer.text.split()[0] for answer in late} == {BEFORE}


def test_readiness_is_that_of_the_database_that_took_the_name(cluster, tmp_path):
    """Whose migrations are those of its backup."""
    with cluster.primary.connect("app") as connection:
        connection.execute("CREATE TEMPORARY TABLE aside AS SELECT * FROM django_migrations ORDER BY id DESC LIMIT 1")
        connection.execute("DELETE FROM django_migrations WHERE id = (SELECT id FROM aside)")
        cluster.manage("backup_database", "--folder", tmp_path)
        connection.execute("INSERT INTO django_migrations OVERRIDING SYSTEM VALUE SELECT * FROM aside")
    with cluster.serve(WEB_CONCURRENCY="1") as site:
        wait_until(lambda: site.ask("health/ready").status == 200)
        restore(cluster, next(tmp_path.glob("*.dump")))
        wait_until(lambda: site.ask("health/ready").status == 503, 20)
        restore(cluster, "--undo")
        wait_until(lambda: site.ask("health/ready").status == 200, 20)
    cluster.manage("restore_database", "--drop-kept")
