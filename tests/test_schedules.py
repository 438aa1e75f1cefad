"""What runs by systemd's clock: backups by a timer, and the history by another."""

import re
import shlex

import pytest
from conftest import TEMPLATE, run

DEPLOY = TEMPLATE / "deploy"
COMMANDS = ["python manage.py backup_database", "python manage.py verify_backup"]


def test_systemd_takes_the_units(tmp_path):
    """With the places that they name replaced, as they say, by some of this machine."""
    folder = tmp_path / "backend"
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "python").symlink_to("/bin/true")
    units = []
    for unit in (DEPLOY / "systemd").iterdir():
        units.append(tmp_path / unit.name)
        units[-1].write_text(
            unit.read_text().replace("/srv/backend", str(folder)).replace("User=backend", "User=daemon")
        )
    done = run("systemd-analyze", "verify", *units, cwd=tmp_path)
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("unit", "commands"),
    [("backup-database", COMMANDS), ("record-database", ["python manage.py inspect_database --record"])],
)
def test_systemd_runs_the_commands_in_their_order(unit, commands):
    service = (DEPLOY / "systemd" / f"{unit}.service").read_text()
    started = [shlex.split(line)[1:] for line in re.findall(r"(?m)^ExecStart=(.+)$", service)]
    assert started == [shlex.split(command)[1:] for command in commands]
