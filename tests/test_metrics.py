"""
What /metrics tells of servers with several workers, of databases that are away, and where traces go.

The figures are read by Prometheus's own parser; the alerts by promtool, and the dashboard by Grafana's own models.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from conftest import (
    PASSWORD,
    TEMPLATE,
    Postgres,
    fetch,
    free_port,
    manage,
    postgres,
    render_with_pages,
    run,
    running,
    unpack,
    wait_until,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from load import ask
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families
from sites import Site, pgbouncer, production

pytestmark = pytest.mark.long

TOKEN = "m3trics-of-the-tests"  # noqa: S105
ALERTS = TEMPLATE / "deploy" / "prometheus" / "alerts.yaml"
DASHBOARD = TEMPLATE / "deploy" / "grafana" / "dashboard.json"
GUNICORN = sys.executable, "-m", "gunicorn", "--config", "python:config.server"  # as `manage.py serve` becomes it
RENDER = "from apps.metrics.figures import render; print(render().decode())"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return render_with_pages(tmp_path_factory.mktemp("metrics"))


@pytest.fixture(scope="module")
def server(embedded_binaries, project):
    with postgres(embedded_binaries) as server:
        with server.connect() as connection:
            connection.execute(f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'")
            connection.execute("CREATE DATABASE app OWNER app")
        manage(project, "migrate", **variables(server, project))
        yield server


@pytest.fixture(scope="module")
def standby(server):
    """A server that follows the other."""
    with tempfile.TemporaryDirectory() as folder:
        follower = Postgres(server.binaries, Path(folder))
        if server.user:
            subprocess.run(["chown", "nobody", folder], check=True)
        origin = f"host=127.0.0.1 port={server.port} user=owner password={PASSWORD} application_name=second"
        copy = "--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf", "--no-sync"
        follower.run("pg_basebackup", "--pgdata", follower.folder / "data", "--dbname", origin, *copy)
        follower.launch()
        yield follower
        follower.stop()


def variables(server, project, **changes):
    return {
        **production(server),
        "PYTHONPATH": str(project.parents[1]),
        "METRICS_TOKEN": TOKEN,
        "WEB_CONCURRENCY": "1",
        "WEB_THREADS": "4",
        "DATABASES_CHECKED": "true",
        **changes,
    }


class Watched(Site):
    """A project that is being served, and its figures."""

    def scrape(self):
        status, text = fetch(f"http://127.0.0.1:{self.port}/metrics", Authorization=f"Bearer {TOKEN}")
        assert status == 200
        return read(text)

    def accesses(self):
        """Return how many requests were answered, by their status, as the log has it."""
        return Counter(line["status"] for line in self.lines() if "response_time_ms" in line)


@pytest.fixture(scope="module")
def serve(project, server):
    """Return what serves the project inside a block."""

    @contextlib.contextmanager
    def serve(*arguments, **changes):
        arguments = arguments or ("config.wsgi",)
        values = variables(server, project, PORT=str(free_port()), **changes)
        with running(*GUNICORN, *arguments, cwd=project, **values) as (process, log):
            site = Watched(int(values["PORT"]), process, log)
            fetch(f"http://127.0.0.1:{site.port}/health/live/")
            if (workers := int(values["WEB_CONCURRENCY"])) > 1:
                wait_until(lambda: site.serves(workers), 60)
            yield site

    return serve


def read(text):
    """Return the figures of a page by their names, and each name's by its labels."""
    found = defaultdict(dict)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = tuple(sample.labels.values())
            assert labels not in found[sample.name], f"{sample.name} is there twice"
            found[sample.name][labels] = sample.value
    return found


def only(figures, name):
    """Return the figure of a name that has one."""
    (value,) = figures[name].values()
    return value


def answered(figures):
    """Return how many requests were answered, by their status."""
    return Counter({int(status): int(value) for (_, status), value in figures["django_requests_total"].items()})


