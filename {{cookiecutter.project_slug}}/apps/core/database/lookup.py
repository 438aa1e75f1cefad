"""The addresses of host names, searched for within a time that libpq would not keep."""

import socket
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from ipaddress import ip_address
from typing import Any

from psycopg import OperationalError

from .deadline import remaining, too_late
from .hosts import list_places, read_hosts

_lookups: dict[tuple[str, ...], Future[list[list[str]]]] = {}


def resolve(parameters: Mapping[str, Any], deadline: float) -> list[dict[str, Any]]:
    """Return the parameters for each address of each host; libpq's own search cannot be bounded."""
    try:
        places = list_places(*read_hosts(parameters))
    except ValueError:
        return [dict(parameters)]  # libpq refuses them in its own words
    if parameters.get("hostaddr"):
        return [dict(parameters)]
    hosts = tuple(host for host, _ in places)
    found = look_up(hosts, deadline) if any(map(needs_lookup, hosts)) else [[""]] * len(hosts)
    return [
        {**parameters, "host": host, "hostaddr": address, "port": port}
        for (host, port), addresses in zip(places, found, strict=True)
        for address in addresses
    ]


def needs_lookup(host: str) -> bool:
    """Tell whether it is a name, not an address or the folder of a socket."""
    if not host or host.startswith(("/", "@")):
        return False
    try:
        ip_address(host)
    except ValueError:
        return True
    return False


def look_up(hosts: tuple[str, ...], deadline: float) -> list[list[str]]:
    """Return the addresses of each host; a search that takes too long is waited for by the next caller, too."""
    search = _lookups.get(hosts)
    if search is None:
        search = _lookups[hosts] = Future()
        threading.Thread(target=search_addresses, args=(hosts, search), daemon=True).start()
    try:
        return search.result(remaining(deadline))
    except TimeoutError:
        raise too_late() from None


def search_addresses(hosts: tuple[str, ...], search: Future[list[list[str]]]) -> None:
    """Fill in the result; name servers that do not answer end it after the system's own patience."""
    found, failure = list[list[str]](), None
    for host in hosts:
        try:
            places = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM) if needs_lookup(host) else []
            known = "" if host.startswith(("/", "@")) else host
            found.append([str(place[4][0]) for place in places] or [known])
        except (OSError, ValueError) as error:  # a label too long is a UnicodeError
            found.append([])
            failure = OperationalError(f"failed to resolve host {host!r}: {error}")
    del _lookups[hosts]
    if failure and not any(found):
        search.set_exception(failure)
    else:
        search.set_result(found)
