"""What rendering makes of the template folder."""

import ast
import json
import os
import re
import stat
import subprocess

import tomllib
import yaml
from conftest import ROOT, TEMPLATE, cookiecut, render, run, tracked_copy

# The only files that hold answers or marked lines; every other is copied byte by byte.
ANSWERED = {".env.example", "README.md", "pyproject.toml"}
RENDERED = ANSWERED | {
    *(".dockerignore", ".gitignore", "Dockerfile", "Makefile", "compose.yaml"),
    *(
        "config/process.py",
        "config/server.py",
        "config/settings/base.py",
        "docs/disaster-recovery.md",
        "docs/operations.md",
    ),
    "docs/settings.md",
}
SECRETS = {"SECRET_KEY", "DB_PASSWORD", "DB_MIGRATE_PASSWORD", "DB_ADMIN_PASSWORD"}
CREDIT = "Made with [cookiecutter-django-postgres](https://github.com/org/cookiecutter-django-postgres)."


def tracked():
    names = run("git", "ls-files", "-z", cwd=TEMPLATE).stdout.split("\0")
    return {name for name in names if name}


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_rendering_makes_exactly_the_tracked_files_and_the_environment(project):
    assert files(project) == tracked() | {".cruft.json", ".env"}


def test_rendering_changes_only_the_files_that_hold_answers(project):
    changed = {name for name in tracked() if (project / name).read_bytes() != (TEMPLATE / name).read_bytes()}
    assert changed == RENDERED


def test_nothing_unrendered_is_left(project):
    for name in RENDERED:
        assert not re.search(r"{{|{%|{#|%}|#}|#:|cookiecutter\.", (project / name).read_text()), name


def test_template_names_itself_in_the_credit_line_only(project):
    naming = [
        line
        for name in files(project)
        for line in (project / name).read_text().splitlines()
        if name != ".cruft.json" and "cookiecutter" in line.lower()
    ]
    assert naming == [CREDIT]


def test_line_ends_are_those_of_unix(project):
    assert not [name for name in files(project) if b"\r" in (project / name).read_bytes()]


class Tagged(yaml.SafeLoader):
    """Reads the tags of compose files, such as !reset, as their names."""


Tagged.add_multi_constructor("!", lambda _loader, tag, _node: tag)


def test_every_file_parses_before_rendering():
    parsers = {
        ".json": json.loads,
        ".py": ast.parse,
        ".toml": tomllib.loads,
        ".yaml": lambda text: list(yaml.load_all(text, Tagged)),
        ".yml": yaml.safe_load,
    }
    parsed = 0
    for name in tracked() - ANSWERED:
        path = TEMPLATE / name
        if path.suffix in parsers:
            parsers[path.suffix](path.read_text())
            parsed += path.suffix == ".py"
    assert parsed == len([name for name in tracked() if name.endswith(".py")])


def test_environment_is_private_ignored_and_fresh(project, tmp_path):
    def read(folder):
        return dict(line.split("=", 1) for line in (folder / ".env").read_text().splitlines() if line[:1].isalpha())

    one, other = read(project), read(render(tmp_path))
    assert stat.S_IMODE((project / ".env").stat().st_mode) == 0o600
    assert ".env" in (project / ".gitignore").read_text().splitlines()
    assert one["DB_NAME"] == "backend_db"
    assert one["DB_EMBEDDED"] == "true"
    for secret in SECRETS:
        assert len(one[secret]) >= 64
        assert one[secret] != other[secret]


def test_no_secret_is_in_the_replay_file(tmp_path):
    project = render(tmp_path)
    secrets = re.findall(rf"^(?:{'|'.join(SECRETS)})=(.{{64,}})$", (project / ".env").read_text(), re.MULTILINE)
    (replay,) = (tmp_path / "replay").iterdir()
    assert len(secrets) == len(SECRETS)
    assert not [secret for secret in secrets if secret in replay.read_text()]


def test_rendering_again_keeps_the_environment(tmp_path):
    before = (render(tmp_path) / ".env").read_text()
    cookiecut(ROOT, tmp_path, "--overwrite-if-exists")
    assert (tmp_path / "out" / "backend" / ".env").read_text() == before


def test_last_lines_are_the_next_commands_and_no_hook_is_left_behind(tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    done = cookiecut(ROOT, tmp_path, TMPDIR=str(temporary))
    assert done.stdout.splitlines()[-3:] == [
        "  cd backend",
        "  uv run manage.py migrate",
        "  uv run manage.py runserver",
    ]
    assert list(temporary.iterdir()) == []


def test_rendering_from_a_git_url(tmp_path):
    """As `cookiecutter gh:org/template` does it; what is not committed yet comes along."""
    cookiecut(tracked_copy(tmp_path / "copy").as_uri(), tmp_path, "edition=cluster")
    assert files(tmp_path / "out" / "backend") == tracked() | {".cruft.json", ".env"}


def test_rendering_needs_no_network(tmp_path):
    """In a network namespace of its own, which has none."""
    cookiecut(ROOT, tmp_path, before=["unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"])])
    assert (tmp_path / "out" / "backend" / "manage.py").is_file()


def test_questions_are_few_and_in_words():
    questions = json.loads((ROOT / "cookiecutter.json").read_text())
    asked = [name for name in questions if not name.startswith("_")]
    assert asked == ["project_name", "project_slug", "description", "edition"]
    assert list(questions["__prompts__"]) == asked


def test_hooks_are_short():
    lines = [line for hook in (ROOT / "hooks").iterdir() for line in hook.read_text().splitlines()]
    assert len(lines) <= 150


def test_both_projects_pin_the_same_versions(project):
    """The template folder is linted and tested in place, by the template's own environment."""
    mine = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["dev"]
    rendered = tomllib.loads((project / "pyproject.toml").read_text())
    assert {*rendered["project"]["dependencies"], *rendered["dependency-groups"]["dev"]} <= {*mine}


def test_repository_names_no_registry():
    hosts = [f"py{'pi'}.org", f"python{'hosted'}.org", f"registry.{'npmjs'}", f"deb.{'debian'}.org"]
    found = subprocess.run(
        ["git", "grep", "--ignore-case", "--fixed-strings", *(f"-e{host}" for host in hosts)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout == ""
