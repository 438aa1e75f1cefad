"""The command restore_database."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, connections

from apps.backups.failures import FAILURES, explain, heed_signals
from apps.backups.neighbours import Purpose, hold, maintain
from apps.backups.replacement import Replacement
from apps.backups.report import Report
from apps.core.database.environment import refuse_production
from apps.core.environment import count

JOBS = 2


class Command(BaseCommand):
    """Restores a backup beside a database, compares it, and has it take the database's place."""

    help = (
        "Restores a backup into a new database, compares it with what was dumped, and only then swaps names, while the "
        "application is connected. The former database is kept. Ends with 1, and all as before, where anything fails."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("file", nargs="?", type=Path, metavar="FILE", help="The dump; its manifest lies beside it.")
        what.add_argument("--undo", action="store_true", help="Swap again, with the database that was kept last.")
        what.add_argument("--drop-kept", action="store_true", help="Drop all databases that were kept.")
        parser.add_argument(
            "--database", default=DEFAULT_DB_ALIAS, metavar="ALIAS", help="Which database (default: %(default)s)."
        )
        parser.add_argument(
            "--jobs", default=JOBS, type=count, help="How many tables to restore at once (default: %(default)s)."
        )
        parser.add_argument(
            "--accept-unknown",
            action="store_true",
            help="Restore a backup with migrations that the code does not have, such as those of a removed app.",
        )

    def handle(self, **options: Any) -> None:
        """Do what was asked for, alone."""
        using = options["database"]
        if using not in connections.settings:
            raise CommandError(f"There is no database '{using}'; there is {', '.join(connections)}.")
        connection = connections[using]
        try:
            with heed_signals("the command"), maintain(connection) as session:
                replacement = Replacement(connection, session, Report(self.stdout, self.stderr))
                refuse_production(connection, "restore_database would put another one in its place")
                with hold(session, replacement.database, Purpose.RESTORE):
                    if options["undo"]:
                        replacement.undo()
                    elif options["drop_kept"]:
                        replacement.drop_kept()
                    else:
                        replacement.restore(options["file"], options["jobs"], accept_unknown=options["accept_unknown"])
        except FAILURES as error:
            raise CommandError(explain(error, using)) from None
