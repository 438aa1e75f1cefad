"""What serves a project to a load, in one of the ways to connect, and what has to hold of all that it answered."""

import contextlib
import datetime
import json
import os
import select
import socket
import struct
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
from conftest import PASSWORD, become, free_port, manage, running, wait_until
from load import Answers, Load, ask, burst

# Seconds.
CONNECT, LOCK, POOL, STATEMENT = 2, 2, 2, 5  # the timeouts under test
PATIENCE = 1.0  # for which a request waits for a database that has just gone, or a silent one is not suspected
BACK = 0.3  # after the database accepts connections, when no request may fail any more
ALLOWANCE = 1.0  # of a machine that others use, beside a timeout

CROWD = {"one": 3, "ten": 1, "write/{}": 2, "static": 2}
NEEDS_DATA = ("one", "ten", "write/{}")
CONNECTIONS = 40  # that the server has, 3 of them for superusers
TABLES = "CREATE TABLE ledger (number bigint PRIMARY KEY); CREATE TABLE guarded (number bigint)"


def production(server):
    """Return the variables of a project in production, on a server without TLS."""
    return {
        "DJANGO_SETTINGS_MODULE": "loaded",
        "ALLOWED_HOSTS": "127.0.0.1",
        "SECURE_SSL_REDIRECT": "false",
        "HEALTH_TOKEN": "t0ken-of-the-tests",
        "WEB_CONCURRENCY": "2",
        "WEB_THREADS": "8",
        "DB_EMBEDDED": "false",
        "DB_SSLMODE": "disable",
        "DB_HOST": "127.0.0.1",
        "DB_PORT": str(server.port),
        "DB_NAME": "app",
        "DB_USER": "app",
        "DB_PASSWORD": PASSWORD,
        "DB_MIGRATE_USER": "",
        "DB_ADMIN_USER": "",
        "DB_CONNECT_TIMEOUT": str(CONNECT),
        "DB_LOCK_TIMEOUT": str(LOCK),
        "DB_POOL_TIMEOUT": str(POOL),
        "DB_STATEMENT_TIMEOUT": str(STATEMENT),
    }


