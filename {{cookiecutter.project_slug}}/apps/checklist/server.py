"""Whether the server is one that keeps what it has confirmed, and is still mended."""

from datetime import date

from django.conf import settings
from django.core.checks import CheckMessage, Warning  # noqa: A004  Django's name
from django.db import DEFAULT_DB_ALIAS, connections
from django.utils import timezone
from psycopg import sql

from .reading import Reading

# The last day of each major version, of https://www.postgresql.org/support/versioning/; a later version has longer.
LAST_DAYS = {
    15: date(2027, 11, 11),
    16: date(2028, 11, 9),
    17: date(2029, 11, 8),
    18: date(2030, 11, 14),
}

# What follows where one of them is off.
DURABILITY = {
    "fsync": "a power cut destroys the database",
    "full_page_writes": "a power cut may leave pages half written",
    "synchronous_commit": "a power cut loses the last that was confirmed",
    "autovacuum": "tables grow, and in the end nothing can be written",
}

UTC = {"UTC", "Etc/UTC", "Etc/UCT", "UCT", "GMT", "Etc/GMT"}


def check_version(reading: Reading) -> list[CheckMessage]:
    """Report a server for which there are no corrections any more."""
    last = LAST_DAYS.get(reading.major)
    if last is None or timezone.now().date() <= last:
        return []
    return [
        Warning(
            f"PostgreSQL {reading.major} got its last corrections on {last}: what is found since stays open.",
            hint="Upgrade the server by pg_upgrade, or restore a backup into a newer one.",
            id="checklist.W015",
        )
    ]


def check_durability(reading: Reading) -> list[CheckMessage]:
    """Report settings under which data can be lost."""
    return [
        Warning(
            f"{name} is off: {follows}.",
            hint=f"Run ALTER SYSTEM RESET {name} and SELECT pg_reload_conf() as a superuser.",
            id="checklist.W016",
        )
        for name, follows in DURABILITY.items()
        if reading.settings[name] == "off"
    ]


def check_text_and_time(reading: Reading) -> list[CheckMessage]:
    """Report a database that cannot hold every text, or whose day is another than Django's."""
    return [
        Warning(f"{what}: {follows}.", hint=remedy, id="checklist.W017")
        for what, follows, remedy in find_misunderstandings(reading)
    ]


def find_misunderstandings(reading: Reading) -> list[tuple[str, str, str]]:
    """Return what is, what follows, and what to do."""
    zone, own = reading.defaults["TimeZone"], connections[DEFAULT_DB_ALIAS].timezone_name
    name = reading.connection.settings_dict["NAME"]
    found = []
    if reading.encoding != "UTF8":
        remedy = "Take a backup, make the database with ENCODING 'UTF8' TEMPLATE template0, and restore into it."
        found.append((f"The database's encoding is {reading.encoding}", "it cannot hold every text", remedy))
    if not settings.USE_TZ:
        found.append(("USE_TZ is off", "an hour of each autumn is there twice", "Leave USE_TZ out of the settings."))
    if zone != own and not {zone, own} <= UTC:
        follows = "triggers, defaults and psql take another day for today"
        remedy = f"Run ALTER DATABASE {sql.Identifier(name).as_string()} SET timezone = '{own}' as its owner."
        found.append((f"The server's TimeZone is {zone}, but Django's {own}", follows, remedy))
    return found
