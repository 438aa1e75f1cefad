"""The addresses of host names, searched for within a time that libpq would not keep."""

import socket
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from ipaddress import ip_address
from typing import Any

from psycopg import OperationalError

from .deadline import remaining, too_late

_lookups: dict[tuple[str, ...], Future[list[list[str]]]] = {}


def resolve(parameters: Mapping[str, Any], deadline: float) -> dict[str, Any]:
    """Return the parameters with the addresses of their host names; libpq's own search cannot be bounded."""
    hosts = str(parameters.get("host") or "").split(",")
    if parameters.get("hostaddr") or not any(map(needs_lookup, hosts)):
        return dict(parameters)
    ports = str(parameters.get("port") or "").split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    if len(ports) != len(hosts):
        return dict(parameters)  # libpq refuses them in its own words
    found = look_up(tuple(hosts), deadline)
    places = [(host, a, port) for host, port, addresses in zip(hosts, ports, found, strict=True) for a in addresses]
    names, addresses, numbers = (",".join(values) for values in zip(*places, strict=True))
    return {**parameters, "host": names, "hostaddr": addresses, "port": numbers}


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
    try:
        found = []
        for host in hosts:
            places = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM) if needs_lookup(host) else []
            known = "" if host.startswith(("/", "@")) else host
            found.append([str(place[4][0]) for place in places] or [known])
        search.set_result(found)
    except (OSError, ValueError) as error:  # a label too long is a UnicodeError
        search.set_exception(OperationalError(f"failed to resolve host {host!r}: {error}"))
    finally:
        del _lookups[hosts]