def ask_database(project, environment):
    """Return the figures as a process has them that has served nobody."""
    return read(manage(project, "shell", "--no-imports", "-c", RENDER, **environment).stdout)


def folders(folder):
    return [path.name for path in Path(folder).glob("*django-figures-*")]


@pytest.fixture(scope="module")
def pooled(serve):
    """Two workers that have a connection each."""
    with serve(
        "config.asgi",
        "--worker-class",
        "asgi",
        "--threads",
        "1",
        WEB_CONCURRENCY="2",
        DB_POOL_MAX_SIZE="1",
        DB_POOL_TIMEOUT="1",
    ) as site:
        yield site


@pytest.fixture(scope="module")
def strict(serve):
    """A server that takes no requests over plain HTTP or by address, and misses two standbys."""
    with serve(SECURE_SSL_REDIRECT="true", ALLOWED_HOSTS="example.com", DB_EXPECTED_REPLICAS="2") as site:
        yield site


# Workers.


def test_figures_are_those_of_all_workers_and_of_those_that_were_replaced(serve, tmp_path):
    with serve(WEB_CONCURRENCY="4", TMPDIR=str(tmp_path)) as site:
        before = site.scrape()
        site.burst("ten", 4, 5)
        site.burst("misspelt", 2, 2)
        after = site.scrape()
        assert answered(after) - answered(before) == {200: 20, 500: 4}
        assert only(after, "django_queries_total") - only(before, "django_queries_total") == 204
        assert only(after, "django_request_database_seconds_count") == answered(after).total()
        assert after["django_request_duration_seconds_count"] == {("GET",): answered(after).total()}
        assert answered(after) == site.accesses()

        (folder,) = tmp_path.glob("django-figures-*")
        files = {file.name for file in folder.iterdir()}
        for kind in (signal.SIGKILL, signal.SIGTERM):
            victim = site.workers()[0]
            os.kill(victim, kind)
            wait_until(lambda victim=victim: victim not in site.workers() and site.serves(4), 30)
        site.burst("ten", 4, 5)
        assert answered(site.scrape()) == site.accesses()
        assert {file.name for file in folder.iterdir()} == files
    assert folders(tmp_path) == []


def test_what_a_killed_server_left_is_cleared_away_and_nothing_of_one_that_runs(project, tmp_path):
    (tmp_path / "empty.py").write_text("application = object\n")  # nobody asks it
    changes = {"TMPDIR": str(tmp_path), "PYTHONPATH": f"{project}:{tmp_path}", "WEB_CONCURRENCY": "2"}

    @contextlib.contextmanager
    def serve_nothing():
        before = folders(tmp_path)
        with running(*GUNICORN, "empty:application", cwd=project, **changes, PORT=str(free_port())) as (process, log):
            wait_until(lambda: "Booting worker" in log.read_text())
            (made,) = {*folders(tmp_path)} - {*before}
            yield process, made

    with serve_nothing() as (_, made):
        with serve_nothing() as (process, left):
            process.kill()
            process.wait()
            assert sorted(folders(tmp_path)) == sorted([made, left])
        wait_until(lambda: not is_held(tmp_path / left))  # by its workers, which notice
        with serve_nothing() as (_, new):
            assert sorted(folders(tmp_path)) == sorted([made, new])
        assert folders(tmp_path) == [made]
    assert folders(tmp_path) == []


def test_workers_are_replaced_where_somebody_has_removed_the_folder(serve, tmp_path):
    with serve(TMPDIR=str(tmp_path)) as site:
        (folder,) = tmp_path.glob("django-figures-*")
        shutil.rmtree(folder)
        assert ask(site.port, "one").status == 200
        (victim,) = site.workers()
        os.kill(victim, signal.SIGTERM)
        wait_until(lambda: victim not in site.workers() and site.serves(1), 30)
        assert answered(site.scrape()).total() >= 1


def is_held(folder):
    """Tell whether a process has the folder open."""
    for file in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if file.readlink() == folder:
                return True
    return False


