"""Load shedding: which connections are closed when memory is short. Pure.

What the clients of one address (IPv6: of one /48) hold is added up, and the address that holds most loses its largest
connection first: a client that is a little behind does not go before an address that holds much. Must not live here:
when memory is short (:mod:`wsrelay.limits.memory`), closing (connection), cursors (:mod:`wsrelay.rooms`).
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sized
from heapq import heappop, heappush
from itertools import count
from typing import Protocol

from wsrelay import closecodes
from wsrelay.closecodes import CloseReason
from wsrelay.errors import Denied
from wsrelay.interfaces import Subscriber
from wsrelay.limits.admission import full
from wsrelay.rooms.hub import Hub
from wsrelay.rooms.room import Room

__all__ = ["Holder", "Shedding"]


class Holder(Protocol):
    """A connection as the memory budget sees it."""

    @property
    def address(self) -> str | None:
        """The address under which it is counted; ``None``: unknown, it counts alone."""

    @property
    def network(self) -> object:
        """Its IPv4 address or IPv6 /48; ``None``: unknown, it counts alone."""

    @property
    def member(self) -> Subscriber | None:
        """Its subscriber in a room."""

    @property
    def incoming_bytes(self) -> int:
        """Bytes kept of an unfinished message or request."""

    @property
    def unsent(self) -> Sized:
        """Bytes that wait to be written; connections may share one object."""

    def shed(self, reason: CloseReason, denied: Denied) -> None:
        """Close at once, and free what it holds."""


class _Holding:
    """Bytes that are freed when all these connections are closed: those of one, or the log of a room.

    Args:
        address: the address of the connections.
        size_bytes: the bytes.
        connections: one; or the subscribers that pin a room's log.
        room: the room, for a log.
    """

    __slots__ = ("address", "connections", "room", "size_bytes")

    def __init__(
        self, address: "_Address", size_bytes: float, connections: Iterable[Holder], room: Room | None = None
    ) -> None:
        self.address = address
        self.size_bytes = size_bytes
        self.connections = dict.fromkeys(connections)
        self.room = room


class _Address:
    """What the connections of one address hold."""

    __slots__ = ("entry", "holdings", "size_bytes")

    def __init__(self) -> None:
        self.size_bytes = 0.0
        #: The number of its one valid entry in the heap of addresses.
        self.entry = -1
        #: A heap, the largest first; the number decides between equal ones.
        self.holdings: list[tuple[float, int, _Holding]] = []

    def largest(self) -> _Holding | None:
        """Remove and return the largest holding with open connections."""
        while self.holdings:
            holding = heappop(self.holdings)[2]
            if holding.connections:
                return holding
        return None


class Shedding:
    """Load shedding, once: the largest connection of the largest address goes first.

    Counted for an address: unfinished input; unsent bytes, shared ones in equal parts; and the log of each room whose
    slowest subscriber is one of its connections, because that pins the log.

    Args:
        hub: the rooms.
        connections: all connections.

    Complexity:
        Linear in connections, and the logarithm of a heap for each closed one.
    """

    def __init__(self, hub: Hub, connections: Collection[Holder]) -> None:
        self._hub = hub
        self._log_bytes = hub.log_bytes
        self._freed_bytes = 0.0
        self._numbers = count()
        self._addresses: defaultdict[object, _Address] = defaultdict(_Address)
        #: Connection → its holdings, until it is closed.
        self._holdings: defaultdict[Holder, list[_Holding]] = defaultdict(list)
        #: Room → the number of addresses that pin its log.
        self._pins: Counter[Room] = Counter()
        sharers = Counter(id(connection.unsent) for connection in connections)
        for connection in connections:
            size_bytes = connection.incoming_bytes + len(connection.unsent) / sharers[id(connection.unsent)]
            if size_bytes:
                self._add(connection.network or connection, size_bytes, [connection])
        #: A heap of addresses, the largest first; an entry may be out of date, but no address is larger than its entry.
        self._largest: list[tuple[float, int, _Address]] = []
        for address in self._addresses.values():
            self._enter(address)
        self._by_member = {one.member: one for one in connections if one.member is not None}
        for room in hub.lagging:
            self._pin(room)

    def shed(self, excess_bytes: float) -> int:
        """Close connections until so much is free, or the rest holds nothing.

        Peer sees:
            1013 and "overloaded"; a reset if bytes wait that stand before the close frame; 503 before a response.

        Returns:
            The freed bytes.
        """
        while self._freed() < excess_bytes and (holding := self._next()) is not None:
            for connection in tuple(holding.connections):
                self._close(connection)
        return int(self._freed())

    def _freed(self) -> float:
        return self._freed_bytes + self._log_bytes - self._hub.log_bytes

    def _add(self, key: object, size_bytes: float, connections: list[Holder], room: Room | None = None) -> _Address:
        address = self._addresses[key]
        holding = _Holding(address, size_bytes, connections, room)
        address.size_bytes += size_bytes
        heappush(address.holdings, (-size_bytes, next(self._numbers), holding))
        for connection in connections:
            self._holdings[connection].append(holding)
        return address

    def _pin(self, room: Room) -> None:
        """Count the log of a room for the addresses of its slowest subscribers, once for each."""
        by_address: defaultdict[object, list[Holder]] = defaultdict(list)
        for subscriber in room.stalled():
            connection = self._by_member[subscriber]
            by_address[connection.network or connection].append(connection)
        self._pins[room] = len(by_address)
        for key, connections in by_address.items():
            self._enter(self._add(key, room.log.size_bytes, connections, room))

    def _enter(self, address: _Address) -> None:
        """Enter an address into the heap; its entry from before is no longer valid."""
        address.entry = next(self._numbers)
        heappush(self._largest, (-address.size_bytes, address.entry, address))

    def _next(self) -> _Holding | None:
        """Return the largest holding of the largest address; ``None`` without any."""
        while self._largest:
            size_bytes, number, address = heappop(self._largest)
            if number != address.entry:
                continue
            holding = address.largest() if -size_bytes == address.size_bytes else None
            if holding is not None or -size_bytes != address.size_bytes:
                self._enter(address)
            if holding is not None:
                return holding
        return None

    def _close(self, connection: Holder) -> None:
        holdings = self._holdings.pop(connection)
        if any(holding.room is not None for holding in holdings) and connection.member is not None:
            self._hub.shed(connection.member)
        connection.shed(closecodes.OVERLOADED, full("this relay is short of memory", "memory_budget"))
        for holding in holdings:
            del holding.connections[connection]
            if not holding.connections:
                holding.address.size_bytes -= holding.size_bytes
                self._free(holding)

    def _free(self, holding: _Holding) -> None:
        if holding.room is None:
            self._freed_bytes += holding.size_bytes
            return
        self._pins[holding.room] -= 1
        if not self._pins[holding.room]:
            self._pin(holding.room)  # the next slowest subscribers
