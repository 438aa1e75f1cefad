#!/usr/bin/env python
"""
Restore Barman's latest backup of a server into a scratch folder, start the restored server, and read all of it.

Barman's user runs it on Barman's machine. Exit codes: 0 verified, 1 not verified, 2 wrong options, 130 interrupted.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

COMPLAINT = re.compile(r'(?m)^{"_ERROR": \["(.+)"\]}$|^(?!{)(.*(?:CRITICAL|ERROR|EXCEPTION|FATAL|PANIC|error: ).*)$')
# In place of production's. No connections before recovery has ended; no workers, so neither subscriptions nor
# scheduled jobs run; room for production's prepared transactions, and for pg_dump's lock on each table.
SETTINGS = "archive_mode=off autovacuum=off fsync=off hot_standby=off listen_addresses= port=5432"
SETTINGS += " max_worker_processes=0 max_locks_per_transaction=1024 max_prepared_transactions=10000"
DATABASES = "SELECT datname FROM pg_database WHERE datallowconn AND datconnlimit <> -2 ORDER BY datname"
REPLAYED = """SELECT pg_walfile_name(pg_last_wal_replay_lsn() - 1), coalesce(pg_last_xact_replay_timestamp() || ', '
    || date_trunc('second', now() - pg_last_xact_replay_timestamp()) || ' ago', 'before the backup ended')"""
COUNTS = r"""SELECT format('SELECT count(*) FROM ONLY %s', oid::regclass) FROM pg_class
    WHERE relkind IN ('r', 'm') AND relispopulated AND relpersistence <> 't' AND oid >= 16384 \gexec"""
received: list[int] = []  # signals: they end the command in `run`, where no process is half started


@contextmanager
def started(line: list[str], stop: signal.Signals, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a command inside the block, in a session of its own; end it by the signal `stop`, and wait until it has."""
    with subprocess.Popen(line, stdin=subprocess.DEVNULL, start_new_session=True, **options) as process:  # noqa: S603
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, stop)


def run(*line: str, step: str = "") -> str:
    """Run a command and return its output; print the step with its seconds. Exit if it fails, or on a signal."""
    begin, pipe, output = time.monotonic(), subprocess.PIPE, None
    with started([*line], signal.SIGKILL, stdout=pipe, stderr=pipe, text=True, errors="replace") as process:
        while output is None:
            if received:
                sys.exit(130)
            with suppress(subprocess.TimeoutExpired):
                output, errors = process.communicate(timeout=0.05)
    if process.returncode:
        sys.exit(f"Not verified: {step or line[0]} failed: {find_reason(errors + output)}")
    if step:
        print(f"{time.monotonic() - begin:8.2f} s  {step}", flush=True)  # noqa: T201
    return output


def find_reason(text: str) -> str:
    """Return the last line of a program's output that complains, or else the last one."""
    return "".join((COMPLAINT.findall(text) or text.strip().splitlines() or ["no output"])[-1]).strip()


def find_backup(server: str, target: datetime | None, folder: Path) -> dict[str, Any]:
    """Return the latest backup, or the latest that ended before the target; exit if it cannot be restored here."""
    limit = target.timestamp() - 1 if target else float("inf")  # Barman truncates to seconds
    listed = json.loads(run("barman", "--format=json", "list-backups", server)).get(server, [])
    done = [one for one in listed if one["status"] == "DONE" and int(one["end_time_timestamp"]) <= limit]
    if not done:
        sys.exit(f"Not verified: Barman has no backup of '{server}' before {target or 'now'}: run `barman backup`.")
    show = "barman", "--format=json", "show-backup", server, max(one["backup_id"] for one in done)
    backup: dict[str, Any] = json.loads(run(*show))[server]
    version, found = backup["postgresql_version"] // 10000, run("postgres", "--version").strip()
    if not re.search(rf" {version}\b", found):
        sys.exit(f"Not verified: the backup is of PostgreSQL {version}, the programs of {found}: set DB_PROGRAMS.")
    os.environ["PGOPTIONS"] = "-c search_path=pg_catalog -c statement_timeout=0"
    os.environ["PGOPTIONS"] += " -c event_triggers=off" if version >= 17 else ""  # noqa: PLR2004  they may be on login
    copies = 2 if backup["backup_type"] == "incremental" else 1  # Barman combines it in the folder, and then copies
    if (size := copies * backup.get("cluster_size_bytes", 0)) > (free := shutil.disk_usage(folder).free):
        sys.exit(f"Not verified: {folder} needs {size >> 20} MiB and has {free >> 20}: set TMPDIR to another folder.")
    return backup


