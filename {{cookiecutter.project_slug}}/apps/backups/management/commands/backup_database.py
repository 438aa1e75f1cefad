"""The command backup_database."""

import time
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, connections

from apps.backups.archive import Manifest
from apps.backups.dump import make_backup
from apps.backups.failures import FAILURES, explain, heed_signals
from apps.backups.models import Backup
from apps.backups.report import Report
from apps.backups.retention import prune
from apps.core.database.session import open_session


class Command(BaseCommand):
    """Makes a backup, notes it, and removes those that need not stay."""

    help = (
        "Backs up a database into a file of pg_dump's custom format, with a manifest beside it. "
        "Ends with 0 when it is made, and with 1 when it is not: then nothing is left behind."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--database", default=DEFAULT_DB_ALIAS, metavar="ALIAS", help="Which database (default: %(default)s)."
        )
        parser.add_argument(
            "--folder", default=settings.BACKUP_FOLDER, type=Path, help="Where to put it (default: %(default)s)."
        )
        parser.add_argument("--no-prune", action="store_true", help="Remove no backup, whatever BACKUP_KEEP_* say.")

    def handle(self, **options: Any) -> None:
        """Make it; whatever goes wrong afterwards is a warning, since the backup is there."""
        using, folder = options["database"], options["folder"].absolute()
        if using not in connections.settings:
            raise CommandError(f"There is no database '{using}'; there is {', '.join(connections)}.")
        begin, report = time.monotonic(), Report(self.stdout, self.stderr)
        try:
            with heed_signals("the command"):
                with open_session(connections[using]) as session:
                    report.say_server(session.info, session.info.dbname)
                dump, manifest = make_backup(using, folder, report.tell)
        except FAILURES as error:
            raise CommandError(f"No backup was made: {explain(error, using)}") from None
        finally:
            report.tell("")
        seconds = time.monotonic() - begin
        rows = f"{sum(manifest.rows.values())} rows of {len(manifest.rows)} tables"
        report.say(f"{dump}: {manifest.size / 1e6:.1f} MB, {rows}, {seconds:.1f} s")
        removed = []
        try:
            if not options["no_prune"]:
                removed = prune(folder, manifest.database, settings.BACKUP_KEEP)
            for path in removed:
                report.say(f"Removed {path}")
            record(using, dump, manifest, seconds, removed)
        except FAILURES as error:
            report.warn(f"The backup is made, but not all that follows is done: {explain(error, using)}")


def record(using: str, dump: Path, manifest: Manifest, seconds: float, removed: list[Path]) -> None:
    """Note the backup in its database, for checks and metrics, and that others are gone."""
    backups = Backup.objects.using(using)
    backups.filter(name__in=[path.name for path in removed]).delete()
    made_at = datetime.fromisoformat(manifest.made_at)
    backups.create(name=dump.name, made_at=made_at, size=manifest.size, seconds=seconds)
