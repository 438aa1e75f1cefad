"""What a section asks of PostgreSQL's own tables and views, and what becomes of the answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, LiteralString

from apps.core.database.literals import blank_literals

from .report import Column, Finding, Kind, Section

Row = dict[str, Any]


@dataclass(frozen=True)
class Question:
    """
    A section before it is asked for.

    The columns of `query` have the keys of `columns`. Of others, `wrong` names the problem that a row has, a key of
    `problems`, whose sentences may hold any column's value, and `total` is how many rows there are.
    """

    key: str
    title: str
    source: str
    columns: Sequence[Column]
    query: LiteralString
    threshold: str = ""
    advice: str = ""
    problems: Mapping[str, Finding] = field(default_factory=dict)
    query_before_17: LiteralString = ""
    extension: str = ""  # whose schema is {schema} in the query
    as_user: bool = False  # as DB_USER, since it is about data that pg_monitor may not read
    arrange: Callable[[list[Row]], list[Row]] | None = None

    def answer(self, rows: list[Row]) -> Section:
        """Return the section with these rows, of which those that have a problem become findings, too."""
        total = max(len(rows), rows[0].get("total", 0) if rows else 0)
        rows = self.arrange(rows) if self.arrange else rows
        shown = [{column.key: simplify(row[column.key], column.kind) for column in self.columns} for row in rows]
        findings = [
            Finding(problem.text.format(**row), problem.remedy.format(**row))
            for row in rows
            if (problem := self.problems.get(row.get("wrong") or ""))
        ]
        return self.build(rows=shown, findings=findings, total=total)

    def miss(self, reason: str) -> Section:
        """Return the section without an answer."""
        return self.build(missing=reason)

    def build(self, **answer: Any) -> Section:
        """Return the section with what came of it."""
        return Section(self.key, self.title, self.source, self.threshold, self.advice, self.columns, **answer)


def simplify(value: Any, kind: Kind) -> Any:
    """Return a value as JSON has it, a query without its literals."""
    if kind == Kind.SQL and value is not None:
        return blank_literals(value)
    if isinstance(value, Decimal):
        return int(value) if kind in {Kind.BYTES, Kind.COUNT} else float(value)
    return value.isoformat() if isinstance(value, datetime) else value
