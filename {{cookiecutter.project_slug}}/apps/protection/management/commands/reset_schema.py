"""`reset_schema` of django-extensions, refused on a production database."""

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError
from django.db import DEFAULT_DB_ALIAS, ProgrammingError, connections, transaction
from psycopg import sql

from apps.core.database.environment import refuse_production

try:
    from django_extensions.management.commands import reset_schema
except ModuleNotFoundError:
    raise ImproperlyConfigured("reset_schema needs django-extensions, of the development group: run uv sync.") from None


class Command(reset_schema.Command):
    """That of django-extensions, but that it looks first whose tables it would drop, and drops all or nothing."""

    def handle(self, *arguments: Any, **options: Any) -> None:
        """Refuse, or drop the schema and make it anew."""
        using = options["database"] if options["router"] == DEFAULT_DB_ALIAS else options["router"]
        if using in connections:
            refuse_production(connections[using], "reset_schema would drop its tables")
        options["schema"] = sql.Identifier(options["schema"]).as_string()
        try:
            with transaction.atomic(using if using in connections else None):
                super().handle(*arguments, **options)  # type: ignore[no-untyped-call]
        except ProgrammingError as error:
            raise CommandError(f"Schema {options['schema']} is as it was: {str(error).partition('\n')[0]}.") from None
