"""All that can be seen of a database, in the order in which it is shown."""

import time
from collections.abc import Collection

from django.utils import timezone

from . import activity, indexes, replication, server, sizes, statements, upkeep
from .history import read_history
from .report import Inspection
from .sessions import open_sessions

QUESTIONS = (
    *activity.QUESTIONS,
    *statements.QUESTIONS,
    *sizes.QUESTIONS,
    *indexes.QUESTIONS,
    *upkeep.QUESTIONS,
    *replication.QUESTIONS,
    *server.QUESTIONS,
)
KEYS = (*(question.key for question in QUESTIONS), "history")


def inspect(using: str = "default", keys: Collection[str] | None = None) -> Inspection:
    """
    Return what the database with the alias `using` is doing: the sections with these keys, or all.

    It only reads, on sessions of its own, for 2 seconds a section and 10 in all. A section that could not be read says
    why. Raises what psycopg raises where nobody can log in.
    """
    asked_at, begin = timezone.now(), time.perf_counter()
    with open_sessions(using) as sessions:
        sections = [sessions.ask(question) for question in QUESTIONS if keys is None or question.key in keys]
    if keys is None or "history" in keys:
        sections.append(read_history(using))
    return Inspection(
        database=sessions.server.database,
        server_version=sessions.server.version,
        user=sessions.server.user,
        asked_at=asked_at,
        seconds=time.perf_counter() - begin,
        sections=sections,
        notes=sessions.notes,
    )
