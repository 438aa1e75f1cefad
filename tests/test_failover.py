"""
What users see while another server becomes the primary, and that nothing which was acknowledged is lost.

Requests wait for it, so that only those fail that were being answered when the primary went, and that may not be
answered twice: a write may have been made or not. `pytest tests/test_failover.py -rP | grep outage:` has the figures.
"""

import contextlib
import json
import os
import shutil
import sys
import time
from pathlib import Path

import pytest
from conftest import PASSWORD, manage, postgres, render_with_pages
from replication import frozen, kill, standbys
from sites import (
    ALLOWANCE,
    CROWD,
    TABLES,
    Relay,
    assert_data_free_pages_served,
    assert_kept,
    assert_quiet,
    first_served,
    limit_role,
    pgbouncer,
    prepare,
    production,
    serving,
    tell,
)

pytestmark = pytest.mark.long

UNKNOWN = "gone.invalid"  # a host whose name has no address any more
PROMOTION = 3  # seconds after which whoever watches a pair makes the other one the primary
WRITERS = CROWD["write/{}"]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return render_with_pages(tmp_path_factory.mktemp("failover"))


# Two servers, and somebody who watches them.


@pytest.fixture
def pair(embedded_binaries, project):
    """A primary, whose commits wait for the standby that comes with it."""
    with postgres(embedded_binaries) as primary:
        prepare(primary, project)
        with standbys(primary, 1) as (standby,):
            acknowledge_by_both(primary)
            yield primary, standby


def acknowledge_by_both(primary):
    """Have commits wait for the standby."""
    with primary.connect() as connection:
        connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        connection.execute("SELECT pg_reload_conf()")


@contextlib.contextmanager
def killed(primary, _relay):
    kill(primary)
    yield


@contextlib.contextmanager
def froze(primary, _relay):
    with frozen(primary):
        yield


@contextlib.contextmanager
def cut_off(_primary, relay):
    """Have the network carry nothing any more, in either direction, which neither side is told."""
    relay.switch("cut")
    yield


@contextlib.contextmanager
def connecting(way, ports, primary):
    """Return the variables by which to reach whichever of the servers at some ports is the primary."""
    with contextlib.ExitStack() as stack:
        values = {"DB_POOL": "false"} if way == "persistent" else {}
        if way == "pgbouncer":  # in front of what leads to the primary, such as a service of Kubernetes
            limit_role(primary)
            direct = {"DB_DIRECT_HOST": "127.0.0.1", "DB_DIRECT_PORT": str(primary.port)}
            values = {"DB_PGBOUNCER": "true", "DB_FAILOVER_WAIT": "10", **direct}
            ports = [stack.enter_context(pgbouncer(ports[0]))]
        hosts = {"DB_HOST": ",".join("127.0.0.1" for _ in ports), "DB_PORT": ",".join(map(str, ports))}
        yield production(primary) | values | hosts


def take_over(standby):
    """Make the other one the primary; return when it was."""
    time.sleep(PROMOTION)
    standby.set(synchronous_standby_names="")
    standby.promote()
    return time.monotonic()


@pytest.mark.parametrize(
    ("way", "lost"),
    [
        ("pool", killed),
        ("asgi", killed),
        ("persistent", killed),
        ("pgbouncer", killed),
        ("pool", froze),
        ("pool", cut_off),
    ],
)
def test_the_other_one_takes_over(request, way, lost, pair, project):
    primary, standby = pair
    with contextlib.ExitStack() as stack:
        relay = stack.enter_context(Relay(primary.port))
        values = stack.enter_context(connecting(way, [relay.port, standby.port], primary))
        site = stack.enter_context(serving(project, values, asgi=way == "asgi"))
        load = stack.enter_context(site.load())
        time.sleep(1)
        gone = time.monotonic()
        stack.enter_context(lost(primary, relay))
        promoted = take_over(standby)
        if way == "pgbouncer":
            relay.lead(standby.port)
        time.sleep(2)
        load.end()
        tell_gap(request, load.answers, gone, promoted)
        # What keeps silent is found out by each process for itself.
        most = WRITERS if lost is killed else WRITERS * len(site.workers())
        assert_only_caught_writes_fail(load.answers, promoted, most)
        assert_kept(standby, load.answers)
        assert_quiet(site)


def test_commands_find_the_primary(pair, project, embedded_binaries):
    """Whichever of the hosts it is, and by the programs of PostgreSQL as well."""
    primary, standby = pair
    hosts = f"127.0.0.1,127.0.0.1,{UNKNOWN}"
    ports = f"{standby.port},{primary.port},1"
    values = production(primary) | {"DB_HOST": hosts, "DB_PORT": ports, "PYTHONPATH": str(project.parents[1])}
    values |= {"PATH": f"{embedded_binaries}{os.pathsep}{os.environ['PATH']}", "DB_PROGRAMS": str(embedded_binaries)}
    assert manage(project, "check_database", **values).stdout.startswith("default: healthy")
    manage(project, "migrate", "users", "zero", **values)
    manage(project, "migrate", **values)
    asked = "SELECT 'in recovery: ' || pg_is_in_recovery()"
    assert "in recovery: false" in manage(project, "dbshell", "--", "-c", asked, **values).stdout
    manage(project, "backup_database", **values, BACKUP_FOLDER=str(project.parent / "backups"))
    manage(project, "inspect_database", "--record", **values)