def restore(server: str, target: datetime | None, backup: dict[str, Any], folder: Path) -> list[str]:
    """Verify the files of the backup and of its parents, restore it, and return the command that starts the server."""
    name, data = backup["backup_id"], folder / "data"
    options = [f"--staging-path={folder}", "--recovery-conf-filename=verify.conf"]
    options += [f"--tablespace={one['name']}:{folder}/{one['oid']}" for one in backup["tablespaces"]]
    options += [f"--target-time={target}", "--target-action=promote"] if target else []
    while backup and backup["base_backup_information"]["backup_method"] == "postgres":  # others have no manifest
        run("barman", "verify-backup", server, backup["backup_id"], step=f"barman verify-backup {backup['backup_id']}")
        parent = backup["catalog_information"].get("parent_backup_id")
        backup = json.loads(run("barman", "--format=json", "show-backup", server, parent))[server] if parent else {}
    run("barman", "restore", *options, server, name, str(data), step=f"barman restore {name}")
    (data / "postgresql.auto.conf").unlink(missing_ok=True)  # else it is in force beside verify.conf
    (folder / "hba").write_text("local all all trust\n", encoding="utf-8")  # the folder admits its owner only
    (folder / "counts").write_text(COUNTS, encoding="utf-8")
    files = f"config_file={data}/verify.conf", f"hba_file={folder}/hba", f"unix_socket_directories={folder}"
    return ["postgres", "-D", str(data), *(f"--{setting}" for setting in (*SETTINGS.split(), *files))]


def verify(server: str, target: datetime | None, databases: list[str], timeout: float, folder: Path) -> None:
    """Restore a server, recover it, and read its databases; exit with a sentence where that fails."""
    backup = find_backup(server, target, folder)
    line, log = restore(server, target, backup, folder), folder / "log"
    query, begin = ("psql", "-XqtA0", "--set=ON_ERROR_STOP=1"), time.monotonic()
    with log.open("wb") as output, started(line, signal.SIGINT, stdout=output, stderr=output) as process:
        while "ready to accept connections" not in log.read_text(encoding="utf-8", errors="replace"):
            if process.poll() is not None or time.monotonic() > begin + timeout:
                reason = find_reason(log.read_text(encoding="utf-8", errors="replace"))
                sys.exit(f"Not verified: no recovery within {time.monotonic() - begin:.0f} s: {reason}")
            run("sleep", "0.1")
        segment, last = run(*query, f"--command={REPLAYED}").rstrip("\n\0").split("|")
        if not target and segment[8:] < (available := backup["wal_information"]["last_available"])[8:]:
            sys.exit(f"Not verified: recovery ended in {segment}, but Barman received {available}: a file is missing.")
        print(f"{time.monotonic() - begin:8.2f} s  recovery; last transaction: {last}", flush=True)  # noqa: T201
        for database in databases or run(*query, f"--command={DATABASES}").rstrip("\n\0").split("\0"):
            os.environ["PGDATABASE"] = database  # an option could be read as a connection string
            run("pg_dump", "-Fc", "-Z0", "--no-sync", "--file=/dev/null", step=f"pg_dump {database}")
            counts = run(*query, f"--file={folder}/counts").split("\0")[:-1]
            print(f"{len(counts):>12} tables, {sum(map(int, counts))} rows", flush=True)  # noqa: T201
    if backup["server_information"]["data_checksums"] == "on":
        run("pg_checksums", "--check", f"--pgdata={folder}/data", step="pg_checksums")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("server", nargs="?", default="main", help="its section in barman.conf; main unless given")
    parser.add_argument("--target-time", type=datetime.fromisoformat, help="such as '2026-11-03 14:05:00+00:00'")
    parser.add_argument("--database", action="append", default=[], help="read it only; may be repeated")
    parser.add_argument("--username", default="postgres", help="a superuser of the server; postgres unless given")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds that recovery may take; 3600 unless given")
    given = parser.parse_args()
    for number in signal.SIGHUP, signal.SIGINT, signal.SIGTERM:
        signal.signal(number, lambda number, _: received.append(number))
    for variable in [variable for variable in os.environ if variable.startswith("PG")]:
        del os.environ[variable]
    os.environ["PATH"] = os.pathsep.join(filter(None, (os.environ.get("DB_PROGRAMS"), os.environ["PATH"])))
    if os.geteuid() == 0:
        sys.exit("Not verified: PostgreSQL refuses to run as root: run this command as Barman's user.")
    if missing := [name for name in ("barman", "pg_dump", "postgres", "psql") if not shutil.which(name)]:
        sys.exit(f"Not verified: PATH has no {', '.join(missing)}: set DB_PROGRAMS, and install Barman by uv sync.")
    with tempfile.TemporaryDirectory(prefix="verify-") as scratch:
        os.environ |= {"LC_ALL": "C", "PGHOST": scratch, "PGUSER": given.username, "TMPDIR": scratch}  # Barman's, too
        verify(given.server, given.target_time, given.database, given.timeout, Path(scratch))
