"""A second database beside the default one, of another kind or on another server, up or down: all goes on."""

import json
import sys

import pytest
from conftest import PASSWORD, fetch, free_port, manage, render, run, running, wait_until

pytestmark = pytest.mark.long

# As a user adds them to base.py, without OPTIONS.
SQLITE = """
DATABASES["legacy"] = {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "legacy.sqlite3"}
"""
OTHER_SERVER = """
DATABASES["legacy"] = {{
    "ENGINE": "django.db.backends.postgresql",
    "HOST": "127.0.0.1",
    "PORT": "{port}",
    "NAME": "elsewhere",
    "USER": "owner",
    "PASSWORD": "{password}",
}}
"""

PAGES = """
from django.conf import settings
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.db import connections, transaction
from django.http import HttpResponse
from django.urls import include, path


def default(request):
    return HttpResponse(f"{get_user_model().objects.count()} users")


def legacy(request):
    return HttpResponse(f"{get_user_model().objects.using('legacy').count()} legacy users")


def missing(request):
    with connections["legacy"].cursor() as cursor:
        cursor.execute("SELECT * FROM nowhere")


urlpatterns = [
    path("admin/", admin.site.urls),
    path("default/", default),
    path("legacy/", legacy),
    path("missing/", missing),
]

if settings.DEBUG:
    from debug_toolbar.toolbar import debug_toolbar_urls

    urlpatterns += debug_toolbar_urls()
"""

OWN_TESTS = """
import pytest
from django.db import connections
from apps.users.models import User


@pytest.mark.django_db(databases=["default", "legacy"])
def test_both_databases_are_tests_own():
    User.objects.using("legacy").create(username="ada")
    assert User.objects.count() == 0
    assert "legacy.sqlite3" not in str(connections["legacy"].settings_dict["NAME"])
"""

HEALTHY = ["healthy", "healthy"]


def add(folder, lines):
    """Return a project in whose base settings the lines are, and pages that query both databases."""
    (folder / "second_pages.py").write_text(PAGES)
    settings = 'from config.settings.{} import *\n\nROOT_URLCONF = "second_pages"\n'
    for name in ("development", "production"):
        (folder / f"second_{name}.py").write_text(settings.format(name))
    project = render(folder)
    with (project / "config" / "settings" / "base.py").open("a") as base:
        base.write(lines)
    return project


def lead(server, project, database):
    """Return the variables that lead a project's default database to a new one of the server."""
    return {
        **server.environment(database),
        "PYTHONPATH": str(project.parents[1]),
        "DB_SSLMODE": "disable",
        "ALLOWED_HOSTS": "127.0.0.1",
        "SECURE_SSL_REDIRECT": "false",
        "HEALTH_TOKEN": "t0ken-of-the-tests",
        "METRICS_TOKEN": "t0ken-of-the-tests",
        "EMAIL_HOST": "mail.shop.example",
        "WEB_CONCURRENCY": "1",
    }


@pytest.fixture(scope="module")
def sqlite(server, tmp_path_factory):
    """A project whose second database is SQLite's, both migrated, and its variables."""
    project = add(tmp_path_factory.mktemp("sqlite"), SQLITE)
    variables = lead(server, project, "second")
    assert "OK" in manage(project, "migrate", "--database", "legacy", **variables).stdout
    assert (project / "legacy.sqlite3").exists()
    manage(project, "prepare_database", **variables)
    assert "No migrations to apply" in manage(project, "migrate", **variables).stdout
    return project, variables


SERVERS = {
    "runserver": ["manage.py", "runserver", "--noreload"],
    "wsgi": ["manage.py", "serve"],
    "asgi": ["manage.py", "serve", "--asgi"],
    "gunicorn": ["-m", "gunicorn", "--workers", "2", "config.wsgi"],
}


def serve(project, name, **variables):
    """Serve a project in one of the ways; yield the process's block and the address."""
    port = free_port()
    words = [*SERVERS[name], *([f"127.0.0.1:{port}"] if name == "runserver" else [])]
    words += ["--bind", f"127.0.0.1:{port}"] if name == "gunicorn" else []
    settings = "second_development" if name == "runserver" else "second_production"
    variables |= {"DJANGO_SETTINGS_MODULE": settings, "PORT": str(port)}
    return running(sys.executable, *words, cwd=project, **variables), f"http://127.0.0.1:{port}"


