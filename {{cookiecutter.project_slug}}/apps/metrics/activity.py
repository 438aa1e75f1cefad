"""What the server says of itself, in words of its own statistics; much of it is hidden without pg_monitor."""

from collections.abc import Iterator
from typing import Any

from apps.core.database.session import Session

from . import questions
from .questions import Sample

# A state that no session is in has a figure, too: lines that come and go are no good in a picture.
STATES = "active", "idle", "idle in transaction", "idle in transaction (aborted)", "hidden"


def ask(session: Session) -> Iterator[Sample]:
    """Yield figures of sessions, locks and replication."""
    version, role = read_row(session, questions.SERVER)
    yield Sample("database_info", 1, {"version": version, "role": role})
    found: dict[str, int] = dict(session.execute(questions.SESSIONS).fetchall())
    yield Sample("database_connections_used", sum(found.values()))
    yield Sample("database_connections_max", *read_row(session, questions.MOST_SESSIONS))
    for state, count in {**dict.fromkeys(STATES, 0), **found}.items():
        yield Sample("database_sessions", count, {"state": state})
    yield Sample("database_locks_waiting", *read_row(session, questions.WAITING))
    yield from ask_about_replicas(session)
    for (lag,) in session.execute(questions.OWN_LAG):
        yield Sample("database_standby_lag_seconds", float(lag))


def ask_about_replicas(session: Session) -> Iterator[Sample]:
    """Yield the standbys' figures, where this role may see them: none seen is not none there."""
    (may_see,) = read_row(session, questions.MAY_SEE_REPLICAS)
    if not may_see:
        return
    rows = session.execute(questions.REPLICAS).fetchall()
    yield Sample("database_replicas", sum(row[-1] for row in rows))
    for name, address, seconds, size, _ in rows:
        labels = {"replica": name, "address": address}
        yield Sample("database_replica_lag_seconds", float(seconds), labels)
        yield Sample("database_replica_lag_bytes", float(size or 0), labels)


def ask_size(session: Session) -> Iterator[Sample]:
    """Yield the database's size."""
    yield Sample("database_size_bytes", *read_row(session, questions.SIZE))


def read_row(session: Session, question: str) -> tuple[Any, ...]:
    """Return the only row of an answer."""
    (row,) = session.execute(question).fetchall()
    return row
