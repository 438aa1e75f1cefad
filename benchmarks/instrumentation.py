"""
Time a page of ten queries with all instrumentation and without, in production under one server, in one run.

`make bench-instrumentation` renders a project and runs this in it, on the embedded PostgreSQL. With it, queries are
tagged, timed and counted, figures are kept for Prometheus, and each request has its line in the log; without it the
project lacks the apps that do so, and RequestMiddleware. Traces, which are off unless somebody takes them, are beside
that, sent to a collector that throws them away. All servers run at once and are asked in turn.
"""

import contextlib
import multiprocessing
import os
import statistics
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import serving

ROUNDS = int(os.environ.get("ROUNDS", "40"))
SECONDS = 0.4  # a round, for which each server is asked: short, so that what else the machine does hits all alike
PAGE = "/10/"
OFF, ON, TRACED = "without", "with all but traces", "with traces, too"

FILES = {
    "pages.py": serving.FILES["pages.py"],
    "with_it.py": serving.FILES["project_settings.py"],
    "without_it.py": """
from with_it import *

LEFT_OUT = "apps.metrics", "apps.queries", "apps.core.middleware.RequestMiddleware"
INSTALLED_APPS = [name for name in INSTALLED_APPS if not name.startswith(LEFT_OUT)]
MIDDLEWARE = [name for name in MIDDLEWARE if not name.startswith(LEFT_OUT)]
""",
}


class Collector(BaseHTTPRequestHandler):
    """Takes traces, and only counts their bytes."""

    received = 0

    def do_POST(self) -> None:
        """Throw away what is sent."""
        Collector.received += len(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder, collect() as endpoint, contextlib.ExitStack() as stack:
        environment = prepare(Path(folder))
        traced = {**environment, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
        servers = {
            OFF: serving.Server(serving.Way(("manage.py", "serve"), "without_it"), environment),
            ON: serving.Server(serving.Way(("manage.py", "serve"), "with_it"), environment),
            TRACED: serving.Server(serving.Way(("manage.py", "serve"), "with_it"), traced),
        }
        for server in servers.values():
            stack.enter_context(server)
        report(time_in_turn(servers))
    if not Collector.received:
        sys.exit("No trace was sent.")


@contextlib.contextmanager
def collect() -> Iterator[str]:
    """Run a collector inside the block, and yield its address."""
    with ThreadingHTTPServer((serving.HOST, 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        yield f"http://{serving.HOST}:{collector.server_port}"
        collector.shutdown()


def prepare(folder: Path) -> dict[str, str]:
    """Lay the files into the folder, have the database, and return the variables that all servers get."""
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    foreign = "DB_", "DJANGO_", "GUNICORN_", "OTEL_", "WEB_", "PYTHONDONTWRITEBYTECODE"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    python = {"PYTHONPATH": os.pathsep.join([str(folder), os.getcwd()])}
    return {**inherited, **python, **serving.SERVER, "ALLOWED_HOSTS": serving.HOST, **serving.use_database()}


def time_in_turn(servers: dict[str, serving.Server]) -> dict[str, list[serving.Round]]:
    """Return for each server what each round told, after one that is not counted."""
    rounds: dict[str, list[serving.Round]] = {name: [] for name in servers}
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as asker:
        for number in range(ROUNDS + 1):
            # There and back, so that nobody always comes first.
            for name in list(servers)[:: 1 if number % 2 else -1]:
                before = servers[name].measure_cpu()
                rate, times = asker.submit(serving.ask, servers[name].port, PAGE, serving.CLIENTS, SECONDS).result()
                cpu = (servers[name].measure_cpu() - before) / len(times)
                if number:
                    rounds[name].append(serving.Round(rate, times, cpu))
    return rounds


def report(rounds: dict[str, list[serving.Round]]) -> None:
    """Print a line for each server: medians, and what it costs in throughput and in CPU, as medians of the rounds."""
    print(f"\nA page of ten queries, {serving.CLIENTS} clients, {ROUNDS} rounds of {SECONDS} s:\n")
    for name, told in rounds.items():
        rate, cpu = statistics.median(one.rate for one in told), statistics.median(one.cpu for one in told)
        print(f"{name:<22} {rate:6.0f}/s   CPU {cpu:6.3f} ms{'' if name == OFF else compare(rounds[OFF], told)}")


def compare(base: list[serving.Round], other: list[serving.Round]) -> str:
    """Return the overhead in percent with the middle half of the rounds, and that of the CPU."""
    pairs = list(zip(base, other, strict=True))
    low, middle, high = statistics.quantiles((1 - two.rate / one.rate) * 100 for one, two in pairs)
    cpu = statistics.median((two.cpu / one.cpu - 1) * 100 for one, two in pairs)
    return f"   overhead {middle:5.1f} % ({low:.1f} to {high:.1f}), of CPU {cpu:.1f} %"


if __name__ == "__main__":
    main()
