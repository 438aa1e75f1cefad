"""The passwords of the roles, which leave this process as SCRAM's verifiers only."""

import contextlib
from typing import Any

import psycopg
from django.conf import settings
from django.core.management.base import CommandError
from psycopg import sql

from apps.core.environment import secret

from .account import Account
from .names import Names


def find_wrong(names: Names) -> dict[str, str]:
    """Return the roles that cannot log in by the password that is set for them, and that password."""
    passwords = {
        names.migrator: settings.DB_MIGRATE_PASSWORD,
        names.app: secret("DB_PASSWORD"),
        names.readonly: settings.DB_READONLY_PASSWORD,
        names.monitor: settings.DB_MONITOR_PASSWORD,
    }
    return {
        role: password
        for role, password in passwords.items()
        if password and not can_log_in(role, password, names.database)
    }


def can_log_in(role: str, password: str, database: str) -> bool:
    """Tell whether the role gets in; only a superuser could read what password it has."""
    with contextlib.suppress(CommandError), Account(role, password, "").connect(database):
        return True
    return False


def set_password(connection: psycopg.Connection[Any], role: str, password: str) -> None:
    """Give the role its password, which neither the server's log nor anybody on the way gets to see."""
    verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(verifier)))
