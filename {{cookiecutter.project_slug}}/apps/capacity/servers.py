"""How many sessions a server admits."""

from typing import NamedTuple

from django.db import connections

from apps.core.database.health import FAILURES
from apps.core.database.session import open_session

PATIENCE = 2  # seconds, of each host

QUESTION = """
    SELECT sum(setting::int) FILTER (WHERE name = 'max_connections'),
        sum(setting::int) FILTER (WHERE name <> 'max_connections')
    FROM pg_settings
    WHERE name IN ('max_connections', 'superuser_reserved_connections', 'reserved_connections')
"""


class Limit(NamedTuple):
    """A server's max_connections, and how many of these nobody gets but superusers; by default PostgreSQL's."""

    maximum: int = 100
    reserved: int = 3
    assumed: bool = False  # as no server told


def read_limit(using: str) -> Limit:
    """Return what the server of the alias `using` admits."""
    try:
        with open_session(connections[using], connect_timeout=PATIENCE) as session:
            ((maximum, reserved),) = session.execute(QUESTION).fetchall()
    except FAILURES:
        return Limit(assumed=True)
    return Limit(maximum, reserved)


def read_least(aliases: list[str], otherwise: Limit) -> Limit:
    """Return the least that one of these servers admits, or `otherwise` where none tells."""
    found = [limit for limit in map(read_limit, aliases) if not limit.assumed]
    return min(found, key=lambda limit: limit.maximum - limit.reserved, default=otherwise)
