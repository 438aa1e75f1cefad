"""The home of Barman's user in the drill: production's configuration, with other addresses and paths."""

import os
import pwd
import sys
from configparser import ConfigParser
from pathlib import Path

from psycopg.conninfo import make_conninfo

from apps.core.database.embedded.programs import SERVER_USER

from .server import DATABASE, PORT, ROOM, SUPERUSER


def move_in(folder: Path, programs: Path, password: str) -> None:
    """Make the home in the folder, and have this process, and all that it starts, live there."""
    home = folder / "home"
    home.mkdir()
    passfile = home / ".pgpass"
    passfile.touch(0o600)
    passfile.write_text(f"*:*:*:*:{password}\n", encoding="utf-8")
    configure(folder, programs)
    for name in [name for name in os.environ if name.startswith(("DB_", "PG"))]:
        del os.environ[name]
    # As root, Barman runs as somebody else, to whom no bytecode in the project should belong.
    path = os.pathsep.join([str(Path(sys.executable).parent), str(programs), os.environ["PATH"]])
    os.environ |= {"HOME": str(home), "PATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    # For `manage.py`; what is empty here may be otherwise in `.env`.
    os.environ |= {"DB_EMBEDDED": "false", "DB_HOST": str(folder), "DB_PORT": PORT, "DB_SSLMODE": "disable"}
    os.environ |= {"DB_NAME": DATABASE, "DB_USER": SUPERUSER, "DB_PASSWORD": password}
    os.environ |= dict.fromkeys(("DB_ADMIN_USER", "DB_DIRECT_HOST", "DB_MIGRATE_USER", "DB_PASSWORD_FILE"), "")


def configure(folder: Path, programs: Path) -> None:
    """Write Barman's configuration: production's, with other addresses, paths and another user."""
    file = ConfigParser(interpolation=None)
    file.read(ROOM / "barman.conf", encoding="utf-8")
    server, barman = file["main"], file["barman"]
    for name in "conninfo", "streaming_conninfo":
        server[name] = make_conninfo(server[name], host=str(folder), port=PORT, sslmode="disable")
    server["path_prefix"] = str(programs)
    barman["barman_user"] = SERVER_USER if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    archive = folder / "barman"
    archive.mkdir()
    barman["barman_home"], barman["log_file"] = str(archive), str(archive / "barman.log")
    with (folder / "home" / ".barman.conf").open("w", encoding="utf-8") as target:
        file.write(target)
