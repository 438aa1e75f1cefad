"""The template as a wheel, which renders what cookiecutter renders, without git and without a network."""

import json
import os
import sys

import pytest
import yaml
from conftest import ROOT, configure, render, run, tracked_copy
from test_editions import EDITIONS, files

ISOLATED = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"])]
SCRIPT = "cookiecutter-django-postgres"


def read_build_step():
    (job,) = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())["jobs"].values()
    return next(step["run"] for step in job["steps"] if step.get("run", "").startswith("uv build"))


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    return tracked_copy(tmp_path_factory.mktemp("wheel") / "clone")


@pytest.fixture(scope="module")
def program(clone, tmp_path_factory):
    """The console script of the wheel that the release workflow's own step builds, installed as `uvx` does it."""
    run(*read_build_step().split(), cwd=clone)
    (wheel,) = (clone / "dist").glob("*.whl")
    environment = tmp_path_factory.mktemp("installed") / "venv"
    run("uv", "venv", "--quiet", "--python", sys.executable, environment, cwd=clone)
    run("uv", "pip", "install", "--quiet", "--python", environment, wheel, cwd=clone)
    return environment / "bin" / SCRIPT


@pytest.mark.parametrize("edition", EDITIONS)
def test_wheel_renders_the_same_files(tmp_path, program, clone, edition):
    options = "--no-input", "--config-file", configure(tmp_path), f"edition={edition}"
    (tmp_path / "here").mkdir()
    without_git = {"PATH": str(program.parent)}
    run(*ISOLATED, "env", f"PATH={without_git['PATH']}", program, *options, cwd=tmp_path / "here")
    project, other = tmp_path / "here" / "backend", render(tmp_path, edition)
    assert files(project) == files(other)
    same = files(project) - {".cruft.json", ".env"}
    assert [name for name in same if (project / name).read_bytes() != (other / name).read_bytes()] == []
    assert [name for name in same if (project / name).stat().st_mode != (other / name).stat().st_mode] == []
    state = json.loads((project / ".cruft.json").read_text())
    assert state["commit"] == run("git", "rev-parse", "HEAD", cwd=clone).stdout.strip()
    assert state["template"] == "https://github.com/org/cookiecutter-django-postgres"


def test_program_says_what_it_takes(tmp_path, program):
    done = run(program, "--help", cwd=tmp_path)
    assert done.stdout.startswith(f"Usage: {SCRIPT} [OPTIONS]")


def test_bad_answer_is_refused(tmp_path, program):
    done = run(program, "--no-input", "project_slug=../escape", cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("project_slug is '../escape', but must be lower-case")
