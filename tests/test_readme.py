"""Every command of the documents does what they say, in their order."""

import os
import pty
import re
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from conftest import (
    PASSWORD,
    ROOT,
    certify,
    cookiecut,
    fetch,
    postgres,
    run,
    running,
    tracked_copy,
    unpack,
    wait_until,
    wait_until_stopped,
)

HTTPS = {"X-Forwarded-Proto": "https"}
MAKE_TEST = "make test"  # the run that this test is part of
WORKFLOW = "uv run pytest", "make lint"  # which test_shipping runs in a clone, on the embedded server
CRUFT = "uvx cruft "  # which fetches the template; its own test updates projects from a local one
KUBERNETES = "kubectl "  # nor a cluster; test_kubernetes runs what the pods would
DOCKER = "docker compose"  # there is no engine here; test_shipping runs what the containers would

# Servers, and the page that shows that they serve.
SERVERS = {
    "uv run manage.py runserver": ("http://localhost:8000/", {}),
    "uv run --no-dev manage.py serve": ("http://127.0.0.1:8000/admin/login/", HTTPS),
    "uv run --no-dev manage.py serve --asgi": ("http://127.0.0.1:8000/admin/login/", HTTPS),
}
# What is typed into a command that asks, and what it then says.
TYPED = {
    "uv run manage.py dbshell": ("SELECT 'seen' || 'here';\n", "seenhere"),
    "uv run manage.py shell_plus --print-sql": ("User.objects.count()\n", "[Database: default]"),
}
PREPARE = "uv run manage.py prepare_database"
CREATE_SUPERUSER = "uv run manage.py createsuperuser"


def commands(document):
    """Return the commands of a document: those after "$" and those in a table's column "run"."""
    text = document.read_text()
    return [typed or cell for typed, cell in re.findall(r"(?m)^(?:\$ (.+)|\| [^|`]+ \| `([^`]+)` \|)$", text)]


def obey(command, folder, environment):
    """Run one documented command as a person would; return its folder afterwards."""
    if DOCKER in command or command.startswith((CRUFT, KUBERNETES)):
        return folder
    if command in SERVERS:
        url, headers = SERVERS[command]
        with running(*command.split(), cwd=folder, **environment):
            assert fetch(url, **headers)[0] == 200
        wait_until(lambda: not listening(8000))
    elif command in TYPED:
        typed, expected = TYPED[command]
        done = subprocess.run(
            command.split(),
            cwd=folder,
            env={**os.environ, **environment},
            input=typed,
            capture_output=True,
            text=True,
            check=True,
            start_new_session=True,  # without a terminal, at which it would ask
        )
        assert expected in done.stdout + done.stderr
    elif command == CREATE_SUPERUSER:
        answer_prompts(command.split(), folder, environment)
    elif command.startswith("cd "):
        return folder / command.removeprefix("cd ")
    elif command.startswith("export "):
        name, value = command.removeprefix("export ").split("=")
        environment[name] = value
    elif command != MAKE_TEST:
        if command == "rm -r .postgres":  # faster than any hand: the server is still stopping
            wait_until_stopped(folder)
        run(*command.split(), cwd=folder, **environment)
    return folder


def listening(port):
    return run("bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}", cwd="/", check=False).returncode == 0


def answer_prompts(command, folder, environment):
    """Type the answers that createsuperuser asks for, at a terminal."""
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        stdin=end,
        stdout=end,
        stderr=end,
        start_new_session=True,
    )
    os.close(end)
    said = ""
    for prompt, answer in [
        ("Username", "ada"),
        ("Email", "ada@example.com"),
        ("Password:", PASSWORD),
        ("again", PASSWORD),
    ]:
        while prompt not in said:
            said += os.read(terminal, 1000).decode()
        said = ""
        time.sleep(0.1)  # getpass drops what was typed before it asked
        os.write(terminal, answer.encode() + b"\n")
    assert process.wait(60) == 0
    os.close(terminal)


@pytest.fixture
def hub(tmp_path):
    """Environment under which `gh:` means a folder here, which holds the template as a git repository."""
    copy = tracked_copy(tmp_path / "hub" / "org" / "cookiecutter-django-postgres")
    config = tmp_path / "cookiecutter.yaml"
    folders = "".join(f"{name}: {tmp_path / name}\n" for name in ("replay_dir", "cookiecutters_dir"))
    config.write_text(f"{folders}abbreviations:\n  gh: {tmp_path}/hub/{{0}}\n")
    return copy, {"COOKIECUTTER_CONFIG": str(config)}


def test_every_command_of_the_template_s_readme(tmp_path, hub):
    copy, environment = hub
    documented = commands(ROOT / "README.md")
    assert documented[0].startswith("uvx cookiecutter gh:org/")
    assert documented[-3:] == [MAKE_TEST, "make lint", "make bench"]
    environment["ROUNDS"] = "1"  # that it runs is shown here, not what is fast
    folder = tmp_path
    for command in documented:
        if command.startswith("make "):
            # Not a new demo for the benchmark: `make demo` was among the commands before it.
            obey(command.replace("make bench", "make -o demo bench"), copy, environment)
        else:
            folder = obey(command, folder, environment)


@pytest.fixture
def secured(tmp_path):
    """A server with TLS, as production wants it, and the certificate of its authority."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with postgres(unpack(18, Path(folder))) as server:
            server.secure(certify(tmp_path))
            yield server, tmp_path / "authority.crt"


def list_documents(project):
    """Return the README, then those of the apps, then the others; test_recovery runs docs/disaster-recovery.md."""
    globs = "README.md", "apps/*/README.md", "deploy/**/README.md", "docs/operations.md"
    return [file for glob in globs for file in sorted(project.glob(glob))]


def test_every_command_of_the_rendered_documents(tmp_path, secured):
    server, authority = secured
    cookiecut(ROOT, tmp_path)
    project = tmp_path / "out" / "backend"
    documented = {document: commands(document) for document in list_documents(project)}
    assert sum(map(len, documented.values())) > 20
    administrator = {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": "owner", "PGPASSWORD": PASSWORD}
    shared = {"PATH": f"{server.binaries}{os.pathsep}{os.environ['PATH']}", **administrator}
    for listed in documented.values():
        environment = dict(shared)  # a document may export more, for its own commands
        for command in listed:
            if command in WORKFLOW:
                continue
            if command == PREPARE and "DB_SSLROOTCERT" not in shared:  # the first time, as it is for the first start
                own_server(project, server)
                shared["DB_SSLROOTCERT"] = environment["DB_SSLROOTCERT"] = str(authority)
            obey(command, project, environment)


def own_server(project, server):
    """Change `.env` as the README says."""
    said = re.findall(r"(?s)```ini\n(.+?)```", (project / "README.md").read_text())[0]
    said = said.replace("what-you-know", PASSWORD).replace("5432", str(server.port))
    said = said.replace("DB_ADMIN_USER=postgres", "DB_ADMIN_USER=owner")
    names = dict(line.split("=", 1) for line in said.splitlines())
    env = project / ".env"
    lines = [line for line in env.read_text().splitlines() if line.partition("=")[0] not in names]
    env.write_text("\n".join([*lines, said]))


def test_start_page_of_the_rendered_readme_is_where_it_says():
    assert "<http://localhost:8000/>" in Path(ROOT, "{{cookiecutter.project_slug}}", "README.md").read_text()
