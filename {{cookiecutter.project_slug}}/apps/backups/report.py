"""What a command says while it works: a line for each step, and to a person how far it is."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management.base import OutputWrapper
from psycopg import ConnectionInfo


class Report:
    """What is said on a command's output and, where that is a terminal, its other one."""

    def __init__(self, output: OutputWrapper, errors: OutputWrapper) -> None:
        """Say nothing yet."""
        self.output, self.errors = output, errors

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Say what has been done in the block and how long it took."""
        begin = time.monotonic()
        try:
            yield
        finally:
            self.tell("")
        self.say(f"{what}: {time.monotonic() - begin:.1f} s")

    def say(self, line: str) -> None:
        """Write a line at once, for whoever reads it in a log."""
        self.output.write(line)
        self.output.flush()

    def say_server(self, info: ConnectionInfo, database: str) -> None:
        """Say which server a connection has reached, whatever the settings are."""
        self.say(f"Server {info.host}:{info.port}, database '{database}', connected as '{info.user}'")

    def warn(self, sentence: str) -> None:
        """Write what a person should look at, without a failure."""
        self.tell("")
        self.errors.write(f"Warning: {sentence}")

    def tell(self, progress: str) -> None:
        """Show a person how far it is; empty when it is over."""
        if self.errors.isatty():
            self.errors.write(f"\r{progress}\x1b[K", style_func=str, ending="")  # not as red as an error
            self.errors.flush()
