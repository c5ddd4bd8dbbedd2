"""The memory budget: a limit on the bytes kept for all clients together. Pure.

Counts all that clients can make grow: rooms' logs, unsent bytes, incomplete messages, and connections. Over the budget,
new connections are refused and the slowest subscribers evicted. Must not live here: counting inside a room
(:mod:`wsrelay.rooms.hub`) or a connection.
"""

from collections import Counter
from collections.abc import Collection
from typing import Final, Protocol

from wsrelay import closecodes
from wsrelay.closecodes import CloseReason
from wsrelay.limits.admission import Admission
from wsrelay.rooms.hub import Hub
from wsrelay.settings import Settings

__all__ = ["CONNECTION_BYTES", "Holder", "MemoryBudget"]

#: Bytes of an idle connection, without TLS (bench/results/results.md, idle connections).
CONNECTION_BYTES: Final = 2048

#: Hysteresis: evict down to this share of the budget, and admit connections again below it.
_SHARE_TO_REOPEN: Final = 0.9


class Holder(Protocol):
    """A connection as the budget sees it."""

    @property
    def incoming_bytes(self) -> int:
        """Bytes kept of an incomplete message."""

    @property
    def unsent(self) -> bytes:
        """Bytes that wait to be written; connections may share one object."""

    def close(self, reason: CloseReason) -> None:
        """Close the connection."""


class MemoryBudget:
    """Keeps a relay within its budget.

    Args:
        settings: ``memory_budget`` is used.
        hub: the rooms.
        admission: refuses new connections while ``overloaded`` is set.

    Attributes:
        used_bytes: bytes kept at the last :meth:`keep`.
    """

    def __init__(self, settings: Settings, hub: Hub, admission: Admission) -> None:
        self._settings = settings
        self._hub = hub
        self._admission = admission
        self.used_bytes = 0

    def keep(self, connections: Collection[Holder]) -> None:
        """Measure the bytes in use; over the budget, evict: the slowest subscribers, then the largest connections.

        Peer sees:
            1013 and "overloaded"; 503 during its handshake.

        Complexity:
            Linear in connections and in fragments of incomplete messages.
        """
        incoming_bytes = sum([connection.incoming_bytes for connection in connections])
        unsent = {id(waiting): len(waiting) for connection in connections if (waiting := connection.unsent)}
        connections_bytes = CONNECTION_BYTES * len(connections)
        self.used_bytes = self._hub.log_bytes + incoming_bytes + sum(unsent.values()) + connections_bytes
        budget_bytes = self._settings.memory_budget
        if not budget_bytes:
            return
        enough_bytes = int(budget_bytes * _SHARE_TO_REOPEN)
        most_bytes = enough_bytes if self._admission.overloaded else budget_bytes
        self._admission.overloaded = self.used_bytes > most_bytes
        if self._admission.overloaded:
            excess = self.used_bytes - enough_bytes
            excess -= self._hub.shed(excess)
            self._shed(excess, connections)

    def _shed(self, excess: float, connections: Collection[Holder]) -> None:
        """Close the connections that hold most, until the excess is freed; shared bytes count in equal parts."""
        sharers = Counter(id(connection.unsent) for connection in connections)
        held = {
            connection: connection.incoming_bytes + len(connection.unsent) / sharers[id(connection.unsent)]
            for connection in connections
        }
        for connection in sorted(held, key=held.__getitem__, reverse=True):
            if excess <= 0 or not held[connection]:
                break
            connection.close(closecodes.OVERLOADED)
            excess -= held[connection]
