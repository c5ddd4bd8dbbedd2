"""Trusted proxies: the client's address behind them, from X-Forwarded-For. Pure.

Must not live here: the PROXY protocol (:mod:`wsrelay.net.endpoints`).
"""

import ipaddress
import re
from collections.abc import Sequence
from typing import Final

__all__ = ["MAX_PROXIES", "UNIX", "TrustedProxies", "ip_address"]

#: The most addresses of an ``X-Forwarded-For`` that are read.
MAX_PROXIES: Final = 32

#: The address of every client on a unix socket.
UNIX: Final = "unix"

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: An address as proxies write it, with or without a port.
_FORWARDED: Final = re.compile(r"\[(?P<v6>[0-9A-Fa-f:.]+)\](?::\d+)?|(?P<v4>[0-9.]+)(?::\d+)?|(?P<bare>[0-9A-Fa-f:.]+)")


class TrustedProxies:
    """The proxies whose X-Forwarded-For is trusted.

    Args:
        networks: in CIDR notation, or single addresses; :data:`UNIX` for all clients on unix sockets.

    Raises:
        ValueError: names the first invalid network.
    """

    def __init__(self, networks: Sequence[str]) -> None:
        self._unix = UNIX in networks
        self._networks = [_network(network) for network in networks if network != UNIX]

    def __contains__(self, host: object) -> bool:
        """Whether an address belongs to a trusted proxy."""
        if host == UNIX:
            return self._unix
        address = _parse(host) if self._networks and isinstance(host, str) else None
        return address is not None and any(address in network for network in self._networks)

    def client(self, host: str, forwarded_for: str) -> str:
        """Return the address of the client behind a connection.

        Read from right to left, because each proxy appends the address it sees: the first address outside the trusted
        networks is the client's, and everything left of it may be forged. An empty member is not ignored, unlike in
        other lists (RFC 9110 section 5.6.1.2): it stands for an address that a proxy did not know, and the member left
        of it is the client's own word.

        Args:
            host: the peer address of the TCP connection.
            forwarded_for: the ``X-Forwarded-For`` field; empty for none.

        Returns:
            The client's address; the address of the last trusted proxy if that proxy wrote something invalid, or is
            one of more than :data:`MAX_PROXIES`.
        """
        for forwarded in reversed(forwarded_for.rsplit(",", MAX_PROXIES)):
            if host not in self:
                break
            match = _FORWARDED.fullmatch(forwarded.strip(" \t"))
            address = _parse(match["v6"] or match["v4"] or match["bare"]) if match else None
            if address is None:
                break
            host = str(address)
        return host


def ip_address(address: object) -> str:
    """Return the IP address of a client's address; :data:`UNIX` without one."""
    host: str = getattr(address, "host", UNIX)
    return host


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is neither an address nor a network in CIDR notation ({error})") from None


def _parse(host: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    # An IPv4 client on a dual-stack socket (RFC 4291 section 2.5.5.2).
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
