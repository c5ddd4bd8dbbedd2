"""What becomes of slow subscribers: a table of policies. Which room has which is :mod:`wsrelay.by_room`'s.

A subscriber is slow when its cursor has fallen off its room's log, or when what it waits for has become old. Who that
is, and doing what the policy says, is the room's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["DISCONNECT", "SLOW_POLICIES", "SlowPolicy"]


@dataclass(frozen=True, slots=True)
class SlowPolicy:
    """One row of the table.

    Attributes:
        name: for options and counters.
        keep: how much of the log is left for a subscriber that has fallen off it: 0 is the newest message only, 1 all
            of it, and it would fall off again at once. ``None``: it is evicted. Peer sees: 1013 and "too slow".
        holds_publishers: whether the room stops reading its publishers while somebody is far behind.
    """

    name: str
    keep: float | None = None
    holds_publishers: bool = False

    @property
    def evicts(self) -> bool:
        """Whether nobody loses a message without losing the connection; time counts then, too (``slow_seconds``)."""
        return self.keep is None


#: What is done where nothing else was chosen.
DISCONNECT: Final = SlowPolicy("disconnect")

#: The slow policies by name. A new one is a row here.
SLOW_POLICIES: Final[Mapping[str, SlowPolicy]] = {
    policy.name: policy
    for policy in (
        DISCONNECT,
        # Half of the log: what is forgotten once in a while is looked for once in a while.
        SlowPolicy("drop-oldest", keep=0.5),
        SlowPolicy("latest", keep=0),
        SlowPolicy("pause-publishers", holds_publishers=True),
    )
}
