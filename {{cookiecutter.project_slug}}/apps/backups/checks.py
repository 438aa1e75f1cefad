"""System checks for `check --deploy --database default`: whether there are backups, and proofs that they are good."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.core.checks import CheckMessage, Tags, Warning, register  # noqa: A004  Django's name
from django.db import DEFAULT_DB_ALIAS, DatabaseError
from django.db.models import Max
from django.utils import timezone

from .models import Backup

MADE_WITHIN = timedelta(hours=26)  # a day, and what the work takes
VERIFIED_WITHIN = timedelta(days=8)  # a week, likewise


@register(Tags.database, deploy=True)
def check_backups(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Report a default database whose last backup, or last restore of one, is too long ago or was never."""
    if DEFAULT_DB_ALIAS not in (databases or ()):
        return []
    try:
        last = Backup.objects.using(DEFAULT_DB_ALIAS).aggregate(made=Max("made_at"), verified=Max("verified_at"))
    except DatabaseError:  # core.E001 tells, or it is not migrated
        return []
    found: list[CheckMessage] = []
    if is_older(last["made"], MADE_WITHIN):
        found.append(
            Warning(
                f"No backup was made within 26 hours ({tell_age(last['made'])}): "
                "what was written meanwhile is lost with the disk.",
                hint="Run manage.py backup_database every day, by a schedule.",
                id="backups.W001",
            )
        )
    if last["made"] and is_older(last["verified"], VERIFIED_WITHIN):
        found.append(
            Warning(
                f"No backup was restored for a proof within 8 days ({tell_age(last['verified'])}): "
                "nobody knows whether the present ones are good.",
                hint="Run manage.py verify_backup every week, by a schedule.",
                id="backups.W002",
            )
        )
    return found


def is_older(time: datetime | None, limit: timedelta) -> bool:
    """Tell whether a time is longer ago than the limit, or there is none."""
    return time is None or timezone.now() - time > limit


def tell_age(time: datetime | None) -> str:
    """Return how long ago the last one was."""
    if time is None:
        return "there was never one"
    return f"the last one was {(timezone.now() - time) // timedelta(hours=1)} hours ago"
