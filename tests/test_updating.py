"""A rendered project takes later versions of the template, and grows, by the real cruft and without a network."""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import configure, cookiecut, manage, run, tracked_copy
from test_editions import EDITIONS, files

IDENTITY = {f"GIT_{who}_{what}": "test@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
TEMPLATE = "{{cookiecutter.project_slug}}"
ISOLATED = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"])]

# What a later version of the template changes, with a line that all editions have, and what a user has changed.
FIX = "apps/schema/lint.py", '"""', '"""Fixed. '
MINE = "apps/users/models.py", "\n# Mine.\n"


@pytest.fixture
def template(tmp_path):
    return tracked_copy(tmp_path / "template")


def commit(folder, text):
    run("git", "add", "--all", cwd=folder)
    run("git", "commit", "--quiet", "--message", text, cwd=folder, **IDENTITY)


def start(folder, template, edition):
    """Render an edition as a user does, and commit it before anything is changed, as the README says."""
    cookiecut(template, folder, f"edition={edition}")
    project = folder / "out" / "backend"
    run("git", "init", "--quiet", cwd=project)
    commit(project, "Start")
    return project


def update(project, *options):
    """Run `cruft update`; return the names of the files that it left in conflict."""
    cruft = sys.executable, "-m", "cruft", "update", "--skip-apply-ask", *options
    run(*ISOLATED, *cruft, cwd=project, **IDENTITY)
    tracked = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", cwd=project).stdout
    names = [name for name in sorted({*tracked.split("\0")[:-1]}) if (project / name).is_file()]
    return [name for name in names if name.endswith(".rej") or "\n<<<<<<< " in (project / name).read_text()]


def grow(project, edition):
    return update(project, "--variables-to-update", json.dumps({"edition": edition}))


def change(folder, name, old, new):
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1))


def read_files(project):
    """Return what each file of the template holds, but for those that differ between two projects."""
    names = [name for name in files(project) if not name.startswith(".git/")]
    return {name: (project / name).read_bytes() for name in names if name not in {".cruft.json", ".env"}}


def read_state(project):
    return json.loads((project / ".cruft.json").read_text())


@pytest.mark.parametrize("edition", EDITIONS)
def test_fix_arrives_and_changes_of_the_user_stay(tmp_path, template, edition):
    project = start(tmp_path, template, edition)
    (project / MINE[0]).write_text((project / MINE[0]).read_text() + MINE[1])
    change(project, ".env", "ALLOWED_HOSTS=localhost", "ALLOWED_HOSTS=example.com,localhost")
    change(project, "config/settings/base.py", 'TIME_ZONE = "UTC"', 'TIME_ZONE = "Europe/Vienna"')
    environment = (project / ".env").read_text()
    commit(project, "Mine")
    change(template, f"{TEMPLATE}/{FIX[0]}", *FIX[1:])
    change(template, f"{TEMPLATE}/config/settings/base.py", "# Contrib\n", "# Django's contrib\n")
    commit(template, "Fix")
    assert update(project) == []
    assert FIX[2] in (project / FIX[0]).read_text()
    assert MINE[1] in (project / MINE[0]).read_text()
    settings = (project / "config/settings/base.py").read_text()
    assert 'TIME_ZONE = "Europe/Vienna"' in settings
    assert "# Django's contrib\n" in settings
    assert (project / ".env").read_text() == environment
    assert read_state(project)["commit"] == run("git", "rev-parse", "HEAD", cwd=template).stdout.strip()


def test_project_grows_and_then_migrates_and_checks(tmp_path, template, server):
    project = start(tmp_path, template, "essential")
    environment = server.environment("growing")
    manage(project, "migrate", **environment)
    for edition in EDITIONS[1:]:
        assert grow(project, edition) == []
        commit(project, edition)
        assert read_state(project)["context"]["cookiecutter"]["edition"] == edition
        manage(project, "check", **environment)
        manage(project, "migrate", **environment)
        manage(project, "makemigrations", "--check", **environment)
    (tmp_path / "fresh").mkdir()
    fresh = start(tmp_path / "fresh", template, EDITIONS[-1])
    assert read_files(project) == read_files(fresh)


