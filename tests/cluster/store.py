"""The etcd in which Patroni's nodes agree on who is the primary; it knows nobody without the cluster's password."""

import json
import shutil
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from apps.core.database.embedded.programs import drop_root

from .processes import ClusterError, Process, start, wait_until

USER = "root"  # etcd's name for who may do everything
TIMEOUT = 5  # seconds


def find_etcd() -> str:
    """Return the path of etcd; raises ClusterError where there is none."""
    program = shutil.which("etcd")
    if program is None:
        raise ClusterError("etcd is missing: run `apt-get install etcd-server`.")
    return program


def start_store(
    folder: Path, ports: Sequence[int], environment: Mapping[str, str], keep_open: Sequence[int]
) -> Process:
    """Start etcd, with its data in the folder; the ports are its clients' and its peers', of which it has none."""
    client, peer = (f"http://127.0.0.1:{port}" for port in ports)
    options = {
        "--data-dir": str(folder / "etcd"),
        "--listen-client-urls": client,
        "--advertise-client-urls": client,
        "--listen-peer-urls": peer,
        "--initial-advertise-peer-urls": peer,
        "--initial-cluster": f"default={peer}",
    }
    line = [find_etcd(), *(word for option in options.items() for word in option)]
    process = start(line, environment, log=folder / "etcd.log", user=drop_root(), keep_open=keep_open)
    wait_until(lambda: is_healthy(client) or process.poll() is not None, "etcd does not answer")
    if process.poll() is not None:
        raise ClusterError(f"etcd ended: {folder / 'etcd.log'} says why.")
    return process


def is_healthy(url: str) -> bool:
    """Tell whether etcd answers."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=TIMEOUT) as answer:
            return b"true" in answer.read()
    except OSError:
        return False


def close_store(port: int, password: str) -> None:
    """Have etcd ask for the password: whoever may write there has the servers run any program."""
    ask(port, "auth/user/add", name=USER, password=password)
    ask(port, "auth/role/add", name=USER)
    ask(port, "auth/user/grant", user=USER, role=USER)
    ask(port, "auth/enable")


def ask(port: int, path: str, **words: str) -> None:
    """Ask something of etcd."""
    url = f"http://127.0.0.1:{port}/v3/{path}"
    request = urllib.request.Request(url, json.dumps(words).encode())
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        answer.read()
