"""Admission: limits on connections, in all, per address and per IPv6 network. Pure: the time is passed in.

Each connection is one :class:`Visit`, counted when it arrives and taken off exactly once. Statuses and reasons of
refusals are here. Must not live here: sending them (connection), finding the client behind a proxy
(:mod:`wsrelay.net.proxies`).
"""

import math
from typing import Final

from wsrelay.errors import Denied
from wsrelay.limits.addresses import address_key, wider_key
from wsrelay.limits.rates import Allowance, Rate, Rates, TokenBucket, Used
from wsrelay.settings import Settings

__all__ = ["UNCOUNTED", "Admission", "Visit", "full", "too_many"]

#: ``Retry-After`` when a limit on counts is reached, in seconds.
RETRY_SECONDS: Final = 10

#: The largest ``Retry-After``, in seconds.
MAX_RETRY_SECONDS: Final = 3600

#: Prefix → how many times the limits of an address hold for it. A household's /56 has a few hosts that use a relay.
_SHARES: Final = {"56": 4, "48": 16}

#: The part of the limits on all that one IPv6 network, and the unidentified connections of one proxy, may take.
_PART: Final = 0.5


class _Address:
    """The counts of one address or network, or of the unidentified connections of one proxy.

    Attributes:
        key: its key among all.
        name: see :func:`address_key`; ``None`` for a proxy.
        connects: the tokens for connects.
        usage: the allowance of all its connections together.
        wider: the next wider network; ``None`` without one.
        share: how many times the limits of an address hold for it.
        parts: the number of known networks within it.
        connections: the number of connections.
        handshakes: the number of unfinished handshakes among them.
    """

    __slots__ = ("connections", "connects", "handshakes", "key", "name", "parts", "share", "usage", "wider")

    def __init__(
        self,
        key: str,
        connects: TokenBucket,
        usage: Allowance,
        wider: "_Address | None" = None,
        share: int = 1,
        *,
        is_proxy: bool = False,
    ) -> None:
        self.key = key
        self.name = None if is_proxy else key
        self.connects = connects
        self.usage = usage
        self.wider = wider
        self.share = share
        self.parts = self.connections = self.handshakes = 0

    def is_forgettable(self, now: float) -> bool:
        """Return whether a new one would have the same tokens."""
        self.usage.settle(now)
        return self.connects.is_full(now) and self.usage.is_full


