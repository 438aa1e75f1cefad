"""
What users of a loaded project see of a database that restarts, stops, freezes, is locked, filled up or moved.

Each scenario runs on real servers, for each way to connect that it concerns, and prints what was answered:
`pytest tests/test_outages.py -rP | grep outage:`. Clients pause after each answer, so that the machine is not what is
tested.
"""

import contextlib
import json
import os
import signal
import sys
import time

import psycopg
import pytest
from conftest import PASSWORD, free_port, manage, postgres, render_with_pages, running, wait_until
from load import Answers
from replication import frozen
from sites import (
    ALLOWANCE,
    BACK,
    CONNECT,
    CONNECTIONS,
    CROWD,
    LOCK,
    NEEDS_DATA,
    PATIENCE,
    POOL,
    STALLS,
    STATEMENT,
    Relay,
    Site,
    Stalling,
    ThreadPoolExecutor,
    assert_kept,
    assert_no_longer,
    assert_nothing_left_running,
    assert_only_away,
    assert_quiet,
    end_sessions,
    find_busy,
    first_served,
    limits_of_the_role,
    pgbouncer,
    prepare,
    production,
    restart,
    serving,
    tell,
    wait_for_connection,
)

pytestmark = pytest.mark.long

WAYS = ["persistent", "pool", "pgbouncer"]
EVERY_WAY = pytest.mark.parametrize("way", WAYS)
BOTH_SERVERS = pytest.mark.parametrize("way", ["persistent", "pool"])  # WSGI and ASGI

OTHER = "other-Yw2-password"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """One of its own, with the pages of the loads beside it."""
    return render_with_pages(tmp_path_factory.mktemp("outages"))


@pytest.fixture(scope="module")
def server(embedded_binaries, project):
    """A server of these tests' own, with the project's tables and those of the pages."""
    with postgres(embedded_binaries) as server:
        prepare(server, project)
        yield server


@pytest.fixture
def serve(project, server):
    """Return what serves the project inside a block, in one of the ways to connect."""

    @contextlib.contextmanager
    def serve(way, port=server.port, before=(), **environment):
        values = production(server) | {"DB_PORT": str(port), **environment}
        with contextlib.ExitStack() as stack:
            if way == "pgbouncer":
                direct = {"DB_DIRECT_HOST": "127.0.0.1", "DB_DIRECT_PORT": str(server.port)}
                stack.enter_context(limits_of_the_role(server))
                bouncer = stack.enter_context(pgbouncer(port))
                values |= {"DB_PGBOUNCER": "true", "DB_PORT": str(bouncer), **direct}
            yield stack.enter_context(serving(project, values, asgi=way == "pool", before=before))

    return serve


# The server restarts, stops or freezes.


@EVERY_WAY
def test_restart_while_idle(request, way, serve, server):
    """No request fails, whichever thread of whichever process answers it."""
    with serve(way) as site:
        answers = site.burst("slow/0.05", clients=8, each=5)
        restart(server, "fast")
        answers += site.burst("slow/0.05", clients=8, each=5)
        tell(request, answers)
        assert answers.statuses() == {200: 80}
        assert site.trouble() == []


@EVERY_WAY
def test_restart_under_load(request, way, serve, server):
    with serve(way) as site:
        for mode in ("fast", "immediate"):
            with site.load() as load:
                time.sleep(1)
                gone, back = restart(server, mode)
                time.sleep(1.5)
            away = f"away {back - gone:.2f} s, served after another {first_served(load.answers, back):.2f} s"
            tell(request, load.answers, f"{mode}, {away}, {len(site.trouble())} lines")
            assert_only_away(load.answers, gone, back)
            # Only what had begun may have failed, one request of each client, unless pgbouncer's connections are dead.
            if back - gone < PATIENCE - BACK and way != "pgbouncer":
                assert len(load.answers.where(status=503)) <= sum(CROWD.values()) - CROWD["static"]
            assert_kept(server, load.answers)
        assert_quiet(site)


