"""Leave out what larger editions have, write `.env` with fresh secrets, and say what to do next."""

import json
import os
import re
import secrets
import shutil
import subprocess
from pathlib import Path

# Data between raw quotes, which no JSON can close: an answer is never part of the code.
ANSWERS = r"""
{{ cookiecutter | tojson }}
"""

# The smallest edition that has a path, with all that is below it where no other row says otherwise.
PATHS = {
    "essential": """
        .cruft.json .dockerignore .env .env.example .github .gitignore .python-version .squawk.toml
        Dockerfile Makefile README.md apps/__init__.py apps/core apps/protection apps/queries apps/roles apps/schema
        apps/users compose.yaml config conftest.py docs/operations.md docs/settings.md manage.py pyproject.toml
        templates tests
    """,
    "production": """
        apps/backups apps/checklist apps/core/database/replication.py apps/insight apps/metrics deploy/grafana
        deploy/prometheus deploy/systemd docs/disaster-recovery.md recovery
    """,
    "cluster": "apps/replicas compose.cluster.yaml deploy/cluster deploy/kubernetes docs/scaling.md",
}

SECRETS = r"(?m)^\w+_(KEY|PASSWORD|TOKEN)=$"


def remove_larger_editions(edition):
    """Remove what only larger editions have, and the folders that are empty then."""
    names = list(PATHS)
    for larger in names[names.index(edition) + 1 :]:
        for path in map(Path, PATHS[larger].split()):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            if path.parent != Path() and path.parent.is_dir() and not any(path.parent.iterdir()):
                path.parent.rmdir()


def write_environment(file):
    """Write the example with secrets filled in, readable by its owner only; an existing file is kept."""
    example = Path(".env.example").read_text(encoding="utf-8")
    filled = re.sub(SECRETS, lambda name: name[0] + secrets.token_urlsafe(48), example)
    try:
        target = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(target, "w", encoding="utf-8", newline="\n") as environment:
        environment.write(filled)


def git(folder, *arguments):
    """Return what git prints, nothing where it fails."""
    return subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=False).stdout.strip()


def find_origin(repository):
    """Return URL and commit of the template in a folder; an archive or a wheel carries both in a file."""
    if (repository / ".git").exists():
        return git(repository, "remote", "get-url", "origin") or str(repository), git(repository, "rev-parse", "HEAD")
    return (repository / ".template-origin").read_text(encoding="utf-8").split()


def write_update_state(answers):
    """Write what `cruft update` needs, unless cruft itself renders, which writes its own."""
    if "_repo_dir" not in answers:
        return
    # As cookiecutter was told, and so relative to where it was started; this is the new project.
    url, commit = find_origin(Path(os.environ.get("PWD", ""), answers["_repo_dir"]))
    if not commit.isalnum():  # neither in a clone nor in what git has archived
        print("The commit of the template is not known: cruft cannot update this project.\n")
        return
    public = {name: answer for name, answer in answers.items() if not name.startswith("_")}
    context = {"cookiecutter": {**public, "_template": url, "_commit": commit}}
    # Fresh secrets in .env would make each update a conflict.
    state = {"template": url, "commit": commit, "context": context, "skip": [".env"]}
    text = json.dumps({**state, "checkout": None, "directory": None}, indent=2) + "\n"
    Path(".cruft.json").write_text(text, encoding="utf-8")


def main():
    """Finish the project in the current folder."""
    Path(__file__).unlink()  # a rendered copy, which cookiecutter leaves among the temporary files
    answers = json.loads(ANSWERS)
    remove_larger_editions(answers["edition"])
    write_environment(".env")
    write_update_state(answers)
    folder = Path.cwd()
    print(f"Your project is in {folder}. Next:\n\n  cd {folder.name}")
    print("  uv run manage.py migrate\n  uv run manage.py runserver")


if __name__ == "__main__":
    main()
