"""What runs by the clock: backups by a CronJob and a timer of systemd's, and the history by another timer."""

import re
import shlex
import sysconfig
from pathlib import Path

import pytest
import yaml
from conftest import TEMPLATE, run

DEPLOY = TEMPLATE / "deploy"
CLAIM, CRON_JOB = yaml.safe_load_all((DEPLOY / "kubernetes" / "backup.yaml").read_text())
POD = CRON_JOB["spec"]["jobTemplate"]["spec"]["template"]["spec"]
COMMANDS = ["python manage.py backup_database", "python manage.py verify_backup"]


def variables():
    """Return the variables that the settings read."""
    code = "\n".join(file.read_text() for file in (TEMPLATE / "config").rglob("*.py"))
    return {*re.findall(r'(?:config|secret)\(\s*"([A-Z_]+)"', code)}


def test_cron_job_is_valid():
    tool = Path(sysconfig.get_path("scripts"), "kubernetes-validate")
    run(tool, "--strict", "--no-warn", DEPLOY / "kubernetes" / "backup.yaml", cwd="/")


def test_cron_job_backs_up_and_verifies_as_the_image_s_user():
    (container,) = POD["containers"]
    assert container["command"] == ["sh", "-c", " && ".join(COMMANDS)]
    assert f"USER {POD['securityContext']['runAsUser']}:" in (TEMPLATE / "Dockerfile").read_text()


def test_cron_job_reads_each_variable_from_the_key_of_its_name():
    (container,) = POD["containers"]
    keys = {each["name"]: each["valueFrom"]["secretKeyRef"]["key"] for each in container["env"]}
    assert keys == {name: name for name in keys}
    assert keys.keys() <= variables()
    required = re.search(
        r"REQUIRED_IN_PRODUCTION = \((.+?)\)", (TEMPLATE / "config/environment.py").read_text(), re.DOTALL
    )
    assert {*re.findall(r'"(\w+)"', required[1]), "DB_MIGRATE_USER", "DB_MIGRATE_PASSWORD"} == {*keys}


def test_cron_job_writes_where_the_image_puts_backups():
    (container,) = POD["containers"]
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    claimed = {
        each["name"]: each["persistentVolumeClaim"]["claimName"] for each in POD["volumes"] if "emptyDir" not in each
    }
    assert claimed == {"backups": CLAIM["metadata"]["name"]}
    assert f"ENV BACKUP_FOLDER={mounted['backups']} " in (TEMPLATE / "Dockerfile").read_text()


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
