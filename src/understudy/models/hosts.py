"""Which URLs may be called at all: what would leak or surprise is refused before it is tried.

A host may be spelled in many ways (``2852039166``, ``0xa9fea9fe`` and ``[::ffff:a9fe:a9fe]`` are
all 169.254.169.254, a cloud's metadata service), so it is judged as the address that it stands for.
"""

from __future__ import annotations

import ipaddress
import socket
from contextlib import suppress
from typing import NamedTuple

from understudy.errors import UsageError

_Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
# Metadata services whose addresses are not link-local: AWS (IPv6), Alibaba, Oracle, Azure's host.
_METADATA = {
    ipaddress.ip_address(text)
    for text in ("fd00:ec2::254", "100.100.100.200", "192.0.0.192", "168.63.129.16")
}
_METADATA_NAMES = {"metadata", "metadata.google.internal", "metadata.goog", "instance-data"}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Place(NamedTuple):
    """A URL that may be called."""

    url: str
    host: str
    on_this_machine: bool


def checked_url(text: str) -> Place:
    """Check a base URL. Raises UsageError, which repeats no more of it than scheme and host."""
    from yarl import URL  # what the HTTP client makes of it is what counts

    try:
        url = URL(text.strip())
        host, port = url.host or "", url.port
    except (ValueError, TypeError):
        raise UsageError("the address is no URL", "It looks like https://HOST/v1") from None
    host = host.rstrip(".").lower()
    unwanted = "@" in text or "?" in text or "#" in text or url.user or url.password
    if url.scheme not in ("http", "https") or not host or not port or unwanted:
        raise UsageError(
            f"{url.scheme or '?'}://{host} is not a usable address",
            "It looks like https://HOST/v1, with no user, password or query in it",
        )
    if is_no_api(host):
        raise UsageError(f"{host} is no address of an API", "Give the server's own address")
    ip = _ip(host)
    local = host == "localhost" or (ip is not None and ip.is_loopback)
    return Place(text.strip().rstrip("/"), host, local)


def is_no_api(host: str) -> bool:
    """True for hosts that serve no API: metadata services, link-local, multicast, 0.0.0.0."""
    if host.rstrip(".").lower() in _METADATA_NAMES:
        return True
    ip = _ip(host)
    if ip is None:
        return False
    return ip in _METADATA or ip.is_link_local or ip.is_multicast or ip.is_unspecified


def _ip(host: str) -> _Ip | None:
    """The address that ``host`` is a spelling of, IPv4 if one is wrapped in it; None for a name."""
    bare = host.strip("[]").partition("%")[0]  # without an IPv6 zone
    try:
        ip: _Ip = ipaddress.ip_address(bare)
    except ValueError:
        with suppress(OSError, UnicodeError, ValueError):
            return ipaddress.IPv4Address(socket.inet_aton(bare))
        return None
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        return inner or ip
    return ip
