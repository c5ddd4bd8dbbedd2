"""The memory budget: what the relay keeps for all its clients together. Pure.

What is counted is what clients can make grow: the rooms' logs, what waits to be written, messages that are not
complete, and the connections themselves. Beyond the budget nobody else comes in, and the slowest are evicted until it
is kept.
"""

from collections import Counter
from collections.abc import Collection
from typing import Final, Protocol

from wsrelay import closecodes
from wsrelay.closecodes import CloseReason
from wsrelay.limits.admission import Admission
from wsrelay.rooms.hub import Hub

__all__ = ["CONNECTION_BYTES", "Holder", "MemoryBudget"]

#: What a connection costs, whatever it does; TLS comes on top (bench/results/results.md, idle connections).
CONNECTION_BYTES: Final = 2048

#: How much of the budget may be used before others come in again; so much is made free, or nobody ever would.
_SHARE_TO_REOPEN: Final = 0.9


class Holder(Protocol):
    """A connection as the budget sees it."""

    @property
    def incoming_bytes(self) -> int:
        """What is kept of a message that is not complete."""

    @property
    def unsent(self) -> bytes:
        """What waits to be written; connections to which the same is to be written share it."""

    def close(self, reason: CloseReason) -> None:
        """Close it."""


class MemoryBudget:
    """Keeps a relay within its budget.

    Args:
        budget_bytes: how much may be kept; 0 is no limit.
        hub: its rooms.
        admission: which is told when nobody else may come in.

    Attributes:
        used_bytes: how much was kept when it was looked at last.
    """

    def __init__(self, budget_bytes: int, hub: Hub, admission: Admission) -> None:
        self._budget_bytes = budget_bytes
        self._hub = hub
        self._admission = admission
        self.used_bytes = 0

    def keep(self, connections: Collection[Holder]) -> None:
        """Look at what is used; if it is too much, evict the slowest: in the rooms' logs, then among the connections.

        Peer sees:
            1013 and "overloaded"; 503 while its handshake is not done.

        Complexity:
            One look at each connection, and at each part of a message that is not complete.
        """
        incoming_bytes = sum([connection.incoming_bytes for connection in connections])
        unsent = {id(waiting): len(waiting) for connection in connections if (waiting := connection.unsent)}
        connections_bytes = CONNECTION_BYTES * len(connections)
        self.used_bytes = self._hub.log_bytes + incoming_bytes + sum(unsent.values()) + connections_bytes
        if not self._budget_bytes:
            return
        enough_bytes = int(self._budget_bytes * _SHARE_TO_REOPEN)
        most_bytes = enough_bytes if self._admission.overloaded else self._budget_bytes
        self._admission.overloaded = self.used_bytes > most_bytes
        if self._admission.overloaded:
            excess = self.used_bytes - enough_bytes
            excess -= self._hub.shed(excess)
            self._shed(excess, connections)

    def _shed(self, excess: float, connections: Collection[Holder]) -> None:
        """Close those for whom most is kept, until it is enough; what several share is free when the last one goes."""
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