def read_details(address):
    """Return the health of each database, and whether the process is ready."""
    status, text = fetch(f"{address}/health/ready/", Authorization="Bearer t0ken-of-the-tests")
    return status, {using: found["status"] for using, found in json.loads(text)["databases"].items()}


@pytest.mark.parametrize("name", ["runserver", "wsgi", "asgi", "gunicorn"])
def test_every_server_serves_both(sqlite, name):
    project, variables = sqlite
    block, address = serve(project, name, **variables)
    with block:
        assert fetch(f"{address}/health/live/")[0] == 200
        assert fetch(f"{address}/health/ready/")[0] == 200
        assert read_details(address) == (200, {"default": "healthy", "legacy": "healthy"})
        assert fetch(f"{address}/default/") == (200, "0 users")
        assert fetch(f"{address}/legacy/") == (200, "0 legacy users")
        # An error of the other database is no outage of the default one.
        assert fetch(f"{address}/missing/")[0] == 500
        status, text = fetch(f"{address}/metrics", Authorization="Bearer t0ken-of-the-tests")
        assert (status, "database_up 1.0" in text) == (200, True)


def test_health_check_reports_each(sqlite):
    project, variables = sqlite
    said = manage(project, "check_database", **variables).stdout
    assert said.startswith("default: healthy, PostgreSQL ")
    assert "\nlegacy: healthy, SQLite 3." in said
    reports = json.loads(manage(project, "check_database", "--format", "json", **variables).stdout)
    assert [report["status"] for report in reports.values()] == HEALTHY


def test_broken_path_is_unhealthy_in_its_own_words(sqlite, tmp_path):
    project, variables = sqlite
    (tmp_path / "broken.py").write_text(
        "from config.settings.production import *\n\n"
        'DATABASES["legacy"] = DATABASES["legacy"] | {"NAME": "/nowhere/legacy.sqlite3"}\n'
    )
    broken = {**variables, "DJANGO_SETTINGS_MODULE": "broken", "PYTHONPATH": str(tmp_path)}
    done = manage(project, "check_database", check=False, **broken)
    assert done.returncode == 1
    assert "default: healthy" in done.stdout
    assert "legacy: The database cannot be used: unable to open database file." in done.stderr
    assert "Traceback" not in done.stderr
    checked = manage(project, "check", "--database", "legacy", check=False, **broken).stderr
    assert "(core.E001) Database 'legacy': The database cannot be used: unable to open database file." in checked
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with running(sys.executable, "manage.py", "serve", cwd=project, **broken, PORT=str(port)):
        assert read_details(address) == (200, {"default": "healthy", "legacy": "unhealthy"})
        assert fetch(f"{address}/health/ready/") == (200, '{"status": "healthy"}')


