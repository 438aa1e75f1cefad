"""Trying again what did not get its lock in time."""

import time
from collections.abc import Callable

from django.db import DatabaseError, Error
from psycopg import errors

PAUSES = 1.0, 2.0, 4.0, 8.0  # seconds, in which those get through who waited behind the attempt


def is_blocked(error: Error) -> bool:
    """Tell whether another session was in the way, so that the same may succeed later."""
    return isinstance(error.__cause__, errors.LockNotAvailable | errors.DeadlockDetected)


def repeat[Result](
    attempt: Callable[[], Result], may_repeat: Callable[[DatabaseError], bool], tell: Callable[[str], None]
) -> Result:
    """Return what `attempt` returns; it is called up to five times, and the last error is raised."""
    for number, pause in enumerate(PAUSES, start=2):
        try:
            return attempt()
        except DatabaseError as error:
            if not may_repeat(error):
                raise
            reason = str(error).partition("\n")[0]  # the lines after it hold data
        tell(f"Not yet: {reason}. Attempt {number} of {len(PAUSES) + 1} begins in {pause:g} s.")
        time.sleep(pause)
    return attempt()