def test_pool_s_figures_are_those_of_all_workers(pooled):
    wait_until(lambda: only(pooled.scrape(), "database_pool_max") == 2)
    with pooled.load({"slow/2": 6}, requests=1) as load:
        wait_until(lambda: only(pooled.scrape(), "database_pool_requests_waiting") >= 1)
        load.join()
    refused = load.answers.statuses().get(503, 0)
    assert refused
    wait_until(lambda: only(pooled.scrape(), "database_pool_requests_waiting") == 0)
    figures = pooled.scrape()
    assert only(figures, "database_pool_timeouts_total") == refused
    assert only(figures, "database_pool_requests_total") >= 6
    assert only(figures, "database_pool_wait_seconds_total") >= refused
    wait_until(lambda: only(pooled.scrape(), "database_pool_available") == 2)  # what a request left, the pool looks at
    assert only(pooled.scrape(), "database_pool_connections") == 2


def test_queries_of_asynchronous_views_are_counted(pooled):
    before = pooled.scrape()
    assert ask(pooled.port, "later").status == 200
    assert only(pooled.scrape(), "django_queries_total") - only(before, "django_queries_total") == 1


# Who may read them.


def test_figures_are_for_the_token_only_and_served_over_plain_http_and_by_address(strict):
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer "}):
        status, text = fetch(f"http://127.0.0.1:{strict.port}/metrics", **headers)
        assert (status, text) == (403, "Set METRICS_TOKEN, and send it as a bearer token.\n")
    assert only(strict.scrape(), "database_up") == 1
    assert TOKEN not in strict.log.read_text()


# The database.


def test_figures_are_there_while_the_database_is_not(strict, server):
    def is_up():
        nonlocal longest
        begin = time.monotonic()
        figures = strict.scrape()
        longest = max(longest, time.monotonic() - begin)
        up = only(figures, "database_up")
        assert up or [name for name in figures if name.startswith("database_")] == ["database_up"]
        assert "django_request_duration_seconds_count" in figures
        return bool(up)

    longest = 0
    ask(strict.port, "one")
    postmaster = int((server.folder / "data" / "postmaster.pid").read_text().split()[0])
    wait_until(is_up)
    os.kill(postmaster, signal.SIGSTOP)  # it accepts connections, as the system does that for it, and says nothing
    try:
        wait_until(lambda: not is_up())
    finally:
        os.kill(postmaster, signal.SIGCONT)
    wait_until(is_up)
    assert longest < 2.5
    begin = time.monotonic()
    server.stop("fast")
    try:
        wait_until(lambda: not is_up())
        assert time.monotonic() - begin < 3
    finally:
        server.launch()
    wait_until(is_up)
    assert longest < 2.5


def test_locks_backups_and_pending_migrations_are_told(strict, server):
    figures = strict.scrape()
    assert only(figures, "database_locks_waiting") == 0
    assert only(figures, "database_migrations_pending") == 0
    assert only(figures, "database_backup_timestamp_seconds") == 0
    assert only(figures, "database_connections_max") == 97
    assert only(figures, "database_size_bytes") > 5_000_000
    with server.connect("app") as holder, server.connect("app") as waiter:
        holder.execute("INSERT INTO backups_backup (name, made_at, size, seconds) VALUES ('x', '2026-11-25Z', 1, 1)")
        holder.execute("UPDATE django_migrations SET app = 'moved' WHERE app = 'sessions'")
        holder.execute("BEGIN; SELECT pg_advisory_xact_lock(7)")
        thread = threading.Thread(target=waiter.execute, args=["SELECT pg_advisory_lock(7)"])
        thread.start()
        try:
            wait_until(lambda: only(strict.scrape(), "database_locks_waiting") == 1)
            figures = strict.scrape()
        finally:
            holder.execute("COMMIT")
            thread.join()
            holder.execute("DELETE FROM backups_backup")
            holder.execute("UPDATE django_migrations SET app = 'sessions' WHERE app = 'moved'")
    assert only(figures, "database_migrations_pending") == 1
    assert only(figures, "database_backup_timestamp_seconds") == 1795564800
    assert only(figures, "database_restore_verified_timestamp_seconds") == 0


