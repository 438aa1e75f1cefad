"""Mail, as a rendered project sends it: by SMTP, to `mail.outbox` in tests, and nowhere without a server."""

import base64
import contextlib
import email
import email.policy
import socket
import socketserver
import sys
import threading
import time

import pytest
from conftest import PASSWORD, free_port, manage, render, run
from reading import Client
from sites import serving

LONGEST = 8  # seconds, for which a silent mail server may hold a request

SETTINGS = """
from config.settings.production import *

ADMINS = ["operator@shop.example"]
ROOT_URLCONF = "mail_pages"
STORAGES = STORAGES | {"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}
"""

PAGES = """
import os

from django.contrib import admin
from django.core.mail import send_mail
from django.http import HttpResponse
from django.urls import include, path


def send(request):
    sent = send_mail("Receipt", "s3cret-link", None, ["ada@shop.example"])
    return HttpResponse(f"sent {sent}")


def who(request):
    return HttpResponse(f"{os.getpid()}")


def broken(request):
    raise ValueError("broken")


urlpatterns = [
    path("admin/", admin.site.urls),
    path("accounts/", include("django.contrib.auth.urls")),
    path("send/", send),
    path("broken/", broken),
    path("who/", who),
]
"""

# Of the rendered project: its own test run collects mail.
OUTBOX = """
from django.conf import settings
from django.core import mail
from django.core.mail import mail_managers, send_mail


def test_mail_is_collected(settings):
    settings.MANAGERS = ["operator@shop.example"]
    send_mail("Receipt", "Thank you", None, ["ada@shop.example"])
    mail_managers("Stock", "is low")
    assert [message.subject for message in mail.outbox] == ["Receipt", "[Django] Stock"]


def test_every_test_begins_without_mail():
    assert mail.outbox == []
    assert {mailer["BACKEND"].split(".")[-2] for mailer in settings.MAILERS.values()} == {"locmem"}
"""


class Sink(socketserver.StreamRequestHandler):
    """A mail server that accepts everything, and keeps it."""

    def handle(self):
        self.say("220 sink")
        for line in self.rfile:
            word = line.split()[0].upper()
            self.server.heard.append(line.decode().strip())
            if word == b"EHLO":
                self.say("250-sink\r\n250 AUTH PLAIN")
            elif word == b"AUTH":
                self.say("235 accepted")
            elif word == b"DATA":
                self.say("354 go on")
                data = b"".join(iter(self.rfile.readline, b".\r\n"))
                self.server.messages.append(email.message_from_bytes(data, policy=email.policy.default))
                self.say("250 kept")
            else:
                self.say("250 done")

    def say(self, text):
        self.wfile.write(f"{text}\r\n".encode())


@contextlib.contextmanager
def sink():
    """Run a mail server inside the block; it has what it has heard, and the messages."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Sink) as mail_server:
        mail_server.daemon_threads = True
        mail_server.heard, mail_server.messages = [], []
        threading.Thread(target=mail_server.serve_forever, daemon=True).start()
        yield mail_server
        mail_server.shutdown()


@contextlib.contextmanager
def silent():
    """Accept connections inside the block, and say nothing; yield the port."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as listener:
        yield listener.getsockname()[1]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mail")
    (folder / "mailing.py").write_text(SETTINGS)
    (folder / "mail_pages.py").write_text(PAGES)
    return render(folder)


@pytest.fixture(scope="module")
def variables(server, project):
    """Return the variables of production, where one user has an address."""
    variables = {
        **server.environment("mail"),
        "DJANGO_SETTINGS_MODULE": "mailing",
        "PYTHONPATH": str(project.parents[1]),
        "ALLOWED_HOSTS": "127.0.0.1",
        "SECURE_SSL_REDIRECT": "false",
        "DB_SSLMODE": "disable",
        "WEB_CONCURRENCY": "1",
        "WEB_THREADS": "4",
    }
    manage(project, "migrate", **variables)
    account = "--username", "ada", "--email", "ada@shop.example"
    manage(project, "createsuperuser", "--noinput", *account, **variables, DJANGO_SUPERUSER_PASSWORD=PASSWORD)
    return variables


def reset_password(site):
    """Ask for a new password as a browser does; return the status."""
    browser = Client(site.port)
    _, page = browser.ask("accounts/password_reset")
    token = page.partition('name="csrfmiddlewaretoken" value="')[2].partition('"')[0]
    status, _ = browser.ask("accounts/password_reset", "POST", email="ada@shop.example", csrfmiddlewaretoken=token)
    return status


def lead(mail_server, **changes):
    """Return the variables that lead to a mail server without TLS."""
    port = mail_server if isinstance(mail_server, int) else mail_server.server_address[1]
    return {"EMAIL_HOST": "127.0.0.1", "EMAIL_PORT": str(port), "EMAIL_USE_TLS": "false", **changes}


@pytest.mark.parametrize("asgi", [False, True], ids=["wsgi", "asgi"])
def test_password_reset_is_delivered(project, variables, tmp_path, asgi):
    (tmp_path / "password").write_text("of-the-mail-server\n")
    account = {"EMAIL_HOST_USER": "shop", "EMAIL_HOST_PASSWORD_FILE": str(tmp_path / "password")}
    with sink() as mail_server:
        sender = {"DEFAULT_FROM_EMAIL": "Shop <shop@shop.example>"}
        with serving(project, {**variables, **lead(mail_server, **account, **sender)}, asgi=asgi) as site:
            assert reset_password(site) == 302
            assert Client(site.port).ask("send") == (200, "sent 1")
            assert Client(site.port).ask("broken")[0] == 500
    reset, receipt, error = mail_server.messages
    assert (reset["To"], reset["From"]) == ("ada@shop.example", "Shop <shop@shop.example>")
    assert "/accounts/reset/" in reset.get_content()
    assert receipt.get_content().strip() == "s3cret-link"
    assert (error["To"], error["From"]) == ("operator@shop.example", "Shop <shop@shop.example>")
    assert "of-the-mail-server" not in error.as_string()
    login = base64.b64encode(b"\0shop\0of-the-mail-server").decode()
    assert [line for line in mail_server.heard if line.startswith("AUTH")] == [f"AUTH PLAIN {login}"] * 3


