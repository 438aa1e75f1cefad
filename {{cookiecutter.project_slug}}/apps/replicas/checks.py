"""System checks of replicas; the README explains their IDs."""

from typing import Any

from django.conf import settings
from django.core.cache import DEFAULT_CACHE_ALIAS
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004  Django's name
from django.db import DEFAULT_DB_ALIAS

from apps.core.database.startup import CONNECTIONS

from .memory import is_shared
from .standby import find_replicas


@register(CONNECTIONS)
def check_transactions(**_: Any) -> list[CheckMessage]:
    """Report replicas that no request would read from, since each is one transaction of the primary's."""
    if not find_replicas() or not settings.DATABASES[DEFAULT_DB_ALIAS]["ATOMIC_REQUESTS"]:
        return []
    return [
        Error(
            "DB_REPLICA_HOST is set and DB_ATOMIC_REQUESTS is on: each request is a transaction on the primary, "
            "so that no replica would be read from.",
            hint="Set DB_ATOMIC_REQUESTS=false, and put transaction.atomic around views that write.",
            id="replicas.E001",
        )
    ]


@register(CONNECTIONS, deploy=True)
def check_cache(**_: Any) -> list[CheckMessage]:
    """Report replicas that clients with a token would not read from."""
    if not find_replicas() or is_shared():
        return []
    return [
        Warning(
            f"CACHES['{DEFAULT_CACHE_ALIAS}'] is each process's own: what a client with a token wrote is not known to "
            "all of them, so that such clients read from the primary.",
            hint="Use a cache that all processes share, such as Redis, if there are such clients.",
            id="replicas.W001",
        )
    ]
