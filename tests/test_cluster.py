"""Three servers under Patroni with the project connected to them, a failover, and the same cluster in containers."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import psycopg
import pytest
import yaml
from conftest import TEMPLATE, fetch, free_port, manage, render, run, wait_until
from test_shipping import PROGRAMS, let_through, parse, tool

pytestmark = pytest.mark.long

CLUSTER = sys.executable, "-m", "cluster"
FAILOVER = sys.executable, "-m", "cluster.failover"
FILES = "--file", "compose.yaml", "--file", "compose.cluster.yaml"
CONFIGURATION = TEMPLATE / "deploy" / "cluster"


def render_with_cluster(folder):
    """Render a project with the package `cluster` in it, which runs the servers beside it."""
    project = render(folder)
    shutil.copytree(Path(__file__).parent / "cluster", project / "cluster")
    return project


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return render_with_cluster(tmp_path_factory.mktemp("cluster"))


@contextlib.contextmanager
def started(*command, project, **environment):
    """Run a command as a terminal does, in a group of its own; yield it with the file of what it prints."""
    output = project.parent / f"{command[-1]}.log"
    with output.open("wb") as file:
        variables = {**os.environ, **environment}
        pipes = {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(command, cwd=project, env=variables, start_new_session=True, **pipes)
    try:
        yield process, output
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C, which every process of the terminal gets
        process.wait(60)


def living(project):
    """Return the processes of a project's cluster, by their folder and their variables."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, as a zombie has, or is somebody else's
            about = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            if f"{project}/.cluster" in f"{about.decode(errors='replace')} {(process / 'cwd').readlink()}":
                found.append(int(process.name))
    return found


def wait_for(text, output):
    wait_until(lambda: text in output.read_text(), 120)


@pytest.fixture(scope="module")
def killed(project):
    """What a cluster leaves that is killed as it starts."""
    with started(*CLUSTER, project=project, PORT=str(free_port())) as (process, _):
        wait_until(lambda: any(map(is_postgres, living(project))), 120)
        process.kill()
        wait_until(lambda: not living(project), 60)
    return project / ".cluster"


def is_patroni(pid):
    """Tell whether it is a node's first process; those that it started have its variables, too."""
    return b"\0patroni\0" in Path(f"/proc/{pid}/cmdline").read_bytes()


def is_postgres(pid):
    with contextlib.suppress(OSError):  # it has ended
        return Path(f"/proc/{pid}/exe").readlink().name == "postgres"
    return False


def variables(pid):
    return Path(f"/proc/{pid}/environ").read_bytes()


def test_killed_cluster_leaves_no_process(project, killed):
    assert killed.is_dir()


class Running:
    """The cluster of the terminal, its page and what it printed."""

    def __init__(self, project, port, output):
        self.project, self.port, self.output = project, port, output

    @property
    def variables(self):
        """The lines for `.env`."""
        return dict(re.findall(r"(?m)^(DB_\w+)=(.*)$", self.output.read_text()))

    @property
    def password(self):
        return Path(self.variables["DB_PASSWORD_FILE"]).read_text()

    @property
    def node(self):
        """The variables of the first node's Patroni."""
        (one,) = [pid for pid in living(self.project) if is_patroni(pid) and b"PATRONI_NAME=one\0" in variables(pid)]
        return dict(line.split("=", 1) for line in variables(one).decode().split("\0") if line)

    def is_ready(self):
        return fetch(f"http://127.0.0.1:{self.port}/health/ready/") == (200, '{"status": "healthy"}')

    def connect(self):
        """Connect to the primary as its administrator, by nothing but the lines."""
        told = self.variables
        names = {"host": told["DB_HOST"], "port": told["DB_PORT"], "dbname": told["DB_NAME"]}
        who = {"user": told["DB_ADMIN_USER"], "password": self.password}
        return psycopg.connect(**names, **who, target_session_attrs="read-write", autocommit=True)


@pytest.fixture(scope="module")
def cluster(project, killed):
    """One that runs where another was killed."""
    port = free_port()
    with started(*CLUSTER, project=project, PORT=str(port)) as (_, output):
        wait_for("Quit the server", output)
        yield Running(project, port, output)
    said = output.read_text()
    assert "\nThe cluster has ended, and its data are gone.\n" in said
    assert "Traceback" not in said
    assert living(project) == []
    assert not (project / ".cluster").exists()


