"""The command lint_migrations: what new migrations would do to tables in use."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.migrations import Migration
from django.db.migrations.loader import MigrationLoader

from apps.schema.lint import Finding, find_migrations, find_new_files, find_tables, lint, print_sql

MAIN = ["origin/main", "main"]


class Command(BaseCommand):
    """Looks at the migrations that the main branch does not have."""

    help = "Finds in new migrations what blocks tables in use, or breaks the code that uses them; ends with 1 if so."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the option."""
        parser.add_argument(
            "--since",
            metavar="COMMIT",
            help=f"Look at what came after this commit or branch (default: after {' or '.join(MAIN)}).",
        )

    def handle(self, **options: Any) -> None:
        """Look, print, and end with the code."""
        since = options["since"]
        files = find_new_files([since] if since else MAIN)
        if files is None and since:
            raise CommandError(f"There is no '{since}' that the project could be compared with.")
        if files is None:
            self.stderr.write(f"There is no {' or '.join(MAIN)} to compare with: every migration is looked at.")
        loader = MigrationLoader(connections[DEFAULT_DB_ALIAS], replace_migrations=False)
        migrations = find_migrations(loader, files)
        findings = list(lint_all(loader, migrations, together=files is not None))
        for file, (rule, text, statement) in findings:
            self.stdout.write(f"{file.relative_to(settings.BASE_DIR)}: {rule}: {text}")
            if statement:
                self.stdout.write(f"    {statement}")
        if findings:
            raise CommandError(
                f"Found: {len(findings)}. Mend the migrations, or accept a finding by a comment in its migration, "
                f"such as # squawk-ignore-file {findings[0][1].rule}"
            )
        self.stdout.write(f"Migrations looked at: {len(migrations)}. Nothing found.")


def lint_all(
    loader: MigrationLoader, migrations: dict[Path, Migration], *, together: bool
) -> Iterator[tuple[Path, Finding]]:
    """
    Yield what is found in migrations, each with its file.

    Those that are new together may do what they like to a table that one of them makes.
    """
    statements = {file: print_sql(loader, migration) for file, migration in migrations.items()}
    new_tables = set().union(*map(find_tables, statements.values())) if together else set()
    for file, sql in statements.items():
        source = file.read_text(encoding="utf-8")
        for finding in lint(migrations[file], source, sql, new_tables | find_tables(sql)):
            yield file, finding
