"""What each edition is made of, and that it is whole: nothing in it speaks of what it does not have."""

import ast
import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import tomllib
from conftest import ROOT, TEMPLATE, fetch, free_port, manage, render, run, running

sys.path.insert(0, str(ROOT / "hooks"))
import post_gen_project

PATHS = {edition: paths.split() for edition, paths in post_gen_project.PATHS.items()}
EDITIONS = list(PATHS)

# Limits, which only go down: files, lines of Python without tests, lines of README.md, variables of .env.example.
LIMITS = {
    "essential": (150, 5_900, 200, 22),
    "production": (270, 11_850, 250, 36),
    "cluster": (307, 12_620, 300, 46),
}

# What names something that an app or a package of a larger edition brings.
COMMANDS = r"apps/\w+/management/commands/(\w+)\.py"
VARIABLE = r'(?:config|secret)\(\s*"([A-Z_]+)"'


def tracked():
    return run("git", "ls-files", "-z", cwd=TEMPLATE).stdout.split("\0")[:-1]


def find_edition(name):
    """Return the smallest edition that has a file, by the longest path of the table that it is below."""
    rows = [(path, edition) for edition, paths in PATHS.items() for path in paths]
    fits = [(len(path), edition) for path, edition in rows if name == path or name.startswith(f"{path}/")]
    return max(fits)[1] if fits else None


def belongs(name, edition):
    return EDITIONS.index(find_edition(name)) <= EDITIONS.index(edition)


