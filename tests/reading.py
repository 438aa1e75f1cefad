"""A project that reads from replicas, its servers, and clients who say what they see."""

import contextlib
import http.client
import itertools
import shutil
import socket
import threading
import urllib.parse
from http.cookies import SimpleCookie
from pathlib import Path

from conftest import PASSWORD, manage, postgres, render, wait_until
from replication import accepts, standbys
from sites import production, serving

CLIENTS = 8
LAG = 3  # seconds, by which a replica may be behind
DELAY = 1.5  # seconds, by which replicas that are slow are behind

SETTINGS = """
import os
from config.settings.production import *

ROOT_URLCONF = "replica_pages"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = False  # without TLS, clients would not send it back
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES = STORAGES | {"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}
if folder := os.environ.get("CACHE_FOLDER"):
    CACHES = {"default": {"BACKEND": "django.core.cache.backends.filebased.FileBasedCache", "LOCATION": folder}}
"""
NAIVE = """
from replicated import *

DATABASE_ROUTERS = ["replica_pages.NaiveRouter"]
"""


@contextlib.contextmanager
def clustered(binaries, folder):
    """Render a project into the folder, and run its primary with two standbys inside the block."""
    shutil.copy(Path(__file__).parent / "replica_pages.py", folder)
    (folder / "replicated.py").write_text(SETTINGS)
    (folder / "naive.py").write_text(NAIVE)
    project = render(folder)
    with postgres(binaries) as primary:
        prepare(project, primary)
        with standbys(primary, 2) as replicas:
            yield Cluster(project, primary, replicas)


def prepare(project, primary):
    """Make the role, the project's tables and that of the pages."""
    with primary.connect() as connection:
        connection.execute(f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'")
        connection.execute("CREATE DATABASE app OWNER app")
    manage(project, "migrate", **(production(primary) | paths(project)))
    with primary.connect("app") as connection:
        connection.execute("SET ROLE app; CREATE TABLE counter (id bigint PRIMARY KEY, value bigint)")
        connection.execute("INSERT INTO counter SELECT number, 0 FROM generate_series(1, 100) number")


def paths(project):
    return {"DJANGO_SETTINGS_MODULE": "replicated", "PYTHONPATH": str(project.parents[1])}


class Cluster:
    """A primary with its standbys, and the project that reads from them."""

    def __init__(self, project, primary, replicas):
        self.project, self.primary, self.replicas = project, primary, replicas
        self.own = str(primary.port)
        self.ports = {str(replica.port) for replica in replicas}
        self.environment = {
            **production(primary),
            **paths(project),
            "DB_ATOMIC_REQUESTS": "false",
            # The primary is named as well: who does not know which of them it is names all.
            "DB_REPLICA_HOST": ",".join(["127.0.0.1"] * 3),
            "DB_REPLICA_PORT": ",".join(str(server.port) for server in (*replicas, primary)),
            "DB_REPLICA_MAX_LAG": str(LAG),
        }

    def serve(self, asgi=False, **changes):
        return serving(self.project, self.environment | changes, asgi=asgi)

    def manage(self, *arguments, check=True, **changes):
        return manage(self.project, *arguments, check=check, **(self.environment | changes))

    def wait(self, site):
        """Return once each process of the site reads from both replicas, which have all that was written."""
        for replica in self.replicas:
            wait_until(lambda replica=replica: accepts(replica))
            replica.catch_up()
        wait_until(lambda: {answer.text.split()[-1] for answer in site.burst("read", CLIENTS, 4)} == self.ports, 30)

    @contextlib.contextmanager
    def delayed(self):
        """Have the replicas replay each transaction late inside the block."""
        with contextlib.ExitStack() as stack:
            for replica in self.replicas:
                stack.enter_context(replica.delayed(DELAY))
            yield


class Client:
    """A browser, as far as it keeps cookies; or a program with a token, which keeps none."""

    def __init__(self, port, token=""):
        self.port, self.cookies = port, {}
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def ask(self, page, method="GET", **form):
        sent = {**self.headers, "Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        if form:
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            connection.request(method, f"/{page}/", urllib.parse.urlencode(form), headers=sent)
            answer = connection.getresponse()
            text = answer.read().decode()
        if "Authorization" not in self.headers:
            for header in answer.headers.get_all("Set-Cookie", []):
                for name, morsel in SimpleCookie(header).items():
                    self.cookies[name] = morsel.value
                    if morsel["max-age"] == "0":
                        del self.cookies[name]
        return answer.status, text

    def get(self, page):
        status, text = self.ask(page)
        assert status == 200, (status, text)
        return text.split()

    def write(self, key, value):
        assert self.ask(f"write/{key}/{value}", "POST") == (200, "written")


@contextlib.contextmanager
def balanced(ports):
    """Pass each connection on to the next of some servers, as a load balancer does; yield the port to connect to."""
    turns = itertools.cycle(ports)
    with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as stack:
        stack.callback(listener.shutdown, socket.SHUT_RDWR)
        threading.Thread(target=balance, args=(listener, turns, stack), daemon=True).start()
        yield listener.getsockname()[1]


def balance(listener, turns, stack):
    with contextlib.suppress(OSError):  # of a listener that was shut down
        while True:
            ours, _ = listener.accept()
            theirs = socket.create_connection(("127.0.0.1", next(turns)))
            for source, target in ((ours, theirs), (theirs, ours)):
                stack.callback(source.close)
                threading.Thread(target=pump, args=(source, target), daemon=True).start()


def pump(source, target):
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
