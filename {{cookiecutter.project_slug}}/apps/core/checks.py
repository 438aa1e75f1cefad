"""System checks of the project's infrastructure."""

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, register

from .database import DatabaseHealthCheck


@register(Tags.database)
def check_databases(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Report each database that `check --database` names and that cannot be used."""
    results = {using: DatabaseHealthCheck(using).check() for using in databases or ()}
    return [
        Error(f"Database '{using}': {result['error']}", hint=result["remedy"], id="core.E001")
        for using, result in results.items()
        if result["status"] != "healthy"
    ]