def test_primary_that_is_killed_is_replaced_and_no_write_is_lost(cluster):
    assert cluster.is_ready()
    done = run(*FAILOVER, cwd=cluster.project)
    first, *rest = done.stdout.splitlines()
    old = re.fullmatch(r"(\w+ \(port \d+\)) is the primary\. Its PostgreSQL is killed\.", first)[1]
    new = re.fullmatch(r" *\d+\.\d\d s  (\w+ \(port \d+\)) is the primary", rest[0])[1]
    assert new != old
    assert re.fullmatch(r" *\d+\.\d\d s  the others follow it", rest[1])
    report = r"[1-9]\d* writes were acknowledged, with \d+\.\d\d s without one; lost of them: 0\."
    assert re.fullmatch(report, rest[2])
    assert cluster.is_ready()


def test_lost_write_is_an_error(cluster):
    """While the primary hands over, and somebody takes a write away."""
    with started(*FAILOVER, "--switchover", project=cluster.project) as (process, output):
        with cluster.connect() as connection:
            wait_until(lambda: has_ledger(connection), 60)
            wait_until(lambda: connection.execute("DELETE FROM cluster_ledger WHERE number = 2").rowcount, 60)
        process.wait(120)
        said = output.read_text()
    assert "It hands over.\n" in said
    assert "without one; lost of them: 1.\n" in said
    assert process.returncode != 0


def has_ledger(connection):
    return connection.execute("SELECT to_regclass('cluster_ledger') IS NOT NULL").fetchone() == (True,)


def test_printed_lines_connect_any_process_to_primary_and_replicas(cluster):
    script = """
from django.db import OperationalError, connections
for using in connections:
    try:
        with connections[using].cursor() as cursor:
            cursor.execute("SELECT pg_is_in_recovery()")
            print(using, "standby" if cursor.fetchone()[0] else "primary")
    except OperationalError:
        print("replica refused")
"""
    done = manage(cluster.project, "shell", "--verbosity=0", "--command", script, **cluster.variables)
    first, *others = done.stdout.splitlines()
    assert first == "default primary"
    assert sorted(each.split()[1] for each in others) == ["refused", "standby", "standby"]  # one is the primary


def test_one_standby_has_every_write_and_both_follow(cluster):
    with cluster.connect() as connection:
        states = connection.execute("SELECT state, sync_state FROM pg_stat_replication ORDER BY sync_state").fetchall()
    assert states == [("streaming", "async"), ("streaming", "sync")]


def test_secrets_stay_in_a_file_of_their_own(cluster):
    folder = cluster.project / ".cluster"
    assert cluster.password not in cluster.output.read_text()
    assert not [pid for pid in living(cluster.project) if cluster.password in Path(f"/proc/{pid}/cmdline").read_text()]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "password").stat().st_mode & 0o777 == 0o600