@EVERY_WAY
def test_six_seconds_without_a_database(request, way, serve, server):
    with serve(way) as site:
        with site.load() as load:
            time.sleep(1)
            gone, back = restart(server, "fast", pause=6)
            time.sleep(1.5)
        away = f"away {back - gone:.2f} s, served after another {first_served(load.answers, back):.2f} s"
        tell(request, load.answers, f"{away}, {len(site.trouble())} lines")
        assert_only_away(load.answers, gone, back)
        assert_no_longer(load.answers, gone, PATIENCE + {"pool": POOL, "pgbouncer": CONNECT}.get(way, 0))
        assert first_served(load.answers, back) < BACK + ALLOWANCE
        assert_kept(server, load.answers)
        assert_quiet(site)
        assert site.causes() <= {"refused", "terminated", "connection_lost", "starting_or_stopping", "pool_exhausted"}


@EVERY_WAY
def test_frozen_server(request, way, serve, server):
    """Whoever was caught by it is freed in time, others are refused at once, and all is well when it goes on."""
    with serve(way) as site:
        with site.load() as load:
            time.sleep(1)
            gone = time.monotonic()
            with frozen(server):
                time.sleep(PATIENCE + 2 * CONNECT + 1)
            back = wait_for_connection(server)
            time.sleep(1.5)
        slowest = load.answers.where(ended_after=gone).slowest()
        served = first_served(load.answers, back)
        tell(
            request, load.answers, f"slowest {slowest:.2f} s, served after {served:.2f} s, {len(site.trouble())} lines"
        )
        assert_only_away(load.answers, gone, back)
        # Twice, for one that was caught in its COMMIT: Django connects again to find nothing to end.
        assert_no_longer(load.answers, gone, PATIENCE + 2 * CONNECT)
        assert served < BACK + ALLOWANCE
        assert_nothing_left_running(server)
        assert_kept(server, load.answers)
        assert_quiet(site)
        assert site.causes() <= {"timeout", "connection_lost", "pool_exhausted"}


ANEW = {"DB_CONN_MAX_AGE": "0", "DB_POOL": "false"}


@pytest.mark.parametrize(
    ("way", "changed"), [*((way, {}) for way in WAYS), ("persistent", {"DB_POOL": "true"}), ("persistent", ANEW)]
)
def test_frozen_server_beside_pages_without_a_query(request, way, changed, serve, server):
    """They say nothing of the database, whose freezing is noticed as soon as without them."""
    with serve(way, **changed) as site:
        site.burst("slow/0.05", clients=16, each=3)
        # Outside transactions: Django connects again after a COMMIT that was caught, to find nothing to end.
        with site.load({"plain": 3, "lazy": 3, "static": 2}) as load:
            time.sleep(1)
            gone = time.monotonic()
            with frozen(server):
                time.sleep(PATIENCE + 2 * CONNECT + 2)
            back = wait_for_connection(server)
            time.sleep(1.5)
        caught = load.answers.where("lazy", ended_after=gone, ended_before=back)
        tell(request, load.answers, f"slowest {load.answers.slowest():.2f} s")
        # pgbouncer may give up, which says nothing of the server, just before the probe that waits in its queue.
        twice = CONNECT if way == "pgbouncer" else 0
        assert load.answers.slowest() < CONNECT + 1 + ALLOWANCE / 2 + twice
        assert 503 in caught.statuses()
        assert_only_away(load.answers, gone, back)


@BOTH_SERVERS
def test_slow_page_without_a_query_raises_no_alarm(request, way, serve):
    with serve(way, WEB_CONCURRENCY="1") as site:
        with site.load({"nap/3": 3, "plain": 1}, seconds=4) as load:
            load.join()
        tell(request, load.answers)
        assert load.answers.statuses().keys() == {200}
        assert [line for line in site.lines() if line["level"] != "info"] == []


@EVERY_WAY
def test_locked_table_beside_pages_without_a_query_raises_no_alarm(request, way, serve, server):
    with serve(way) as site:
        with server.connect("app") as holder, holder.transaction():
            holder.execute("LOCK TABLE guarded")
            with site.load({"guarded": 4, "plain": 2}, seconds=4) as load:
                load.join()
        tell(request, load.answers)
        assert load.answers.where("plain").statuses().keys() == {200}
        assert load.answers.where("guarded").statuses().keys() <= {503}
        assert site.causes() == {"locked"}


# The server, or what is before it, says only a part of what it has to say.


