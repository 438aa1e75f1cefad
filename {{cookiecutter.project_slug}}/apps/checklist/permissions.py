"""Whether the role of the web processes may do more than they need."""

from django.core.checks import CheckMessage, Warning  # noqa: A004  Django's name

from .reading import Reading


def check_powers(reading: Reading) -> list[CheckMessage]:
    """Report a role that can do more than read and write; a superuser can do everything, so no more is said."""
    if not reading.powers:
        return []
    powers = reading.powers[:1] if reading.superuser else reading.powers
    return [
        Warning(
            f"Role '{reading.user}' {', '.join(powers)}: whoever breaks into a web process can do so, too.",
            hint="Set DB_USER to a role of its own and DB_MIGRATE_USER to the one that owns the database, "
            "and run manage.py database_roles --apply.",
            id="checklist.W008",
        )
    ]
