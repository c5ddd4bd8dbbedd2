"""What becomes of slow subscribers: a table of policies.

A subscriber is slow when its cursor has fallen off its room's log. Who that is, is the room's.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from wsrelay import closecodes
from wsrelay.interfaces import Subscriber

__all__ = ["SLOW_POLICIES", "SlowPolicy"]

#: Takes the :class:`wsrelay.room.Room`, for its ``log``, and the subscriber. Returns the offset from
#: which it goes on, or ``None`` where it was evicted.
SlowPolicy = Callable[[Any, Subscriber], int | None]


def _disconnect(_room: Any, subscriber: Subscriber) -> None:
    """Evict it. Peer sees: 1013 and "too slow"; it may come back when it can read."""
    subscriber.evict(closecodes.TOO_SLOW)


#: The slow policies by name. A new one is a function above and a row here.
SLOW_POLICIES: Final[Mapping[str, SlowPolicy]] = {"disconnect": _disconnect}
