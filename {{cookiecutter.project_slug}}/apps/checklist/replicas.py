"""Whether the replicas that there should be follow closely."""

from datetime import timedelta
from typing import LiteralString

import psycopg
from django.conf import settings
from django.core.checks import CheckMessage, Info, Warning  # noqa: A004  Django's name
from django.db import DatabaseError

from apps.core.database.replication import LAG
from apps.core.database.session import open_monitor_session

from .reading import Reading

LONGEST_LAG = timedelta(seconds=10)

# Who only receives the log, as Barman does, replays nothing.
QUERY: LiteralString = f"""
SELECT {LAG} FROM pg_stat_replication WHERE state = 'streaming' AND replay_lsn IS NOT NULL
"""  # noqa: S608  SQL of the project's own


def check_replicas(reading: Reading) -> list[CheckMessage]:
    """Report replicas that are missing or late, or that the role may not see them, where there should be any."""
    expected = settings.DB_EXPECTED_REPLICAS
    if not expected:
        return [Info("DB_EXPECTED_REPLICAS is 0: there are none to look at.", id="checklist.I002")]
    try:
        lags = read_lags(reading)
    except (psycopg.Error, DatabaseError) as error:
        return [tell_unseen(str(error).partition("\n")[0])]
    if lags is None:
        return [tell_unseen(f"{reading.user} may not see them")]
    return [*tell_missing(expected, len(lags)), *tell_late(max(lags, default=timedelta()))]


def read_lags(reading: Reading) -> list[timedelta] | None:
    """Return how far behind each replica is, None where no role that may know that is at hand."""
    if reading.watches:
        with reading.connection.cursor() as cursor:
            cursor.execute(QUERY)
            return [lag for (lag,) in cursor.fetchall()]
    if not settings.DB_MONITOR_PASSWORD:
        return None
    with open_monitor_session(reading.connection) as session:
        return [lag for (lag,) in session.execute(QUERY)]


def tell_unseen(reason: str) -> CheckMessage:
    """Say that nobody knows."""
    return Warning(
        f"It cannot be told whether the replicas follow ({reason}): one may be missing when it is needed.",
        hint="Set DB_MONITOR_PASSWORD, and run manage.py prepare_database.",
        id="checklist.W013",
    )


def tell_missing(expected: int, found: int) -> list[CheckMessage]:
    """Say that there are too few."""
    if found >= expected:
        return []
    return [
        Warning(
            f"{found} of {expected} replicas follow the primary: when it is lost, so is what the others do not have.",
            hint="Read the log of the one that is missing, or set DB_EXPECTED_REPLICAS to how many there should be.",
            id="checklist.W013",
        )
    ]


def tell_late(lag: timedelta) -> list[CheckMessage]:
    """Say that one is late."""
    if lag < LONGEST_LAG:
        return []
    return [
        Warning(
            f"A replica is {lag.total_seconds():.0f} s behind: whoever reads there reads what was then.",
            hint="Run manage.py inspect_database --section replication, and look at that server's disk and queries.",
            id="checklist.W014",
        )
    ]