def test_details_name_the_host_in_use_and_how_far_behind_the_replicas_are(pair, project):
    primary, standby = pair
    ports = f"{standby.port},{primary.port}"
    both = {"DB_HOST": "127.0.0.1,127.0.0.1", "DB_PORT": ports, "DB_ATOMIC_REQUESTS": "false"}
    replicas = {"DB_REPLICA_HOST": "127.0.0.1,127.0.0.1", "DB_REPLICA_PORT": ports}
    values = production(primary) | both | replicas | {"PYTHONPATH": str(project.parents[1])}
    asked = manage(project, "check_database", "--database", "replica2", **values)
    assert asked.stdout == "replica2: left out, since it is the primary\n"
    with serving(project, values) as site:
        with primary.connect("app") as connection:
            connection.execute("INSERT INTO guarded VALUES (1)")  # a moment that the standby knows
            standby.pause()
            connection.execute("SET synchronous_commit = local; INSERT INTO guarded VALUES (2)")
        time.sleep(1.1)  # for which an answer is given again
        answer = site.ask("health/ready", Authorization="Bearer t0ken-of-the-tests")
        standby.resume()
    assert answer.status == 200
    found = json.loads(answer.text)["databases"]
    assert (found["default"]["server"], found["default"]["role"]) == (f"127.0.0.1:{primary.port}", "primary")
    assert (found["replica"]["server"], found["replica"]["role"]) == (f"127.0.0.1:{standby.port}", "standby")
    assert found["replica"]["lag_bytes"] > 0
    assert found["replica"]["lag_seconds"] > 0
    assert found["replica2"]["cause"] == "no_standby"


# Three servers, and Patroni, which finds out by itself.


@pytest.fixture(scope="module")
def cluster(project, tmp_path_factory):
    """A cluster beside the project, of whose code nothing is left for another module to import."""
    shutil.copytree(Path(__file__).parent / "cluster", project / "cluster")
    sys.path.insert(0, str(project))
    try:
        from cluster.cluster import Cluster  # noqa: PLC0415

        with Cluster(tmp_path_factory.mktemp("cluster") / "data") as cluster:
            cluster.wait_until_healthy()
            with cluster.connect() as connection:
                connection.execute(f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'")
                connection.execute("CREATE DATABASE app OWNER app")
            manage(project, "migrate", **reach(cluster), PYTHONPATH=str(project.parents[1]))
            with cluster.connect("app") as connection:
                connection.execute(f"SET ROLE app; {TABLES}")
            yield cluster
    finally:
        sys.path.remove(str(project))
        for name in [name for name in sys.modules if name.partition(".")[0] in ("apps", "cluster", "config")]:
            del sys.modules[name]


def reach(cluster):
    """Return the variables by which the project finds the primary of a cluster."""
    hosts = {"DB_HOST": ",".join("127.0.0.1" for _ in cluster.nodes)}
    ports = {"DB_PORT": ",".join(str(node.port) for node in cluster.nodes)}
    return production(cluster.nodes[0]) | hosts | ports


@contextlib.contextmanager
def switched_over(cluster):
    yield cluster.switchover()


@contextlib.contextmanager
def postgres_killed(cluster):
    yield cluster.kill_primary()


@contextlib.contextmanager
def node_lost(cluster):
    node = cluster.primary()
    cluster.stop_node(node)
    yield node
    cluster.start_node(node)


@pytest.mark.parametrize("happens", [switched_over, postgres_killed, node_lost])
def test_patroni_elects_another_one(request, happens, cluster, project):
    cluster.wait_until_healthy()
    values = reach(cluster) | {"DB_FAILOVER_WAIT": "40"}
    with serving(project, values) as site, site.load() as load:
        time.sleep(1)
        gone = time.monotonic()
        with happens(cluster) as old:
            cluster.wait_for_primary(old)
            elected = time.monotonic()
            time.sleep(2)
            load.end()
        tell_gap(request, load.answers, gone, elected)
        assert_only_caught_writes_fail(load.answers, elected)
        assert_kept(cluster, load.answers)
        assert_quiet(site)


def tell_gap(request, answers, gone, elected):
    served = first_served(answers, elected)
    text = f"another primary after {elected - gone:.2f} s, requests answered after another {served:.2f} s"
    failed = answers.where(status=503)
    tell(request, answers, f"{text}, {len(failed)} failed")


def assert_only_caught_writes_fail(answers, elected, most=WRITERS):
    """Whoever came later waited and was answered, and whoever only read was, too."""
    assert answers.statuses().keys() <= {200, 503}
    failed = answers.where(status=503)
    assert len(failed) <= most
    assert failed == failed.where("write/{}", ended_before=elected + ALLOWANCE)
    assert first_served(answers, elected) < ALLOWANCE
    assert_data_free_pages_served(answers)
