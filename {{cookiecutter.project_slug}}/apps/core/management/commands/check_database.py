"""The command check_database, and what entry points ask before they serve."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections

from apps.core.database.causes import Cause
from apps.core.database.health import TIMEOUT
from apps.core.database.startup import RETRY_INTERVAL, DatabaseReadyCheck, describe, is_fault, wait_for_database
from apps.core.environment import seconds
from config import process

__all__ = ["Command", "DatabaseReadyCheck"]

UNHEALTHY = 1
COULD_NOT_ASK = 2


class Command(BaseCommand):
    """Asks databases side by side; the exit code says what came of it."""

    help = (
        "Checks that the databases can be used. "
        "Ends with 0 when all can, with 1 when one cannot, and with 2 when the settings do not allow to ask."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        time: dict[str, Any] = {"type": read_seconds, "metavar": "SECONDS"}
        parser.add_argument("--wait", default=0.0, help="How long to wait for the databases (default: 0).", **time)
        parser.add_argument(
            "--retry-interval",
            default=RETRY_INTERVAL,
            help="Pause between two checks of a wait (default: %(default)s).",
            **time,
        )
        parser.add_argument(
            "--timeout", default=TIMEOUT, help="How long one check may take (default: %(default)s).", **time
        )
        parser.add_argument(
            "--database", action="append", metavar="ALIAS", help="Which database; may be repeated (default: all)."
        )
        parser.add_argument(
            "--direct", action="store_true", help="Go round pgbouncer, to DB_DIRECT_HOST and DB_DIRECT_PORT."
        )
        parser.add_argument(
            "--format", choices=["text", "json"], default="text", help="How to print (default: %(default)s)."
        )

    def handle(self, **options: Any) -> None:
        """Check, print, and end with the code."""
        aliases = list(dict.fromkeys(options["database"] or connections))
        for alias in aliases:
            if alias not in connections.settings:
                known = ", ".join(connections)
                raise CommandError(f"There is no database '{alias}'; there is {known}.", returncode=COULD_NOT_ASK)
        if options["direct"] and not (process.direct and settings.DB_DIRECT_HOST):
            raise CommandError("DB_DIRECT_HOST is not set.", returncode=COULD_NOT_ASK)
        with ThreadPoolExecutor(len(aliases)) as pool:
            results = dict(zip(aliases, pool.map(lambda alias: self.ask(alias, **options), aliases), strict=True))
        if options["format"] == "json":
            self.stdout.write(json.dumps(results, indent=4))
        faults = [f"{alias}: {describe(result)}" for alias, result in results.items() if is_fault(result)]
        for alias, result in results.items():
            if options["format"] == "text" and not is_fault(result):
                self.stdout.write(f"{alias}: {summarize(result)}")
        if faults:
            configuration = any(result.get("cause") == Cause.CONFIGURATION for result in results.values())
            raise CommandError("\n".join(faults), returncode=COULD_NOT_ASK if configuration else UNHEALTHY)

    def ask(self, alias: str, **options: Any) -> dict[str, Any]:
        """Return the report of one database, after waiting for it if told to."""
        try:
            return wait_for_database(
                alias,
                options["wait"],
                interval=options["retry_interval"],
                timeout=options["timeout"],
                on_wait=self.tell_waiting,
            )
        finally:
            connections[alias].close()  # this thread's

    def tell_waiting(self, alias: str, result: dict[str, Any], changed: bool) -> None:
        """Say once for each cause what is waited for and, to a person, that it still is."""
        if changed:
            self.stderr.write(f"{alias}: waiting. {result['error']}")
        elif self.stderr.isatty():
            self.stderr.write(".", ending="")
            self.stderr.flush()


def summarize(result: dict[str, Any]) -> str:
    """Return what there is to say of a database that needs no mending."""
    if result["status"] != "healthy":
        return "left out, since it is the primary"
    version, role, time = result["server_version"], result["role"], result["response_time_ms"]
    product = f"PostgreSQL {version} ({role})" if version[0].isdigit() else version
    return f"healthy, {product}, {time} ms"


def read_seconds(value: str) -> float:
    """Return a time that an option states; argparse tells the user about the ValueError."""
    return seconds(value)


read_seconds.__name__ = "number of seconds"  # what argparse calls an invalid one