@pytest.mark.parametrize("point", [point for point in STALLS if point != "byte by byte"])
def test_command_is_not_kept_by_a_server_that_stalls(project, server, point):
    with Stalling(server.port) as relay:
        relay.point = point
        code, report = check(project, server, relay, 1)
    assert report["cause"] == "timeout"
    assert code == 1
    assert 900 <= report["response_time_ms"] < 1500


def test_reply_that_comes_byte_by_byte_is_a_reply(project, server):
    with Stalling(server.port) as relay:
        relay.point = "byte by byte"
        code, report = check(project, server, relay, 10)
    assert (code, report["status"]) == (0, "healthy")


def check(project, server, relay, seconds):
    """Return the exit code and the report of check_database through the relay."""
    values = {**production(server), "DB_PORT": str(relay.port), "PYTHONPATH": str(project.parents[1])}
    done = manage(project, "check_database", "--timeout", seconds, "--format", "json", check=False, **values)
    return done.returncode, json.loads(done.stdout)["default"]


@EVERY_WAY
@pytest.mark.parametrize("point", ["RowDescription", "CommandComplete"])
def test_process_goes_on_while_a_server_stalls(request, way, point, serve, server):
    """Whatever the server withholds: pages without data and the health endpoints answer in time."""
    with Stalling(server.port) as relay, serve(way, relay.port, WEB_CONCURRENCY="1") as site:
        assert site.ask("health/ready").status == 200
        site.burst("slow/0.05", clients=8, each=2)
        relay.point = point
        with site.load({"health/live": 2, "static": 2, "one": 2, "plain": 1}) as load:
            time.sleep(1.1)  # for which the last result is given again
            answers = Answers(site.ask("health/ready") for _ in range(3))
            time.sleep(2)
        tell(request, load.answers + answers, f"slowest {load.answers.slowest():.2f} s")
        assert answers.statuses().keys() == {503}
        assert answers.slowest() < 1 + ALLOWANCE
        assert load.answers.where("health/live").statuses().keys() == {200}
        assert load.answers.where("health/live").slowest() < ALLOWANCE
        assert load.answers.where("static").slowest() < ALLOWANCE
        relay.point = None
        wait_until(lambda: site.ask("one").status == 200)


def test_readiness_is_not_kept_by_a_pooled_connection_that_was_sent_something(serve, server):
    """Of which it cannot be told without a query whether it works."""
    with Stalling(server.port) as relay, serve("pool", relay.port, WEB_CONCURRENCY="1") as site:
        site.burst("slow/0.2", clients=4)
        with parameter(server, "IntervalStyle", "iso_8601"):
            time.sleep(1.2)  # for which the last result is given again
            relay.point = "CommandComplete"
            answer = site.ask("health/ready")
    assert answer.status == 503
    assert answer.seconds < 1 + ALLOWANCE / 2


@contextlib.contextmanager
def parameter(server, name, value):
    """Have each session be told of another value of a parameter of the server's inside the block."""
    with server.connect() as connection:
        connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        connection.execute("SELECT pg_reload_conf()")
        try:
            yield
        finally:
            connection.execute(f"ALTER SYSTEM RESET {name}")
            connection.execute("SELECT pg_reload_conf()")


# A request that lost its session is executed once more at most, and only where the server went.


def executions(folder, name):
    file = folder / name
    return len(file.read_text()) if file.exists() else 0


@EVERY_WAY
@pytest.mark.parametrize("page", ["ended", "caught"])
def test_page_that_ends_its_session_is_executed_once(way, page, serve, tmp_path):
    with serve(way, COUNTS=str(tmp_path)) as site:
        for number in range(3):
            answer = site.ask(f"{page}/{number}")
            assert executions(tmp_path, f"{number}") == 1
            assert answer.status in ((503,) if page == "ended" else (500, 503))
        assert site.ask("one").status == 200


@EVERY_WAY
@pytest.mark.parametrize("page", ["counted", "write/counted"])
def test_request_whose_session_is_ended_is_executed_once(way, page, serve, server, tmp_path):
    with serve(way, COUNTS=str(tmp_path)) as site, ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(site.ask, f"{page}/{number}/3") for number in range(4)]
        wait_until(lambda: len(find_busy(server)) == 4)
        end_sessions(server)
        assert Answers(each.result() for each in asked).statuses() == {503: 4}
        assert [executions(tmp_path, f"{number}") for number in range(4)] == [1] * 4


