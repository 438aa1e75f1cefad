"""The command inspect_database."""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, connections

from apps.core.database.diagnosis import diagnose
from apps.core.database.health import FAILURES
from apps.insight.formatting import format_value
from apps.insight.history import record
from apps.insight.inspection import KEYS, inspect
from apps.insight.report import Inspection, Section

WIDEST = 80  # characters of a value


class Command(BaseCommand):
    """Prints what the page shows, findings first."""

    help = (
        "Tells what the database is doing, and what somebody should do about it. "
        "Ends with 0 whatever it finds, and with 1 when the database cannot be used."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--database", default=DEFAULT_DB_ALIAS, metavar="ALIAS", help="Which database (default: %(default)s)."
        )
        parser.add_argument("--section", nargs="+", choices=KEYS, metavar="KEY", help=f"Which: {', '.join(KEYS)}.")
        parser.add_argument(
            "--format", choices=["text", "json"], default="text", help="How to print (default: %(default)s)."
        )
        parser.add_argument(
            "--record", action="store_true", help="Add the present figures to the history, and print nothing."
        )

    def handle(self, **options: Any) -> None:
        """Look, and print."""
        using = options["database"]
        if using not in connections.settings:
            raise CommandError(f"There is no database '{using}'; there is {', '.join(connections)}.")
        try:
            if options["record"]:
                record(using)
                return
            inspection = inspect(using, options["section"])
        except FAILURES as error:
            raise CommandError(str(diagnose(error, connections[using].settings_dict))) from None
        if options["format"] == "json":
            self.stdout.write(json.dumps(dataclasses.asdict(inspection), indent=4, default=datetime.isoformat))
        else:
            self.stdout.write("\n".join(write(inspection)))


def write(inspection: Inspection) -> Iterator[str]:
    """Yield the lines of a report: findings first, since who reads no further has then read what matters."""
    yield (
        f"{inspection.database}, PostgreSQL {inspection.server_version}, asked by {inspection.user} "
        f"in {inspection.seconds * 1000:.0f} ms"
    )
    yield from inspection.notes
    for section in inspection.sections:
        for finding in section.findings:
            yield f"\n! {finding.text}\n  {finding.remedy}"
    if not any(section.findings for section in inspection.sections):
        yield "\nNothing that somebody should do something about."
    for section in inspection.sections:
        yield from write_section(section)


def write_section(section: Section) -> Iterator[str]:
    """Yield the lines of a section: its title, and its rows or why there are none."""
    more = f" ({len(section.rows)} of {section.total})" if section.total > len(section.rows) else ""
    yield f"\n{section.title} [{section.key}]{more}"
    if section.missing:
        yield f"  {section.missing}"
    elif not section.rows:
        yield "  None."
    else:
        titles = [column.title for column in section.columns]
        yield from write_table([titles, *(write_row(row, section) for row in section.rows)])


def write_row(row: Mapping[str, Any], section: Section) -> list[str]:
    """Return the cells of a row."""
    return [shorten(format_value(row[column.key], column.kind)) for column in section.columns]


def write_table(lines: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield lines of cells below each other."""
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    for line in lines:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def shorten(value: str) -> str:
    """Return a value that leaves room for others."""
    return value if len(value) <= WIDEST else f"{value[: WIDEST - 1]}…"
