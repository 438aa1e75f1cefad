"""The command plan_connections."""

import argparse
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS

from apps.capacity.deployment import Deployment
from apps.capacity.plan import Plan
from apps.capacity.presentation import build_json, refuse, write
from apps.capacity.servers import Limit, read_least, read_limit
from config import server

DOES_NOT_FIT = 1
MAKES_NO_SENSE = 2

POOL_SIZE = 20  # pgbouncer's own default


class Command(BaseCommand):
    """Prints who needs how many sessions, and what follows from that."""

    help = (
        "Tells how many connections a deployment needs of PostgreSQL, and from where on it needs pgbouncer. "
        "What is not said is as the settings have it. Ends with 0 when it fits, and with 1 when it does not."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        default = settings.DATABASES[DEFAULT_DB_ALIAS]
        replicas = [using for using in settings.DATABASES if using.startswith("replica")]
        pool = default["OPTIONS"].get("pool", {}).get("max_size", 0)
        bouncers = int(default["DISABLE_SERVER_SIDE_CURSORS"])
        for name, value, least, text in (
            ("machines", 1, 1, "Machines, or pods, that serve the web"),
            ("surge", None, 0, "Machines that a deploy starts before it ends others (default: as many as there are)."),
            ("workers", server.workers, 1, "Worker processes of each machine, WEB_CONCURRENCY"),
            ("threads", server.threads, 1, "Threads of each worker, WEB_THREADS"),
            ("pool", pool, 0, "Connections of a worker's pool, DB_POOL_MAX_SIZE; 0 where each thread keeps its own"),
            ("replicas", len(replicas), 0, "Replicas that the web reads from, of DB_REPLICA_HOST"),
            ("pgbouncer", bouncers, 0, "How many pgbouncers are in between, DB_PGBOUNCER"),
            ("default-pool-size", POOL_SIZE, 1, "Connections of each pgbouncer, its default_pool_size"),
            ("max-connections", None, 1, "Of the servers (default: what they say, or else 100)."),
        ):
            told = text if text.endswith(".") else f"{text} (default: %(default)s)."
            parser.add_argument(f"--{name}", default=value, type=Count(least), metavar="N", help=told)
        parser.add_argument("--asgi", action="store_true", help="Of serve --asgi, where a pool is the default.")
        parser.add_argument(
            "--format", choices=["text", "json"], default="text", help="How to print (default: %(default)s)."
        )

    def handle(self, **options: Any) -> None:
        """Count, print, and end with the code."""
        if options["asgi"] and not options["pool"]:
            raise CommandError(
                "Under ASGI without a pool each request has a connection, however many there are: "
                "leave DB_POOL out, or say --pool.",
                returncode=MAKES_NO_SENSE,
            )
        names = "machines", "surge", "workers", "threads", "pool", "replicas", "default_pool_size"
        deployment = Deployment(**{name: options[name] for name in names}, pgbouncers=options["pgbouncer"])
        plan = Plan(deployment, read_limits(options["max_connections"], deployment.replicas))
        self.stdout.write(build_json(plan) if options["format"] == "json" else "\n".join(write(plan)))
        if not plan.fits:
            raise CommandError(refuse(plan), returncode=DOES_NOT_FIT)


class Count:
    """Reads a whole number that is not less than another; argparse tells the user what is wrong."""

    def __init__(self, least: int) -> None:
        """Remember the least."""
        self.least = least

    def __call__(self, value: str) -> int:
        """Return the number."""
        try:
            number = int(value)
        except ValueError:
            number = self.least - 1
        if number < self.least:
            raise argparse.ArgumentTypeError(f"{value!r} is no whole number of {self.least} or more.")
        return number


def read_limits(maximum: int | None, replicas: int) -> tuple[Limit, Limit]:
    """Return what the primary admits, and what each replica does; `maximum` is that of both where it is known."""
    if maximum:
        return Limit(maximum), Limit(maximum)
    primary = read_limit(DEFAULT_DB_ALIAS)
    aliases = [using for using in settings.DATABASES if using.startswith("replica")] if replicas else []
    return primary, read_least(aliases, primary)