def test_conflict_is_visible(tmp_path, template):
    """Cruft itself ends with 0; the README says what to look for."""
    project = start(tmp_path, template, "essential")
    change(project, "config/settings/base.py", 'TIME_ZONE = "UTC"', 'TIME_ZONE = "Europe/Vienna"')
    commit(project, "Mine")
    change(template, f"{TEMPLATE}/config/settings/base.py", 'TIME_ZONE = "UTC"', 'TIME_ZONE = "Asia/Tokyo"')
    commit(template, "Theirs")
    assert update(project) == ["config/settings/base.py"]


def test_later_template_may_change_what_is_rendered(tmp_path, template):
    """Cruft records the private entries of cookiecutter.json, too, and must not hold on to the former ones."""
    project = start(tmp_path, template, "essential")
    change(template, f"{TEMPLATE}/{FIX[0]}", *FIX[1:])
    commit(template, "An update, which records them")
    assert update(project) == []
    commit(project, "Updated")
    questions = template / "cookiecutter.json"
    entries = json.loads(questions.read_text())
    entries["_copy_without_render"].append("docs/braces.md")
    questions.write_text(json.dumps(entries))
    (template / TEMPLATE / "docs").mkdir(exist_ok=True)
    (template / TEMPLATE / "docs" / "braces.md").write_text("{{ braces }} and {% marks %}\n")
    commit(template, "Another whole file")
    assert update(project) == []
    assert (project / "docs" / "braces.md").read_text() == "{{ braces }} and {% marks %}\n"


def test_state_holds_the_public_answers_and_leaves_secrets_alone(tmp_path, template):
    state = read_state(start(tmp_path, template, "production"))
    commit = run("git", "rev-parse", "HEAD", cwd=template).stdout.strip()
    answers = state["context"]["cookiecutter"]
    assert answers.pop("_commit") == state.pop("commit") == commit
    assert answers.pop("_template") == state.pop("template") == str(template)
    assert answers == {
        "project_name": "Backend",
        "project_slug": "backend",
        "description": "A Django project on PostgreSQL.",
        "edition": "production",
    }
    assert state == {"checkout": None, "context": {"cookiecutter": answers}, "directory": None, "skip": [".env"]}


def test_path_that_is_relative(tmp_path, template):
    command = f"cookiecutter --no-input --config-file {configure(tmp_path)} --output-dir {tmp_path / 'out'} ./template"
    subprocess.run(
        ["sh", "-c", f"cd {tmp_path} && exec {sys.executable} -m {command}"],
        check=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )
    assert read_state(tmp_path / "out" / "backend")["template"] == str(template)


def test_abbreviation_becomes_an_address_that_cruft_can_clone(tmp_path, template):
    configuration = configure(tmp_path)
    configuration.write_text(f"{configuration.read_text()}abbreviations:\n  gh: git+{tmp_path.as_uri()}/{{0}}\n")
    options = "--no-input", "--config-file", configuration, "--output-dir", tmp_path / "out"
    run(sys.executable, "-m", "cookiecutter", "gh:template", *options, cwd=tmp_path)
    project = tmp_path / "out" / "backend"
    assert read_state(project)["template"] == template.as_uri()
    run("git", "init", "--quiet", cwd=project)
    commit(project, "Start")
    change(template, f"{TEMPLATE}/{FIX[0]}", *FIX[1:])
    commit(template, "Fix")
    assert update(project) == []
    assert FIX[2] in (project / FIX[0]).read_text()


def test_archive_carries_address_and_commit(tmp_path, template):
    archive = tmp_path / "template.zip"
    run("git", "archive", "--prefix", "template/", "--output", archive, "HEAD", cwd=template)
    cookiecut(archive, tmp_path)
    state = read_state(tmp_path / "out" / "backend")
    assert state["commit"] == run("git", "rev-parse", "HEAD", cwd=template).stdout.strip()
    assert re.fullmatch(r"https://\S+/cookiecutter-django-postgres(\.git)?", state["template"])


def test_archive_without_them_says_so(tmp_path, template):
    """Such as one that somebody has made of the files."""
    archive = tmp_path / "template.zip"
    with zipfile.ZipFile(archive, "w") as content:
        content.write(template, "template/")
        for path in sorted(path for path in template.rglob("*") if ".git" not in path.parts):
            content.write(path, Path("template") / path.relative_to(template))
    done = cookiecut(archive, tmp_path)
    assert "The commit of the template is not known: cruft cannot update this project." in done.stdout
    assert not (tmp_path / "out" / "backend" / ".cruft.json").exists()