@pytest.mark.parametrize(
    "words",
    [
        ["check"],
        ["check", "--database", "legacy"],
        ["check", "--deploy"],
        ["check", "--deploy", "--database", "default", "--database", "legacy"],
        ["showmigrations", "--database", "legacy"],
        ["migrate", "--database", "legacy", "--check"],
        ["inspect_database"],
        ["inspect_database", "--record"],
        ["production_checklist"],
        ["backup_database"],
        ["flush", "--no-input", "--database", "legacy"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("settings", ["development", "production"])
def test_commands_do_their_work(sqlite, tmp_path, words, settings):
    project, variables = sqlite
    values = {"DJANGO_SETTINGS_MODULE": f"config.settings.{settings}", "BACKUP_FOLDER": str(tmp_path)}
    done = manage(project, *words, check=False, **variables, **values)
    assert "Traceback" not in done.stderr
    assert "core.E" not in done.stderr
    if words[0] not in {"production_checklist", "flush"} and (settings, "--deploy" in words) != ("development", True):
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["backup_database"],
        ["inspect_database"],
        ["inspect_database", "--record"],
        ["restore_database", "file.dump"],
        ["restore_database", "--undo"],
        ["verify_backup", "file.dump"],
    ],
    ids=" ".join,
)
def test_commands_of_postgresql_refuse_another_kind_in_a_sentence(sqlite, tmp_path, words):
    project, variables = sqlite
    done = manage(project, *words, "--database", "legacy", check=False, **variables, BACKUP_FOLDER=str(tmp_path))
    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    assert sentence.endswith("Database 'legacy' is SQLite, but this needs PostgreSQL.")


def test_statements_and_advice_for_another_kind_are_not_those_of_postgresql(sqlite):
    project, variables = sqlite
    production = {**variables, "DJANGO_SETTINGS_MODULE": "config.settings.production"}
    statements = manage(project, "sqlflush", "--database", "legacy", **production).stdout
    assert statements.startswith("BEGIN;")
    assert "guard" not in statements
    advice = manage(project, "check", "--deploy", "--database", "legacy", **production).stderr
    assert "protection.W001" not in advice


def test_run_of_the_project_s_own_tests_keeps_the_second_database(sqlite):
    project, variables = sqlite
    (project / "tests" / "test_second.py").write_text(OWN_TESTS)
    options = "-p", "no:cacheprovider", "tests/test_second.py", "tests/test_database.py"
    run(sys.executable, "-m", "pytest", *options, cwd=project, **variables)


def test_page_of_the_database_is_about_postgresql(sqlite, server):
    """It offers no link to the other one, whose address is none."""
    project, variables = sqlite
    from test_lock_incident import LOG_IN  # noqa: PLC0415

    cookie = f"sessionid={manage(project, 'shell', '--command', LOG_IN, **variables).stdout.split()[-1]}"
    block, address = serve(project, "runserver", **variables)
    with block:
        status, page = fetch(f"{address}/admin/insight/sample/", Cookie=cookie)
        assert (status, "?database=legacy" in page) == (200, False)
        assert fetch(f"{address}/admin/insight/sample/?database=legacy", Cookie=cookie)[0] == 404


@pytest.mark.parametrize("is_up", [True, False], ids=["up", "down"])
def test_server_elsewhere_is_no_condition_of_the_default(server, tmp_path, is_up):
    port = server.port if is_up else free_port()
    project = add(tmp_path, OTHER_SERVER.format(port=port, password=PASSWORD))
    variables = lead(server, project, f"beside-{is_up}")
    manage(project, "migrate", **variables)
    if is_up:
        server.environment("elsewhere")
        manage(project, "migrate", "--database", "legacy", **variables)
    expected = "healthy" if is_up else "unhealthy"
    for name in ("wsgi", "asgi", "runserver"):
        block, address = serve(project, name, **variables)
        with block:
            wait_until(lambda address=address: read_details(address)[1]["default"] == "healthy", 20)
            assert read_details(address) == (200, {"default": "healthy", "legacy": expected})
            assert fetch(f"{address}/default/") == (200, "0 users")
            if is_up:
                assert fetch(f"{address}/legacy/") == (200, "0 legacy users")
                assert fetch(f"{address}/missing/")[0] == 500
    done = manage(project, "check_database", check=False, **variables, DJANGO_SETTINGS_MODULE="second_production")
    assert done.returncode == (0 if is_up else 1)


def test_own_options_of_a_second_server_hold_in_production(tmp_path):
    """What production adds is for what says nothing of TLS."""
    lines = OTHER_SERVER.format(port=5432, password=PASSWORD)
    project = add(tmp_path, lines + 'DATABASES["legacy"]["OPTIONS"] = {"sslmode": "require"}\n')
    code = "from django.conf import settings; print(*(d['OPTIONS']['sslmode'] for d in settings.DATABASES.values()))"
    variables = {"DB_EMBEDDED": "false", "DB_PASSWORD": PASSWORD, "ALLOWED_HOSTS": "127.0.0.1"}
    values = {**variables, "DJANGO_SETTINGS_MODULE": "config.settings.production"}
    said = manage(project, "shell", "--verbosity=0", "--command", code, **values).stdout
    assert said.split() == ["verify-full", "require"]
