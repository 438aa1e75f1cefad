"""Who the five roles are: DB_NAME, DB_USER and DB_MIGRATE_USER name them."""

from typing import NamedTuple

from django.conf import settings
from django.core.management.base import CommandError
from django.db import DEFAULT_DB_ALIAS

from apps.core.environment import config

LONGEST = 63  # bytes of a name in PostgreSQL, which cuts off the rest


class Names(NamedTuple):
    """The database, and what its roles are called."""

    database: str
    owner: str
    migrator: str
    app: str
    readonly: str
    monitor: str


def read_database() -> str:
    """Return the database's name."""
    return str(settings.DATABASES[DEFAULT_DB_ALIAS]["NAME"])


def read_user() -> str:
    """Return the role of the web processes; the settings of an owner's command have the migrator in its place."""
    return str(config("DB_USER", default="postgres"))


def read_names() -> Names:
    """Return the names; raises CommandError where they do not make five roles."""
    if not settings.DB_MIGRATE_USER:
        raise CommandError("DB_MIGRATE_USER is not set: DB_USER owns the database, and there are no roles to make.")
    database = read_database()
    made = {f"DB_NAME's {kind}": f"{database}_{kind}" for kind in ("owner", "readonly", "monitor")}
    given = {"DB_MIGRATE_USER": settings.DB_MIGRATE_USER, "DB_USER": read_user()}
    known: dict[str, str] = {}
    for variable, name in {**made, **given, "DB_ADMIN_USER": settings.DB_ADMIN_USER}.items():
        if name in known:
            raise CommandError(f"{known[name]} and {variable} are both '{name}', but must be different roles.")
        if len(name.encode()) > LONGEST or not name.isprintable():
            raise CommandError(f"{variable} is {name!r}, but a name has {LONGEST} bytes at most, all printable.")
        known[name] = variable
    owner, *others = made.values()
    return Names(database, owner, *given.values(), *others)
