"""dbshell, which of several hosts opens the primary."""

import os
from typing import Any

from django.core.management.commands import dbshell
from django.db import connections


class Command(dbshell.Command):
    """Django's own, which does not tell psql what kind of server is meant."""

    def handle(self, **options: Any) -> None:
        """Open psql."""
        wanted = connections[options["database"]].settings_dict["OPTIONS"].get("target_session_attrs")
        if wanted:
            os.environ["PGTARGETSESSIONATTRS"] = wanted
        super().handle(**options)
