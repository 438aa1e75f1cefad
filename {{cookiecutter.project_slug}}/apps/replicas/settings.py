"""Settings of replicas, which `config.settings.base` imports."""

from typing import Any

from django.core.exceptions import ImproperlyConfigured

from apps.core.database.hosts import list_places
from apps.core.environment import config, seconds

DATABASE_ROUTERS = ["apps.replicas.router.ReplicaRouter"]

# Seconds by which a replica may be behind the primary and still be read from.
DB_REPLICA_MAX_LAG = config("DB_REPLICA_MAX_LAG", default=10, cast=seconds)

POOL_TIMEOUT = 0.5  # seconds for a connection of a replica's pool: another replica answers sooner


def build_replicas(primary: dict[str, Any], options: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """
    Return an entry of DATABASES for each host of DB_REPLICA_HOST, as the primary's: "replica", "replica2", and so on.

    `options` are OPTIONS of a connection to a standby. Raises ImproperlyConfigured where the ports do not match.
    """
    hosts = config("DB_REPLICA_HOST")
    if not hosts:
        return {}
    behind = config("DB_PGBOUNCER", default=False, cast=bool)  # whose port is no server's
    ports = config("DB_REPLICA_PORT", default=config("DB_DIRECT_PORT" if behind else "DB_PORT", default="5432"))
    try:
        places = list_places(hosts, ports)
    except ValueError:
        raise ImproperlyConfigured(
            f"DB_REPLICA_HOST is {hosts!r} and DB_REPLICA_PORT {ports!r}: there must be one port, or one for each host."
        ) from None
    if "pool" in options:
        options["pool"]["timeout"] = min(POOL_TIMEOUT, options["pool"]["timeout"])
    common = {**primary, "ATOMIC_REQUESTS": False, "DISABLE_SERVER_SIDE_CURSORS": False, "OPTIONS": options}
    return {
        f"replica{number if number > 1 else ''}": {**common, "HOST": host, "PORT": port}
        for number, (host, port) in enumerate(places, start=1)
    }
