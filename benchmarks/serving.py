"""
Time pages of the rendered project in production beside plain Django and bare psycopg, all under one server, in one run.

`make bench-serving` renders a project and runs this in it, on the embedded PostgreSQL. All servers run at once and are
asked in turn, round by round, so that a machine that slows down slows down all of them; another process asks. Each
request has a connection of its own, as a proxy in front has it as it comes. Needs Linux, for memory and CPU.
"""

import contextlib
import multiprocessing
import os
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

CLIENTS = 8
ROUNDS = int(os.environ.get("ROUNDS", "8"))
SECONDS = 0.8  # a round, for which each page of each server is asked for
STARTS = min(5, ROUNDS)
PATIENCE = 30  # seconds for an answer, a start or an end
PAGES = {"no query": "/0/", "one query": "/1/", "ten queries": "/10/"}

HOST = "127.0.0.1"
TICKS = os.sysconf("SC_CLK_TCK")

# Each server is the project's own, by its config/server.py. It replaces workers after some requests, which here would
# cost the fastest most.
SERVER = {"WEB_CONCURRENCY": "2", "WEB_THREADS": "8", "GUNICORN_CMD_ARGS": "--max-requests 0"}
GUNICORN = "-m", "gunicorn", "--config", "python:config.server"

# What is asked for, laid beside the project, whose files stay as they are. The project is under its own production
# settings. A plain one has what no deployment can do without besides its database: no DEBUG, and its host's name.
FILES = {
    "pages.py": """
from django.contrib.contenttypes.models import ContentType
from django.http import HttpResponse
from django.urls import path


def show(request, queries):
    found = [list(ContentType.objects.filter(pk=number + 1).values_list("model")) for number in range(queries)]
    return HttpResponse(str(found))


urlpatterns = [path("<int:queries>/", show)]
""",
    "bare.py": """
import os
import threading

import psycopg

QUERY = 'SELECT "model" FROM "django_content_type" WHERE "id" = %s'
local = threading.local()


def application(environ, start_response):
    if not hasattr(local, "connection"):
        names = {"host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD", "dbname": "NAME"}
        parameters = {name: os.environ[f"DB_{variable}"] for name, variable in names.items()}
        local.connection = psycopg.connect(**parameters, autocommit=True)
    queries = int(environ["PATH_INFO"].strip("/"))
    found = [local.connection.execute(QUERY, [number + 1]).fetchall() for number in range(queries)]
    body = str(found).encode()
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(body)))])
    return [body]
""",
    "project_settings.py": """
from config.settings.production import *

ROOT_URLCONF = "pages"
""",
    "plain_settings.py": """
import os

from plain.settings import *

ALLOWED_HOSTS = ["127.0.0.1"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        **{name: os.environ[f"DB_{name}"] for name in ("NAME", "USER", "PASSWORD", "HOST", "PORT")},
    }
}
DEBUG = False
ROOT_URLCONF = "pages"
""",
    "tuned_settings.py": """
from plain_settings import *

DATABASES["default"] |= {"ATOMIC_REQUESTS": True, "CONN_HEALTH_CHECKS": True, "CONN_MAX_AGE": 600}
""",
}

PROJECT, PLAIN, TUNED, BARE = "the project", "plain startproject", "the same, tuned", "bare psycopg"
ALONE = "the project without serve"


class Way(NamedTuple):
    """How a server is started: what Python runs, and under which settings."""

    command: tuple[str, ...]
    settings: str = ""


WAYS = {
    PROJECT: Way(("manage.py", "serve"), "project_settings"),
    PLAIN: Way((*GUNICORN, "plain.wsgi"), "plain_settings"),
    TUNED: Way((*GUNICORN, "plain.wsgi"), "tuned_settings"),
    BARE: Way((*GUNICORN, "bare")),
}
STARTED = {
    PROJECT: WAYS[PROJECT],
    ALONE: Way((*GUNICORN, "config.wsgi"), "project_settings"),
    PLAIN: WAYS[PLAIN],
}


class Round(NamedTuple):
    """What one round told of one page of one server."""

    rate: float  # answers a second
    times: list[float]  # milliseconds of each answer
    cpu: float  # milliseconds of all workers for each answer


def main() -> None:
    """Print all tables."""
    with tempfile.TemporaryDirectory() as folder:
        environment = prepare(Path(folder))
        with contextlib.ExitStack() as stack:
            servers = {name: stack.enter_context(Server(way, environment)) for name, way in WAYS.items()}
            rounds = time_pages(servers)
            memory = {name: server.measure_memory() for name, server in servers.items()}
        starts = time_starts(environment)
    report_pages(rounds)
    report_memory(memory)
    report_starts(starts)


