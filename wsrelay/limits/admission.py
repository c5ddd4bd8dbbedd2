"""Admission: how many connections there may be, in all and from one address. Pure: the time is passed in.

Each connection is one :class:`Visit`, counted when it arrives and taken off once, whatever becomes of it. What a
refused client is told is here, how is the connection's. Who is behind a proxy is :mod:`wsrelay.net.proxies`'.
"""

import ipaddress
import math
from typing import Final

from wsrelay.errors import Denied
from wsrelay.limits.rates import TokenBucket
from wsrelay.settings import Settings

__all__ = ["UNCOUNTED", "Admission", "Visit", "address_key"]

#: What a client is told that finds the relay full, in seconds.
RETRY_SECONDS: Final = 10

#: The most that a client is told, in seconds.
MAX_RETRY_SECONDS: Final = 3600

#: RFC 4291 section 2.5.4: what one host may have as many addresses of as it likes.
_IPV6_HOST_BITS: Final = 64


def address_key(host: str) -> str:
    """Return what the connections of one host have in common: its IPv4 address, or the /64 of its IPv6 address.

    Args:
        host: an IP address. Anything else is its own key.
    """
    if ":" not in host:
        return host
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        return host
    if address.ipv4_mapped is not None:  # what a socket for both sees of IPv4
        return str(address.ipv4_mapped)
    return f"{ipaddress.IPv6Address(int(address) >> _IPV6_HOST_BITS << _IPV6_HOST_BITS)}/{_IPV6_HOST_BITS}"


class _Address:
    """The visits from one address."""

    __slots__ = ("connections", "connects", "handshakes", "key")

    def __init__(self, key: str, connects: TokenBucket) -> None:
        self.key = key
        self.connects = connects
        self.connections = 0
        self.handshakes = 0


class Admission:
    """Counts connections, and refuses those that are one too many.

    Args:
        settings: ``max_handshakes``, ``max_connects_per_second`` and ``burst_seconds``, and the limits per address.
        max_connections: how many there may be in all.
        now: the time, in seconds on any clock that does not go back.

    Attributes:
        connections: how many there are.
        handshakes: how many of them are not open yet.
        is_closed: whether nobody comes in any more.
        overloaded: whether there is too little memory for more.
    """

    def __init__(self, settings: Settings, max_connections: int, now: float) -> None:
        self._settings = settings
        self._max_connections = max_connections
        self._connects = TokenBucket(settings.max_connects_per_second, settings.burst_seconds, now)
        self._addresses: dict[str, _Address] = {}
        #: Those of nobody, who may not connect at their full rate yet.
        self._deserted: dict[str, _Address] = {}
        self.connections = 0
        self.handshakes = 0
        self.is_closed = False
        self.overloaded = False

    def __len__(self) -> int:
        """Return the number of addresses that something is known of."""
        return len(self._addresses)

    def arrive(self, now: float, host: str | None = None) -> "Visit":
        """Count a connection.

        Its address is asked first: whoever is refused for that takes nothing from the others.

        Args:
            now: the time.
            host: its address; ``None`` where that is not known, or will be later, see :meth:`Visit.identify`.

        Raises:
            Denied: 429 or 503, and it is not counted: there are too many, from its address or in all.
        """
        address = None if host is None else self._identify(host, now)
        if self.is_closed:
            raise _full("this relay is restarting", "restarting")
        if self.connections >= self._max_connections:
            raise _full("this relay has as many connections as it may have", "max_connections")
        if self.overloaded:
            raise _full("this relay is short of memory", "memory_budget")
        if self.handshakes >= (self._settings.max_handshakes or math.inf):
            raise _full("this relay has as many unfinished handshakes as it may have", "max_handshakes")
        if not self._connects.take(now):
            raise _full("too many clients connect at once", "max_connects_per_second", self._connects.wait_seconds())
        return Visit(self, address)

    def tick(self, now: float) -> None:
        """Forget the addresses that nobody is connected from, once they may connect at their full rate again."""
        for key, address in list(self._deserted.items()):
            if address.connections:
                del self._deserted[key]
            elif address.connects.is_full(now):
                del self._addresses[key], self._deserted[key]

    def _identify(self, host: str, now: float) -> _Address:
        key = address_key(host)
        address = self._addresses.get(key)
        settings = self._settings
        if address is None:
            connects = TokenBucket(settings.max_connects_per_second_per_address, settings.burst_seconds, now)
            address = self._addresses[key] = self._deserted[key] = _Address(key, connects)
        if address.connections >= (settings.max_connections_per_address or math.inf):
            raise _too_many("too many connections from your address", "max_connections_per_address")
        if address.handshakes >= (settings.max_handshakes_per_address or math.inf):
            raise _too_many("too many unfinished handshakes from your address", "max_handshakes_per_address")
        if not address.connects.take(now):
            wait_seconds = address.connects.wait_seconds()
            raise _too_many("too many connects from your address", "max_connects_per_second_per_address", wait_seconds)
        return address


class Visit:
    """One connection's place among those that are counted. Made by :meth:`Admission.arrive`."""

    __slots__ = ("_address", "_admission", "_handshaking")

    def __init__(self, admission: Admission | None, address: _Address | None) -> None:
        self._admission = admission
        self._address = address
        self._handshaking = True
        for counted in self._counted():
            counted.connections += 1
            counted.handshakes += 1

    @property
    def is_identified(self) -> bool:
        """Whether it is counted for an address."""
        return self._address is not None

    def identify(self, host: str, now: float) -> None:
        """Count it for its address, too, once that is known.

        Raises:
            Denied: 429, and it is not counted for it: that address has too many.
        """
        if self._admission is None or self._address is not None:
            return
        try:
            self._address = self._admission._identify(host, now)
        except Denied:
            self._admission._connects.give_back()
            raise
        self._address.connections += 1
        self._address.handshakes += 1

    def opened(self) -> None:
        """Its handshake is done."""
        if self._handshaking:
            self._handshaking = False
            for counted in self._counted():
                counted.handshakes -= 1

    def end(self) -> None:
        """Take it off; nothing happens the second time."""
        self.opened()
        for counted in self._counted():
            counted.connections -= 1
        admission, self._admission = self._admission, None
        address, self._address = self._address, None
        if admission is not None and address is not None and not address.connections:
            admission._deserted[address.key] = address

    def _counted(self) -> "list[Admission | _Address]":
        return [counted for counted in (self._admission, self._address) if counted is not None]


#: Stands for the visit of a connection that is not counted.
UNCOUNTED: Final = Visit(None, None)


def _full(reason: str, cause: str, wait_seconds: float = RETRY_SECONDS) -> Denied:
    return Denied(503, reason, [("Retry-After", _retry_after(wait_seconds))], cause=cause)


def _too_many(reason: str, cause: str, wait_seconds: float = RETRY_SECONDS) -> Denied:
    return Denied(429, reason, [("Retry-After", _retry_after(wait_seconds))], cause=cause)


def _retry_after(wait_seconds: float) -> str:
    return str(math.ceil(min(wait_seconds, MAX_RETRY_SECONDS)))