def files(project):
    return {path.relative_to(project).as_posix() for path in project.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def projects(tmp_path_factory):
    return {edition: render(tmp_path_factory.mktemp(edition), edition) for edition in EDITIONS}


@pytest.fixture(params=EDITIONS)
def edition(request):
    return request.param


@pytest.fixture
def project(projects, edition):
    return projects[edition]


def test_every_path_has_an_edition():
    assert [name for name in tracked() if find_edition(name) is None] == []
    rows = [path for paths in PATHS.values() for path in paths if path not in {".cruft.json", ".env"}]
    assert [path for path in rows if not (TEMPLATE / path).exists()] == []


def test_edition_has_exactly_its_files(project, edition):
    assert files(project) == {name for name in tracked() if belongs(name, edition)} | {".cruft.json", ".env"}


def test_no_mark_is_left(project):
    assert [name for name in files(project) if "#:" in (project / name).read_text(encoding="utf-8")] == []


def count(project):
    """Return the figures that are limited, and how many statements the Python has."""
    names = files(project)
    python = [name for name in names if name.endswith(".py") and not re.search(r"(^|/)(test_\w+|conftest)\.py$", name)]
    texts = [(project / name).read_text(encoding="utf-8") for name in python]
    readme, variables = ((project / name).read_text(encoding="utf-8") for name in ("README.md", ".env.example"))
    found = len(names), sum(len(text.splitlines()) for text in texts), len(readme.splitlines())
    statements = sum(isinstance(node, ast.stmt) for text in texts for node in ast.walk(ast.parse(text)))
    return (*found, len(re.findall(r"(?m)^(?:# )?[A-Z_]+=", variables))), statements


def test_edition_is_within_its_limits(project, edition):
    found, statements = count(project)
    print(f"edition: {edition}: files, lines, README, variables {found}; {statements} statements")
    assert all(number <= limit for number, limit in zip(found, LIMITS[edition], strict=True)), found


def find_absent(edition):
    """Return a pattern for each name of what only larger editions have."""
    absent = [name for name in tracked() if not belongs(name, edition)]
    apps = {name.split("/")[1] for name in absent if re.fullmatch(r"apps/\w+/__init__\.py", name)}
    patterns = {rf"apps[./]{app}\b" for app in apps} | {rf"\b{app}\.[EWI]\d{{3}}\b" for app in apps}
    patterns |= {rf"\b{command}\b" for name in absent for command in re.findall(COMMANDS, name) if command[0] != "_"}
    read = {False: set(), True: set()}
    for name in tracked():
        if re.match(r"(apps|config)/.*\.py$", name) and "/tests/" not in name:
            read[belongs(name, edition)] |= set(re.findall(VARIABLE, (TEMPLATE / name).read_text(encoding="utf-8")))
    patterns |= {rf"\b{variable}\b" for variable in read[False] - read[True]}
    larger = EDITIONS[EDITIONS.index(edition) + 1 :]
    return patterns | {re.escape(path) + ("" if "/" in path else "/") for each in larger for path in PATHS[each]}


def test_nothing_names_what_the_edition_does_not_have(project, edition):
    named = []
    for name in files(project) - {".cruft.json"}:
        text = (project / name).read_text(encoding="utf-8")
        named += [f"{name}: {found[0]}" for pattern in find_absent(edition) for found in re.finditer(pattern, text)]
    assert named == []


def test_every_dependency_is_imported(project):
    """Or runs as a program, or is a plugin of one."""
    about = tomllib.loads((project / "pyproject.toml").read_text())
    named = "\n".join((project / name).read_text(encoding="utf-8") for name in files(project) if name.endswith(".py"))
    modules = {
        "django-pg-zero-downtime-migrations": "django_zero_downtime_migrations",
        "opentelemetry-exporter-otlp-proto-http": "opentelemetry.exporter.otlp.proto.http",
        "opentelemetry-sdk": "opentelemetry.sdk",
        "python-decouple": "decouple",
    }
    for dependency in about["project"]["dependencies"]:
        package = re.match(r"[\w-]+", dependency)[0]
        assert modules.get(package, package.replace("-", "_")) in named, package


# The template folder itself is the largest edition: test_template has its lint, types and checks.
@pytest.mark.parametrize("edition", EDITIONS[:-1])
def test_smaller_edition_lints_types_and_checks(projects, edition):
    project = projects[edition]
    run(sys.executable, "-m", "ruff", "check", "--no-cache", cwd=project)
    run(sys.executable, "-m", "ruff", "format", "--check", "--no-cache", cwd=project)
    run(sys.executable, "-m", "mypy", ".", "--cache-dir=/dev/null", cwd=project)
    assert manage(project, "check").stdout == "System check identified no issues (0 silenced).\n"


@pytest.mark.parametrize("edition", EDITIONS[:-1])
def test_smaller_edition_migrates_and_passes_its_own_tests(projects, server, edition):
    """Warnings are errors there; those of the largest edition run elsewhere."""
    project, environment = projects[edition], server.environment(f"edition_{edition}")
    manage(project, "makemigrations", "--check", **environment)
    manage(project, "migrate", **environment)
    options = "-p", "no:cacheprovider", f"--basetemp={project.parent / 'temporary'}"
    done = run(sys.executable, "-m", "pytest", *options, cwd=project, **environment)
    assert " passed" in done.stdout
    assert " skipped" not in done.stdout


@pytest.mark.parametrize("edition", EDITIONS[:-1])
def test_smaller_edition_is_deployed(projects, server, edition):
    project, port = projects[edition], free_port()
    environment = server.environment(f"deployed_{edition}") | {
        "DJANGO_SETTINGS_MODULE": "config.settings.production",
        "ALLOWED_HOSTS": "127.0.0.1",
        "DB_SSLMODE": "disable",
        "PORT": str(port),
        "SECURE_SSL_REDIRECT": "false",
        "WEB_CONCURRENCY": "1",
    }
    manage(project, "migrate", **environment)
    manage(project, "check", "--deploy", "--database", "default", **environment)
    static = project / "staticfiles"
    manage(project, "collectstatic", "--noinput", **environment)
    for options in ([], ["--asgi"]):
        with running(sys.executable, "manage.py", "serve", *options, cwd=project, **environment) as (_, log):
            assert fetch(f"http://127.0.0.1:{port}/admin/login/", 60)[0] == 200, log.read_text()
    shutil.rmtree(static)  # other tests compare the folder with the template's


def test_table_is_shown_by_the_prompt():
    questions = json.loads((ROOT / "cookiecutter.json").read_text())
    assert questions["edition"] == EDITIONS
    assert list(questions["__prompts__"]["edition"]) == ["__prompt__", *EDITIONS]


def test_empty_folders_are_left_out(projects):
    project = projects["essential"]
    assert [folder for folder in Path(project).rglob("*") if folder.is_dir() and not any(folder.iterdir())] == []
