"""`reset_schema` of django-extensions, refused on a production database."""

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections

from apps.core.database.environment import refuse_production

try:
    from django_extensions.management.commands import reset_schema
except ModuleNotFoundError:
    raise ImproperlyConfigured("reset_schema needs django-extensions, of the development group: run uv sync.") from None


class Command(reset_schema.Command):
    """That of django-extensions, but that it looks first whose tables it would drop."""

    def handle(self, *arguments: Any, **options: Any) -> None:
        """Refuse, or drop the schema and make it anew."""
        using = options["database"] if options["router"] == DEFAULT_DB_ALIAS else options["router"]
        if using in connections:
            refuse_production(connections[using], "reset_schema would drop its tables")
        super().handle(*arguments, **options)  # type: ignore[no-untyped-call]
