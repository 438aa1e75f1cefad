"""One node of the cluster: a PostgreSQL and the Patroni that keeps it, each at a port of this machine."""

import base64
import json
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from apps.core.database.embedded.programs import drop_root, find_binaries

from .processes import POLL, Process, end, find_processes, send, start

HOST = "127.0.0.1"
SUPERUSER = "postgres"
REST_USER = "patroni"
CONFIGURATION = Path(__file__).parents[1] / "deploy" / "cluster" / "patroni.yaml"
OK = 200
TIMEOUT = 2  # seconds; a frozen Patroni accepts a connection and never answers


class Node:
    """Where a node is, how to ask its Patroni, and how to hurt it; the cluster starts it."""

    def __init__(self, folder: Path, name: str, port: int, rest: int) -> None:
        """Name the node, its PostgreSQL's port and its Patroni's, and the cluster's folder."""
        self.name, self.port, self.rest = name, port, rest
        self.data = folder / name
        self.log = folder / f"{name}.log"
        self.patroni: Process | None = None  # of the process that started the node only

    def __repr__(self) -> str:
        """Return the name and the port."""
        return f"{self.name} (port {self.port})"

    def start(self, environment: Mapping[str, str], keep_open: Sequence[int]) -> None:
        """Start Patroni, which makes or mends the data, and starts PostgreSQL."""
        own = {
            "NAME": self.name,
            "RESTAPI_LISTEN": f"{HOST}:{self.rest}",
            "RESTAPI_CONNECT_ADDRESS": f"{HOST}:{self.rest}",
            "POSTGRESQL_LISTEN": f"{HOST}:{self.port}",
            "POSTGRESQL_CONNECT_ADDRESS": f"{HOST}:{self.port}",
            "POSTGRESQL_DATA_DIR": str(self.data),
            "POSTGRESQL_BIN_DIR": str(find_binaries()),
            "POSTGRESQL_PGPASS": f"{self.data}.pgpass",
        }
        variables = {**environment, **{f"PATRONI_{name}": value for name, value in own.items()}}
        line = sys.executable, "-m", "patroni", CONFIGURATION
        self.patroni = start(line, variables, log=self.log, user=drop_root(), keep_open=keep_open)

    def ask(self, path: str, password: str = "", **words: str) -> tuple[int, Any]:
        """Return the status and the JSON of Patroni's answer, 0 and nothing where there is none; words are sent."""
        body = json.dumps(words).encode() if words else None
        request = urllib.request.Request(f"http://{HOST}:{self.rest}/{path}", body)
        if password:
            login = base64.b64encode(f"{REST_USER}:{password}".encode()).decode()
            request.add_header("Authorization", f"Basic {login}")
        try:
            with urllib.request.urlopen(request, timeout=30 if words else TIMEOUT) as answer:
                return answer.status, read_json(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, read_json(error.read())
        except OSError:
            return 0, None

    def is_primary(self) -> bool:
        """Tell whether Patroni says that this is the primary, and accepts changes."""
        return self.ask("primary")[0] == OK

    def find_postgres(self) -> list[int]:
        """Return the processes of PostgreSQL, which may have just been started."""
        return find_processes(self.data)

    def kill_postgres(self) -> None:
        """Kill PostgreSQL as a lack of memory does, and wait until it has gone; Patroni lives."""
        pids = self.find_postgres()
        send(pids, signal.SIGKILL)
        while {*pids} & {*self.find_postgres()}:
            time.sleep(POLL)  # whatever signal has come: this is how a cluster ends

    def stop(self) -> None:
        """Kill Patroni and PostgreSQL, as when the machine is lost, though their connections are closed."""
        end(self.patroni)
        self.patroni = None
        self.kill_postgres()

    def freeze(self) -> None:
        """Have neither Patroni nor PostgreSQL go on, as when the machine hangs: their connections stay open."""
        if self.patroni:
            send([self.patroni.pid], signal.SIGSTOP)
        frozen: list[int] = []
        while frozen != (found := self.find_postgres()):  # those, too, that it has started meanwhile
            send(found, signal.SIGSTOP)
            frozen = found

    def thaw(self) -> None:
        """Have all go on that was frozen."""
        send(self.find_postgres(), signal.SIGCONT)
        if self.patroni:
            send([self.patroni.pid], signal.SIGCONT)


def read_json(body: bytes) -> Any:
    """Return what the JSON says, or the text where it is none, as some answers of Patroni's are."""
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")
