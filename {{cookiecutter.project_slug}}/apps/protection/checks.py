"""The system check of protection; the README explains its ID."""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Tags, Warning, register  # noqa: A004  Django's name
from django.db import DatabaseError, connections

from apps.core.database.environment import PRODUCTION, read_environment


@register(Tags.database, deploy=True)
def check_mark(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Report each database of production that `check --deploy --database` names and that nothing protects."""
    if settings.ENVIRONMENT != PRODUCTION:
        return []
    return [message for using in databases or () if (message := find_fault(using))]


def find_fault(using: str) -> CheckMessage | None:
    """Return what is wrong with the mark of a database, None where it cannot be asked: core.E001 says why."""
    try:
        environment = read_environment(connections[using])
    except DatabaseError:
        return None
    if environment == PRODUCTION or connections[using].vendor != "postgresql":
        return None
    name = connections[using].settings_dict["NAME"]
    if environment:
        said = f"is marked as {environment}'s"
        with connections[using].cursor() as cursor:
            cursor.execute("SELECT quote_ident(%s)", [name])
            ((quoted,),) = cursor.fetchall()
        remedy = f"Correct it as its owner: COMMENT ON DATABASE {quoted} IS '[environment: {PRODUCTION}]'."
    else:
        said = "is not marked as production's"
        remedy = "Run manage.py prepare_database or migrate as its owner."
    return Warning(
        f"Database '{name}' {said}: flush, reset_db and test runs would not refuse it.",
        hint=remedy,
        id="protection.W001",
    )
