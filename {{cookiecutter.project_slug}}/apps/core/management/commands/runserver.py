"""The development server, which serves without a database, too."""

from django.contrib.staticfiles.management.commands import runserver

from apps.core.database import check_database_connection


class Command(runserver.Command):
    """Django's own, but that it goes on where that one would end; `config.wsgi` warns."""

    def check_migrations(self) -> None:
        """Look for migrations only where there is a database that could lack them."""
        if check_database_connection():
            super().check_migrations()
