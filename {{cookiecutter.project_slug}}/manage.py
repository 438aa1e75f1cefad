#!/usr/bin/env python
"""Run a management command, under development settings unless told otherwise; `serve` under production's."""

import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line
from django.db import Error

from apps.core.database import explain
from config import process


def main() -> None:
    """Run the command in `sys.argv`; settings and connections that fail are explained without a traceback."""
    process.begin_command(sys.argv)
    settings = "production" if sys.argv[1:2] == ["serve"] else "development"
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", f"config.settings.{settings}")
    try:
        execute_from_command_line(sys.argv)
    except (Error, ImproperlyConfigured) as error:
        if not (explained := explain(error)) or "--traceback" in sys.argv:
            raise
        sys.exit(explained)


if __name__ == "__main__":
    main()
