"""The memory budget: a limit on the bytes kept for all clients together, and on unfinished input of one address. Pure.

Counts all that clients can make grow: rooms' logs and their encoded frames, unsent bytes, unfinished messages and
requests, and connections.
Over the budget, the addresses that hold most lose connections; new clients are refused if that does not free enough.
Must not live here: choosing what to close (:mod:`wsrelay.limits.shedding`), counting inside a room
(:mod:`wsrelay.rooms.hub`) or a connection.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Collection
from typing import Final

from wsrelay import closecodes
from wsrelay.limits.admission import Admission, too_many
from wsrelay.limits.shedding import Holder, Shedding
from wsrelay.rooms.hub import Hub
from wsrelay.settings import Settings

__all__ = ["CONNECTION_BYTES", "MemoryBudget", "address_limit_bytes"]

#: Bytes of an idle connection, without TLS (bench/results/results.md, idle connections).
CONNECTION_BYTES: Final = 2048

#: Hysteresis: shed down to this share of the budget, and admit connections again below it.
_SHARE_TO_REOPEN: Final = 0.9

#: The default limit of one address: this share of the budget, but room for so many of the largest messages.
_ADDRESS_SHARE: Final = 1 / 8
_ADDRESS_MESSAGES: Final = 2

#: How many times the limit of an address holds for an IPv6 /48.
_NETWORK_ADDRESSES: Final = 4

#: Unfinished input is measured again, between two sweeps, when it may have grown by this share of an address's limit.
_UNMEASURED_SHARE: Final = 1 / 4

#: The reason of a refusal.
_TOO_MUCH: Final = "too many unfinished bytes from your address"


def address_limit_bytes(settings: Settings) -> float:
    """Return the limit on unfinished input of one address, in bytes; infinite without one."""
    if settings.max_unfinished_bytes_per_address or not settings.memory_budget:
        return settings.max_unfinished_bytes_per_address or math.inf
    return max(settings.memory_budget * _ADDRESS_SHARE, _ADDRESS_MESSAGES * settings.max_message_bytes)


class MemoryBudget:
    """Keeps a relay within its budget.

    Args:
        settings: ``memory_budget`` and ``max_unfinished_bytes_per_address`` are used.
        hub: the rooms.
        admission: refuses new connections while ``overloaded`` is set.
        connections: a view of all connections.

    Attributes:
        used_bytes: bytes kept at the last :meth:`keep`, what was shed subtracted.
        unmeasured_bytes: at most so much has unfinished input grown since it was measured.
        unfinished: connections that may have unfinished input; others have none, or an incomplete head.
    """

    def __init__(self, settings: Settings, hub: Hub, admission: Admission, connections: Collection[Holder]) -> None:
        self._settings = settings
        self._hub = hub
        self._admission = admission
        self._connections = connections
        self._address_bytes = address_limit_bytes(settings)
        self._most_unmeasured_bytes = self._address_bytes * _UNMEASURED_SHARE
        self._incoming_bytes = 0
        self.used_bytes = 0
        self.unmeasured_bytes = 0
        self.unfinished: set[Holder] = set()

    def grow(self, connection: Holder, size_bytes: int) -> None:
        """Note a read that leaves a message or a body unfinished; its connection may be closed here.

        Args:
            connection: the connection.
            size_bytes: the most that its unfinished input has grown.

        Complexity:
            Constant; each time that a quarter of an address's limit has come, one look at each such connection.
        """
        self.unfinished.add(connection)
        self.unmeasured_bytes += size_bytes
        if self.unmeasured_bytes > self._most_unmeasured_bytes:
            self._measure_unfinished()

    def keep(self) -> None:
        """Measure the bytes in use. Over the budget, clear the cache of encoded frames, forget history, then shed: the
        largest connections of the largest addresses.

        Peer sees:
            See :class:`wsrelay.limits.shedding.Shedding`; 1013, or 429, for an address over its limit.

        Complexity:
            Linear in connections.
        """
        incoming_bytes = self._bound_addresses(self._connections)
        unsent = {id(waiting): len(waiting) for connection in self._connections if (waiting := connection.unsent)}
        connections_bytes = CONNECTION_BYTES * len(self._connections)
        self._incoming_bytes = incoming_bytes
        rooms_bytes = self._hub.log_bytes + self._hub.cached_bytes
        self.used_bytes = rooms_bytes + incoming_bytes + sum(unsent.values()) + connections_bytes
        budget_bytes = self._settings.memory_budget
        if not budget_bytes:
            return
        enough_bytes = int(budget_bytes * _SHARE_TO_REOPEN)
        most_bytes = enough_bytes if self._admission.overloaded else budget_bytes
        if self.used_bytes > most_bytes:
            self.used_bytes -= self._hub.free(self.used_bytes - enough_bytes)
        if self.used_bytes > most_bytes:
            self.used_bytes -= Shedding(self._hub, self._connections).shed(self.used_bytes - enough_bytes)
        self._admission.overloaded = self.used_bytes > most_bytes

    def _measure_unfinished(self) -> None:
        """Bound each address between two sweeps, and all of them together."""
        incoming_bytes = self._bound_addresses(self.unfinished)
        budget_bytes = self._settings.memory_budget or math.inf
        if self.used_bytes + incoming_bytes - self._incoming_bytes > budget_bytes:
            self.keep()

    def _bound_addresses(self, connections: Collection[Holder]) -> int:
        """Close the largest connections of addresses and networks over their limit; return the bytes that are left."""
        incoming = {connection: size for connection in connections if (size := connection.incoming_bytes)}
        self.unfinished = set(incoming)
        self.unmeasured_bytes = 0
        left_bytes = sum(incoming.values())
        if left_bytes <= self._address_bytes:
            return left_bytes
        self._bound(incoming, lambda connection: connection.address, self._address_bytes)
        self._bound(incoming, lambda connection: connection.network, _NETWORK_ADDRESSES * self._address_bytes)
        return sum(incoming.values())

    def _bound(self, incoming: dict[Holder, int], key_of: Callable[[Holder], object], most_bytes: float) -> None:
        """Close the largest connections of each key that has more than so many bytes, and take them out."""
        by_key: defaultdict[object, list[Holder]] = defaultdict(list)
        for connection in incoming:
            by_key[key_of(connection) or connection].append(connection)
        for holders in by_key.values():
            excess = sum([incoming[holder] for holder in holders]) - most_bytes
            holders.sort(key=incoming.__getitem__)
            while excess > 0:
                largest = holders.pop()
                excess -= incoming.pop(largest)
                largest.shed(closecodes.TOO_MUCH_UNFINISHED, too_many(_TOO_MUCH, "max_unfinished_bytes_per_address"))
