"""What becomes of slow subscribers: a table of policies, and which room has which.

A subscriber is slow when its cursor has fallen off its room's log, or when what it waits for has become old. Who that
is, and doing what the policy says, is the room's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from wsrelay.names import RoomPattern

__all__ = ["DISCONNECT", "SLOW_POLICIES", "SlowPolicies", "SlowPolicy"]


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


class SlowPolicies:
    """Which room has which policy.

    Args:
        texts: each ``POLICY``, for all rooms, or ``PATTERN=POLICY`` for those of a pattern (see
            :class:`wsrelay.names.RoomPattern`), of which the first that fits counts.

    Raises:
        ValueError: names all that are wrong, with what to write instead.
    """

    def __init__(self, texts: Sequence[str] = ()) -> None:
        self._default: SlowPolicy | None = None
        self._by_pattern: list[tuple[RoomPattern, SlowPolicy]] = []
        problems: list[str] = []
        for text in texts:
            try:
                self._add(*text.rpartition("="))
            except ValueError as error:
                problems.append(f"{text!r}: {error}")
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def any_holds_publishers(self) -> bool:
        """Whether in any room publishers may be held."""
        policies = [self._default, *(policy for _, policy in self._by_pattern)]
        return any(policy.holds_publishers for policy in policies if policy)

    def of(self, room: str) -> SlowPolicy:
        """Return the policy of a room, given its name."""
        fitting = (policy for pattern, policy in self._by_pattern if room in pattern)
        return next(fitting, self._default or DISCONNECT)

    def _add(self, pattern: str, equals: str, name: str) -> None:
        policy = SLOW_POLICIES.get(name)
        if policy is None:
            choice = ", ".join(SLOW_POLICIES)
            raise ValueError(f"there is no such policy; write POLICY or PATTERN=POLICY with one of {choice}")
        if equals:
            self._by_pattern.append((RoomPattern(pattern), policy))
        elif self._default is None:
            self._default = policy
        else:
            raise ValueError(f"{self._default.name} is for all rooms already; write PATTERN={name} for some of them")