def test_nobody_gets_in_without_the_password(cluster):
    """Neither into a server nor into Patroni or etcd, where whoever writes decides what the servers run."""
    port = cluster.variables["DB_PORT"].split(",")[0]
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        psycopg.connect(host="127.0.0.1", port=port, user="postgres", dbname="postgres")
    told = cluster.node
    patroni, etcd = (f"http://{told[f'PATRONI_{name}']}" for name in ("RESTAPI_LISTEN", "ETCD3_HOSTS"))
    for url in (f"{patroni}/switchover", f"{etcd}/v3/kv/put"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(url, b'{"leader": "one", "key": "AA==", "value": "AA=="}', timeout=10)
        assert refused.value.code in {400, 401, 403}
        refused.value.close()


def test_servers_run_as_another_user_than_root(cluster):
    owners = {Path(f"/proc/{pid}").stat().st_uid for pid in living(cluster.project) if is_postgres(pid)}
    assert owners
    assert 0 not in owners


def test_second_cluster_is_refused(cluster):
    done = run(*CLUSTER, cwd=cluster.project, check=False, PORT=str(free_port()))
    assert done.returncode == 1
    where = cluster.project / ".cluster"
    assert done.stderr == f"The cluster in {where} runs, or is about to end: end it, or wait a moment.\n"
    assert cluster.is_ready()


# What is refused before anything starts


def refuse(project, module="cluster", **environment):
    """Return the sentence that a command ends with."""
    done = run(sys.executable, "-m", module, cwd=project, check=False, **environment)
    assert done.returncode == 1
    (said,) = done.stderr.splitlines()
    assert not (project / ".cluster").exists()
    return said


@pytest.fixture
def idle(tmp_path):
    """A project whose cluster does not run."""
    return render_with_cluster(tmp_path)


def test_failover_without_a_cluster_is_refused(idle):
    expected = "No cluster runs: start one by `python -m cluster` in another terminal."
    assert refuse(idle, "cluster.failover") == expected


def test_missing_etcd_is_told_with_its_package(idle, tmp_path):
    said = refuse(idle, PATH=str(tmp_path), PORT=str(free_port()))
    assert said == "etcd is missing: run `apt-get install etcd-server`."


def test_taken_port_is_told_before_anything_starts(idle, server):
    said = refuse(idle, PORT=str(server.port))
    assert said == f"PORT is {server.port}, where nothing can listen: Address already in use. Choose another one."


# The same in containers


@pytest.fixture(scope="module")
def composed(project):
    """What Compose makes of both files."""
    return yaml.safe_load(tool("docker-compose", *FILES, "config", cwd=project).stdout)


def test_containers_get_the_variables_that_the_cluster_has_proven(cluster, composed):
    """But for the login of etcd, which is on a network that nobody else reaches."""
    proven = {name for name in cluster.node if name.startswith("PATRONI_")}
    for name in ("database", "database-2", "database-3"):
        told = {key for key in composed["services"][name]["environment"] if key.startswith("PATRONI_")}
        assert {*told, "PATRONI_ETCD3_USERNAME", "PATRONI_ETCD3_PASSWORD"} == proven
        health = composed["services"][name]["environment"]["HEALTH"]
        here = health.replace("127.0.0.1:8008", cluster.node["PATRONI_RESTAPI_LISTEN"])
        assert fetch(here)[0] == 200


def test_containers_of_the_project_reach_every_node(composed):
    nodes = {"database", "database-2", "database-3"}
    for name in ("web", "migrate", "backup", "record"):
        service = composed["services"][name]
        assert {*service["environment"]["DB_HOST"].split(",")} == nodes
        assert {*service["environment"]["DB_REPLICA_HOST"].split(",")} == nodes
        assert "cluster" in service["networks"]
        assert "network_mode" not in service
    for name in nodes:
        told = composed["services"][name]["environment"]
        assert told["PATRONI_NAME"] == name
        assert told["PATRONI_POSTGRESQL_CONNECT_ADDRESS"] == f"{name}:5432"
        assert told["PATRONI_RESTAPI_CONNECT_ADDRESS"] == f"{name}:8008"


def test_nobody_but_the_nodes_reaches_etcd(composed):
    inside = {name for name, service in composed["services"].items() if "store" in service["networks"]}
    assert inside == {"etcd", "database", "database-2", "database-3"}
    assert composed["networks"]["store"]["internal"] is True
    assert [name for name, service in composed["services"].items() if service.get("ports")] == ["web"]


def test_containers_are_confined(composed):
    for name in ("etcd", "database", "database-2", "database-3"):
        service = composed["services"][name]
        assert service["cap_drop"] == ["ALL"]
        assert service["read_only"] is True
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert {*service["deploy"]["resources"]["limits"]} == {"memory", "pids"}
        assert service["build"]["dockerfile"] == "deploy/cluster/Dockerfile"


def test_image_of_a_node_has_no_lint_and_is_of_the_versions_of_the_others():
    dockerfile = CONFIGURATION / "Dockerfile"
    assert tool("hadolint", "--disable-ignore-pragma", "--config", os.devnull, dockerfile, cwd=TEMPLATE).stdout == ""
    ours, others = dockerfile.read_text(), (TEMPLATE / "Dockerfile").read_text()
    for version in (r"postgres:\S+", r"ghcr\.io/astral-sh/uv:\S+"):
        assert {*re.findall(version, ours)} == {*re.findall(version, others)}
    user = [each.value for each in parse(ours) if each.name == "USER"]
    assert user == ["999:999"]


def test_image_of_a_node_gets_patroni_from_the_lock_file(cluster, project, tmp_path):
    """By the Dockerfile's own step, in a folder in place of the image's."""
    ignored = (CONFIGURATION / "Dockerfile.dockerignore").read_text()
    context = tmp_path / "context"
    context.mkdir()
    run("uv", "lock", cwd=project)
    for name in ("pyproject.toml", "uv.lock", "README.md", "deploy/cluster/patroni.yaml"):
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).write_bytes((project / name).read_bytes())
    (context / ".dockerignore").write_text(ignored)
    assert let_through(context) == {"pyproject.toml", "uv.lock", "deploy/cluster/patroni.yaml"}
    (step,) = [each.value for each in parse((CONFIGURATION / "Dockerfile").read_text()) if "uv sync" in each.value]
    run("sh", "-c", step.replace("--cache-dir /var/cache/uv ", ""), cwd=context, PATH=PROGRAMS)
    said = run(context / ".venv" / "bin" / "patroni", "--version", cwd=context).stdout
    assert re.fullmatch(r"patroni 4\.1\.\d+\n", said)
