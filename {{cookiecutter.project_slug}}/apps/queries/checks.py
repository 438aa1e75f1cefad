"""The system check of queries; the README explains its ID."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

WAYS = "", "warn", "raise"


@register
def check_repeated_queries(**_: Any) -> list[CheckMessage]:
    """Report a way to treat repeated queries that there is not: nothing would be said of them."""
    if settings.REPEATED_QUERIES in WAYS:
        return []
    return [
        Error(
            f"REPEATED_QUERIES is {settings.REPEATED_QUERIES!r}, which is no way to treat them: "
            "it has to be empty, 'warn' or 'raise'.",
            hint="Correct it in config/settings: empty in production, 'warn' in development, 'raise' in tests.",
            id="queries.E001",
        )
    ]
