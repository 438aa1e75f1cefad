"""The command database_roles, which gives each user of the database a role with no more rights than it needs."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from apps.roles.names import read_names
from apps.roles.plan import carry_out, plan_roles
from apps.roles.script import build_script


class Command(BaseCommand):
    """Prints the roles as a script for psql, without connecting, or makes them."""

    help = "Prints the SQL that makes the roles of the database, for psql; with --apply, runs what of it is missing."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--apply", action="store_true", help="Make the roles, as DB_ADMIN_USER, and say what was changed."
        )

    def handle(self, **options: Any) -> None:
        """Print or apply."""
        names = read_names()
        if not options["apply"]:
            self.stdout.write(build_script(names))
            return
        done = carry_out(plan_roles(names), self.stderr.write)
        self.stdout.write("\n".join(done) or "nothing to change")
