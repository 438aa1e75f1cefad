"""Which migrations are new: those that the main branch does not have, committed or not."""

import inspect
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from django.conf import settings
from django.db.migrations import Migration
from django.db.migrations.loader import MigrationLoader


def find_new_files(old: Sequence[str]) -> set[Path] | None:
    """
    Return the files that came after this commit left the first branch of `old` that there is.

    None where there is none, or no repository: then nobody can tell what is new.
    """
    bases = (git("merge-base", branch, "HEAD") for branch in old)
    base = next((base for base in bases if base), None)
    if not base:
        return None
    committed = git("diff", "--relative", "--name-only", "--no-renames", "--diff-filter=A", "-z", base.strip())
    untracked = git("ls-files", "--others", "--exclude-standard", "-z")
    return {settings.BASE_DIR / name for name in f"{committed}{untracked}".split("\0") if name}


def git(*arguments: str) -> str:
    """Return what git says of the project, nothing where it fails or is missing."""
    program = shutil.which("git")
    if not program:
        return ""
    done = subprocess.run(  # noqa: S603  the user's own program
        [program, *arguments], cwd=settings.BASE_DIR, capture_output=True, encoding="utf-8", check=False
    )
    return done.stdout if done.returncode == 0 else ""


def find_migrations(loader: MigrationLoader, files: set[Path] | None) -> dict[Path, Migration]:
    """Return the migrations in the files, those of the project where there are none, by their file."""
    found = {
        Path(inspect.getfile(type(migration))).resolve(): migration for migration in loader.disk_migrations.values()
    }
    if files is None:
        files = {file for file in found if file.is_relative_to(settings.BASE_DIR) and "site-packages" not in file.parts}
    return {file: found[file] for file in sorted(files & found.keys())}
