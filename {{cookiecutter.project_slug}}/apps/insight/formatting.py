"""How values are written for people: with units, as short as can be read."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from django.utils import timezone

from .report import Kind

UNKNOWN = "\N{EN DASH}"

BYTES = (("GB", 1024**3), ("MB", 1024**2), ("kB", 1024))  # as pg_size_pretty calls them
SECONDS = (("d", 86400), ("h", 3600), ("min", 60))


def format_bytes(value: float) -> str:
    """Return an amount in the largest unit of which there is one."""
    for unit, size in BYTES:
        if abs(value) >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.0f} B"


def format_seconds(value: float) -> str:
    """Return a duration, from microseconds to days."""
    for unit, size in SECONDS:
        if value >= 2 * size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.1f} s" if value >= 1 else f"{value * 1000:.1f} ms"


def format_time(value: str) -> str:
    """Return a moment in the project's time zone."""
    return f"{timezone.localtime(datetime.fromisoformat(value)):%Y-%m-%d %H:%M:%S}"


FORMATS: Mapping[Kind, Callable[[Any], str]] = {
    Kind.BYTES: format_bytes,
    Kind.COUNT: "{:,}".format,
    Kind.PERCENT: "{:.1f} %".format,
    Kind.SECONDS: format_seconds,
    Kind.TIME: format_time,
}


def format_value(value: Any, kind: Kind) -> str:
    """Return a value of a column of this kind; a dash is what is not known."""
    if value in (None, "", []):
        return UNKNOWN
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return FORMATS.get(kind, str)(value)
