"""The system checks for `check --deploy --database default`; the README explains their IDs."""

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Tags, register
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections

from . import connection, credentials, logs, project, replicas, server
from .reading import read

CHECKS = (
    credentials.check_origin,
    credentials.check_strength,
    credentials.check_sharing,
    credentials.check_file,
    credentials.check_repository,
    connection.check_encryption,
    connection.check_limits,
    project.check_powers,
    logs.check_slow_queries,
    logs.check_audit,
    logs.check_names,
    logs.check_statistics,
    replicas.check_replicas,
    server.check_version,
    server.check_durability,
    server.check_text_and_time,
    project.check_migrations,
    project.check_plan,
)


@register(Tags.database, deploy=True)
def check_production(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Report what a default database for production lacks; all of it comes from one reading."""
    if DEFAULT_DB_ALIAS not in (databases or ()):
        return []
    try:
        reading = read(connections[DEFAULT_DB_ALIAS])
        return [message for check in CHECKS for message in check(reading)]
    except DatabaseError:  # core.E001 tells
        return []
