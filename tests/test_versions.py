"""Every supported PostgreSQL, the supported Pythons, and the refusal of a server too old."""

import re
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import PASSWORD, manage, postgres, render, run, unpack

OLDEST = 15


@pytest.fixture
def folder():
    """One that the server's user can read, who is another where the tests' is root."""
    with tempfile.TemporaryDirectory() as temporary:
        Path(temporary).chmod(0o755)
        yield Path(temporary)


@pytest.mark.parametrize("major", [15, 16, 17])
def test_project_works_on_every_supported_postgresql(tmp_path, folder, major):
    """18 is the version that every other test runs on."""
    project = render(tmp_path)
    with postgres(unpack(major, folder)) as server:
        environment = server.environment("versions")
        manage(project, "migrate", **environment)
        # Entry points, the log and documents are the same for every server; the oldest stands for the others elsewhere.
        parts = ("connections", "database", "health", "outage", "pages") if major == OLDEST else ("database",)
        tests = "apps", *(f"tests/test_{part}.py" for part in parts)
        done = run(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *tests, cwd=project, **environment)
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


@pytest.mark.parametrize("version", ["3.12"])
def test_project_works_on_every_supported_python(tmp_path, version):
    """Which uv finds on the machine or fetches, as it does for a user; 3.13 is what the READMEs' commands run on."""
    project = render(tmp_path)
    (project / ".python-version").write_text(version + "\n")
    run("uv", "run", "manage.py", "migrate", cwd=project)
    done = run("uv", "run", "pytest", "apps", cwd=project)
    assert " passed" in done.stdout
    assert (project / ".venv" / "lib" / f"python{version}").is_dir()
