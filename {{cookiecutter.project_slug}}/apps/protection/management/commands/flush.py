"""Django's `flush`, refused on a production database."""

from typing import Any

from django.core.management.commands import flush
from django.db import connections

from apps.core.database.environment import refuse_production


class Command(flush.Command):
    """Django's own, but that it looks first whose data it would delete."""

    def handle(self, **options: Any) -> None:
        """Refuse, or delete the data."""
        refuse_production(connections[options["database"]], "flush would delete its data")
        super().handle(**options)