def test_nothing_is_sent_in_the_clear_unless_that_is_wanted(project, variables):
    with sink() as mail_server:
        insecure = lead(mail_server)
        del insecure["EMAIL_USE_TLS"]
        with serving(project, {**variables, **insecure}) as site:
            assert Client(site.port).ask("send")[0] == 500
    assert mail_server.messages == []


@pytest.mark.parametrize("host", [None, ""], ids=["unset", "empty"])
def test_nothing_fails_without_a_mail_server(project, variables, host):
    """The mail is dropped, and its reset link is in no log."""
    changes = {} if host is None else {"EMAIL_HOST": host}
    with serving(project, {**variables, **changes}) as site:
        assert reset_password(site) == 302
        assert Client(site.port).ask("send") == (200, "sent 1")
        assert Client(site.port).ask("broken")[0] == 500
        log = site.log.read_text()
    assert "/reset/" not in log
    assert "s3cret" not in log
    assert "ada@shop" not in log


def test_check_warns_without_a_mail_server(project, variables):
    """And only that: with one, nothing is said."""
    done = manage(project, "check", "--deploy", **variables)
    assert "(core.W005)" in done.stderr
    assert "EMAIL_HOST" in done.stderr
    assert "(mail." not in done.stderr
    assert "core.W005" not in manage(project, "check", **variables).stderr
    told = manage(project, "check", "--deploy", **variables, EMAIL_HOST="mail.shop.example").stderr
    assert "core.W005" not in told
    assert "(mail." not in told


def test_port_that_is_none_is_refused_in_a_sentence(project, variables):
    done = manage(project, "check", check=False, **variables, EMAIL_HOST="mail.shop.example", EMAIL_PORT="smtp")
    assert done.returncode == 1
    assert done.stderr == "EMAIL_PORT is 'smtp', but must be a whole number, 1 or more.\n"


def test_silent_mail_server_holds_no_request_for_long(project, variables):
    with silent() as port, serving(project, {**variables, **lead(port)}) as site:
        for page, status in [("send", 500), ("broken", 500)]:
            begin = time.monotonic()
            assert Client(site.port).ask(page)[0] == status
            assert time.monotonic() - begin < 2 * LONGEST  # the page's own mail, and the one about its error


def test_port_of_a_mail_server_that_is_away_is_no_accident_of_the_reset(project, variables):
    with serving(project, {**variables, **lead(free_port())}) as site:
        assert reset_password(site) == 302
        assert "/accounts/reset/" not in site.log.read_text()


def test_development_prints_mail(project, variables):
    code = "from django.core.mail import send_mail; send_mail('Receipt', 'Thank you', None, ['ada@shop.example'])"
    values = {**variables, "DJANGO_SETTINGS_MODULE": "config.settings.development", "EMAIL_HOST": "mail.shop.example"}
    assert "Subject: Receipt" in manage(project, "shell", "--command", code, **values).stdout


def test_run_of_the_project_s_own_tests_collects_mail(project, server):
    (project / "tests" / "test_outbox.py").write_text(OUTBOX)
    variables = {**server.environment("outbox"), "EMAIL_HOST": "mail.shop.example"}
    warnings = "-W", "error", "-p", "no:cacheprovider"
    run(sys.executable, "-m", "pytest", *warnings, "tests/test_outbox.py", cwd=project, **variables)


# What a settings module replaces of its base.

ADDED = """
LOGGING["formatters"]["short"] = {"format": "short: %(message)s"}
LOGGING["handlers"]["short"] = {"class": "logging.StreamHandler", "formatter": "short"}
MAILERS["bulk"] = {"BACKEND": "django.core.mail.backends.console.EmailBackend"}
STORAGES["default"] = {"BACKEND": "django.core.files.storage.InMemoryStorage"}
STORAGES["uploads"] = {"BACKEND": "django.core.files.storage.InMemoryStorage"}
"""
SHOW = """
from django.conf import settings
from django.core.files.storage import storages
from django.core.mail import mailers
print(type(storages["default"]).__name__, type(storages["uploads"]).__name__, type(mailers["bulk"]).__module__)
"""


@pytest.mark.parametrize("name", ["development", "production", "testing"])
def test_every_settings_module_keeps_what_was_added_to_base(tmp_path, server, name):
    project = render(tmp_path)
    with (project / "config" / "settings" / "base.py").open("a") as base:
        base.write(ADDED)
    variables = {**server.environment(f"added-{name}"), "ALLOWED_HOSTS": "127.0.0.1", "DB_SSLMODE": "disable"}
    values = {**variables, "DJANGO_SETTINGS_MODULE": f"config.settings.{name}"}
    default, uploads, bulk = manage(project, "shell", "--verbosity=0", "--command", SHOW, **values).stdout.split()
    assert (default, uploads) == ("InMemoryStorage", "InMemoryStorage")
    assert bulk.split(".")[-1] in {"console", "locmem"}
