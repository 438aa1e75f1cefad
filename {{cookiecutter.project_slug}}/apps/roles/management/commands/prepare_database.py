"""The command prepare_database, the first start's and every deploy's: it makes what is missing, and migrates."""

from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, connections

from apps.core.database.causes import Cause
from apps.core.database.environment import mark_environment, read_environment
from apps.core.database.startup import describe, wait_for_database
from apps.core.management.commands.check_database import read_seconds
from apps.roles.account import ADVICE, choose_user
from apps.roles.names import read_names
from apps.roles.plan import carry_out, plan_alone, plan_roles

WAIT = 30.0  # seconds

# What the server says where something is still to be made.
NO_DATABASE = frozenset({Cause.DATABASE_MISSING})
NO_ROLES = frozenset({Cause.AUTHENTICATION_FAILED, Cause.LOGIN_FORBIDDEN, Cause.PERMISSION_DENIED, Cause.ROLE_MISSING})


class Answered(Exception):  # noqa: N818  it is good news
    """The server is there, and something is missing: waiting would not bring it."""


class Command(BaseCommand):
    """Goes through the steps, each of which finds what is there."""

    help = "Makes what is missing of the database, its roles and its extensions, where it may, and migrates."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--wait",
            default=WAIT,
            type=read_seconds,
            metavar="SECONDS",
            help="How long to wait for the server (default: %(default)s).",
        )

    def handle(self, **options: Any) -> None:
        """Wait, make, migrate and mark; says in a line each what was there and what was made."""
        extensions, names = settings.DB_EXTENSIONS, read_names() if settings.DB_MIGRATE_USER else None
        plan = plan_roles(names, extensions) if names else plan_alone(extensions)
        report = self.wait(options["wait"])
        there = report["status"] == "healthy"
        if not there:
            refuse_beyond_repair(report["cause"], describe(report))
        done = [] if there and plan.is_done() else carry_out(plan, self.stderr.write)
        for line in done or [f"database {plan.database}: nothing to make"]:
            self.stdout.write(line)
        shared = {name: options[name] for name in ("verbosity", "no_color", "force_color", "traceback")}
        call_command("migrate", skip_checks=False, interactive=False, **shared)
        connection = connections[DEFAULT_DB_ALIAS]
        mark_environment(connection, settings.ENVIRONMENT)
        self.stdout.write(f"environment: {read_environment(connection) or 'none'}")

    def wait(self, seconds: float) -> dict[str, Any]:
        """Return the report on the database once its server answers, were it only that something is missing."""

        def go_on(_using: str, report: dict[str, Any], changed: bool) -> None:
            if report["cause"] in NO_DATABASE | NO_ROLES:
                raise Answered(report)
            if changed:
                self.stderr.write(f"Waiting. {report['error']}")

        try:
            return wait_for_database(DEFAULT_DB_ALIAS, seconds, on_wait=go_on)
        except Answered as answered:
            return dict(answered.args[0])


def refuse_beyond_repair(cause: str, said: str) -> None:
    """Raise CommandError unless what is missing can be made; roles are made by an administrator only."""
    roles = bool(settings.DB_MIGRATE_USER) and cause in NO_ROLES
    if cause in NO_DATABASE or (roles and settings.DB_ADMIN_USER):
        return
    said = choose_user().name_variables(said)
    raise CommandError(f"{said}. {ADVICE}" if roles else said)