def test_oldest_server_is_asked_alike_and_before_the_first_migration(strict, project, tmp_path):
    tmp_path.chmod(0o755)
    with postgres(unpack(15, tmp_path)) as server:
        figures = ask_database(project, variables(server, project) | server.environment("app"))
    assert next(iter(figures["database_info"]))[1].startswith("15.")
    assert only(figures, "database_migrations_pending") > 20
    missing = {name for name in strict.scrape() if name.startswith("database_")} - {*figures}
    assert missing == {"database_backup_timestamp_seconds", "database_restore_verified_timestamp_seconds"}


def test_database_is_asked_through_pgbouncer_too(project, server):
    with pgbouncer(server.port) as port:
        figures = ask_database(project, variables(server, project, DB_PGBOUNCER="true", DB_PORT=str(port)))
    assert only(figures, "database_up") == 1
    assert only(figures, "database_migrations_pending") == 0
    assert only(figures, "database_size_bytes") > 0


def test_lost_host_does_not_make_the_others_look_lost(project, server):
    """It accepts connections and says nothing, which costs two seconds before the next one is asked."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        places = {"DB_HOST": "127.0.0.1,127.0.0.1", "DB_PORT": f"{silent.getsockname()[1]},{server.port}"}
        figures = ask_database(project, variables(server, project, **places))
    assert only(figures, "database_up") == 1


def test_replicas_and_their_lag_are_told(strict, server, standby, told_by_standby):
    with server.connect() as connection:
        connection.execute("GRANT pg_monitor TO app")
        with standby.connect() as second, receiver(server):
            second.execute("SELECT pg_wal_replay_pause()")
            connection.execute("CREATE TABLE written AS SELECT generate_series(1, 1000)")
            wait_until(lambda: max(strict.scrape()["database_replica_lag_bytes"].values(), default=0) > 10_000)
            figures = strict.scrape()
            second.execute("SELECT pg_wal_replay_resume()")
        connection.execute("DROP TABLE written; REVOKE pg_monitor FROM app")
    assert only(figures, "database_replicas") == 1
    assert only(figures, "database_replicas_expected") == 2
    ((labels, _),) = figures["database_replica_lag_bytes"].items()
    assert sorted(labels) == ["127.0.0.1", "second"]
    assert only(figures, "database_replica_lag_seconds") >= 0
    assert "standby" in next(iter(told_by_standby["database_info"]))
    assert only(told_by_standby, "database_standby_lag_seconds") > 0
    assert only(told_by_standby, "database_migrations_pending") == 0


@pytest.fixture(scope="module")
def told_by_standby(project, server, standby):
    """What a process tells whose database is a standby that has not replayed all that it has."""
    with standby.connect() as second, server.connect() as connection:
        connection.execute("CREATE TABLE more AS SELECT 1")
        replayed = "SELECT pg_last_xact_replay_timestamp() IS NOT NULL"
        wait_until(lambda: second.execute(replayed).fetchone() == (True,))
        second.execute("SELECT pg_wal_replay_pause()")
        connection.execute("DROP TABLE more")
        behind = "SELECT pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn()"
        wait_until(lambda: second.execute(behind).fetchone() == (True,))
        yield ask_database(project, variables(standby, project, DB_TARGET_SESSION_ATTRS="any"))
        second.execute("SELECT pg_wal_replay_resume()")


@contextlib.contextmanager
def receiver(server):
    """Have somebody receive what the server writes, as Barman does."""
    with tempfile.TemporaryDirectory() as folder:
        if server.user:
            subprocess.run(["chown", "nobody", folder], check=True)
        command = [*server.user, server.binaries / "pg_receivewal", "--directory", folder]
        origin = f"host=127.0.0.1 port={server.port} user=owner password={PASSWORD}"
        with running(*command, "--dbname", origin, cwd="/"), server.connect() as connection:
            count = "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'pg_receivewal'"
            wait_until(lambda: connection.execute(count).fetchone() == (1,))
            yield


def test_role_that_may_not_see_others_says_so_and_the_monitor_sees_them(strict, project, server):
    secret = {"DB_MONITOR_PASSWORD": "monitor-Secret4"}
    with server.connect("app") as connection, server.connect("app"):
        wait_until(lambda: strict.scrape()["database_sessions"][("hidden",)] >= 2)
        assert "database_replicas" not in strict.scrape()
        absent = ask_database(project, variables(server, project, **secret))  # there is no such role
        assert only(absent, "database_up") == 1
        assert absent["database_sessions"][("hidden",)] >= 2
        connection.execute("CREATE ROLE app_monitor LOGIN PASSWORD 'monitor-Secret4'; GRANT pg_monitor TO app_monitor")
        try:
            seen = ask_database(project, variables(server, project, **secret))
        finally:
            connection.execute("DROP ROLE app_monitor")
    assert seen["database_sessions"][("hidden",)] == 0
    assert seen["database_sessions"][("idle",)] >= 2
    assert only(seen, "database_migrations_pending") == 0
    assert "database_replicas" in seen


# Traces.


@contextlib.contextmanager
def collector(port):
    """Take traces inside the block; what is yielded are the spans, each with its resource."""
    spans = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            assert self.path == "/v1/traces"
            body = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
            for resource in body.resource_spans:
                for scope in resource.scope_spans:
                    spans.extend((span, read_attributes(resource.resource)) for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    sink = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=sink.serve_forever)
    thread.start()
    try:
        yield spans
    finally:
        sink.shutdown()
        thread.join()
        sink.server_close()


def read_attributes(owner):
    return {each.key: each.value.string_value or each.value.int_value for each in owner.attributes}


@pytest.fixture(scope="module")
def traced(serve):
    """The port where traces are sent, and a server that sends them."""
    port = free_port()
    endpoint = f"http://user:geheim@127.0.0.1:{port}"
    often = {"OTEL_BSP_SCHEDULE_DELAY": "100"}  # milliseconds
    with serve(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_SERVICE_NAME="shop", **often) as site:
        yield port, site


def test_requests_and_their_queries_are_traced_without_values(traced):
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    left_out = trace[::-1]  # by whoever began it
    port, site = traced
    with collector(port) as spans:
        assert ask(site.port, "one", traceparent=f"00-{left_out}-{parent}-00").status == 200
        answer = ask(site.port, "write/20261126/?name=geheim&page=", traceparent=f"00-{trace}-{parent}-01")
        assert answer.status == 500  # there is no such table
        wait_until(lambda: len(spans) == 2)
    query, request = sorted((span for span, _ in spans), key=lambda span: span.kind, reverse=True)
    assert {span.trace_id.hex() for span in (query, request)} == {trace}
    assert request.parent_span_id.hex() == parent
    assert query.parent_span_id == request.span_id
    assert request.name == "POST /write/<int:number>/"
    (line,) = [line for line in site.lines() if line["event"] == "POST /write/20261126/"]
    assert line["trace_id"] == trace
    assert read_attributes(request) == {
        "http.request.method": "POST",
        "http.response.status_code": 500,
        "http.route": "/write/<int:number>/",
        "url.path": "/write/20261126/",
        "url.scheme": "http",
        "error.type": "500",
        "request_id": line["request_id"],
    }
    assert query.name == "INSERT"
    assert read_attributes(query) == {
        "db.system.name": "postgresql",
        "db.namespace": "app",
        "db.operation.name": "INSERT",
        "db.query.text": "INSERT INTO ledger VALUES (%s)",
        "server.address": "127.0.0.1",
        "error.type": "42P01",
    }
    assert {resource["service.name"] for _, resource in spans} == {"shop"}
    told = " ".join(map(str, spans))
    assert not [text for text in ("geheim", PASSWORD, "does not exist") if text in told]


def test_traces_that_nobody_takes_are_dropped_and_that_is_said_once(traced):
    port, site = traced
    for _ in range(2):
        site.burst("ten", 2, 5)
        wait_until(lambda: "Nobody takes traces" in site.log.read_text())
    begin = time.monotonic()
    site.process.terminate()
    site.process.wait(20)
    assert time.monotonic() - begin < 8
    told = [line["event"] for line in site.lines() if line["logger"] == "apps.metrics.tracing"]
    assert told == [f"Nobody takes traces at 127.0.0.1:{port}: they are dropped until somebody does."]
    assert not [line for line in site.lines() if line["logger"].startswith("opentelemetry")]
    assert "geheim" not in site.log.read_text()


def test_nothing_of_opentelemetry_is_loaded_where_nobody_takes_traces(project, server):
    code = "import sys, config.wsgi; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    done = run(sys.executable, "-c", code, cwd=project, **variables(server, project))
    assert done.stdout == "[]\n"


# Prometheus and Grafana.


def test_promtool_takes_configuration_and_alerts(tmp_path):
    shutil.copytree(ALERTS.parent, tmp_path, dirs_exist_ok=True)
    (tmp_path / "metrics-token").write_text(TOKEN)
    done = run("promtool", "check", "config", "prometheus.yaml", cwd=tmp_path)
    assert "12 rules found" in done.stdout


def series(name, values, **labels):
    labels = {"job": "django", "instance": "one", **labels}
    text = ",".join(f'{key}="{value}"' for key, value in labels.items())
    return {"series": f"{name}{{{text}}}", "values": values}


UP = series("up", "1x200")
PROVOKED = {
    "MetricsMissing": [series("up", "0x200")],
    "DatabaseDown": [series("database_up", "0x200")],
    "ErrorsFrequent": [
        series("django_requests_total", "0+97x200", status="200"),
        series("django_requests_total", "0+3x200", status="503"),
    ],
    "RequestsSlow": [
        series("django_request_duration_seconds_bucket", "0+90x200", le="1"),
        series("django_request_duration_seconds_bucket", "0+100x200", le="2.5"),
        series("django_request_duration_seconds_bucket", "0+100x200", le="+Inf"),
    ],
    "ConnectionsNearlyUsedUp": [
        series("database_connections_used", "90x200"),
        series("database_connections_max", "97x200"),
    ],
    "PoolExhausted": [series("database_pool_requests_waiting", "1x200")],
    "LocksWaiting": [series("database_locks_waiting", "2x200")],
    "MigrationsPending": [series("database_migrations_pending", "1x200")],
    "ReplicasMissing": [series("database_replicas", "0x200"), series("database_replicas_expected", "1x200")],
    "ReplicationLags": [series("database_replica_lag_seconds", "31x200", replica="second", address="10.0.0.2")],
}
CALM = [
    UP,
    series("database_up", "1x200"),
    series("django_requests_total", "0+99x200", status="200"),
    series("django_requests_total", "0+1x200", status="503"),
    series("django_request_duration_seconds_bucket", "0+99x200", le="1"),
    series("django_request_duration_seconds_bucket", "0+100x200", le="+Inf"),
    series("database_connections_used", "80x200"),
    series("database_connections_max", "97x200"),
    series("database_pool_requests_waiting", "0 1 0 0 0 0 0x190"),
    series("database_pool_timeouts_total", "5x200"),
    series("database_locks_waiting", "0 0 1 0 0 0x190"),
    series("database_migrations_pending", "0 1 1 0x190"),
    series("database_replicas", "1x200"),
    series("database_replicas_expected", "1x200"),
    series("database_replica_lag_seconds", "29x200", replica="second", address="10.0.0.2"),
]


def expect(moment, *names):
    """Return what promtool compares: the alerts that are raised then."""
    samples = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in names]
    expression = 'count by (alertname) (ALERTS{alertstate="firing"})'
    return {"expr": expression, "eval_time": moment, "exp_samples": samples}


def try_alerts(folder, interval, *cases):
    """Have promtool raise alerts by series and compare them."""
    tests = [{"interval": interval, "input_series": given, "promql_expr_test": expected} for given, expected in cases]
    content = {"rule_files": [str(ALERTS)], "evaluation_interval": interval, "tests": tests}
    (folder / "tests.yaml").write_text(yaml.safe_dump(content))
    run("promtool", "test", "rules", "tests.yaml", cwd=folder)


def test_each_alert_is_raised_by_what_it_is_for_and_by_nothing_else(tmp_path):
    names = [rule["alert"] for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    assert sorted([*PROVOKED, "BackupTooOld", "RestoreNotProven"]) == sorted(names)
    provoked = [
        ([*([] if name == "MetricsMissing" else [UP]), *given], [expect("100m", name)])
        for name, given in PROVOKED.items()
    ]
    try_alerts(tmp_path, "1m", *provoked, (CALM, [expect("100m")]))


def test_alerts_tell_of_old_backups_and_of_those_that_never_were(tmp_path):
    """For promtool time begins with 1970, so these are of that hour."""
    given = [
        series("up", "1x400"),
        series("database_backup_timestamp_seconds", "0x400"),
        series("database_restore_verified_timestamp_seconds", "0x400"),
    ]
    expected = [
        expect("26h"),
        expect("27h", "BackupTooOld"),
        expect("192h", "BackupTooOld"),
        expect("194h", "BackupTooOld", "RestoreNotProven"),
    ]
    try_alerts(tmp_path, "30m", (given, expected))


def test_each_alert_says_what_to_do():
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("critical", "warning")
            assert rule["annotations"].keys() == {"summary", "description"}


def test_grafana_s_models_take_the_dashboard_and_know_all_of_it():
    register_default_plugins()
    content = json.loads(DASHBOARD.read_text())
    again = json.loads(JSONEncoder().encode(Dashboard.from_json(content)))
    assert list(find_lost(content, again)) == []
    assert len({panel["id"] for panel in content["panels"]}) == len(content["panels"])
    assert all(panel["description"].endswith(".") for panel in content["panels"])


def find_lost(one, other, path=""):
    """Yield where the one holds what the other does not."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key, value in one.items():
            yield from find_lost(value, other.get(key), f"{path}/{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, pair in enumerate(zip(one, other, strict=True)):
            yield from find_lost(*pair, f"{path}/{index}")
    elif one != other:
        yield path


def test_alerts_and_dashboard_ask_for_figures_that_there_are(pooled, server, told_by_standby):
    with server.connect() as connection:
        connection.execute("GRANT pg_monitor TO app")
        ask(pooled.port, "one")
        wait_until(lambda: "database_replica_lag_seconds" in pooled.scrape())
        told = {*pooled.scrape(), *told_by_standby}
        connection.execute("REVOKE pg_monitor FROM app")
    rules = [rule["expr"] for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    panels = json.loads(DASHBOARD.read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    asked = {name for text in (*rules, *queries) for name in re.findall(r"\b(?:django|database)_\w+", text)}
    assert asked - told == set()
    assert {name for name in told if name.startswith("database_")} - asked <= {
        "database_connections_used",
        "database_info",
        "database_pool_requests_created",
        "database_pool_timeouts_created",
        "database_pool_wait_seconds_created",
    }
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        replaced = [text.replace("$__rate_interval", "5m").replace("$job", "django") for text in queries]
        rules = [{"record": f"panel:{index}", "expr": text} for index, text in enumerate(replaced)]
        yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}, file)
        file.flush()
        run("promtool", "check", "rules", "--lint=none", file.name, cwd="/")
