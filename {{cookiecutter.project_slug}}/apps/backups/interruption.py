"""Signals to end, which clean up first."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from django.core.management.base import CommandError

NAMES = "SIGINT", "SIGTERM", "SIGHUP"


@contextmanager
def heed_signals(task: str) -> Iterator[None]:
    """
    Have the first signal to end leave the block, which cleans up, and then raise CommandError; others are ignored.

    `task` is the sentence's subject. What is ignored already, as under nohup, stays so; threads get no signals.
    """

    def interrupt(number: int, _frame: FrameType | None) -> None:
        for each in heeded:
            signal.signal(each, signal.SIG_IGN)
        # Which psycopg knows: it cancels the query that it waits for.
        raise KeyboardInterrupt(signal.Signals(number).name)

    found = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    heeded = {each: handler for each in found if (handler := signal.getsignal(each)) != signal.SIG_IGN}
    if threading.current_thread() is not threading.main_thread():
        heeded = {}
    try:
        for each in heeded:
            signal.signal(each, interrupt)
        yield
    except KeyboardInterrupt as interruption:
        raise CommandError(f"{task} was interrupted by {interruption}.") from None
    finally:
        for each, handler in heeded.items():
            signal.signal(each, handler)