class Admission:
    """Counts connections, and refuses connections over a limit.

    Args:
        settings: ``max_handshakes``, ``max_connects_per_second`` and ``burst_seconds``, and the limits per address.
        max_connections: the limit on all connections.
        now: seconds on a monotonic clock.

    Attributes:
        connections: number of connections.
        handshakes: number of unfinished handshakes among them.
        is_closed: whether all new connections are refused.
        overloaded: whether new connections are refused for lack of memory.
        expected: the sources of connections of the readiness probe that have not arrived yet; see
            :func:`wsrelay.net.sockets.source`. They are not counted: the limits are for clients.
    """

    def __init__(self, settings: Settings, max_connections: int, now: float) -> None:
        self._settings = settings
        self._max_connections = max_connections
        self._rate = Rate(settings.max_connects_per_second, settings.burst_seconds)
        shares = (1, *_SHARES.values())
        self._address_rates = {share: Rate(0, 1) for share in shares}
        self._usage_rates = {share: Rates(settings, share) for share in shares}
        self._proxy_rate = Rate(0, 1)
        self.refresh()
        self._connects = TokenBucket(self._rate, now)
        self._addresses: dict[str, _Address] = {}
        #: Addresses without connections whose buckets are not full yet.
        self._deserted: dict[str, _Address] = {}
        self.connections = 0
        self.handshakes = 0
        self.is_closed = False
        self.overloaded = False
        self.expected: list[object] = []

    def __len__(self) -> int:
        """Return the number of known addresses and networks."""
        return len(self._addresses)

    def arrive(self, now: float, host: str | None = None, proxy: str | None = None) -> "Visit":
        """Count a connection.

        The limits of its address come first: a refused address takes no token from the others.

        Args:
            now: the time.
            host: its address; ``None`` if unknown, or known later: see :meth:`Visit.identify`.
            proxy: the address of the TCP peer, if the client's is known later. Until then the connection counts for
                the peer, which may be any machine of a trusted network: it may have half of ``max_handshakes``, and
                half of ``max_connects_per_second`` that end unidentified.

        Raises:
            Denied: 429 for a limit of its address, 503 for a limit on all; the connection is not counted.
        """
        address = None if host is None else self._identify(host, now)
        if self.is_closed:
            raise full("this relay is restarting", "restarting")
        if self.connections >= self._max_connections:
            raise full("this relay has as many connections as it may have", "max_connections")
        if self.overloaded:
            raise full("this relay is short of memory", "memory_budget")
        if self.handshakes >= (self._settings.max_handshakes or math.inf):
            raise full("this relay has as many unfinished handshakes as it may have", "max_handshakes")
        if proxy is not None:
            address = self._unidentified(proxy, now)
        if not self._connects.take(now):
            raise full("too many clients connect at once", "max_connects_per_second", self._connects.wait_seconds())
        return Visit(self, address)

    def expects(self, source: object) -> bool:
        """Return whether a connection is expected from this source; once for each entry in :attr:`expected`."""
        if source not in self.expected:
            return False
        self.expected.remove(source)
        return True

    @property
    def full_by(self) -> list[str]:
        """The reached limits that refuse all new connections, without those that a burst reaches for a moment."""
        limits = {"max_connections": self.connections >= self._max_connections, "memory_budget": self.overloaded}
        return [name for name, is_reached in limits.items() if is_reached]

    def refresh(self) -> None:
        """Derive the rates from the settings again, after these have changed."""
        settings = self._settings
        self._rate.change(settings.max_connects_per_second, settings.burst_seconds)
        self._proxy_rate.change(_PART * settings.max_connects_per_second, settings.burst_seconds)
        self._limits = {share: self._limits_of(share) for share in self._address_rates}
        for share, rate in self._address_rates.items():
            rate.change(share * settings.max_connects_per_second_per_address, settings.burst_seconds)
            rate.burst = max(rate.burst, share)
        for usage_rates in self._usage_rates.values():
            usage_rates.refresh()

    def _limits_of(self, share: int) -> tuple[float, float]:
        """Return the most connections and handshakes of an address or network."""
        settings = self._settings
        connections = share * (settings.max_connections_per_address or math.inf)
        handshakes = share * (settings.max_handshakes_per_address or math.inf)
        if share == 1:
            return connections, handshakes
        all_handshakes = settings.max_handshakes or math.inf
        return min(connections, _PART * self._max_connections), min(handshakes, _PART * all_handshakes)

    def tick(self, now: float) -> None:
        """Forget addresses without connections whose buckets are full, and networks without such addresses."""
        for key, address in list(self._deserted.items()):
            if address.connections:
                del self._deserted[key]
            elif not address.parts and address.is_forgettable(now):
                del self._addresses[key], self._deserted[key]
                if address.wider is not None:
                    address.wider.parts -= 1

    def _identify(self, host: str, now: float) -> _Address:
        """Return an address, a token taken from it and from its wider networks.

        Raises:
            Denied: 429 for a limit of one of them; no token is taken.
        """
        address = self._known(address_key(host), now)
        one: _Address | None = address
        while one is not None:
            max_connections, max_handshakes = self._limits[one.share]
            if one.connections >= max_connections:
                raise too_many("too many connections from your address", "max_connections_per_address")
            if one.handshakes >= max_handshakes:
                raise too_many("too many unfinished handshakes from your address", "max_handshakes_per_address")
            one = one.wider
        _take(address, now)
        return address

    def _known(self, key: str, now: float) -> _Address:
        """Return an address or network; a new one, with its wider networks, until it is deserted."""
        address = self._addresses.get(key)
        if address is None:
            wider = wider_key(key)
            network = None if wider is None else self._known(wider, now)
            share = _SHARES.get(key.rpartition("/")[2], 1)
            usage = Allowance(self._usage_rates[share], now)
            address = _Address(key, TokenBucket(self._address_rates[share], now), usage, network, share)
            self._addresses[key] = self._deserted[key] = address
            if network is not None:
                network.parts += 1
        return address

    def _unidentified(self, proxy: str, now: float) -> _Address:
        """Return the counts of the unidentified connections of a proxy, a token taken.

        Raises:
            Denied: 503: it has too many.
        """
        key = f"proxy {proxy}"
        counts = self._addresses.get(key)
        if counts is None:
            usage = Allowance(self._usage_rates[1], now)  # of those that never name a client: its own requests
            counts = _Address(key, TokenBucket(self._proxy_rate, now), usage, is_proxy=True)
            self._addresses[key] = self._deserted[key] = counts
        if counts.handshakes >= _PART * (self._settings.max_handshakes or math.inf):
            raise full("too many connections of one proxy without a request", "max_handshakes")
        if not counts.connects.take(now):
            wait_seconds = counts.connects.wait_seconds()
            raise full("too many connects of one proxy without a request", "max_connects_per_second", wait_seconds)
        return counts

    def _left(self, address: _Address | None) -> None:
        """Forget an address and its wider networks later, if they have no connections any more."""
        while address is not None:
            if not address.connections:
                self._deserted[address.key] = address
            address = address.wider


