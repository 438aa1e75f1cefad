"""Which database a query goes to."""

import asyncio
import random
import time
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Model

from .primary import primary
from .standby import Replica, find_replicas
from .state import Choice, State, current, guard

# Seconds for which a block of `using_replica` waits for a new process to know how far the primary is; requests do not.
PATIENCE = 1.0


class ReplicaRouter:
    """
    Sends reads to a replica that has caught up, and all else to the primary.

    Only the reads of requests and of `using_replica`: commands and tasks know nothing of what somebody wrote before.
    Other databases are other routers' business.
    """

    def db_for_read(self, _model: type[Model], **hints: Any) -> str | None:
        """Return the alias to read from."""
        return choose() if is_ours(hints.get("instance")) else None

    def db_for_write(self, _model: type[Model], **hints: Any) -> str | None:
        """Return the primary's alias, also for what was read from a replica."""
        return DEFAULT_DB_ALIAS if is_ours(hints.get("instance")) else None

    def allow_relation(self, first: Model, second: Model, **_hints: Any) -> bool | None:
        """Allow relations between what was read from the primary and from replicas, which is all the same data."""
        return True if is_ours(first) and is_ours(second) else None

    def allow_migrate(self, using: str, _app_label: str, **_hints: Any) -> bool | None:
        """Have no replica migrated: that comes by itself."""
        return False if using in find_replicas() else None


def is_ours(instance: Model | None) -> bool:
    """Tell whether there are replicas, and an object is of no other database."""
    if not find_replicas():
        return False
    using = None if instance is None else instance._state.db  # noqa: SLF001  as Django's routers do
    return using in (None, DEFAULT_DB_ALIAS) or using in find_replicas()


def choose() -> str:
    """Return the alias to read from now; a request keeps to one replica for as long as that can be used."""
    state = current.get()
    if state is None or state.on_primary or connections[DEFAULT_DB_ALIAS].in_atomic_block or is_in_event_loop():
        return DEFAULT_DB_ALIAS
    if not (state.choice and state.choice.holds()):
        kept = state.choice.replica if state.choice else None
        state.release()
        state.choice = find_choice(state, kept)
    if state.choice is None:
        state.on_primary = True
        return DEFAULT_DB_ALIAS
    return state.choice.replica.using


def is_in_event_loop() -> bool:
    """Tell whether this is no thread that queries: Django asks there before it leaves for one, where it asks again."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def find_choice(state: State, kept: Replica | None) -> Choice | None:
    """Return one of the replicas that have caught up: the one that was read from before, or any by chance."""
    floor = primary.read_floor(PATIENCE if state.patient else 0)
    if floor is None:
        return None
    replicas = [replica for using, replica in find_replicas().items() if using not in state.left_out]
    for replica in sorted(random.sample(replicas, len(replicas)), key=lambda replica: replica is not kept):
        connection = connections[replica.using]
        if guard not in connection.execute_wrappers:
            connection.execute_wrappers.insert(0, guard)  # a block around it takes off the last one when it ends
        if replica.accept(connection, floor, state.position):
            return Choice(replica, connection, connection.connection, time.monotonic())
    return None