@EVERY_WAY
def test_request_that_crashes_the_server_is_executed_twice_at_most(request, way, serve, server, tmp_path):
    """Those beside it as well."""
    with serve(way, COUNTS=str(tmp_path), DB_FAILOVER_WAIT="10") as site, ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(site.ask, f"counted/{name}/4") for name in ("crashing", "other")]
        wait_until(lambda: executions(tmp_path, "other") and find_query(server, "crashing"))
        while not asked[0].done():
            with contextlib.suppress(psycopg.OperationalError, ProcessLookupError):
                for pid in find_query(server, "crashing"):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        tell(request, Answers(each.result() for each in asked))
        assert asked[0].result().status == 503
        assert executions(tmp_path, "crashing") <= 2
        assert executions(tmp_path, "other") <= 2
        wait_until(lambda: site.ask("one").status == 200)


def find_query(server, name):
    """Return the processes of the server's that execute a page's query."""
    return [pid for pid, *_, query in find_busy(server) if name in query]


@EVERY_WAY
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_request_is_repeated_once_where_the_server_restarts(way, mode, serve, server, tmp_path):
    with serve(way, COUNTS=str(tmp_path), DB_FAILOVER_WAIT="10") as site, ThreadPoolExecutor(2) as pool:
        read, written = (pool.submit(site.ask, page) for page in ("counted/read/1", "write/counted/written/1"))
        wait_until(lambda: len(find_busy(server)) == 2)
        restart(server, mode)
        assert (read.result().status, executions(tmp_path, "read")) == (200, 2)
        assert (written.result().status, executions(tmp_path, "written")) == (503, 1)
        read = pool.submit(site.ask, "counted/again/3")
        for _ in range(2):
            wait_until(lambda: find_busy(server))
            restart(server, mode)
        assert (read.result().status, executions(tmp_path, "again")) == (503, 2)


@pytest.mark.parametrize(
    ("way", "mode"), [*((way, "silent") for way in WAYS), ("persistent", "reset"), ("pool", "reset")]
)
def test_database_accepts_and_does_not_answer(request, way, mode, serve, server):
    with Relay(server.port) as relay, serve(way, relay.port) as site:
        with site.load() as load:
            time.sleep(1)
            gone = time.monotonic()
            relay.switch(mode)
            time.sleep(CONNECT + 1)
            relay.switch("pass")
            back = time.monotonic()
            time.sleep(1.5)
        slowest = load.answers.where(ended_after=gone).slowest()
        tell(request, load.answers, f"slowest {slowest:.2f} s, {len(site.trouble())} lines")
        assert_only_away(load.answers, gone, back)
        assert_no_longer(load.answers, gone, CONNECT + PATIENCE)  # twice, for one that may be answered anew
        assert_quiet(site)


@BOTH_SERVERS
def test_worker_is_replaced_during_an_outage(request, way, serve, server):
    """As one is after so many requests: the server stays, since one that ends serves no page at all."""
    with serve(way) as site:
        with site.load({"one": 2, "static": 2}) as load:
            server.stop("fast")
            try:
                lost = site.workers()[0]
                os.kill(lost, signal.SIGKILL)
                time.sleep(5)
            finally:
                server.launch()
            back = time.monotonic()
            time.sleep(2)
        tell(request, load.answers, f"{len(site.trouble())} lines")
        assert site.process.poll() is None
        served = load.answers.where(begun_after=back + ALLOWANCE)
        assert served.statuses() == {200: len(served)}
        assert load.answers.where("static", status=200).slowest(0.99) < ALLOWANCE
        assert len(load.answers.where(status=0)) <= 4  # those that the lost one was at
        wait_until(lambda: site.serves(2), 20)


# The server is there, but not for everybody.


@EVERY_WAY
def test_locked_table(request, way, serve, server):
    """
    Requests for it end by the lock's timeout; pages that do not need it are as fast as before.

    A machine that others use may disturb one measurement, so there are three at most.
    """
    with serve(way) as site:
        for _ in range(3):
            unrelated, stuck, before, during = measure_lock(site, server)
            times = f"p99 {before * 1000:.1f} ms before, {during * 1000:.1f} ms while locked"
            tell(request, unrelated + stuck, times)
            assert unrelated.statuses().keys() == {200}
            assert stuck.statuses().keys() == {503}
            assert all(LOCK <= answer.seconds < LOCK + ALLOWANCE for answer in stuck)
            if during <= 2 * before:
                break
        assert during <= 2 * before
        assert site.causes() == {"locked"}
        assert_quiet(site)
        assert site.ask("guarded").status == 200


