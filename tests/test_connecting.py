"""A rendered project's commands on the ways to a real server: TLS, a Unix socket, and round a proxy that is dead."""

import json
import tempfile
from pathlib import Path

import pytest
from conftest import certify, free_port, manage, postgres, unpack

PRODUCTION = {"DJANGO_SETTINGS_MODULE": "config.settings.production", "ALLOWED_HOSTS": "example.com"}


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="module")
def certificates(folder):
    return certify(folder)


@pytest.fixture(scope="module")
def secured(folder, certificates):
    """A server that admits clients with a certificate only, and on its socket nobody without a password."""
    with postgres(unpack(18, folder)) as server:
        (server.folder / "sockets").mkdir()
        (server.folder / "sockets").chmod(0o777)
        server.stop("fast")
        server.launch(server.folder / "sockets")
        server.secure(certificates)
        environment = {**server.environment("secured"), **PRODUCTION, "DB_HOST": "localhost"}
        (server.folder / "data" / "root.crt").write_bytes((certificates / "authority.crt").read_bytes())
        access = "local all all scram-sha-256\nhostssl all owner all scram-sha-256 clientcert=verify-full\n"
        with server.connect() as connection:
            connection.execute("ALTER SYSTEM SET ssl_ca_file = 'root.crt'")
            (server.folder / "data" / "pg_hba.conf").write_text(access)
            connection.execute("SELECT pg_reload_conf()")
        yield server, environment


def report(project, *arguments, **environment):
    done = manage(project, "check_database", "--format", "json", *arguments, check=False, **environment)
    return done.returncode, json.loads(done.stdout)["default"] if done.stdout else done.stderr


@pytest.fixture
def shown(certificates):
    """What shows the client's certificate and trusts the server's."""
    files = {"DB_SSLCERT": "client.crt", "DB_SSLKEY": "client.key", "DB_SSLROOTCERT": "authority.crt"}
    return {name: str(certificates / file) for name, file in files.items()}


def test_client_and_server_know_each_other_by_certificate(project, secured, shown):
    _, environment = secured
    code, found = report(project, **environment, **shown)
    assert (code, found["status"], found["tls"]) == (0, "healthy", True)


@pytest.mark.parametrize(
    ("changed", "cause"),
    [
        ({"DB_SSLCERT": "", "DB_SSLKEY": ""}, "rejected"),
        ({"DB_SSLROOTCERT": ""}, "tls_mismatch"),
        ({"DB_HOST": "127.0.0.1"}, "tls_mismatch"),
        ({"DB_SSLMODE": "disable"}, "rejected"),
    ],
    ids=str,
)
def test_production_connects_to_nobody_else(project, secured, shown, changed, cause):
    """Without a certificate of the client's, to an authority of nobody's, under another name, or in the clear."""
    _, environment = secured
    code, found = report(project, **{**environment, **shown, **changed})
    assert (code, found["cause"]) == (1, cause)


@pytest.mark.parametrize("mode", ["verify-ca", "require"])
def test_weaker_mode_is_honoured(project, secured, shown, mode):
    """As for a server whose certificate bears another name."""
    _, environment = secured
    code, found = report(project, **{**environment, **shown, "DB_HOST": "127.0.0.1", "DB_SSLMODE": mode})
    assert (code, found["tls"]) == (0, True)


def test_socket_needs_no_tls(project, secured):
    """The mode is production's own, and nothing is said of certificates."""
    server, environment = secured
    environment = {**environment, "DB_HOST": str(server.folder / "sockets")}
    code, found = report(project, **environment)
    assert (code, found["status"], found["tls"]) == (0, "healthy", False)
    done = manage(project, "check", "--deploy", "--database", "default", **environment, EMAIL_HOST="mail.shop.example")
    assert "(core." not in done.stderr  # of data, it says that there is no backup yet


def test_migrations_go_round_a_proxy(project, server):
    """Which is dead, so nothing that goes through it gets anywhere."""
    environment = {**server.environment("round"), "DB_PGBOUNCER": "true"}
    direct = {"DB_DIRECT_HOST": "127.0.0.1", "DB_DIRECT_PORT": environment["DB_PORT"]}
    environment |= {"DB_PORT": str(free_port())}
    assert "OK" in manage(project, "migrate", **environment, **direct).stdout
    assert report(project, **environment, **direct)[1]["cause"] == "refused"
    assert report(project, "--direct", **environment, **direct)[1]["status"] == "healthy"
    assert report(project, "--direct", **environment) == (2, "CommandError: DB_DIRECT_HOST is not set.\n")