def prepare(server, project):
    """Make the role, the project's tables and those of the pages; the server has few connections."""
    with server.connect() as connection:
        connection.execute(f"ALTER SYSTEM SET max_connections = {CONNECTIONS}")
        connection.execute(f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'")
        connection.execute("CREATE DATABASE app OWNER app")
    server.stop("fast")
    server.launch()
    manage(project, "migrate", **production(server), PYTHONPATH=str(project.parents[1]))
    with server.connect("app") as connection:
        connection.execute("GRANT pg_write_server_files TO app")
        connection.execute(f"SET ROLE app; {TABLES}")


@contextlib.contextmanager
def serving(project, values, *, asgi=False, before=()):
    """Serve a project inside the block, with these variables."""
    values = {"PORT": str(free_port()), "PYTHONPATH": str(project.parents[1]), **values}
    command = [*before, sys.executable, "manage.py", "serve", *(["--asgi"] if asgi else [])]
    with running(*command, cwd=project, **values) as (process, log):
        site = Site(int(values["PORT"]), process, log)
        wait_until(lambda: process.poll() is not None or site.serves(int(values["WEB_CONCURRENCY"])), 60)
        assert process.poll() is None, log.read_text()
        try:
            yield site
        finally:  # what a failure is explained by
            print(
                *(
                    f"{line['timestamp']} {line['event']} {line.get('exception', '')}"
                    for line in site.lines()
                    if line["level"] != "info"
                ),
                sep="\n",
            )


@contextlib.contextmanager
def limits_of_the_role(server):
    """Give the role what holds behind pgbouncer, inside the block."""
    limit_role(server)
    try:
        yield
    finally:
        with server.connect() as connection:
            connection.execute("ALTER ROLE app RESET ALL")


def limit_role(server):
    """Give the role the limits that hold behind pgbouncer, which passes on none of a client's own."""
    limits = {"lock_timeout": LOCK, "statement_timeout": STATEMENT, "client_connection_check_interval": 1}
    with server.connect() as connection:
        for name, seconds in limits.items():
            connection.execute(f"ALTER ROLE app SET {name} = '{seconds}s'")


@contextlib.contextmanager
def pgbouncer(port, database="app", user="app", password=PASSWORD, certificates=None):
    """Run a pgbouncer in transaction mode before the port; it tries again at once, and offers what `certify` made."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        users, own = Path(folder, "users.txt"), free_port()
        users.write_text(f'"{user}" "{password}"\n')
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": own,
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": users,
            "pool_mode": "transaction",
            "max_client_conn": 300,
            "server_login_retry": 0.1,  # instead of 15 seconds, for which it does not see that the server is back
            "query_wait_timeout": CONNECT,
        }
        if certificates:
            files = {"client_tls_key_file": "server.key", "client_tls_cert_file": "server.crt"}
            settings |= {"client_tls_sslmode": "require", **{name: certificates / file for name, file in files.items()}}
        configuration = Path(folder, "pgbouncer.ini")
        configuration.write_text(
            f"[databases]\n{database} = host=127.0.0.1 port={port} password={password}\n[pgbouncer]\n"
            + "".join(f"{name} = {value}\n" for name, value in settings.items())
        )
        user = become("nobody") if os.geteuid() == 0 else []
        with running(*user, "pgbouncer", configuration, cwd="/") as (process, log):
            wait_until(lambda: "process up" in log.read_text() or process.poll() is not None)
            assert process.poll() is None, log.read_text()
            yield own


class Site:
    """A project that is being served, by the process that `manage.py serve` became."""

    def __init__(self, port, process, log):
        self.port, self.process, self.log = port, process, log

    def ask(self, page, **headers):
        return ask(self.port, page, **headers)

    def burst(self, page, clients, each=1):
        return burst(self.port, page, clients, each)

    def load(self, clients=CROWD, **options):
        return Load(self.port, clients, **options)

    def workers(self):
        return children(self.process.pid)

    def serves(self, workers):
        """Tell whether so many processes answer."""
        answers = self.burst("who", clients=2 * workers).where(status=200)
        return len({answer.text for answer in answers}) == workers

    def lines(self):
        """Return what was logged, as far as it is the project's."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def trouble(self):
        return [line for line in self.lines() if line["level"] in ("error", "critical")]

    def causes(self):
        return {line["cause"] for line in self.trouble() if "cause" in line}


def children(parent):
    """Return the ids of the processes that a process has started."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            state, ppid = file.read_text().rpartition(")")[2].split()[:2]
            if int(ppid) == parent and state != "Z":
                found.append(int(file.parent.name))
    return found


def tell(request, answers, text=""):
    name = request.node.name.removeprefix("test_")
    print(f"outage: {name}: {answers}{'; ' if text else ''}{text}")


# What holds of every outage.


def assert_quiet(site):
    """Each process has told of trouble at most once in a second, with the cause and without a traceback."""
    trouble = site.trouble()
    assert all(line["logger"].startswith("apps.core") and line["cause"] for line in trouble)
    assert "Traceback" not in site.log.read_text()
    times = [datetime.datetime.fromisoformat(line["timestamp"]).timestamp() for line in trouble]
    for first, too_many in zip(times, times[2:], strict=False):  # of two processes
        assert too_many - first > 0.9


def assert_data_free_pages_served(answers):
    assert answers.where("static").statuses().keys() == {200}
    assert answers.where("static").slowest(0.99) < ALLOWANCE


def assert_only_away(answers, gone, back):
    """Requests failed by 503 only, and only while the database was away."""
    failed = Answers(answer for answer in answers if answer.status != 200)
    assert failed.statuses().keys() <= {503}, failed.where(status=0)[:3]
    assert not failed.where(ended_before=gone)
    late = failed.where(ended_after=back + BACK + ALLOWANCE)
    assert not late, [
        f"{answer.page} after {answer.ended - back:.2f} s, begun {answer.begun - back:.2f}" for answer in late
    ]
    assert_data_free_pages_served(answers)


def assert_no_longer(answers, gone, seconds):
    """No request took longer than the timeouts allow, from the moment at which the database went."""
    slow = [answer for answer in answers.where(ended_after=gone) if answer.seconds > seconds + ALLOWANCE]
    assert not slow, [
        f"{answer.page} {answer.status} begun {answer.begun - gone:.2f}, {answer.seconds:.2f} s" for answer in slow
    ]


def assert_kept(server, answers):
    """Whatever was acknowledged has been written."""
    with server.connect("app") as connection:
        kept = {number for (number,) in connection.execute("SELECT number FROM ledger")}
    written = answers.where("write/{}", status=200).numbers()
    assert written
    assert written <= kept


def find_busy(server, seconds=0):
    """Return what the project's sessions have been at for some time."""
    with server.connect() as connection:
        found = "SELECT pid, state, wait_event, query FROM pg_stat_activity WHERE usename = 'app' AND state <> 'idle'"
        return connection.execute(f"{found} AND clock_timestamp() - query_start >= '{seconds} s'").fetchall()


def assert_nothing_left_running(server, seconds=5):
    """For some seconds what was going on may end."""
    with contextlib.suppress(AssertionError):
        wait_until(lambda: not find_busy(server, 0.5), seconds)
    assert find_busy(server, 0.5) == []


def first_served(answers, back):
    """Return the seconds after which the database's return was seen by somebody."""
    served = [answer.ended for page in NEEDS_DATA for answer in answers.where(page, status=200, ended_after=back)]
    return min(served) - back


# What happens to a server.


# What happens to a server.


def wait_for_connection(server):
    while True:
        try:
            server.connect().close()
        except psycopg.OperationalError:
            time.sleep(0.005)
        else:
            return time.monotonic()


def restart(server, mode, pause=0):
    """Stop and start the server; return when it was there last, and when it accepted connections again."""
    gone = time.monotonic()
    server.stop(mode)
    time.sleep(pause)
    with ThreadPoolExecutor(1) as pool:
        launched = pool.submit(server.launch)
        back = wait_for_connection(server)
        launched.result()
    return gone, back


def end_sessions(server):
    with server.connect() as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")


class Relay:
    """Passes bytes on to a server, until it is told to do something else to new connections and old."""

    def __init__(self, target):
        self.target, self.mode, self.clients = target, "pass", set()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.accept)

    def accept(self):
        with ThreadPoolExecutor(100) as pool, contextlib.suppress(OSError):  # the end of the block
            while True:
                pool.submit(self.treat, self.listener.accept()[0])

    def treat(self, client):
        with client, contextlib.suppress(OSError):
            self.clients.add(client)
            if self.mode == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif self.mode == "pass":
                with socket.create_connection(("127.0.0.1", self.target)) as server:
                    self.carry(client, server)
            while self.mode in ("silent", "cut") and client.recv(1024):
                pass
        self.clients.discard(client)

    def carry(self, client, server):
        while True:
            for source in select.select([client, server], [], [])[0]:
                data = source.recv(65536)
                if not data or self.mode == "cut":
                    return
                (server if source is client else client).sendall(data)

    def switch(self, mode):
        """End what goes through it, unless the network is "cut"; from now on do as the mode says."""
        self.mode = mode
        for client in list(self.clients) if mode != "cut" else ():
            with contextlib.suppress(OSError):  # it has just ended
                client.shutdown(socket.SHUT_RDWR)

    def lead(self, target):
        """Pass new connections on to another server."""
        self.target = target

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.switch("reset")
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()


