"""
What users of a project with replicas see: what they have written, and no error, whatever becomes of a replica.

On real streaming replication, a primary with two standbys. Each page says which server has answered:
`pytest tests/test_replicas.py -rP | grep replicas:` prints the counts.
"""

import shutil
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import manage, wait_until
from load import Answers
from reading import CLIENTS, DELAY, LAG, Client, balanced, clustered
from replication import frozen

pytestmark = pytest.mark.long

PRIMARY_ALIAS = "replica3"  # by which it is named among its replicas
SEEN = 1  # seconds, within which a process knows that a replica has stopped
TOKEN = "secret-of-a-client"  # noqa: S105  of no value


@pytest.fixture(scope="module")
def cluster(embedded_binaries, tmp_path_factory):
    with clustered(embedded_binaries, tmp_path_factory.mktemp("replicas")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def served(cluster):
    with cluster.serve() as site:
        yield site


@pytest.fixture
def site(served, cluster):
    cluster.wait(served)
    return served


def write_and_read(port, client, times, page="read", token=""):
    """Return how many reads at once after a write did not show it, and who answered them."""
    browser, stale, servers = Client(port, token and f"{token}-{client}"), 0, Counter()
    for value in range(1, times + 1):
        number = value * 100 + client
        browser.write(client + 1, number)
        found, server = browser.get(f"{page}/{client + 1}")
        stale += int(found) != number
        servers[server] += 1
    return stale, servers, browser


def write_and_read_at_once(port, times, **options):
    """Have several clients do so, `times` in all; return the sums, and the clients."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        done = list(pool.map(lambda client: write_and_read(port, client, times // CLIENTS, **options), range(CLIENTS)))
    return (
        sum(stale for stale, _, _ in done),
        sum((servers for _, servers, _ in done), Counter()),
        [browser for _, _, browser in done],
    )


def tell(request, **counts):
    print(f"replicas: {request.node.name.removeprefix('test_')}: {counts}")


def count_servers(answers):
    """Return how many of the answers each server has given, by its port."""
    return dict(Counter(answer.text.split()[-1] for answer in answers.where("read", status=200)))


def servers_after(load, moment, seconds=1.0):
    """Return who answers from a moment on."""
    while time.monotonic() < moment + seconds:
        time.sleep(0.02)
    return count_servers(Answers(load.answers).where(begun_after=moment))


def wait_until_answered_by(load, ports):
    wait_until(lambda: servers_after(load, time.monotonic(), 0.3).keys() == ports, 20)


def is_mostly(servers, server):
    """Tell whether a server has given nearly all answers; on a busy machine another one may stand in."""
    return servers[str(server.port)] >= 0.8 * sum(servers.values())


def wait_until_told(site, *sentences):
    """Return once the log has them, as warnings: nothing is an error where others answer."""
    for sentence in sentences:
        wait_until(lambda sentence=sentence: any(sentence in line["event"] for line in select(site, "warning")))
    assert not [line for line in select(site, "error") if "replica" in line["event"]]


def select(site, *levels):
    return [line for line in site.lines() if line["level"] in levels]


# Who reads what.


@pytest.mark.parametrize(("asgi", "times"), [(False, 1000), (True, 200)], ids=["wsgi", "asgi"])
def test_users_read_what_they_wrote(request, cluster, asgi, times):
    page = "read_async" if asgi else "read"
    with cluster.serve(asgi=asgi) as site:
        cluster.wait(site)
        with cluster.delayed():
            stale, servers, browsers = write_and_read_at_once(site.port, times, page=page)
            assert stale == 0
            assert sum(servers.values()) == times
            others = {Client(site.port).get("read")[-1] for _ in range(10)}
            assert others <= cluster.ports  # who wrote nothing reads from replicas meanwhile
            time.sleep(DELAY + 0.5)
            again = Counter(browser.get(f"{page}/{key}")[-1] for key, browser in enumerate(browsers, 1))
        assert again.keys() <= cluster.ports
        assert not [line for line in select(site, "warning", "error") if PRIMARY_ALIAS in line["event"]]
    tell(request, writes=times, stale=stale, servers=dict(servers), caught_up=dict(again))


def test_naive_router_shows_what_was_before(request, cluster):
    """For contrast: nothing but where it reads is different."""
    with cluster.serve(DJANGO_SETTINGS_MODULE="naive") as site, cluster.delayed():
        stale, _, _ = write_and_read(site.port, 0, 30)
    tell(request, writes=30, stale=stale)
    assert stale > 20


def test_clients_with_a_token_read_what_they_wrote(request, cluster, tmp_path):
    with cluster.serve(CACHE_FOLDER=str(tmp_path)) as site:
        cluster.wait(site)
        with cluster.delayed():
            stale, servers, browsers = write_and_read_at_once(site.port, 96, token=TOKEN)
            time.sleep(DELAY + 0.5)
            assert {browser.get("read")[-1] for browser in browsers} <= cluster.ports
    assert stale == 0
    kept = b"".join(file.read_bytes() for file in tmp_path.glob("*.djcache"))
    assert kept
    assert TOKEN.encode() not in kept
    tell(request, writes=96, stale=stale, servers=dict(servers))


def test_clients_with_a_token_read_from_the_primary_without_a_shared_cache(site, cluster):
    assert {Client(site.port, TOKEN).get("read")[-1] for _ in range(20)} == {cluster.own}
    assert "replicas.W001" in cluster.manage("check", "--deploy").stderr


def test_each_server_behind_a_balancer_is_told_from_the_others(request, cluster):
    """One of the two lags, and a connection may lead to either."""
    slow, quick = cluster.replicas
    with balanced([slow.port, quick.port]) as port, slow.delayed(DELAY):
        replica = {"DB_REPLICA_HOST": "127.0.0.1", "DB_REPLICA_PORT": str(port)}
        with cluster.serve(**replica) as site:
            cluster.wait(site)
            stale, servers, _ = write_and_read_at_once(site.port, 200)
    tell(request, writes=200, stale=stale, servers=dict(servers))
    assert stale == 0
    assert servers[str(quick.port)]
    assert not servers[str(slow.port)]


def test_cookie_that_somebody_has_made_is_not_believed(site, cluster):
    browser = Client(site.port)
    browser.cookies["database_position"] = "0:forged"
    assert browser.get("read")[-1] == cluster.own
    assert not browser.cookies
    assert browser.get("read")[-1] in cluster.ports


def test_reads_are_answered_by_replicas(request, site, cluster):
    """Of users who are logged in, and of which one request in twenty writes."""
    code = "from apps.users.models import User; User.objects.create_superuser('root', password='long-enough-7')"
    cluster.manage("shell", "--command", code)
    browsers = [log_in(site) for _ in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        reads = [read for found in pool.map(browse, range(1, CLIENTS + 1), browsers) for read in found]
    servers = Counter(reads)
    share = sum(count for port, count in servers.items() if port in cluster.ports) / len(reads)
    tell(request, reads=len(reads), share=round(share, 3), servers=dict(servers))
    assert share >= 0.95


def log_in(site):
    """Return a browser that has logged in by the page of the admin."""
    browser = Client(site.port)
    _, page = browser.ask("admin/login")
    token = page.partition('name="csrfmiddlewaretoken" value="')[2].partition('"')[0]
    form = {"username": "root", "password": "long-enough-7", "csrfmiddlewaretoken": token, "next": "/greet/"}
    status, text = browser.ask("admin/login", "POST", **form)
    assert status == 302, text
    assert browser.get("greet")[0] == "root"
    return browser


def browse(key, browser, requests=100):
    """Return who answered the reads of somebody who writes now and then."""
    reads = []
    for number in range(requests):
        if number % 20 == 0:
            browser.write(key, number)
        else:
            name, server = browser.get("greet")
            assert name == "root"
            reads.append(server)
            time.sleep(0.02)  # for which somebody looks at the page
    return reads


def test_each_query_goes_where_it_belongs(site, cluster):
    status, text = Client(site.port).ask("read_by_post", "POST")
    told, asked = text.split()
    assert (status, told, asked in cluster.ports) == (200, cluster.own, True)
    before, after = Client(site.port).get("write_by_get/1/7")
    assert before in cluster.ports
    assert after == cluster.own
    assert Client(site.port).get("atomic") == [cluster.own, cluster.own]
    assert Client(site.port).get("locked")[-1] == cluster.own
    for page in ("on_primary", "on_primary_async"):
        told, asked = Client(site.port).get(page)
        assert told == cluster.own
        assert asked in cluster.ports
    for page in ("iterate", "iterate_async"):
        assert set(Client(site.port).get(page)) <= cluster.ports
    assert Client(site.port).get("relate") == ["replica", "default", "True", "default", "1"]


def test_commands_read_from_the_primary_unless_they_ask(cluster):
    code = (
        "from replica_pages import find_port\nfrom apps.replicas.choice import using_replica\n"
        "print(find_port())\nwith using_replica(): print(find_port())\n"
    )
    told, asked = cluster.manage("shell", "--command", code).stdout.split()[-2:]
    assert told == cluster.own
    assert asked in cluster.ports


def test_server_does_not_start_where_every_request_is_a_transaction(cluster):
    refused = cluster.manage("serve", check=False, DB_ATOMIC_REQUESTS="true")
    assert refused.returncode == 1
    assert "replicas.E001" in refused.stderr


# What becomes of replicas, and of the primary.


def test_no_read_fails_where_replicas_stop_and_come_back(request, site, cluster):
    stop_and_start(request, site, cluster)


def test_no_read_fails_where_replicas_come_late_and_go(request, cluster):
    """Under ASGI, with a pool."""
    first, _ = cluster.replicas
    first.stop("fast")
    with cluster.serve(asgi=True) as site:
        first.launch()
        cluster.wait(site)
        stop_and_start(request, site, cluster)


def stop_and_start(request, site, cluster):
    """Stop one replica, then the other, and start both, under a load; all requests are answered."""
    first, second = cluster.replicas
    with site.load({"read": 6}) as load:
        both = servers_after(load, time.monotonic())
        first.stop("fast")
        one = servers_after(load, time.monotonic() + SEEN)
        second.stop("immediate")
        none = servers_after(load, time.monotonic() + SEEN)
        first.launch()
        second.launch()
        wait_until_answered_by(load, cluster.ports)
        wait_until_told(site, "Could not connect to database server", "usable again")
    assert load.answers.statuses().keys() == {200}
    assert both.keys() >= cluster.ports
    assert is_mostly(one, second)
    assert is_mostly(none, cluster.primary)
    slowest = round(load.answers.slowest(), 2)
    tell(request, errors=0, answers=len(load.answers), both=both, one=one, none=none, slowest=slowest)


def test_no_read_fails_where_a_replica_freezes(request, site, cluster):
    first, second = cluster.replicas
    with site.load({"read": 6}) as load:
        time.sleep(0.5)
        with frozen(first):
            time.sleep(6)
            one = servers_after(load, time.monotonic())
        wait_until_answered_by(load, cluster.ports)
    assert load.answers.statuses().keys() == {200}
    assert is_mostly(one, second)
    tell(request, errors=0, answers=len(load.answers), slowest=round(load.answers.slowest(), 1))


def test_replica_that_lags_too_far_is_left_out(request, site, cluster):
    first, second = cluster.replicas
    with site.load({"read": 6}) as load:
        first.pause()
        Client(site.port).write(1, 1)
        wait_until_answered_by(load, {str(second.port)})
        first.resume()
        wait_until_answered_by(load, cluster.ports)
        wait_until_told(site, f"is left out: it is more than {LAG} s behind", "has caught up")
    assert load.answers.statuses().keys() == {200}


def test_query_that_a_replica_ends_is_answered_by_the_primary(site, cluster):
    """It would hold up what the primary has changed meanwhile: there the table has been locked, which is replayed."""
    for replica in cluster.replicas:
        replica.set(max_standby_streaming_delay=0)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(Client(site.port).get, "slow/2")
        time.sleep(1)
        with cluster.primary.connect("app") as connection:
            connection.execute("ALTER TABLE counter ALTER COLUMN value SET NOT NULL")
        assert answer.result()[-1] == cluster.own
    for replica in cluster.replicas:
        replica.set(max_standby_streaming_delay=None)


def test_request_whose_session_on_a_replica_is_ended_is_executed_once(cluster, tmp_path):
    """The query may be what had to end, and would have to end on each server in turn."""
    with cluster.serve(COUNTS=str(tmp_path)) as site, ThreadPoolExecutor(1) as pool:
        cluster.wait(site)
        answer = pool.submit(Client(site.port).ask, "counted/3")
        wait_until(lambda: any(end_queries(replica) for replica in cluster.replicas))
        assert answer.result()[0] == 503
        assert (tmp_path / "counted").read_text() == "+"


def end_queries(server):
    """End the sessions that execute something; tell whether there were any."""
    with server.connect() as connection:
        found = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app' AND state = 'active'"
        return bool(connection.execute(found).fetchall())


def test_replica_that_becomes_a_primary_is_left_out(site, cluster):
    first, second = cluster.replicas
    with site.load({"read": 6}) as load:
        first.promote()
        Client(site.port).write(1, 1)
        wait_until_answered_by(load, {str(second.port)})
        first.stop("fast")
        shutil.rmtree(first.folder / "data")
        first.start()
        wait_until_answered_by(load, cluster.ports)
    assert load.answers.statuses().keys() == {200}


def test_reads_go_on_without_the_primary(request, site, cluster):
    with site.load({"read": 6}) as load:
        cluster.primary.stop("immediate")
        gone = time.monotonic()
        assert Client(site.port).ask("write/1/1", "POST")[0] == 503
        time.sleep(2 * LAG)
        without = servers_after(load, gone)
        cluster.primary.launch()
        wait_until(lambda: Client(site.port).ask("write/1/1", "POST")[0] == 200)
    assert load.answers.statuses().keys() == {200}
    assert without.keys() == cluster.ports
    tell(request, errors=0, answers=len(load.answers), without=without)


POSITION = """
from apps.replicas.primary import read_position
from django.db import connection

with connection.cursor() as cursor:
    cursor.execute("SELECT pg_switch_wal()")
    position = read_position(connection)
    cursor.execute("SELECT pg_current_wal_insert_lsn() - '0/0', pg_current_wal_flush_lsn() - '0/0'")
    print(position, *cursor.fetchone())
"""


def test_position_is_one_that_a_replica_can_get_to(project, server):
    """After the end of a file there is nothing but the header of the next one."""
    told = manage(project, "shell", "-c", POSITION, **server.environment("position")).stdout
    position, inserted, flushed = map(int, told.splitlines()[-1].split())
    assert 0 < position <= flushed <= inserted
