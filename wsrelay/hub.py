"""The hub: the rooms of this process by name, who is in which, and when they are flushed.

Pure: no I/O, no clock. What must not live here: where messages come from (protocol), other processes
(backplane), what happens inside a room (room).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from wsrelay.errors import RoomFull, TooManyRooms
from wsrelay.interfaces import Subscriber
from wsrelay.message import Message
from wsrelay.room import Room
from wsrelay.settings import Settings
from wsrelay.stats import Stats

__all__ = ["STRETCH_WRITES", "Hub"]

#: How many writes, about, are done in one reactor turn before others have theirs. One costs 3 to 24 µs, most of it the
#: kernel's, so that the reactor is held for 25 ms.
STRETCH_WRITES: Final = 1024


class Hub:
    """All rooms of this process.

    Args:
        settings: ``max_rooms``, ``max_room_members`` and ``room_log_bytes`` are used.
        stats: where to count.
        call_soon: calls a function at the end of this reactor turn; the hub asks for one flush per turn.
        retention_seconds: how long a room's log, and an empty room with it, outlives its delivery.
    """

    def __init__(
        self,
        settings: Settings,
        stats: Stats,
        call_soon: Callable[[Callable[[], None]], Any],
        *,
        retention_seconds: float = 0.0,
    ) -> None:
        self._settings = settings
        self._stats = stats
        self._call_soon = call_soon
        self._retention_seconds = retention_seconds
        self._now = 0.0
        self._rooms: dict[str, Room] = {}
        self._room_of: dict[Subscriber, str] = {}
        #: Rooms with messages that wait for this turn's flush. A dict as an ordered set.
        self._pending: dict[Room, None] = {}
        self._scheduled = False

    def __len__(self) -> int:
        """Return the number of rooms."""
        return len(self._rooms)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the rooms, oldest first; a snapshot."""
        return iter(tuple(self._rooms))

    def member_count(self, name: str) -> int:
        """Return the number of members of a room; 0 where there is no such room."""
        room = self._rooms.get(name)
        return 0 if room is None else len(room)

    def join(self, name: str, subscriber: Subscriber, *, can_subscribe: bool = True) -> None:
        """Add a member to a room, which is opened if need be.

        Args:
            name: a canonical room name.
            subscriber: a member of no room so far.
            can_subscribe: whether it is to receive messages.

        Raises:
            TooManyRooms: the room would be one more than ``max_rooms``.
            RoomFull: the room has ``max_room_members`` already.
        """
        room = self._rooms.get(name)
        if room is None:
            if len(self._rooms) >= self._settings.max_rooms:
                raise TooManyRooms
            room = self._rooms[name] = Room(
                self._settings.room_log_bytes, self._stats, retention_seconds=self._retention_seconds
            )
        elif len(room) >= self._settings.max_room_members:
            raise RoomFull
        room.join(subscriber, can_subscribe=can_subscribe)
        self._room_of[subscriber] = name

    def leave(self, subscriber: Subscriber) -> None:
        """Remove a member from its room; nothing happens if it is in none (it may be told twice)."""
        name = self._room_of.pop(subscriber, None)
        if name is not None:
            self._rooms[name].leave(subscriber)
            self._drop_if_idle(name)

    def publish(self, name: str, messages: Sequence[Message]) -> None:
        """Append messages to a room's log; they are delivered at the end of this reactor turn.

        A room that is gone has nobody to deliver to; the messages are dropped.
        """
        room = self._rooms.get(name)
        if room is None:
            return
        self._pending[room] = None
        self._schedule()
        room.publish(messages, self._now)

    def flush(self, writes: float = math.inf) -> None:
        """Deliver what is pending in all rooms, in the order in which they were published to.

        Args:
            writes: see :meth:`wsrelay.room.Room.flush`; what is then left is delivered in the next reactor turn, first
                that of rooms which have had no turn yet.
        """
        turns, unfinished = list(self._pending), dict[Room, None]()
        try:
            for room in turns:
                if writes <= 0:
                    break
                del self._pending[room]
                writes = room.flush(writes)
                if room.pending:
                    unfinished[room] = None
        finally:
            # Also when a room raises: the others must not wait until somebody publishes to them again.
            self._pending |= unfinished
            if self._pending:
                self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._call_soon(self._flush_stretch)

    def _flush_stretch(self) -> None:
        self._scheduled = False
        self.flush(STRETCH_WRITES)

    def finish(self, subscriber: Subscriber) -> None:
        """Give a subscriber that is about to leave all that has been published; nothing if it is in no room."""
        name = self._room_of.get(subscriber)
        if name is not None:
            self._rooms[name].finish(subscriber)

    def pause(self, subscriber: Subscriber) -> None:
        """Leave a subscriber where it stands, until it resumes; nothing happens if it is in no room."""
        name = self._room_of.get(subscriber)
        if name is not None:
            self._rooms[name].pause(subscriber)

    def resume(self, subscriber: Subscriber) -> None:
        """Go on delivering to a subscriber that is no longer paused; nothing happens if it is in no room."""
        name = self._room_of.get(subscriber)
        if name is not None:
            self._rooms[name].resume(subscriber)

    def tick(self, now: float) -> None:
        """Take the time, and forget what is older than the retention.

        Args:
            now: seconds on any clock that does not go back.

        Complexity:
            Constant without a retention; one look at each room with one.
        """
        self._now = now
        if not self._retention_seconds:
            return
        for name in self:
            self._rooms[name].expire(now)
            self._drop_if_idle(name)

    def _drop_if_idle(self, name: str) -> None:
        if self._rooms[name].idle:
            del self._rooms[name]
