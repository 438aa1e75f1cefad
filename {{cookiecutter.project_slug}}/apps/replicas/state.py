"""What a request, or a block of code, has come to, as far as it decides where the next query goes."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import Connection

from apps.core.database.causes import Cause
from apps.core.database.connection import let_go
from apps.core.database.diagnosis import find_origin, is_unavailable

from .standby import FRESH, Replica, find_replicas

# A query was in the way of what the replica had to replay: PostgreSQL gives it one of these two codes.
CONFLICTS = {"40001", "40P01"}


class Choice(NamedTuple):
    """The replica that is read from, and on which connection: it may lead to another server when it is opened anew."""

    replica: Replica
    connection: BaseDatabaseWrapper
    session: Connection
    chosen: float

    def holds(self) -> bool:
        """Tell whether this thread would still read on that connection."""
        return (
            connections[self.replica.using] is self.connection
            and self.connection.connection is self.session
            and not self.session.closed
            and (self.connection.in_atomic_block or self.chosen > time.monotonic() - FRESH)
        )


@dataclass(slots=True)
class State:
    """Where to read; requests are answered by several threads at times, which share it."""

    position: int = 0  # that a replica must have replayed
    on_primary: bool = False
    patient: bool = False  # for as long as it takes a new process to know how far the primary is
    wrote: bool = False
    choice: Choice | None = None
    left_out: set[str] = field(default_factory=set)  # replicas that failed

    def release(self) -> None:
        """Read from no replica any more."""
        if self.choice:
            self.choice.replica.leave(self.choice.connection)
            self.choice = None


# Of this thread or task; queries without one go to the primary.
current: ContextVar[State | None] = ContextVar("state", default=None)


@contextmanager
def begin(state: State) -> Iterator[State]:
    """Let a state decide inside the block, in place of the one around it."""
    if outer := current.get():
        state.left_out = outer.left_out
    token = current.set(state)
    try:
        yield state
    finally:
        current.reset(token)
        state.release()
        if outer and outer.choice:  # on the same connection, perhaps
            outer.choice.replica.enter(outer.choice.connection)


def guard(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
    """Execute a query on a replica; leave that out of what follows where it has failed."""
    try:
        result = let_go(execute, sql, params, many, context)
    except Error as error:
        if state := current.get():
            leave_out(state, context["connection"], error)
        raise
    find_replicas()[context["connection"].alias].last_success_at = time.monotonic()
    return result


def leave_out(state: State, connection: BaseDatabaseWrapper, error: Error) -> None:
    """Have the rest of a request, or its second try, read elsewhere, if the error is the replica's."""
    if is_conflict(error):
        state.left_out.update(find_replicas())  # the others replay the same
    elif is_unavailable(error):
        replica = find_replicas()[connection.alias]
        diagnosis = replica.explain(error)
        replica.refuse(connection, diagnosis)
        if diagnosis.cause != Cause.TERMINATED or replica.has_gone():  # else the query may be what was to end
            state.left_out.add(connection.alias)
        error.of_replica = True  # type: ignore[attr-defined]
    else:
        return
    state.release()


def is_conflict(error: BaseException) -> bool:
    """Tell whether a replica has ended a query that was in the way of what it had to replay."""
    return getattr(find_origin(error), "sqlstate", None) in CONFLICTS
