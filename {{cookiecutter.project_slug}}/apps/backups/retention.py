"""Which backups stay."""

from collections.abc import Callable, Collection, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from .archive import list_backups, read_manifest
from .folder import discard

PERIODS: Mapping[str, Callable[[datetime], Any]] = {
    "daily": date.toordinal,
    "weekly": lambda time: time.isocalendar()[:2],
    "monthly": lambda time: (time.year, time.month),
}


def choose(times: Collection[datetime], keep: Mapping[str, int]) -> set[datetime]:
    """
    Return those of the times that stay: the last one, and the last of each of the latest days, weeks and months.

    `keep` says of how many of each, by the names of PERIODS; one without a backup does not count.
    """
    latest_first = sorted(times, reverse=True)
    kept = set(latest_first[:1])
    for name, find_period in PERIODS.items():
        last: dict[Any, datetime] = {}
        for time in latest_first:
            last.setdefault(find_period(time), time)
        kept.update(list(last.values())[: keep[name]])
    return kept


def prune(folder: Path, database: str, keep: Mapping[str, int]) -> list[Path]:
    """Remove the backups of a database that do not stay, and return their dumps; others' files are left alone."""
    times = {}
    for dump in list_backups(folder, database):
        try:
            times[dump] = datetime.fromisoformat(read_manifest(dump).made_at)
        except (CommandError, ValueError):
            continue  # not ours to remove
    kept = choose(times.values(), keep)
    removed = [dump for dump, time in times.items() if time not in kept]
    for dump in removed:
        discard(dump)
    return removed
