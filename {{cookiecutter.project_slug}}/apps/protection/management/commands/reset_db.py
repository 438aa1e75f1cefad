"""`reset_db` of django-extensions, refused on a production database."""

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections

from apps.core.database.environment import refuse_production

try:
    from django_extensions.management.commands import reset_db
except ModuleNotFoundError:
    raise ImproperlyConfigured("reset_db needs django-extensions, of the development group: run uv sync.") from None


class Command(reset_db.Command):
    """That of django-extensions, but that it looks first which database it would drop."""

    def handle(self, *arguments: Any, **options: Any) -> None:
        """Refuse, or drop the database and make it anew."""
        using = options["database"] if options["router"] == DEFAULT_DB_ALIAS else options["router"]
        if using in connections:
            given = {"NAME": options["dbname"], "USER": options["user"], "PASSWORD": options["password"]}
            # Of an alias of its own, since a pool belongs to an alias and leads to one database.
            connection = connections[using].copy(alias="reset_db")
            connection.settings_dict |= {name: value for name, value in given.items() if value}
            refuse_production(connection, "reset_db would drop it")
        super().handle(*arguments, **options)
