"""Every supported PostgreSQL, the oldest Python with the oldest of them, and the refusal of a server too old."""

import re
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import PASSWORD, manage, postgres, render, run, unpack

pytestmark = pytest.mark.long

OLDEST = 15, "3.12"  # PostgreSQL, and Python, which uv finds on the machine or fetches, as it does for a user


@pytest.fixture
def folder():
    """One that the server's user can read, who is another where the tests' is root."""
    with tempfile.TemporaryDirectory() as temporary:
        Path(temporary).chmod(0o755)
        yield Path(temporary)


def test_project_works_on_the_oldest_versions_of_both(tmp_path, folder):
    """The embedded server starts there, too; 3.13 is what the READMEs' commands run on."""
    major, python = OLDEST
    project = render(tmp_path)
    (project / ".python-version").write_text(python + "\n")
    run("uv", "run", "manage.py", "migrate", cwd=project)
    # Entry points, the log and documents are the same for every server.
    tests = "apps", *(f"tests/test_{part}.py" for part in ("connections", "database", "health", "outage", "pages"))
    try_out(project, folder, major, "uv", "run", "pytest", *tests)
    assert (project / ".venv" / "lib" / f"python{python}").is_dir()


@pytest.mark.parametrize("major", [16, 17])
def test_project_works_on_every_supported_postgresql(tmp_path, folder, major):
    """18 is the version that every other test runs on, and the oldest stands for the others elsewhere."""
    asking = (f"apps/{name}" for name in ("backups", "roles", "schema"))
    tests = *asking, "apps/insight/tests/test_inspection.py", "tests/test_database.py"
    try_out(render(tmp_path), folder, major, sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *tests)


def try_out(project, folder, major, *command):
    """Run tests of the project on a server of that version."""
    with postgres(unpack(major, folder)) as server:
        environment = server.environment("versions")
        manage(project, "migrate", **environment)
        done = run(*command, cwd=project, **environment)
        assert " passed" in done.stdout
        with server.connect("versions") as connection:
            assert connection.info.server_version // 10000 == major


def test_older_postgresql_is_refused_in_a_sentence(tmp_path, folder):
    project = render(tmp_path)
    with postgres(unpack(14, folder)) as server:
        done = manage(project, "migrate", check=False, **server.environment("old"))
    assert done.returncode == 1
    said = r"The database server is too old: PostgreSQL 15 or later is required \(found 14(\.\d+)?\)\."
    assert re.search(said, done.stderr)
    assert "Traceback" not in done.stderr
    assert PASSWORD not in done.stdout + done.stderr
