"""What this process is for: its connections are as patient as that allows, and bear its name."""

import os
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path


class Role(StrEnum):
    """What the processes of the project do."""

    WSGI = "wsgi"
    ASGI = "asgi"
    COMMAND = "command"
    MIGRATE = "migrate"
    OWNER = "owner"


# Commands that serve or tell about what serves, that change the schema, and that have to do with all of the data.
ROLES = {
    **dict.fromkeys(("check", "runserver", "serve"), Role.WSGI),
    **dict.fromkeys(("migrate", "prepare_database"), Role.MIGRATE),
    **dict.fromkeys(("database_roles", "flush", "reset_db", "reset_schema", "sqlflush", "test"), Role.OWNER),
    #: if cookiecutter.edition != "essential"
    **dict.fromkeys(("backup_database", "restore_database", "verify_backup"), Role.OWNER),
    "production_checklist": Role.WSGI,
    #: endif
}
SERVERS = {Role.WSGI, Role.ASGI}
OWNERS = {Role.MIGRATE, Role.OWNER}  # log in as DB_MIGRATE_USER, and go round a pgbouncer

# Of this process, until its entry point says otherwise.
role = Role.COMMAND
name = Path(sys.argv[0]).stem
direct = os.environ.get("DJANGO_SETTINGS_MODULE") == "config.settings.testing"  # a test run migrates

# Whether somebody looked at the databases in its place: `serve` did, or the worker that it replaces. Whatever has
# become of them since, there are pages to serve, and gunicorn ends altogether when a worker cannot start.
checked = False
CHECKED = "DATABASES_CHECKED"  # the variable by which `serve` says so


def begin(new_role: Role, new_name: str = "", *, go_direct: bool = False) -> None:
    """
    Say what this process is for, before its settings are loaded.

    `new_name` is its application_name in PostgreSQL, and `go_direct` takes it round a pgbouncer to DB_DIRECT_HOST.
    """
    global role, name, direct
    role, name, direct = new_role, new_name or new_role, go_direct


def begin_command(arguments: Sequence[str]) -> None:
    """Say that this process runs `manage.py` with these arguments."""
    command = arguments[1] if len(arguments) > 1 else "help"
    new_role = Role.ASGI if "--asgi" in arguments else ROLES.get(command, Role.COMMAND)
    go_direct = new_role in OWNERS or "--direct" in arguments
    begin(new_role, f"manage.py {command}", go_direct=go_direct)