def measure_lock(site, server):
    """Return the answers beside a locked table and at it, and the seconds for 99 % of the former before and then."""
    with site.load({"one": 4}) as load:
        time.sleep(3)
        begun = time.monotonic()
        with server.connect("app") as holder, holder.transaction():
            holder.execute("LOCK TABLE guarded")
            with site.load({"guarded": 8}) as stuck:  # half as many as there are threads
                time.sleep(6)
            assert_nothing_left_running(server)
        ended = time.monotonic()
    before = load.answers.where(ended_before=begun).slowest(0.99)
    return load.answers, stuck.answers, before, load.answers.where(ended_after=begun, ended_before=ended).slowest(0.99)


@contextlib.contextmanager
def all_slots_taken(server):
    with server.connect() as connection:
        connection.execute(f"CREATE ROLE others LOGIN PASSWORD '{PASSWORD}'")
    with contextlib.ExitStack() as taken:
        with contextlib.suppress(psycopg.OperationalError):
            for _ in range(CONNECTIONS):
                where = {"host": "127.0.0.1", "port": server.port, "user": "others", "password": PASSWORD}
                taken.enter_context(psycopg.connect(**where, dbname="postgres"))
            pytest.fail("There is no end of slots.")
        yield
    wait_until(lambda: drop_role(server))


def drop_role(server):
    with server.connect() as connection, contextlib.suppress(psycopg.errors.ObjectInUse):
        connection.execute("DROP ROLE others")
        return True


@BOTH_SERVERS
def test_all_slots_taken_by_others(request, way, serve, server):
    """Who has a connection goes on; who needs another one is refused, and no longer than there is none."""
    limits = {"DB_POOL_MAX_SIZE": "4", "DB_POOL_TIMEOUT": "1"}
    with serve(way, WEB_CONCURRENCY="1", WEB_THREADS="4", **limits) as site:
        assert site.ask("one").status == 200
        with all_slots_taken(server):
            answers = site.burst("slow/1", clients=4, each=2)
        after = site.burst("slow/0.2", clients=4)
        tell(request, answers, f"afterwards {after}")
        assert answers.statuses().keys() == {200, 503}
        assert answers.where(status=200)
        assert "too_many_connections" in site.causes()
        assert after.statuses() == {200: 4}
        assert_quiet(site)


def set_password(server, password):
    with server.connect() as connection:
        connection.execute(f"ALTER ROLE app PASSWORD '{password}'")


@EVERY_WAY
def test_password_is_another_one(request, way, serve, server):
    with serve(way) as site:
        with site.load() as load:
            time.sleep(1)
            gone = time.monotonic()
            set_password(server, OTHER)
            end_sessions(server)
            time.sleep(3)
            set_password(server, PASSWORD)
            back = time.monotonic()
            time.sleep(1.5)
        tell(request, load.answers, f"{len(site.trouble())} lines, {sorted(site.causes())}")
        refused = [answer for page in NEEDS_DATA for answer in load.answers.where(page, ended_after=gone + 1)]
        assert Answers(refused).where(ended_before=back).statuses().keys() == {503}
        assert_only_away(load.answers, gone, back)
        assert_quiet(site)
        if way != "pgbouncer":  # which does not tell
            assert "authentication_failed" in site.causes()


RESOLVED = "127.0.0.1 localhost\n127.0.0.1 database.invalid\n"


@BOTH_SERVERS
def test_name_is_not_known_any_more(request, way, serve, server, tmp_path):
    """In a view of the file system of the project's own, where nobody answers questions about names."""
    (tmp_path / "hosts").write_text(RESOLVED)
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    mounts = "".join(f"mount --bind {tmp_path}/{name} /etc/{name}\n" for name in ("hosts", "resolv.conf"))
    unshare = "unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])
    before = [*unshare, "sh", "-ec", f'{mounts}exec "$@"', "sh"]
    with serve(way, before=before, DB_HOST="database.invalid") as site:
        with site.load() as load:
            time.sleep(1)
            gone = time.monotonic()
            (tmp_path / "hosts").write_text("")
            end_sessions(server)
            time.sleep(3)
            (tmp_path / "hosts").write_text(RESOLVED)
            back = time.monotonic()
            time.sleep(1.5)
        tell(request, load.answers, f"{len(site.trouble())} lines, {sorted(site.causes())}")
        assert_only_away(load.answers, gone, back)
        assert "host_unknown" in site.causes()
        assert_quiet(site)


