"""`reset_db` of django-extensions, refused on a production database."""

import uuid
from typing import Any

import psycopg
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError
from django.db import DEFAULT_DB_ALIAS, connections
from psycopg import sql

from apps.core.database.diagnosis import diagnose
from apps.core.database.environment import refuse_production
from apps.core.database.session import Session, open_session

try:
    from django_extensions.management.commands import reset_db
except ModuleNotFoundError:
    raise ImproperlyConfigured("reset_db needs django-extensions, of the development group: run uv sync.") from None

OWNER = "SELECT coalesce(%s, (SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s), current_user)"
REMEDY = "Its owner needs CREATEDB, or name an administrator by --user; --close-sessions ends the sessions of others."


class Command(reset_db.Command):
    """That of django-extensions, but that it looks first which database it would drop, and whether it can make it."""

    def handle(self, *arguments: Any, **options: Any) -> None:
        """Refuse, with all as before, or put an empty database in the place of the present one."""
        using = options["database"] if options["router"] == DEFAULT_DB_ALIAS else options["router"]
        if using not in connections or connections[using].vendor != "postgresql":
            super().handle(*arguments, **options)
            return
        given = {"NAME": options["dbname"], "USER": options["user"], "PASSWORD": options["password"]}
        # Of an alias of its own, since a pool belongs to an alias and leads to one database.
        connection = connections[using].copy(alias="reset_db")
        connection.settings_dict |= {name: value for name, value in given.items() if value}
        refuse_production(connection, "reset_db would drop it")
        name = str(connection.settings_dict["NAME"])
        if options["interactive"] and input(f"Delete all data in database '{name}'? Type 'yes': ") != "yes":
            raise CommandError("Reset cancelled.")
        try:
            with open_session(connection, dbname="template1" if name == "postgres" else "postgres") as session:
                replace(session, name, options["owner"], force=options["close_sessions"])
        except psycopg.Error as error:
            reason = error.diag.message_primary or diagnose(error, connection.settings_dict)
            raise CommandError(f"Database '{name}' is as it was: {reason}. {REMEDY}") from None
        self.stdout.write(f"Database '{name}' is empty: manage.py prepare_database makes its tables and privileges.")


def replace(session: Session, name: str, owner: str | None, *, force: bool) -> None:
    """Put an empty database in a database's place, which is dropped last; raise what psycopg raises."""
    ((owner,),) = session.execute(OWNER, [owner, name])
    old, new = sql.Identifier(name), sql.Identifier(f"reset_db_{uuid.uuid4().hex}")
    session.execute(sql.SQL("CREATE DATABASE {} OWNER {} ENCODING 'UTF8'").format(new, sql.Identifier(str(owner))))
    try:
        session.execute(sql.SQL("COMMENT ON DATABASE {} IS NULL").format(new))  # which takes the right to rename it
        session.execute(sql.SQL("DROP DATABASE IF EXISTS {}" + " WITH (FORCE)" * force).format(old))
        session.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(new, old))
    except BaseException:
        session.execute(sql.SQL("DROP DATABASE {}").format(new))
        raise
