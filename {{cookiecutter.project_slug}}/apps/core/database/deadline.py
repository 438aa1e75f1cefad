"""A moment of the monotonic clock after which nobody waits any more."""

import select
import time

from psycopg import errors


def wait(file: int, deadline: float, *, writing: bool = False) -> None:
    """Return when the socket is ready; raise ConnectionTimeout when the time is over."""
    poll = select.poll()
    poll.register(file, select.POLLOUT if writing else select.POLLIN)
    if not poll.poll(remaining(deadline) * 1000):
        raise too_late()


def remaining(deadline: float) -> float:
    """Return the seconds that are left, none or more."""
    return max(0.0, deadline - time.monotonic())


def too_late() -> errors.ConnectionTimeout:
    """Return the error for a time that is over."""
    return errors.ConnectionTimeout("connection timeout expired")