# What takes long.


@EVERY_WAY
def test_slow_query_and_lock_end_by_their_own_timeouts(request, way, serve, server):
    """The one by 500, since it is the page's fault, the other by 503; no worker is replaced for it."""
    with serve(way) as site, ThreadPoolExecutor(2) as pool:
        workers = set(site.workers())
        with server.connect("app") as holder, holder.transaction():
            holder.execute("LOCK TABLE guarded")
            slow, locked = pool.map(site.ask, ["slow/30", "guarded"])
            assert_nothing_left_running(server)
        tell(request, Answers([slow, locked]), f"after {slow.seconds:.2f} s and {locked.seconds:.2f} s")
        assert (slow.status, locked.status) == (500, 503)
        assert STATEMENT <= slow.seconds < STATEMENT + ALLOWANCE
        assert LOCK <= locked.seconds < LOCK + ALLOWANCE
        assert set(site.workers()) == workers


@EVERY_WAY
def test_query_ends_with_its_process(request, way, serve, server):
    with serve(way, WEB_CONCURRENCY="1") as site, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(site.ask, "slow/4.5")
        wait_until(lambda: find_busy(server))
        (worker,) = site.workers()
        os.kill(worker, signal.SIGKILL)
        begin = time.monotonic()
        wait_until(lambda: not find_busy(server), 3)
        tell(request, Answers([asked.result()]), f"its query ended after {time.monotonic() - begin:.2f} s")
        wait_until(lambda: site.ask("one").status == 200)


@BOTH_SERVERS
def test_server_that_is_told_to_end_finishes_its_requests(request, way, serve, server):
    with serve(way) as site, ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(site.ask, page) for page in ("busy/3", "slow/3")]
        wait_until(lambda: find_busy(server))
        site.process.terminate()
        answers = Answers(answer.result() for answer in asked)
        assert site.process.wait(10) == 0
        tell(request, answers, f"slowest {answers.slowest():.2f} s")
        assert answers.statuses() == {200: 2}
        assert_nothing_left_running(server)


# More clients than connections.


