"""System checks for `check --deploy --database default`: what comes to a bad end slowly, and unnoticed."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from django.core.checks import CheckMessage, Tags, Warning, register  # noqa: A004  Django's name
from django.core.management.base import CommandError

from apps.core.database.health import FAILURES

from .inspection import inspect

# What the findings of a section are reported as.
REPORTED = {
    "invalid_indexes": partial(Warning, id="insight.W001"),
    "sequences": partial(Warning, id="insight.W002"),
    "wraparound": partial(Warning, id="insight.W003"),
    "slots": partial(Warning, id="insight.W004"),
}


@register(Tags.database, deploy=True)
def check_insights(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Report invalid indexes, sequences and transaction ids near their end, and slots that fill the disk."""
    return [message for using in databases or () for message in check_database(using)]


def check_database(using: str) -> list[CheckMessage]:
    """Return what is wrong with one database, nothing where it cannot be asked."""
    try:
        sections = inspect(using, REPORTED).sections
    except (*FAILURES, CommandError):  # core.E001 tells, and another kind of database has no such insights
        return []
    return [
        REPORTED[section.key](finding.text, hint=finding.remedy) for section in sections for finding in section.findings
    ]
