"""A project can do without each of its rooms: its folder and the lines of settings that name it are all to delete."""

import shutil
import sys

import pytest
from conftest import manage, render, run

CURIOUS = {  # those that look others up, and their tests of it
    "capacity": "apps/capacity",
    "checklist": "apps/checklist",
    "insight": "apps/insight/tests/test_inspection.py",
    "metrics": "apps/metrics",
}
ROOMS = [
    "backups",
    "capacity",
    "checklist",
    "insight",
    "metrics",
    "protection",
    "queries",
    "replicas",
    "roles",
    "schema",
]


@pytest.fixture
def project(tmp_path):
    return render(tmp_path)


def delete(project, room):
    shutil.rmtree(project / "apps" / room)
    named = 0
    for file in (project / "config" / "settings").glob("*.py"):
        lines = file.read_text().splitlines(keepends=True)
        kept = [line for line in lines if f'    "apps.{room}' not in line]
        named += len(lines) - len(kept)
        file.write_text("".join(kept))
    assert named


def try_out(project, environment, *tests):
    manage(project, "makemigrations", "--check", **environment)  # after the system checks
    # A folder of its own, since pytest removes those of the runs before, which this one would be.
    options = "-p", "no:cacheprovider", f"--basetemp={project.parent / 'temporary'}"
    done = run(sys.executable, "-m", "pytest", *options, *tests, cwd=project, **environment)
    assert " passed" in done.stdout


@pytest.mark.parametrize("room", ROOMS)
def test_project_works_without_one_room(project, server, room):
    """With the tests of those that look others up; the rest know of none, and run where all are gone."""
    delete(project, room)
    curious = [tests for name, tests in CURIOUS.items() if name != room]
    tests = *curious, "tests/test_database.py", "tests/test_documents.py"
    try_out(project, server.environment(f"without_{room}"), *tests)


def test_project_works_without_all_rooms(project, server):
    for room in ROOMS:
        delete(project, room)
    try_out(project, server.environment("without_rooms"))
