"""Write `.env` with fresh secrets, and say what to do next."""

import os
import re
import secrets
from pathlib import Path

SECRETS = r"(?m)^(SECRET_KEY|METRICS_TOKEN|DB_(\w+_)?PASSWORD)=$"


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


def main():
    """Finish the project in the current folder."""
    Path(__file__).unlink()  # a rendered copy, which cookiecutter leaves among the temporary files
    write_environment(".env")
    folder = Path.cwd()
    print(f"Your project is in {folder}. Next:\n")
    print(f"  cd {folder.name}\n  uv run manage.py migrate\n  uv run manage.py runserver")


if __name__ == "__main__":
    main()
