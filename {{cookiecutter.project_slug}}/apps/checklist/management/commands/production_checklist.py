"""The command production_checklist, which says line by line whether production has what it needs."""

import json
from collections.abc import Collection
from itertools import groupby
from typing import Any

from django.core.checks import CheckMessage, run_checks
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS

from apps.checklist.lines import Line, Mark, answer

FAILED = 1
COULD_NOT_ASK = 2

SIGNS = {Mark.PASSED: "✓", Mark.FAILED: "✗", Mark.ABSENT: "\N{EN DASH}"}


class Command(BaseCommand):
    """Runs the checks of `check --deploy --database default`, and sorts what they say by lines."""

    help = (
        "Says line by line whether production has what it needs. Ends with 0 when no line fails, with 1 when one does, "
        "and with 2 when the database cannot be asked; SILENCED_SYSTEM_CHECKS lets a check pass."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--database", choices=[DEFAULT_DB_ALIAS], default=DEFAULT_DB_ALIAS, help="Which one (default: %(default)s)."
        )
        parser.add_argument(
            "--format", choices=["text", "json"], default="text", help="How to print (default: %(default)s)."
        )

    def handle(self, **options: Any) -> None:
        """Check, print, and end with the code."""
        found = run_checks(include_deployment_checks=True, databases=[options["database"]])
        for message in found:
            if message.id == "core.E001":  # without which nobody can tell
                raise CommandError(f"{message.msg} {message.hint}", returncode=COULD_NOT_ASK)
        lines = answer(found)
        self.stdout.write(build_json(lines) if options["format"] == "json" else self.build_table(lines))
        failed = sum(line.mark == Mark.FAILED for line in lines)
        if failed:
            raise CommandError(f"{failed} of {len(lines)} lines fail.", returncode=FAILED)

    def build_table(self, lines: list[Line]) -> str:
        """Return the lines below their lists, each with what is wrong: in full where that is said first."""
        written: list[str] = []
        told: list[CheckMessage] = []
        for title, group in groupby(lines, lambda line: line.list):
            written += ["", self.style.MIGRATE_HEADING(title)]
            for line in group:
                written += [f"  {self.sign(line.mark)} {line.text}", *explain(line, told)]
                told += line.messages
        return "\n".join(written[1:])

    def sign(self, mark: Mark) -> str:
        """Return a tick, a cross or a dash, in its colour on a terminal."""
        style = {Mark.PASSED: self.style.SUCCESS, Mark.FAILED: self.style.ERROR}.get(mark, str)
        return str(style(SIGNS[mark]))


def explain(line: Line, told: Collection[CheckMessage]) -> list[str]:
    """Return what the checks said, with what to do; what was told above is only named."""
    said = []
    for message in line.messages:
        name = f"{message.id} (silenced)" if message.is_silenced() else message.id
        if message in told:
            said.append(f"      {name}, above")
        else:
            said += [f"      {name}: {message.msg}", *([f"          {message.hint}"] if message.hint else [])]
    return said + [f"      {name}, which would tell, is not installed" for name in line.missing]


def build_json(lines: list[Line]) -> str:
    """Return the lines as JSON."""
    written = [
        {
            "list": line.list,
            "line": line.text,
            "mark": line.mark,
            "messages": [
                {"id": message.id, "silenced": message.is_silenced(), "message": message.msg, "hint": message.hint}
                for message in line.messages
            ],
            "missing": line.missing,
        }
        for line in lines
    ]
    passed = all(line.mark != Mark.FAILED for line in lines)
    return json.dumps({"passed": passed, "lines": written}, indent=4)
