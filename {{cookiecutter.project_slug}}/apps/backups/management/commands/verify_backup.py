"""The command verify_backup."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, connections

from apps.backups.archive import Manifest, list_backups
from apps.backups.failures import FAILURES, explain, heed_signals
from apps.backups.models import Backup
from apps.backups.neighbours import Purpose, hold, maintain
from apps.backups.replacement import Replacement
from apps.backups.report import Report
from apps.core.environment import count

from .restore_database import JOBS


class Command(BaseCommand):
    """Restores a backup into a database that is dropped again, and notes that it is good."""

    help = (
        "Restores a backup into a scratch database, compares it with what was dumped, and drops it again. "
        "Ends with 0 when the backup is good, and with 1 when it is not, or could not be tried."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "file", nargs="?", type=Path, metavar="FILE", help="The dump (default: the newest in BACKUP_FOLDER)."
        )
        parser.add_argument(
            "--database", default=DEFAULT_DB_ALIAS, metavar="ALIAS", help="Whose backup (default: %(default)s)."
        )
        parser.add_argument(
            "--jobs", default=JOBS, type=count, help="How many tables to restore at once (default: %(default)s)."
        )

    def handle(self, **options: Any) -> None:
        """Try the backup, and note it."""
        using = options["database"]
        if using not in connections.settings:
            raise CommandError(f"There is no database '{using}'; there is {', '.join(connections)}.")
        connection = connections[using]
        dump = options["file"] or find_newest(str(connection.settings_dict["NAME"]))
        begin = time.monotonic()
        try:
            with heed_signals("the command"), maintain(connection) as session:
                trial = Replacement(connection, session, Report(self.stdout, self.stderr))
                with hold(session, trial.database, Purpose.VERIFY):
                    archive = trial.inspect(dump)
                    with trial.plan(archive, options["jobs"]).restored(Purpose.VERIFY):
                        seconds = time.monotonic() - begin
            record(using, dump.name, archive.manifest, seconds)
        except FAILURES as error:
            raise CommandError(explain(error, using)) from None
        rows = archive.manifest.rows
        self.stdout.write(f"{dump}: good, {sum(rows.values())} rows of {len(rows)} tables, {seconds:.1f} s")


def find_newest(database: str) -> Path:
    """Return the newest backup of a database; raise CommandError where there is none."""
    if backups := list_backups(settings.BACKUP_FOLDER, database):
        return backups[0]
    raise CommandError(f"There is no backup of database '{database}' in {settings.BACKUP_FOLDER}.")


def record(using: str, name: str, manifest: Manifest, seconds: float) -> None:
    """Note in the database that a backup is good, also one that it does not know of."""
    proof = {"verified_at": datetime.now(UTC), "verified_seconds": seconds}
    made = {"made_at": datetime.fromisoformat(manifest.made_at), "size": manifest.size, "seconds": 0}
    Backup.objects.using(using).update_or_create(name=name, defaults=proof, create_defaults=made | proof)
