"""The lines of the checklist, and the checks that answer each."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from django.apps import apps
from django.core.checks import WARNING, CheckMessage

TLS = "core.W002", "checklist.W006"
ROLE = "checklist.W008", "protection.W001"
REPLICAS = "checklist.W013", "checklist.W014", "checklist.I002", "insight.W004"
AUDIT = "checklist.W010", "checklist.W011", "checklist.I001"
BACKUPS = "backups.W001", "backups.W002"
POOLING = "core.W001", "core.W003", "core.E002", "core.E003", "core.E004", "core.E005", "core.E006"

# Those of the specification, word for word, and what belongs to them although it does not name it.
LISTS: dict[str, dict[str, Sequence[str]]] = {
    "Production checklist": {
        "Database credentials in environment variables": ("checklist.W001",),
        "SSL/TLS enabled for database connections": TLS,
        "Connection pooling configured appropriately": POOLING,
        "Database backups automated": BACKUPS,
        "Monitoring and alerting configured": ("metrics.W001",),
        "Read replicas set up (if needed)": REPLICAS,
        "Database user has minimal necessary permissions": ROLE,
        "Query logging enabled for auditing": AUDIT,
        "Performance monitoring in place": ("checklist.W009", "checklist.W012"),
        "Disaster recovery plan documented": ("checklist.W019",),
    },
    "Security": {
        "Never commit credentials to version control": ("checklist.W001", "checklist.W004", "checklist.W005"),
        "Use strong passwords in production": ("checklist.W002", "checklist.W003"),
        "Enable SSL for production databases": TLS,
        "Restrict database user permissions": ROLE,
        "Use read-only replicas when appropriate": REPLICAS,
        "Enable query logging for auditing": AUDIT,
        "Regular backups (automated)": BACKUPS,
        "Monitor for suspicious queries": ("checklist.W009", "checklist.W011", "checklist.W012"),
    },
    "The database itself": {
        "Queries, locks and transactions come to an end": ("core.W004", "checklist.W007"),
        "The server is mended, and keeps what it has confirmed": ("checklist.W015", "checklist.W016"),
        "Text and time are what they seem": ("checklist.W017",),
        "Every migration is applied": ("checklist.W018",),
        "No index is broken, no number runs out": ("insight.W001", "insight.W002", "insight.W003"),
    },
}


class Mark(StrEnum):
    """What came of a line."""

    PASSED = "passed"
    FAILED = "failed"
    ABSENT = "absent"  # there is nothing to look at, or nobody looks


@dataclass(frozen=True)
class Line:
    """A line with what the checks said of it."""

    list: str
    text: str
    mark: Mark
    messages: Sequence[CheckMessage]
    missing: Sequence[str]  # apps that would look, and are not installed


def answer(found: Iterable[CheckMessage]) -> list[Line]:
    """Return every line, with those of the messages that are about it."""
    messages = list(found)
    return [
        build_line(title, text, ids, [message for message in messages if message.id in ids])
        for title, lines in LISTS.items()
        for text, ids in lines.items()
    ]


def build_line(title: str, text: str, ids: Sequence[str], messages: Sequence[CheckMessage]) -> Line:
    """Return a line; SILENCED_SYSTEM_CHECKS lets a warning pass, and the line says so all the same."""
    names = {f"apps.{name.split('.')[0]}" for name in ids}
    missing = sorted(name for name in names if not apps.is_installed(name))
    mark = Mark.ABSENT if messages or missing else Mark.PASSED
    if any(message.level >= WARNING and not message.is_silenced() for message in messages):
        mark = Mark.FAILED
    return Line(title, text, mark, messages, missing)
