"""The two commands of a fresh clone, also where there is no uv."""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from conftest import run, tracked_copy

SYSTEM = "/usr/bin:/bin:/usr/sbin:/sbin"


@pytest.fixture
def clone(tmp_path):
    return tracked_copy(tmp_path / "clone")


@pytest.fixture
def path_without_uv(tmp_path):
    """Only the system's programs and Python; nothing on it is called uv."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "python3").symlink_to(Path(sys._base_executable).resolve())
    path = f"{programs}:{SYSTEM}"
    assert shutil.which("uv", path=path) is None
    return path


def test_demo_installs_a_missing_uv_and_keeps_secrets_and_data_the_next_time(clone, path_without_uv):
    """It ends with a served page, and with the next command."""
    done = run("make", "demo", cwd=clone, PATH=path_without_uv)
    steps = re.findall(r"(?m)^([a-z ]+?) +\d+\.\d\d s$", done.stdout)
    assert steps == ["render", "install", "migrate", "check", "first page", "in all"]
    assert done.stdout.endswith(f"\n\n  cd demo/backend\n  {clone}/.uv/bin/uv run manage.py runserver\n")
    assert run("git", "status", "--short", cwd=clone).stdout == ""
    project = clone / "demo" / "backend"
    secrets = (project / ".env").read_text()
    run("make", "demo", cwd=clone)
    assert (project / ".env").read_text() == secrets
    done = run("uv", "run", "manage.py", "migrate", cwd=project)
    assert "No migrations to apply." in done.stdout


def test_python_without_venv_is_told_in_a_sentence(clone, path_without_uv, tmp_path):
    """Debian's python3 without python3-venv fails like this, with a paragraph that speaks of other things, too."""
    python = tmp_path / "programs" / "python3"
    python.unlink()
    python.write_text('#!/bin/sh\n[ "$2" != venv ] || { echo "ensurepip is not available"; exit 1; }\n')
    python.chmod(0o755)
    for goal in ("demo", "test"):
        done = run("make", "-s", goal, cwd=clone, check=False, PATH=path_without_uv)
        assert done.returncode == 2
        said = done.stderr.splitlines()
        assert said[0] == "Python's module venv does not work: run apt-get install python3-venv, or install uv."
        assert not (clone / ".uv").exists()


def test_failing_step_ends_the_demo_with_its_output(clone):
    settings = clone / "{{cookiecutter.project_slug}}" / "config" / "settings" / "base.py"
    settings.write_text(settings.read_text() + "\nraise RuntimeError('broken on purpose')\n")
    done = run("make", "demo", cwd=clone, check=False)
    assert done.returncode == 2
    assert "broken on purpose" in done.stderr
    assert "manage.py migrate" in done.stderr.splitlines()[-2]


def test_ci_runs_the_command_of_the_readme(clone):
    assert (clone / ".ci" / "run").read_text().splitlines()[-2:] == ["make test", "exec make test-long"]
    assert os.access(clone / ".ci" / "run", os.X_OK)
