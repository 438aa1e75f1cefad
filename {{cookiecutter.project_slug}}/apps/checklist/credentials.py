"""Where the passwords come from, whether they can be guessed, and who can read them."""

import os
import shlex
import shutil
import subprocess
from functools import cache
from itertools import combinations

from django.conf import settings
from django.contrib.auth.password_validation import CommonPasswordValidator
from django.core.checks import CheckMessage, Warning  # noqa: A004  Django's name

from apps.core.environment import KNOWN_PASSWORDS, secret

from .reading import Reading

OTHERS = "DB_MIGRATE_PASSWORD", "DB_ADMIN_PASSWORD", "DB_READONLY_PASSWORD", "DB_MONITOR_PASSWORD"
SHORTEST = 12  # characters

READABLE_BY_OTHERS = 0o007  # of a file's mode, and writable


def check_origin(reading: Reading) -> list[CheckMessage]:
    """Report a password that the environment did not bring."""
    if reading.connection.settings_dict["PASSWORD"] == secret("DB_PASSWORD"):
        return []
    return [
        Warning(
            "The database's password is not what DB_PASSWORD says: it stands in the code, "
            "where whoever reads that finds it.",
            hint="Take it out of config/settings, set DB_PASSWORD in the environment or in .env, and choose a new one.",
            id="checklist.W001",
        )
    ]


def check_strength(reading: Reading) -> list[CheckMessage]:
    """Report passwords that somebody could guess; no message holds one."""
    return [
        Warning(
            f"{name} {fault}: whoever reaches the server can log in before long.",
            hint="Set what python -c 'import secrets; print(secrets.token_urlsafe(48))' prints; manage.py "
            "prepare_database gives it to the role, and psql's \\password to the administrator.",
            id="checklist.W002",
        )
        for name, password in read_passwords(reading).items()
        if (fault := find_weakness(password, reading))
    ]


def check_sharing(reading: Reading) -> list[CheckMessage]:
    """Report roles with one password between them."""
    pairs = combinations(read_passwords(reading).items(), 2)
    return [
        Warning(
            f"{one} and {other} are the same: whoever has the first has the rights of both.",
            hint=f"Set another {other}, and run manage.py prepare_database, which gives it to the role.",
            id="checklist.W003",
        )
        for (one, password), (other, same) in pairs
        if password == same
    ]


def check_file(_: Reading) -> list[CheckMessage]:
    """Report an `.env` that others on this machine can read; Windows keeps that elsewhere."""
    file = settings.BASE_DIR / ".env"
    if os.name != "posix" or not file.is_file() or not file.stat().st_mode & READABLE_BY_OTHERS:
        return []
    return [
        Warning(
            f"{file} has the mode {file.stat().st_mode & 0o777:o}: every user of this machine can get at it.",
            hint=f"Run chmod 600 {shlex.quote(str(file))}, and choose new passwords if somebody else was here.",
            id="checklist.W004",
        )
    ]


def check_repository(_: Reading) -> list[CheckMessage]:
    """Report an `.env` that was committed; where there is no repository, as in an image, there is none."""
    program = shutil.which("git")
    if not program or not (settings.BASE_DIR / ".env").is_file():
        return []
    done = subprocess.run(  # noqa: S603  the user's own program
        [program, "ls-files", "--error-unmatch", ".env"], cwd=settings.BASE_DIR, capture_output=True, check=False
    )
    if done.returncode:
        return []
    return [
        Warning(
            "Git tracks .env: whoever gets the repository gets the passwords, also those that were changed since.",
            hint="Run git rm --cached .env, name it in .gitignore, and choose new passwords: the old ones stay in it.",
            id="checklist.W005",
        )
    ]


def read_passwords(reading: Reading) -> dict[str, str]:
    """Return the passwords that this process knows, by their variables."""
    others = {name: str(getattr(settings, name)) for name in OTHERS}
    passwords = {"DB_PASSWORD": str(reading.connection.settings_dict["PASSWORD"]), **others}
    return {name: password for name, password in passwords.items() if password}


def find_weakness(password: str, reading: Reading) -> str:
    """Return what makes a password guessable, in words without it, or nothing."""
    users = {reading.user, settings.DB_MIGRATE_USER, settings.DB_ADMIN_USER}
    if password in KNOWN_PASSWORDS | users or password.lower() in read_common():
        return "is known to everybody"
    if len(password) < SHORTEST:
        return f"has fewer than {SHORTEST} characters"
    return ""


@cache
def read_common() -> frozenset[str]:
    """Return Django's list of passwords that people choose, in lower case."""
    return frozenset(CommonPasswordValidator().passwords)
