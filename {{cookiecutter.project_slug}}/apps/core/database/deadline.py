"""A moment of the monotonic clock after which nobody waits any more."""

import selectors
import time

from psycopg import errors


def wait(file: int, deadline: float, *, writing: bool = False) -> None:
    """Return when the socket is ready; raise ConnectionTimeout when the time is over."""
    with selectors.DefaultSelector() as selector:
        selector.register(file, selectors.EVENT_WRITE if writing else selectors.EVENT_READ)
        # Not even where it is ready: a peer that sends for ever would be read for ever.
        if not (left := remaining(deadline)) or not selector.select(left):
            raise too_late()


def remaining(deadline: float) -> float:
    """Return the seconds that are left, none or more."""
    return max(0.0, deadline - time.monotonic())


def too_late() -> errors.ConnectionTimeout:
    """Return the error for a time that is over."""
    return errors.ConnectionTimeout("connection timeout expired")