def test_clients_beyond_the_pool(request, serve, server):
    """All are answered; each process has no more connections than its pool, and one to ask why it is slow."""
    with serve("pool", WEB_CONCURRENCY="4", DB_POOL_MAX_SIZE="8", DB_POOL_TIMEOUT="5") as site:
        for clients in (8, 40, 200):
            pages = {"one": clients // 2, "ten": clients // 4, "write/{}": clients // 4}
            with site.load(pages) as load:
                most = max(count_sessions(server, seconds=2))
            p99 = load.answers.slowest(0.99)
            tell(request, load.answers, f"{clients} clients, p99 {p99:.2f} s, {most} connections at most")
            assert load.answers.statuses().keys() == {200}
            assert most <= 4 * (8 + 1)
            assert_kept(server, load.answers)
            assert site.trouble() == []


def count_sessions(server, seconds):
    """Return how many the project has, again and again."""
    deadline = time.monotonic() + seconds
    with server.connect() as connection:
        while time.monotonic() < deadline:
            yield connection.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'").fetchone()[0]
            time.sleep(0.05)


def test_figures_of_the_pool_are_shown(serve):
    with serve("pool", WEB_CONCURRENCY="1", DB_POOL_MAX_SIZE="3", DB_POOL_TIMEOUT="0.5") as site:
        with site.load({"slow/2": 5}, requests=1) as load:
            load.join()
        assert load.answers.statuses() == {200: 3, 503: 2}
        report = json.loads(site.ask("health/ready", Authorization="Bearer t0ken-of-the-tests").text)
        figures = report["databases"]["default"]["pool"]
        assert figures == {"size": 3, "maximum": 3, "available": 3, "waiting": 0, "timeouts": 2}
        assert site.causes() == {"pool_exhausted"}
        assert "pool" not in site.ask("health/ready").text


# Connections of threads that are no request's.


@pytest.fixture(params=["gunicorn", "uvicorn"])
def asgi(request, serve, project, server):
    """What serves the project by one process of an ASGI server, as on a machine with many cores."""
    values = {"WEB_CONCURRENCY": "1", "PYTHON_CPU_COUNT": "16"}
    if request.param == "gunicorn":
        with serve("pool", **values) as site:
            yield site
        return
    values |= production(server) | {"PYTHONPATH": str(project.parents[1]), "PORT": str(free_port())}
    command = "-m", "uvicorn", "config.asgi:application", "--lifespan", "off", "--port", values["PORT"]
    with running(sys.executable, *command, cwd=project, **values) as (process, log):
        site = Site(int(values["PORT"]), process, log)
        wait_until(lambda: process.poll() is not None or site.ask("static").status == 200, 30)
        yield site


@pytest.mark.parametrize("way", ["to_thread", "sync_to_async", "executor"])
def test_threads_of_the_event_loop_give_their_connections_back(asgi, way):
    for _ in range(3):
        assert asgi.ask(f"threads/{way}/20").text == "20"
        answers = asgi.burst("one", clients=8, each=2)
        assert answers.statuses() == {200: 16}
        assert answers.slowest() < ALLOWANCE
        assert asgi.ask("health/ready").status == 200


@pytest.mark.parametrize("page", ["own_threads", "lasting_threads"])
def test_threads_of_a_page_give_their_connections_back(serve, page):
    """Those that have ended, though nothing was said of them, and those that say where they need them no longer."""
    with serve("pool", WEB_CONCURRENCY="1") as site:
        assert site.ask("one").status == 200
        for _ in range(3):
            assert site.ask(f"{page}/8").status == 200
            wait_until(lambda: site.ask("health/ready").status == 200, 5)
            assert site.burst("one", clients=8).statuses() == {200: 8}


# What is said.

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
JSON = {"Accept": "application/json"}


@EVERY_WAY
def test_answers_while_there_is_no_database(way, serve, server):
    with serve(way) as site, ThreadPoolExecutor(8) as pool:
        server.stop("fast")
        try:
            pages = "one", "lazy", "later", "write/1"
            asked = [[pool.submit(site.ask, page, **accepted) for accepted in (HTML, JSON)] for page in pages]
            for text, data in asked:
                assert_unavailable(text.result(), "text/html")
                assert_unavailable(data.result(), "application/json")
            statuses = {
                page: site.ask(page).status for page in ("static", "broken", "nowhere", "health/live", "health/ready")
            }
        finally:
            server.launch()
        wait_until(lambda: site.ask("one").status == 200, BACK + ALLOWANCE)
        assert statuses == {"static": 200, "broken": 503, "nowhere": 404, "health/live": 200, "health/ready": 503}


def assert_unavailable(answer, kind):
    assert (answer.status, answer.headers["Content-Type"].split(";")[0]) == (503, kind)
    assert int(answer.headers["Retry-After"]) > 0
    assert "no-store" in answer.headers["Cache-Control"]
    if kind == "application/json":
        assert json.loads(answer.text) == {"status": "unavailable"}
    else:
        assert "<h1>Please try again</h1>" in answer.text


@BOTH_SERVERS
def test_mistakes_stay_errors(request, way, serve):
    """They are answered by 500 and logged with their tracebacks, since waiting mends none of them."""
    with serve(way) as site, ThreadPoolExecutor(2) as pool:
        answers = Answers(site.ask(page) for page in ("twice", "misspelt", "broken"))
        answers += pool.map(site.ask, ["both/1/2", "both/2/1"])
        tell(request, answers)
        assert [answer.status for answer in answers[:3]] == [500] * 3
        assert sorted(answer.status for answer in answers[3:]) == [200, 500]
        logged = "".join(line.get("exception", "") for line in site.trouble())
        for error in ("IntegrityError", "UndefinedColumn", "ValueError: broken", "deadlock detected"):
            assert error in logged
        assert len(site.trouble()) == 4


def test_full_disk_is_no_mistake(serve):
    with serve("persistent") as site:
        assert_unavailable(site.ask("full"), "text/html")
        assert site.causes() == {"disk_full"}
        assert_quiet(site)
