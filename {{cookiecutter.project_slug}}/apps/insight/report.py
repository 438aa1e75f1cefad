"""What an inspection found: sections of rows, and findings that somebody should do something about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """How a column's values are shown; each is a value that JSON knows."""

    BYTES = "bytes"
    COUNT = "count"
    PERCENT = "percent"  # 0 to 100
    SECONDS = "seconds"
    SQL = "sql"
    TEXT = "text"
    TIME = "time"  # ISO 8601


@dataclass(frozen=True)
class Column:
    """One figure of each row; None is what is not known."""

    key: str
    title: str
    kind: Kind = Kind.TEXT


@dataclass(frozen=True)
class Finding:
    """What is wrong, with the names it concerns, and what to do: a sentence each, or a statement."""

    text: str
    remedy: str


@dataclass(frozen=True)
class Section:
    """One insight: where it comes from, from when on something is a finding, and what to do then."""

    key: str
    title: str
    source: str  # the views it was read from
    threshold: str  # a phrase, "" where it has no findings
    advice: str
    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Any]] = ()
    findings: Sequence[Finding] = ()
    missing: str = ""  # why it could not be read, in a sentence
    total: int = 0  # how many rows there are, of which `rows` may hold the first


@dataclass(frozen=True)
class Inspection:
    """All sections, and who asked whom."""

    database: str
    server_version: str
    user: str
    asked_at: datetime
    seconds: float
    sections: Sequence[Section]
    notes: Sequence[str] = field(default=())  # what holds for all of it, such as whose sessions are not seen
