"""
Time `migrate` with nothing to apply, as whole processes, beside Django's own: one at a time, and eight at once.

`make bench-migrating` renders a project and runs this in it on the embedded PostgreSQL. The two take turns, so that a
machine that slows down slows down both; medians are printed, and the median of the ratios of each pair.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = int(os.environ.get("ROUNDS", "25"))
CROWD = 8

SETTINGS = """
from config.settings.development import *

INSTALLED_APPS = [app for app in INSTALLED_APPS if app != "{}"]
"""


def main() -> None:
    """Print both tables."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "here.py").write_text(SETTINGS.format(""))
        Path(folder, "djangos.py").write_text(SETTINGS.format("apps.schema"))
        os.environ["PYTHONPATH"] = folder
        hold_server()
        report(1, ROUNDS)
        report(CROWD, max(1, ROUNDS // 3))


def hold_server() -> None:
    """Keep the embedded server running until this process ends, and apply what is not applied."""
    sys.path[:0] = [os.getcwd(), os.environ["PYTHONPATH"]]
    os.environ["DJANGO_SETTINGS_MODULE"] = "here"
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)


def report(number: int, rounds: int) -> None:
    """Print how long so many processes at once take, here and with Django's command."""
    pairs = [(spend(number, "here"), spend(number, "djangos")) for _ in range(rounds + 1)][1:]
    here, djangos = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(one / other for one, other in pairs)
    print(f"{number} at once: here {here:.3f} s, Django's {djangos:.3f} s, ratio {ratio:.3f} ({rounds} rounds)")


def spend(number: int, settings: str) -> float:
    """Return the seconds that so many processes at once take."""
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": settings}
    command = [sys.executable, "manage.py", "migrate"]
    began = time.perf_counter()
    started = [subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) for _ in range(number)]  # noqa: S603
    codes = [process.wait() for process in started]
    assert codes == [0] * number
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
