"""What the page shows of an inspection: its values in words, and small bars beside those that are compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.safestring import SafeString

from .figures import draw_figure
from .formatting import format_value
from .pictures import draw_share
from .report import Column, Finding, Kind, Section

# Sections whose rows are sessions that may run a query.
CANCELLABLE = {"activity", "blocking", "long_running"}

LIVE = {*CANCELLABLE, "connections"}  # shown at length: what is going on now
SHORT = 6  # rows that are not worth hiding


@dataclass(frozen=True)
class Cell:
    """A value of a row, as text and, where it is one of several to compare, as a bar."""

    text: str
    kind: Kind
    bar: SafeString | str = ""


@dataclass(frozen=True)
class Row:
    """The cells of a row, and the process whose query the reader may cancel; 0 is none."""

    cells: Sequence[Cell]
    pid: int = 0


@dataclass(frozen=True)
class Shown:
    """A section as the template needs it."""

    section: Section
    rows: Sequence[Row]
    figure: SafeString | str
    is_open: bool
    is_cancellable: bool

    @property
    def left_out(self) -> int:
        """How many rows there are beside those shown."""
        return max(self.section.total - len(self.rows), 0)


def present(section: Section, *, may_cancel: bool) -> Shown:
    """Return what is shown of a section to somebody who may cancel queries, or may not."""
    cancellable = may_cancel and section.key in CANCELLABLE
    largest = find_largest(section)
    return Shown(
        section=section,
        rows=[present_row(row, section.columns, largest, cancellable=cancellable) for row in section.rows],
        figure=draw_figure(section),
        is_open=bool(section.findings) or section.key in LIVE or len(section.rows) <= SHORT,
        is_cancellable=cancellable,
    )


def present_row(
    row: Mapping[str, Any], columns: Sequence[Column], largest: Mapping[str, int], *, cancellable: bool
) -> Row:
    """Return a row of a section."""
    cells = [present_cell(row[column.key], column, largest) for column in columns]
    return Row(cells, row["pid"] if cancellable and row["state"] == "active" else 0)


def present_cell(value: Any, column: Column, largest: Mapping[str, int]) -> Cell:
    """Return a value with its unit and its bar."""
    return Cell(format_value(value, column.kind), column.kind, draw_bar(value, column, largest))


def find_largest(section: Section) -> dict[str, int]:
    """Return the largest value of each column of sizes."""
    return {
        column.key: max((row.get(column.key) or 0 for row in section.rows), default=0)
        for column in section.columns
        if column.kind == Kind.BYTES
    }


def draw_bar(value: float | None, column: Column, largest: Mapping[str, int]) -> SafeString | str:
    """Return the bar of a share or a size, "" for any other value."""
    if value is None:
        return ""
    if column.kind == Kind.PERCENT:
        return draw_share(value / 100)
    if largest.get(column.key):
        return draw_share(value / largest[column.key])
    return ""


def list_findings(sections: Sequence[Section]) -> list[tuple[Section, Finding]]:
    """Return all findings, each with its section."""
    return [(section, finding) for section in sections for finding in section.findings]
