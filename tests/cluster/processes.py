"""The processes of the cluster: they end with what started them, and a failure is a sentence."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
PATIENCE = 90  # seconds for what takes some on a machine that is not overloaded
POLL = 0.02  # seconds

type Process = subprocess.Popen[bytes]

_received: list[int] = []


class ClusterError(Exception):
    """What is wrong with the cluster, in a sentence."""


def heed_signals() -> None:
    """Have Ctrl-C and the like end the command at its next pause, where nothing is half done."""
    for number in SIGNALS:
        signal.signal(number, lambda number, _: _received.append(number))


def pause() -> None:
    """Wait for a moment, and raise KeyboardInterrupt where a signal has come."""
    time.sleep(POLL)
    if _received:
        raise KeyboardInterrupt


def wait_until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    """Return once the condition holds; raise ClusterError, saying what is not the case, when that takes too long."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise ClusterError(f"After {seconds:.0f} s {what}.")
        pause()


def start(
    line: Sequence[str | Path],
    environment: Mapping[str, str],
    *,
    log: Path | None = None,
    user: Sequence[str] = (),
    keep_open: Sequence[int] = (),
) -> Process:
    """
    Start a program that is told to end when the thread that started it does, however that comes about.

    It has a session of its own, since Ctrl-C is the command's to handle. `user` is what makes it run as somebody else.
    """
    with log.open("ab") if log else contextlib.nullcontext() as output:
        return subprocess.Popen(
            [*(user or ["setpriv"]), "--pdeathsig=TERM", *map(str, line)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if log else None,
            start_new_session=True,
            pass_fds=keep_open,
        )


def end(process: Process | None) -> None:
    """Kill a process, with what it started in its session, and wait until it has ended."""
    if process is not None:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def send(pids: Sequence[int], number: signal.Signals) -> None:
    """Send a signal to the processes that there still are."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def find_processes(folder: Path) -> list[int]:
    """Return the processes that work in the folder, or that were started with its name."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            named = os.fsencode(folder) + b"\0" in (process / "cmdline").read_bytes()
            if named or (process / "cwd").readlink() == folder:
                found.append(int(process.name))
    return sorted(found)