# The message at which it stalls, by its type and the beginning of its content, and how much of it goes through.
STALLS = {
    "authentication request": (b"R", struct.pack("!i", 10), None),
    "AuthenticationOk": (b"R", struct.pack("!i", 0), None),
    "login's ReadyForQuery": (b"Z", b"", 0),
    "RowDescription": (b"T", b"", None),
    "middle of a message": (b"D", b"", 4),
    "DataRow": (b"D", b"", None),
    "CommandComplete": (b"C", b"", None),
    "byte by byte": (b"", b"", None),
}


class Stalling(Relay):
    """
    Passes on a server's messages one by one and, once it has a `point`, none after that point of the protocol.

    What waits for the rest sees the end of the connection only after HELD seconds.
    """

    HELD = 8
    point = None

    def carry(self, client, server):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = b""
        while True:
            for source in select.select([client, server], [], [])[0]:
                if not (received := source.recv(65536)):
                    return
                if source is client:
                    server.sendall(received)
                    continue
                data += received
                while len(data) >= 5 and len(data) > (length := struct.unpack_from("!i", data, 1)[0]):
                    message, data = data[: length + 1], data[length + 1 :]
                    if not self.hand_over(client, message):
                        client.settimeout(self.HELD)
                        while client.recv(1024):
                            pass
                        return

    def hand_over(self, client, message):
        """Pass a message on, unless it is not to get through; tell whether the next one may follow."""
        kind, content, share = STALLS.get(self.point, (None, None, None))
        if self.point == "byte by byte":
            for number in range(len(message)):
                client.sendall(message[number : number + 1])
                time.sleep(0.001)
            return True
        if kind == message[:1] and message[5:].startswith(content):
            client.sendall(message[:share])
            return False
        client.sendall(message)
        return True