def prepare(folder: Path) -> dict[str, str]:
    """Lay the files into the folder, have the database, and return the variables that all servers get."""
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    startproject = sys.executable, "-m", "django", "startproject", "plain", folder
    subprocess.run(startproject, check=True)  # noqa: S603  a command of our own making
    foreign = "DB_", "DJANGO_", "GUNICORN_", "WEB_", "PYTHONDONTWRITEBYTECODE"  # or each start would compile all anew
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    python = {"PYTHONPATH": os.pathsep.join([str(folder), os.getcwd()])}
    return {**inherited, **python, **SERVER, "ALLOWED_HOSTS": HOST, **use_database()}


def use_database() -> dict[str, str]:
    """Start the embedded server, which then runs until this process ends, and return where it is."""
    sys.path.insert(0, os.getcwd())
    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings.testing"
    import django

    django.setup()
    from django.db import connection

    connection.ensure_connection()
    connected = connection.get_connection_params()
    return {
        "DB_EMBEDDED": "false",  # production takes it for a server of its own, on a Unix socket
        "DB_HOST": connected["host"],
        "DB_PORT": str(connected["port"]),
        "DB_NAME": connected["dbname"],
        "DB_USER": connected["user"],
        "DB_PASSWORD": "not-asked-for",
    }


class Server:
    """Runs a server inside the block; it has answered before the block begins."""

    def __init__(self, way: Way, environment: dict[str, str]) -> None:
        """Choose a free port."""
        with socket.create_server((HOST, 0)) as free:
            self.port = free.getsockname()[1]
        settings = {"DJANGO_SETTINGS_MODULE": way.settings} if way.settings else {}
        self.environment = {**environment, **settings, "PORT": str(self.port)}
        self.command = [sys.executable, *way.command]

    def __enter__(self) -> "Server":
        """Start, and wait for the first answer."""
        begin = time.perf_counter()
        self.log = tempfile.TemporaryFile()
        output = {"stdin": subprocess.DEVNULL, "stdout": self.log, "stderr": self.log}
        self.process = subprocess.Popen(self.command, env=self.environment, **output)  # noqa: S603  likewise
        try:
            while not self.answers():
                if self.process.poll() is not None or time.perf_counter() > begin + PATIENCE:
                    self.log.seek(0)
                    sys.exit(f"{self.log.read().decode()}\nThis served nothing: {' '.join(self.command)}")
                time.sleep(0.005)
        except BaseException:
            self.__exit__()
            raise
        self.start = time.perf_counter() - begin
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def answers(self) -> bool:
        """Tell whether the page without a query is there."""
        try:
            ask(self.port, "/0/", clients=1, seconds=0)
        except OSError:
            return False
        return True

    def workers(self) -> list[int]:
        """Return the ids of the workers' processes."""
        main = self.process.pid
        return [int(pid) for pid in Path(f"/proc/{main}/task/{main}/children").read_text().split()]

    def measure_cpu(self) -> float:
        """Return the milliseconds of CPU that the workers have used."""
        used = 0
        for pid in self.workers():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            used += int(fields[11]) + int(fields[12])  # in user and in system mode
        return used / TICKS * 1000

    def measure_memory(self) -> tuple[float, float]:
        """Return the MiB of the main process and, on average, of a worker; what processes share counts in parts."""
        return measure_pss(self.process.pid), statistics.mean(measure_pss(pid) for pid in self.workers())


