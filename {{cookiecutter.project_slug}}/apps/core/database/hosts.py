"""The hosts of one database, of which one is the primary: which that was last, since it is asked first."""

from collections.abc import Mapping
from queue import SimpleQueue
from typing import Any, Self

import psycopg
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import OperationalError, pq
from psycopg.rows import TupleRow

PORT = "5432"  # where none is set
SESSIONS = "target_session_attrs"
OF_PRIMARY = {"primary", "read-write"}

Place = tuple[str, str]  # a host and its port

# Of each list of hosts and ports, where the primary was found last; None while it is known that none is.
_primaries: dict[Place, Place | None] = {}


class PooledConnection(psycopg.Connection[TupleRow]):
    """A connection of a pool's, which looks for the primary where it was last: another host may keep silent."""

    hosts: Place

    @classmethod
    def connect(cls, conninfo: str = "", **parameters: Any) -> Self:
        """
        Connect, and remember where to; raises what psycopg raises.

        While there is no primary nobody tries: who waited for a silent host then would not see another one take over.
        """
        if _primaries.get(read_hosts(parameters), ()) is None:
            raise OperationalError("session is read-only")
        connection = super().connect(conninfo, **put_primary_first(parameters))
        connection.hosts = read_hosts(parameters)
        if parameters.get(SESSIONS) in OF_PRIMARY:
            remember_primary(*connection.hosts, connection.pgconn)
        return connection

    def __del__(self, *_: object) -> None:
        """Note that its thread has ended without giving it back; whatever runs now may hold the pool's lock."""
        if getattr(self, "_pool", None):
            abandoned.put(self)


abandoned: SimpleQueue[PooledConnection] = SimpleQueue()


def list_places(hosts: str, ports: str) -> list[Place]:
    """Return each of the hosts with its port, one of which is for all; raises ValueError where they do not match."""
    names, numbers = hosts.split(","), (ports or PORT).split(",")
    return list(zip(names, numbers * len(names) if len(numbers) == 1 else numbers, strict=True))


def put_primary_first(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return libpq's parameters, with their hosts in the order in which to ask them."""
    primary = _primaries.get(read_hosts(parameters))
    if not primary:
        return dict(parameters)
    places = sorted(list_places(*read_hosts(parameters)), key=lambda place: place != primary)
    hosts, ports = (",".join(values) for values in zip(*places, strict=True))
    return {**parameters, "host": hosts, "port": ports}


def read_hosts(parameters: Mapping[str, Any]) -> Place:
    """Return the lists of hosts and ports that libpq's parameters hold."""
    return str(parameters.get("host") or ""), str(parameters.get("port") or "")


def name_hosts(connection: BaseDatabaseWrapper) -> Place:
    """Return the lists of hosts and ports that the settings have for a connection."""
    return str(connection.settings_dict["HOST"] or ""), str(connection.settings_dict["PORT"] or "")


def remember_primary(hosts: str, ports: str, connection: pq.abc.PGconn) -> None:
    """Remember which of several hosts a connection has found to be the primary."""
    if "," in hosts:
        _primaries[hosts, ports] = read_place(connection)


def forget_primary(hosts: str, ports: str) -> None:
    """Know that none of several hosts is the primary, until one is found."""
    if "," in hosts:
        _primaries[hosts, ports] = None


def find_primary(hosts: str, ports: str) -> Place | None:
    """Return which of several hosts is the primary, None where that is not known."""
    return _primaries.get((hosts, ports))


def is_elsewhere(hosts: str, ports: str, connection: pq.abc.PGconn) -> bool:
    """Tell whether a connection leads to one of several hosts that is the primary no longer, though it may not know."""
    primary = find_primary(hosts, ports)
    return primary is not None and read_place(connection) != primary


def read_place(connection: pq.abc.PGconn) -> Place:
    """Return where a connection leads."""
    return connection.host.decode(), connection.port.decode()
