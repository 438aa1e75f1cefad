"""
Render the template, migrate on the embedded PostgreSQL and fetch the start page, with the time that each step takes.

`make demo` runs it, with the path of uv and the edition. The project stays in `demo/`, which git ignores; another run
renders over it and keeps its `.env` and its data.
"""

import os
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COOKIECUTTER = "cookiecutter==2.7.1"
DEMO = ROOT / "demo"
PROJECT = DEMO / "backend"
PYTHON = (ROOT / ".python-version").read_text(encoding="utf-8").strip()

# Nothing of the caller's other projects: uv would take an active environment, Django another's settings.
INHERITED = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("DB_", "DJANGO_")) and name not in {"PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV"}
}


def main() -> None:
    """Take one step after the other; the first that fails ends the demonstration with what it printed."""
    uv = str(Path(sys.argv[1]).absolute())
    cookiecutter = uv, "tool", "run", "--python", PYTHON, "--from", COOKIECUTTER, "cookiecutter"
    DEMO.mkdir(exist_ok=True)
    memory = DEMO / "cookiecutter.yaml"
    memory.write_text(f"replay_dir: {DEMO / 'replay'}\n", encoding="utf-8")
    begin = time.monotonic()
    with Step("render"):
        options = "--no-input", "--overwrite-if-exists", "--config-file", memory, "--output-dir", DEMO
        run(*cookiecutter, ROOT, *options, f"edition={sys.argv[2]}", folder=DEMO)
    with Step("install"):
        run(uv, "sync", folder=PROJECT)
    with Step("migrate"):
        run(uv, "run", "manage.py", "migrate", folder=PROJECT)
    with Step("check"):
        run(uv, "run", "manage.py", "check", folder=PROJECT)
    with Step("first page"):
        fetch_start_page(uv, "run", "manage.py", "runserver", "--noreload", "127.0.0.1:0")
    print(f"{'in all':<16} {time.monotonic() - begin:6.2f} s")
    command = uv if Path(uv).is_relative_to(ROOT) else "uv"
    print(f"\nGo on with\n\n  cd {PROJECT.relative_to(ROOT)}\n  {command} run manage.py runserver")


class Step:
    """Prints its name, and the seconds that it took unless it failed."""

    def __init__(self, name: str) -> None:
        """Name the step."""
        self.name = name

    def __enter__(self) -> None:
        """Begin."""
        self.begin = time.monotonic()

    def __exit__(self, failure: object, *_: object) -> None:
        """End."""
        if failure is None:
            print(f"{self.name:<16} {time.monotonic() - self.begin:6.2f} s", flush=True)


def run(*command: str | Path, folder: Path) -> None:
    """Run a command in the folder; end the demonstration with its output when it fails."""
    done = subprocess.run(
        command, cwd=folder, env=INHERITED, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        sys.exit(f"{done.stdout}{done.stderr}\nThis failed: {' '.join(map(str, command))}")


def fetch_start_page(*command: str) -> None:
    """Serve the project on a free port, ask for its start page, and stop the server."""
    server = subprocess.Popen(
        command,
        cwd=PROJECT,
        env={**INHERITED, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said = ""
    try:
        for line in server.stdout:
            said += line
            if address := re.search(r"http://127\.0\.0\.1:\d+/", line):
                urllib.request.urlopen(address[0], timeout=30).close()
                return
        sys.exit(f"{said}\nThis served nothing: {' '.join(command)}")
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
