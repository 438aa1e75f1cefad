"""Three PostgreSQL servers that Patroni keeps, with their etcd: all on this machine, and gone at the end."""

import contextlib
import json
import os
import secrets
import shutil
import socket
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import psycopg

from apps.core.database.embedded import locks

from .node import HOST, OK, REST_USER, SUPERUSER, Node
from .processes import PATIENCE, ClusterError, Process, end, pause, wait_until
from .store import USER, close_store, find_etcd, start_store

NAMES = "one", "two", "three"
DATABASE = "project"
STATE = "cluster.json"


class Cluster:
    """A cluster in a folder: the block starts and ends it; `find_cluster` gives the one that another process runs."""

    def __init__(self, folder: Path, ports: list[int] | None = None) -> None:
        """Put the cluster into the folder, which is to hold nothing else."""
        self.folder = folder.absolute()
        client, peer, *rest = ports or choose_ports(2 + 2 * len(NAMES))
        self.store_ports = client, peer
        places = zip(NAMES, rest[::2], rest[1::2], strict=True)
        self.nodes = [Node(self.folder, name, port, api) for name, port, api in places]
        self.store: Process | None = None
        self.lock = -1

    @property
    def password_file(self) -> Path:
        """The file with the password, which is everybody's; only its owner can read it."""
        return self.folder / "password"

    @property
    def password(self) -> str:
        """What it holds."""
        return self.password_file.read_text(encoding="utf-8")

    def __enter__(self) -> Self:
        """Start all of it; it is ready once `wait_until_healthy` returns."""
        if find_spec("patroni") is None:
            raise ClusterError("Patroni is not installed.")
        find_etcd()
        self.prepare()
        try:
            self.start_store()
            for node in self.nodes:
                self.start_node(node)
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End all of it, and leave nothing."""
        self.end()

    def prepare(self) -> None:
        """Make the folder, with the lock, the password and what others need to find the cluster."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = locks.try_to_hold(self.folder / "lock")
        if lock is None:
            raise ClusterError(f"The cluster in {self.folder} runs, or is about to end: end it, or wait a moment.")
        self.lock = lock
        clear(self.folder)
        self.password_file.touch(0o600)
        self.password_file.write_text(secrets.token_urlsafe(), encoding="utf-8")
        ports = [*self.store_ports, *(port for node in self.nodes for port in (node.port, node.rest))]
        (self.folder / STATE).write_text(json.dumps({"ports": ports}), encoding="utf-8")

    def start_store(self) -> None:
        """Start etcd, and close it to others."""
        self.store = start_store(self.folder, self.store_ports, system_environment(), [self.lock])
        close_store(self.store_ports[0], self.password)

    def start_node(self, node: Node) -> None:
        """Start a node, the first time or again."""
        password = self.password
        common = {
            "ETCD3_HOSTS": f"{HOST}:{self.store_ports[0]}",
            "ETCD3_USERNAME": USER,
            "ETCD3_PASSWORD": password,
            "RESTAPI_USERNAME": REST_USER,
            "RESTAPI_PASSWORD": password,
            "SUPERUSER_USERNAME": SUPERUSER,
            "SUPERUSER_PASSWORD": password,
            "REPLICATION_USERNAME": "replicator",
            "REPLICATION_PASSWORD": password,
            "REWIND_USERNAME": "rewinder",
            "REWIND_PASSWORD": password,
        }
        variables = {f"PATRONI_{name}": value for name, value in common.items()}
        node.start({**system_environment(), **variables}, [self.lock])

    def stop_node(self, node: Node) -> None:
        """Kill the node's Patroni and PostgreSQL."""
        node.stop()

    def freeze(self, node: Node) -> None:
        """Freeze the node's Patroni and PostgreSQL."""
        node.freeze()

    def thaw(self, node: Node) -> None:
        """Have a frozen node go on."""
        node.thaw()

    def kill_primary(self) -> Node:
        """Kill the primary's PostgreSQL and return its node."""
        node = self.primary()
        node.kill_postgres()
        return node

    def switchover(self) -> Node:
        """Have Patroni put another node in the primary's place, and return the old one's once that is done."""
        node = self.primary()
        status, said = node.ask("switchover", self.password, leader=node.name)
        if status != OK:
            raise ClusterError(f"Patroni refuses the switchover: {said}.")
        return node

    def primary(self) -> Node:
        """Return the node that is the primary; raises ClusterError where none is."""
        found = self.find_primary()
        if found is None:
            raise ClusterError("The cluster has no primary at this moment.")
        return found

    def find_primary(self, other_than: Node | None = None) -> Node | None:
        """Return the node that is the primary, or None; `other_than` is not asked, as where it may be frozen."""
        others = [node for node in self.nodes if other_than is None or node.name != other_than.name]
        return next((node for node in others if node.is_primary()), None)

    def wait_for_primary(self, other_than: Node | None = None) -> tuple[Node, float]:
        """
        Return the primary, once there is one, and the seconds that took.

        After a failure name the node that failed: its Patroni may still say for a moment that it is the primary.
        """
        begin = time.monotonic()
        while True:
            found = self.find_primary(other_than)
            if found is not None:
                return found, time.monotonic() - begin
            if time.monotonic() - begin > PATIENCE:
                raise ClusterError(f"After {PATIENCE} s there is no primary: the files {self.folder}/*.log say why.")
            pause()

    def members(self) -> list[dict[str, Any]]:
        """Return what Patroni says of each node, as the first that answers has it."""
        for node in self.nodes:
            status, said = node.ask("cluster")
            if status == OK:
                return list(said["members"])
        return []

    def is_healthy(self) -> bool:
        """Tell whether there is a primary, and all other nodes follow it, one of them in step with each write."""
        members = self.members()
        states = sorted((member["role"], member["state"]) for member in members)
        followers = [("replica", "streaming")] * (len(self.nodes) - 2)
        return states == [("leader", "running"), *followers, ("sync_standby", "streaming")]

    def wait_until_healthy(self) -> None:
        """Return once the cluster is healthy; raise ClusterError when that takes too long."""
        wait_until(self.is_healthy, f"the cluster is not healthy: the files {self.folder}/*.log say why")

    def environment(self) -> dict[str, str]:
        """Return the variables that connect the project to the cluster; the secrets stay in their file."""
        hosts = ",".join(HOST for _ in self.nodes)
        ports = ",".join(str(node.port) for node in self.nodes)
        places = {"DB_HOST": hosts, "DB_PORT": ports, "DB_REPLICA_HOST": hosts, "DB_REPLICA_PORT": ports}
        users = {"DB_USER": f"{DATABASE}_app", "DB_MIGRATE_USER": f"{DATABASE}_migrator", "DB_ADMIN_USER": SUPERUSER}
        secret: dict[str, str] = {}
        for name in ("DB_PASSWORD", "DB_MIGRATE_PASSWORD", "DB_ADMIN_PASSWORD", "DB_MONITOR_PASSWORD"):
            # Empty, so that none in `.env` contradicts the file.
            secret |= {name: "", f"{name}_FILE": str(self.password_file)}
        others = {"DB_EMBEDDED": "false", "DB_NAME": DATABASE, "DB_SSLMODE": "disable", "DB_ATOMIC_REQUESTS": "false"}
        none = {"DB_DIRECT_HOST": "", "DB_PGBOUNCER": "false", "DB_EXPECTED_REPLICAS": str(len(self.nodes) - 1)}
        return others | places | users | secret | none

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """Connect to the primary as the superuser."""
        return psycopg.connect(
            host=",".join(HOST for _ in self.nodes),
            port=",".join(str(node.port) for node in self.nodes),
            user=SUPERUSER,
            password=self.password,
            dbname=database,
            target_session_attrs="read-write",
            connect_timeout=3,
            autocommit=True,
        )

    def end(self) -> None:
        """End the processes, whatever they do, and remove the folder."""
        for node in self.nodes:
            end(node.patroni)  # before any PostgreSQL, which the others' would otherwise replace
            node.patroni = None
        for node in self.nodes:
            node.stop()
        end(self.store)
        shutil.rmtree(self.folder)
        os.close(self.lock)


def find_cluster(folder: Path) -> Cluster:
    """Return the cluster that another process runs in the folder; raises ClusterError where none does."""
    with contextlib.suppress(FileNotFoundError):
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        lock = locks.try_to_hold(folder / "lock")
        if lock is None:
            return Cluster(folder, state["ports"])
        os.close(lock)
    raise ClusterError("No cluster runs: start one by `python -m cluster` in another terminal.")


def clear(folder: Path) -> None:
    """Remove what a cluster left that was killed, but for the lock."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "lock":
            path.unlink()


def choose_ports(number: int) -> list[int]:
    """Return ports of this machine at which nobody listens."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server((HOST, 0))) for _ in range(number)]
        return [each.getsockname()[1] for each in sockets]


def system_environment() -> dict[str, str]:
    """Return the variables that every program needs, and none of the project's."""
    # Whoever they run as, no bytecode in the project should be theirs.
    return {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8"}