def measure_pss(pid: int) -> float:
    """Return a process's proportional set size in MiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def time_pages(servers: dict[str, Server]) -> dict[str, dict[str, list[Round]]]:
    """Return for each page and server what each round told, after one that is not counted."""
    rounds: dict[str, dict[str, list[Round]]] = {page: {name: [] for name in servers} for page in PAGES}
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as asker:
        for number in range(ROUNDS + 1):
            for page, address in PAGES.items():
                # There and back, so that nobody always comes first.
                for name in list(servers)[:: 1 if number % 2 else -1]:
                    before = servers[name].measure_cpu()
                    rate, times = asker.submit(ask, servers[name].port, address).result()
                    cpu = (servers[name].measure_cpu() - before) / len(times)
                    if number:
                        rounds[page][name].append(Round(rate, times, cpu))
    return rounds


def ask(port: int, address: str, clients: int = CLIENTS, seconds: float = SECONDS) -> tuple[float, list[float]]:
    """
    Ask by so many clients at a time, each again when it has its answer; return the rate, and milliseconds of each.

    Raises OSError where nobody listens, or where an answer is not there in time or not a page.
    """
    headers = f"Host: {HOST}\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n"
    request = f"GET {address} HTTP/1.1\r\n{headers}\r\n".encode()
    times: list[float] = []
    begin = time.perf_counter()
    with selectors.DefaultSelector() as waiting:
        for _ in range(clients):
            send(request, port, waiting)
        while waiting.get_map():
            for client, sent, answer in receive(waiting):
                times.append((time.perf_counter() - sent) * 1000)
                client.close()
                if not answer.startswith(b"HTTP/1.1 200 "):
                    raise OSError(f"{address} answered {answer!r}")
                if time.perf_counter() < begin + seconds:
                    send(request, port, waiting)
    return len(times) / (time.perf_counter() - begin), times


def send(request: bytes, port: int, waiting: selectors.BaseSelector) -> None:
    """Connect, and ask."""
    sent = time.perf_counter()
    client = socket.create_connection((HOST, port), PATIENCE)
    client.sendall(request)
    waiting.register(client, selectors.EVENT_READ, (sent, bytearray()))


def receive(waiting: selectors.BaseSelector) -> Iterator[tuple[socket.socket, float, bytearray]]:
    """Yield each client whose answer is there, with when it asked and the answer."""
    ready = waiting.select(PATIENCE)
    if not ready:
        raise TimeoutError(f"no answer within {PATIENCE} s")
    for key, _ in ready:
        sent, answer = key.data
        if part := key.fileobj.recv(65536):
            answer += part
        else:
            waiting.unregister(key.fileobj)
            yield key.fileobj, sent, answer


def time_starts(environment: dict[str, str]) -> dict[str, list[float]]:
    """Return for each way the seconds from the process's start to the first page, for each time."""
    starts: dict[str, list[float]] = {name: [] for name in STARTED}
    for _ in range(STARTS):
        for name, way in STARTED.items():
            with Server(way, environment) as server:
                starts[name].append(server.start)
    return starts


def report_pages(rounds: dict[str, dict[str, list[Round]]]) -> None:
    """Print for each page a line for each server, and what the project is to it: the median of the rounds' ratios."""
    workers, threads = SERVER["WEB_CONCURRENCY"], SERVER["WEB_THREADS"]
    print(f"\n{CLIENTS} clients, {workers} workers with {threads} threads; to the right, the project's rate to each:")
    for page, of_servers in rounds.items():
        print(f"\n{page}\n")
        for name, told in of_servers.items():
            times = sorted(taken for one in told for taken in one.times)
            rate, cpu = statistics.median(one.rate for one in told), statistics.median(one.cpu for one in told)
            ratio = compare(of_servers[PROJECT], told) if name != PROJECT else ""
            print(f"{name:<26} {rate:6.0f}/s   p99 {times[len(times) * 99 // 100]:6.1f} ms   CPU {cpu:6.3f} ms {ratio}")


def compare(project: list[Round], other: list[Round]) -> str:
    """Return the median of the rounds' ratios with the middle half of them, and that of what the CPU allows."""
    pairs = list(zip(project, other, strict=True))
    low, middle, high = statistics.quantiles(one.rate / two.rate for one, two in pairs)
    cpu = statistics.median(two.cpu / one.cpu for one, two in pairs)
    return f"{middle:6.2f} x ({low:.2f} to {high:.2f}), by CPU {cpu:.2f} x"


def report_memory(memory: dict[str, tuple[float, float]]) -> None:
    """Print a line for each server."""
    print("\nMemory after that, the shared counted in parts:\n")
    for name, (main_process, worker) in memory.items():
        print(f"{name:<26} {worker:6.1f} MiB a worker, {main_process:6.1f} MiB the main process")


def report_starts(starts: dict[str, list[float]]) -> None:
    """Print a line for each way: median, least and most seconds, and the median's ratio to plain Django's."""
    print("\nFrom the start of the process to the first page:\n")
    unit = statistics.median(starts[PLAIN])
    for name, values in starts.items():
        middle = statistics.median(values)
        print(f"{name:<26} {middle:6.2f} s ({min(values):.2f} to {max(values):.2f}) {middle / unit:8.2f} x")


if __name__ == "__main__":
    main()
