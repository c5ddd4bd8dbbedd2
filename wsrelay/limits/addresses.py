"""Addresses: the keys under which clients are counted: IPv4 addresses, and IPv6 networks in three sizes. Pure.

Must not live here: the counts (:mod:`wsrelay.limits.admission`).
"""

import ipaddress
from typing import Final

__all__ = ["address_key", "wider_key"]

#: RFC 4291 section 2.5.4: a host can use every address of its /64.
_IPV6_HOST_BITS: Final = 64

#: A site gets a /56 or a /48 (RFC 6177): as many /64 as it likes. Prefix → the next wider one.
_WIDER: Final = {"64": 56, "56": 48}


def address_key(host: str) -> str:
    """Return the key under which the connections of a host are counted: its IPv4 address, or its IPv6 /64.

    Args:
        host: an IP address; another string is its own key.
    """
    if ":" not in host:
        return host
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        return host
    if address.ipv4_mapped is not None:  # IPv4 at a dual-stack socket
        return str(address.ipv4_mapped)
    return f"{ipaddress.IPv6Address(int(address) >> _IPV6_HOST_BITS << _IPV6_HOST_BITS)}/{_IPV6_HOST_BITS}"


def wider_key(key: str) -> str | None:
    """Return the key of the next wider IPv6 network; ``None`` for /48, IPv4 and other strings."""
    prefix, _, bits = key.rpartition("/")
    if bits not in _WIDER:
        return None
    try:
        address = int(ipaddress.IPv6Address(prefix))
    except ValueError:  # any other string may end so
        return None
    host_bits = 128 - _WIDER[bits]
    return f"{ipaddress.IPv6Address(address >> host_bits << host_bits)}/{_WIDER[bits]}"
