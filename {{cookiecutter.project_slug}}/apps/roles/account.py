"""Somebody who connects to the project's server, and what is said where the server does not admit them."""

from dataclasses import dataclass, field
from typing import Any

import psycopg
from django.conf import settings
from django.core.management.base import CommandError
from django.db import DEFAULT_DB_ALIAS, NotSupportedError, connections

from apps.core.database.diagnosis import diagnose
from apps.core.database.probe import OLDEST_SERVER

ADVICE = (
    "Set DB_ADMIN_USER and DB_ADMIN_PASSWORD to somebody who may, or have an administrator run it: "
    "manage.py database_roles prints all that the roles need."
)


@dataclass(frozen=True)
class Account:
    """A role that may log in, its password, and how the variables begin that hold both."""

    user: str
    password: str = field(repr=False)
    prefix: str

    def connect(self, database: str) -> psycopg.Connection[Any]:
        """Return a connection to a database of the project's server; raises CommandError with cause and remedy."""
        parameters = connections[DEFAULT_DB_ALIAS].get_connection_params()
        # Without a password libpq looks for one in its own places.
        parameters |= {"user": self.user, "password": self.password or None, "dbname": database}
        try:
            connection = psycopg.connect(**parameters, autocommit=True)
        except psycopg.Error as error:
            raise CommandError(self.explain(error, database)) from error
        major = connection.info.server_version // 10_000
        if major < OLDEST_SERVER:
            connection.close()
            found = NotSupportedError(f"PostgreSQL {OLDEST_SERVER} or later is required (found {major})")
            raise CommandError(self.explain(found, database))
        # Nothing that others have put into a database stands in for what is meant.
        connection.execute("SET search_path = pg_catalog")
        return connection

    def explain(self, error: Exception, database: str) -> str:
        """Return cause and remedy."""
        place = {**connections[DEFAULT_DB_ALIAS].settings_dict, "USER": self.user, "NAME": database}
        return self.name_variables(str(diagnose(error, place)))

    def name_variables(self, said: str) -> str:
        """Return what is said of DB_USER and its password as of this account's variables."""
        return said.replace("DB_USER", f"{self.prefix}_USER").replace("DB_PASSWORD", f"{self.prefix}_PASSWORD")


def choose_administrator() -> Account:
    """Return who may make roles: DB_ADMIN_USER, or else whom this command logs in as anyway."""
    if settings.DB_ADMIN_USER:
        return Account(settings.DB_ADMIN_USER, settings.DB_ADMIN_PASSWORD, "DB_ADMIN")
    return choose_user()


def choose_user() -> Account:
    """Return whom this command logs in as: DB_MIGRATE_USER, or else DB_USER."""
    chosen = connections[DEFAULT_DB_ALIAS].settings_dict
    return Account(chosen["USER"], chosen["PASSWORD"], "DB_MIGRATE" if settings.DB_MIGRATE_USER else "DB")
