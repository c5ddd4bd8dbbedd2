"""Trusted proxies: whose X-Forwarded-For is believed, and who the client is then. Pure."""

import ipaddress
import re
from collections.abc import Sequence
from typing import Final

__all__ = ["UNIX", "TrustedProxies"]

#: What stands for the address of a client on a unix socket.
UNIX: Final = "unix"

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: An address as proxies write it: some add the port.
_FORWARDED: Final = re.compile(r"\[(?P<v6>[0-9A-Fa-f:.]+)\](?::\d+)?|(?P<v4>[0-9.]+)(?::\d+)?|(?P<bare>[0-9A-Fa-f:.]+)")


class TrustedProxies:
    """The proxies that are trusted to say who their client is.

    Args:
        networks: in CIDR notation, or single addresses; :data:`UNIX` for whoever connects through a unix socket.

    Raises:
        ValueError: one of them is none; the text says which.
    """

    def __init__(self, networks: Sequence[str]) -> None:
        self._unix = UNIX in networks
        self._networks = [_network(network) for network in networks if network != UNIX]

    def __contains__(self, host: object) -> bool:
        """Whether an address is that of a trusted proxy."""
        if host == UNIX:
            return self._unix
        address = _parse(host) if self._networks and isinstance(host, str) else None
        return address is not None and any(address in network for network in self._networks)

    def client(self, host: str, forwarded_for: str) -> str:
        """Return the address of the client behind a connection.

        From right to left, because each proxy writes the address that it sees behind what it was told: the first that
        is no trusted proxy's is the client's, and all to the left of it may be invented.

        Args:
            host: the address that the connection comes from.
            forwarded_for: the ``X-Forwarded-For`` field; empty for none.

        Returns:
            The client's address; that of the last trusted proxy where what it says is no address.
        """
        for forwarded in reversed(forwarded_for.split(",")):
            if host not in self:
                break
            match = _FORWARDED.fullmatch(forwarded.strip(" \t"))
            address = _parse(match["v6"] or match["v4"] or match["bare"]) if match else None
            if address is None:
                break
            host = str(address)
        return host


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no address and no network in CIDR notation ({error})") from None


def _parse(host: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    # As a socket for both families sees IPv4 (RFC 4291 section 2.5.5.2).
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
