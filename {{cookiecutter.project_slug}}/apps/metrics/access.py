"""Who may read /metrics."""

import secrets
from ipaddress import IPv6Address, ip_address, ip_network

from django.conf import settings
from django.http import HttpRequest

# This machine, what RFC 1918 and RFC 4193 set aside for private networks, and what no router passes on.
PRIVATE = [
    ip_network(network)
    for network in (
        "10.0.0.0/8",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
    )
]

# By which a proxy says that it passes on somebody else's request.
PASSED_ON = ("HTTP_FORWARDED", "HTTP_VIA", "HTTP_X_FORWARDED", "HTTP_X_REAL_IP")


def may_read(request: HttpRequest) -> bool:
    """Tell whether the request has the token of METRICS_TOKEN or, while that is empty, comes from near by."""
    if token := settings.METRICS_TOKEN.encode():
        sent = request.headers.get("Authorization", "").removeprefix("Bearer ").encode()
        return secrets.compare_digest(sent, token)
    return is_private(request.META.get("REMOTE_ADDR", "")) and not is_passed_on(request)


def is_private(text: str) -> bool:
    """Tell whether an address is of a private network; an unknown one, as of a Unix socket, is not."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return any(address in network for network in PRIVATE)


def is_passed_on(request: HttpRequest) -> bool:
    """Tell whether a proxy in front has sent the request: its own address says nothing of who asks."""
    return any(name.startswith(PASSED_ON) for name in request.META)