def _take(address: _Address, now: float) -> None:
    """Take a token from an address and each of its wider networks; raise ``Denied`` and take none if one has none."""
    if not address.connects.take(now):
        cause, wait_seconds = "max_connects_per_second_per_address", address.connects.wait_seconds()
        raise too_many("too many connects from your address", cause, wait_seconds)
    if address.wider is not None:
        try:
            _take(address.wider, now)
        except Denied:
            address.connects.give_back()
            raise


class Visit:
    """The count of one connection. Made by :meth:`Admission.arrive`."""

    __slots__ = ("_address", "_admission", "_handshaking")

    def __init__(self, admission: Admission | None, address: _Address | None) -> None:
        self._admission = admission
        self._address = address
        self._handshaking = True
        self._add(1, 1)

    @property
    def address(self) -> str | None:
        """The address for which the connection is counted, as :func:`address_key` has it; ``None`` without one."""
        return None if self._address is None else self._address.name

    @property
    def network(self) -> object:
        """The widest network for which the connection is counted: its IPv4 address or IPv6 /48; ``None`` without."""
        network = self._address
        while network is not None and network.wider is not None:
            network = network.wider
        return network

    def charge(self, used: Used, now: float) -> None:
        """Charge what the connection has sent to its address and its wider networks."""
        one = self._address
        while one is not None:
            one.usage.charge(used, now)
            one = one.wider

    @property
    def is_overdrawn(self) -> bool:
        """Whether its address or a wider network has sent more than its rates allow, as of the last charge."""
        address = self._address
        while address is not None and not address.usage.is_overdrawn:
            address = address.wider
        return address is not None

    def identify(self, host: str, now: float) -> None:
        """Count the connection for its address, once that is known.

        Raises:
            Denied: 429 for a limit of the address; the connection is not counted for it.
        """
        if self._admission is None or self.address is not None:
            return
        self._leave_proxy(self._admission)
        try:
            self._address = self._admission._identify(host, now)
        except Denied:
            self._admission._connects.give_back()
            raise
        _add(self._address, 1, int(self._handshaking))

    def _leave_proxy(self, admission: Admission) -> None:
        """Take the connection off its proxy: its request has come."""
        proxy, self._address = self._address, None
        if proxy is not None:
            proxy.connects.give_back()
            _add(proxy, -1, -int(self._handshaking))
            admission._left(proxy)

    def opened(self) -> None:
        """Take the connection off the unfinished handshakes."""
        if self._handshaking:
            self._handshaking = False
            self._add(0, -1)

    def end(self) -> None:
        """Take the connection off all counts; no effect the second time."""
        self.opened()
        self._add(-1, 0)
        admission, self._admission = self._admission, None
        address, self._address = self._address, None
        if admission is not None:
            admission._left(address)

    def _add(self, connections: int, handshakes: int) -> None:
        admission = self._admission
        if admission is not None:
            admission.connections += connections
            admission.handshakes += handshakes
        _add(self._address, connections, handshakes)


def _add(address: _Address | None, connections: int, handshakes: int) -> None:
    """Add to the counts of an address and of its wider networks."""
    while address is not None:
        address.connections += connections
        address.handshakes += handshakes
        address = address.wider


#: Stands for the visit of a connection that is not counted.
UNCOUNTED: Final = Visit(None, None)


def full(reason: str, cause: str, wait_seconds: float = RETRY_SECONDS) -> Denied:
    """Return the refusal for a limit on all: 503."""
    return Denied(503, reason, [("Retry-After", _retry_after(wait_seconds))], cause=cause)


def too_many(reason: str, cause: str, wait_seconds: float = RETRY_SECONDS) -> Denied:
    """Return the refusal for a limit of an address: 429."""
    return Denied(429, reason, [("Retry-After", _retry_after(wait_seconds))], cause=cause)


def _retry_after(wait_seconds: float) -> str:
    return str(math.ceil(min(wait_seconds, MAX_RETRY_SECONDS)))
