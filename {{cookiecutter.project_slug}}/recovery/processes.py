"""The processes of the drill: each ends with what started it, and a failure is a sentence."""

import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
PATIENCE = 60  # seconds for what takes moments on a machine that is not overloaded
POLL = 0.02  # seconds
COMPLAINTS = "ERROR", "EXCEPTION", "FATAL", "FAILED", "error:"

_received: list[int] = []


class DrillError(Exception):
    """What the drill found wrong, in a sentence."""


def heed_signals() -> None:
    """Have Ctrl-C and the like end the drill at its next pause, where nothing is half done."""
    for number in SIGNALS:
        signal.signal(number, lambda number, _: _received.append(number))


def pause() -> None:
    """Wait for a moment, and raise KeyboardInterrupt where a signal has come."""
    time.sleep(POLL)
    if _received:
        raise KeyboardInterrupt


@contextmanager
def running(
    line: list[str], output: IO[bytes], stop: signal.Signals = signal.SIGKILL
) -> Iterator[subprocess.Popen[bytes]]:
    """
    Run a command in the background inside the block, and end it by the signal `stop`, with what it started, after that.

    It has a session of its own, since Ctrl-C is the drill's to handle.
    """
    process = subprocess.Popen(  # noqa: S603  the drill's own commands
        line, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        yield process
    finally:
        end(process, stop)


def end(process: subprocess.Popen[bytes], stop: signal.Signals) -> None:
    """End a process by the signal, unless it has ended, and wait until it has."""
    if process.poll() is None:
        os.killpg(process.pid, stop)
    process.wait()


def run(line: list[str], *, user: Sequence[str] = (), meanwhile: Callable[[], None] = pause) -> str:
    """
    Run a command to its end and return its output, doing something else meanwhile; raise DrillError when it fails.

    `user` is what makes it run as somebody else.
    """
    with tempfile.TemporaryFile() as output:
        with running([*user, *line], output) as process:
            while process.poll() is None:
                meanwhile()
        output.seek(0)
        said = output.read().decode(errors="replace")
    if process.returncode:
        raise DrillError(f"`{shlex.join(line)}` failed: {find_reason(said)}")
    return said


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    """Return once the condition holds; raise DrillError when the process that is to bring it about ends, or is late."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            state = f"is not ready after {PATIENCE} s" if process.returncode is None else "ended"
            raise DrillError(f"{log.stem} {state}: {find_reason(log.read_text(errors='replace'))}")
        pause()


def find_reason(said: str) -> str:
    """Return the line of a command's output that says what is wrong, or else its last one."""
    lines = [line.strip() for line in said.splitlines() if line.strip()] or ["it said nothing."]
    return next((line for line in lines if any(word in line for word in COMPLAINTS)), lines[-1])
