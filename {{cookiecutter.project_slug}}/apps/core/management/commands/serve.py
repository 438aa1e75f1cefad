"""The command serve, which starts production."""

import os
import sys
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser
from django.db import DEFAULT_DB_ALIAS

from config import process

from .check_database import read_seconds

WAIT = 30.0  # seconds

WSGI = ("config.wsgi",)
# Here a request needs no thread of the server's, and a kept connection takes nobody's place.
ASGI = ("config.asgi", "--worker-class", "asgi", "--threads", "1", "--keep-alive", "5")


class Command(BaseCommand):
    """Waits for the default database, then becomes the server: one process, which gets the signals."""

    help = "Serves the project by gunicorn, as config/server.py says, once the database can be used."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--asgi", action="store_true", help="Serve config.asgi instead of config.wsgi.")
        parser.add_argument(
            "--wait",
            default=WAIT,
            type=read_seconds,
            metavar="SECONDS",
            help="How long to wait for the database (default: %(default)s).",
        )

    def handle(self, **options: Any) -> None:
        """Wait and serve; ends as check_database does where the database cannot be used."""
        asked = {"database": [DEFAULT_DB_ALIAS], "wait": options["wait"]}
        call_command("check_database", **asked, stdout=self.stdout, stderr=self.stderr)
        os.environ[process.CHECKED] = "true"
        self.stdout.flush()
        server = [sys.executable, "-m", "gunicorn", "--config", "python:config.server"]
        os.execv(sys.executable, [*server, *(ASGI if options["asgi"] else WSGI)])  # noqa: S606  no shell is wanted
