"""The exceptions: code that reads where it says, and not where the router would."""

from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, Self

from .state import State, begin


class Block:
    """What is around a block of code, or decorates a function or view, a coroutine's included."""

    def __init__(self, *, on_primary: bool) -> None:
        """Remember where to read."""
        self.on_primary = on_primary
        self.stack = ExitStack()

    def __enter__(self) -> Self:
        """Begin."""
        self.stack.enter_context(begin(State(on_primary=self.on_primary, patient=True)))
        return self

    def __exit__(self, *_error: object) -> None:
        """End."""
        self.stack.close()

    def __call__[F: Callable[..., Any]](self, function: F) -> F:
        """Return the function with a block around each of its calls."""

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with Block(on_primary=self.on_primary):
                return function(*args, **kwargs)

        @wraps(function)
        async def call_async(*args: Any, **kwargs: Any) -> Any:
            with Block(on_primary=self.on_primary):
                awaitable: Awaitable[Any] = function(*args, **kwargs)
                return await awaitable

        return call_async if iscoroutinefunction(function) else call  # type: ignore[return-value]


def using_primary() -> Block:
    """Read from the primary: what must not be older than now, whoever wrote it."""
    return Block(on_primary=True)


def using_replica() -> Block:
    """
    Read from a replica, where one is not behind by more than DB_REPLICA_MAX_LAG: in commands and tasks, too.

    It may not have what this user has just written. Inside a transaction, and where no replica can be used, the
    primary is read from all the same.
    """
    return Block(on_primary=False)
