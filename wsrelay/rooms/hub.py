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
from wsrelay.policies import SLOW_POLICIES, ByRoom
from wsrelay.rooms.room import Room
from wsrelay.rooms.scheduler import Scheduler
from wsrelay.settings import Settings
from wsrelay.stats import RoomStatus, Stats, Tally

__all__ = ["TICK_SECONDS", "Hub"]

#: The most that counts of the time between two ticks. Beyond, the reactor was blocked, and nobody is slow for that.
TICK_SECONDS: Final = 1.0


class Hub:
    """All rooms of this process.

    Args:
        settings: the limits on rooms, their members and their logs, and the slow policies are used.
        stats: where to count.
        call_soon: calls a function at the end of this reactor turn; the hub asks for one flush per turn.
        seconds: the time on a fine clock, for measuring flushes.
        retention_seconds: how long a room's log, and an empty room with it, outlives its delivery.
    """

    def __init__(
        self,
        settings: Settings,
        stats: Stats,
        call_soon: Callable[[Callable[[], None]], Any],
        *,
        seconds: Callable[[], float] = lambda: 0.0,
        retention_seconds: float = 0.0,
    ) -> None:
        self._settings = settings
        self._stats = stats
        self._retention_seconds = retention_seconds
        self._slow_policies = ByRoom(settings.slow_policy, SLOW_POLICIES)
        self._now = 0.0
        #: The time in which the reactor was not blocked.
        self._served_seconds = 0.0
        self._rooms: dict[str, Room] = {}
        self._room_of: dict[Subscriber, str] = {}
        self._scheduler = Scheduler(stats, call_soon, seconds)
        #: Rooms in which somebody is behind; also such in which somebody was, until the next tick.
        self._lagging = self._scheduler.lagging

    def __len__(self) -> int:
        """Return the number of rooms."""
        return len(self._rooms)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the rooms, oldest first; a snapshot."""
        return iter(tuple(self._rooms))

    @property
    def log_bytes(self) -> int:
        """What all rooms' logs cost now, as plain frames.

        Constant to ask for. Deflated copies (one per window in use) and what transports hold are not counted.
        """
        return self._stats.log_bytes

    def member_count(self, name: str) -> int:
        """Return the number of members of a room; 0 where there is no such room."""
        return len(self._rooms[name]) if name in self._rooms else 0

    def statuses(self) -> Iterator[RoomStatus]:
        """Iterate over what is known of each room now, oldest first; rooms may come and go meanwhile."""
        return (status for name in self if (status := self.status(name)))

    def status(self, name: str) -> RoomStatus | None:
        """Return what is known of a room now, ``None`` where there is no such room."""
        return self._rooms[name].status(name) if name in self._rooms else None

    @property
    def slow_subscribers(self) -> int:
        """How many subscribers are behind in their room."""
        return sum(room.slow for room in self._lagging)

    @property
    def lag_messages(self) -> int:
        """How many messages the slowest subscriber of all is behind with."""
        return max((room.lag_messages for room in self._lagging), default=0)

    @property
    def lag_bytes(self) -> int:
        """What the largest log of a room costs that is kept for somebody who is behind."""
        return max((room.log.size_bytes for room in self._lagging), default=0)

    def given(self, subscriber: Subscriber) -> Tally:
        """Return what a subscriber has been given since it joined: messages and plain bytes; also when it has left."""
        room = self._room_with(subscriber)
        return subscriber.tally if room is None else room.given(subscriber)

    def join(self, name: str, subscriber: Subscriber, *, can_subscribe: bool = True, can_publish: bool = True) -> None:
        """Add a member to a room, which is opened if need be.

        Args:
            name: a canonical room name.
            subscriber: a member of no room so far.
            can_subscribe: whether it is to receive messages.
            can_publish: whether it may publish any, so that it may have to be held.

        Raises:
            TooManyRooms: the room would be one more than ``max_rooms``.
            RoomFull: the room has ``max_room_members`` already.
        """
        room = self._rooms.get(name)
        if room is None:
            if len(self._rooms) >= self._settings.max_rooms:
                raise TooManyRooms
            room = self._rooms[name] = self._new_room(name)
        elif len(room) >= self._settings.max_room_members:
            raise RoomFull
        room.join(subscriber, can_subscribe=can_subscribe, can_publish=can_publish)
        self._room_of[subscriber] = name

    def _new_room(self, name: str) -> Room:
        return Room(
            self._settings.room_log_bytes,
            self._stats,
            slow_policy=self._slow_policies.of(name),
            slow_seconds=self._settings.slow_seconds,
            retention_seconds=self._retention_seconds,
        )

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
        self._scheduler.add(room)
        room.publish(messages, self._now)

    def flush(self, writes: float = math.inf) -> None:
        """Deliver what is pending in all rooms, in the order in which they were published to.

        Args:
            writes: see :meth:`wsrelay.rooms.room.Room.flush`; what is then left is delivered in the next reactor turn,
            first
                that of rooms which have had no turn yet.
        """
        self._scheduler.flush(writes)

    def finish(self, subscriber: Subscriber) -> None:
        """Give a subscriber that is about to leave all that has been published; nothing if it is in no room."""
        room = self._room_with(subscriber)
        if room is not None:
            room.finish(subscriber)

    def pause(self, subscriber: Subscriber) -> None:
        """Leave a subscriber where it stands, until it resumes; nothing happens if it is in no room."""
        room = self._room_with(subscriber)
        if room is not None:
            room.pause(subscriber)
            self._lagging[room] = None

    def resume(self, subscriber: Subscriber) -> None:
        """Go on delivering to a subscriber that is no longer paused; nothing happens if it is in no room."""
        room = self._room_with(subscriber)
        if room is not None:
            room.resume(subscriber)

    def tick(self, now: float) -> None:
        """Take the time: evict those who are behind for too long, and forget what is older than the retention.

        Args:
            now: seconds on any clock that does not go back. To be called about every :data:`TICK_SECONDS`, or more
                often; of a longer time, in which the reactor was blocked, only so much counts against anybody.

        Complexity:
            One look at each room in which somebody is behind; with a retention, one at each room.
        """
        self._served_seconds += min(now - self._now, TICK_SECONDS)
        self._now = now
        for room in tuple(self._lagging):
            room.tick(self._served_seconds)
            if not room.slow:
                del self._lagging[room]
        if self._retention_seconds:
            for name in self:
                self._rooms[name].expire(now)
                self._drop_if_idle(name)

    def shed(self, size_bytes: int) -> int:
        """Evict the slowest, those of the rooms with the largest logs first, until about so much is free.

        Whatever a room's policy says. Peer sees: 1013 and "overloaded".

        Args:
            size_bytes: what :attr:`log_bytes` should become less by.

        Returns:
            What it has become less by; too little where nobody is left who is behind.

        Complexity:
            That of sorting the rooms in which somebody is behind, and of evicting.
        """
        before_bytes = self.log_bytes
        enough_bytes = before_bytes - size_bytes
        for room in sorted(self._lagging, key=lambda room: room.log.size_bytes, reverse=True):
            if self.log_bytes <= enough_bytes:
                break
            room.shed(self.log_bytes - enough_bytes)
        return before_bytes - self.log_bytes

    def set_slow_policies(self, policies: Sequence[str]) -> None:
        """Change what becomes of those who fall behind, in the rooms that there are as well.

        Args:
            policies: as ``Settings.slow_policy``.

        Raises:
            ValueError: some are wrong; nothing has changed.
        """
        self._slow_policies = ByRoom(policies, SLOW_POLICIES)
        for name, room in self._rooms.items():
            room.set_slow_policy(self._slow_policies.of(name))

    def _room_with(self, subscriber: Subscriber) -> Room | None:
        name = self._room_of.get(subscriber)
        return None if name is None else self._rooms[name]

    def _drop_if_idle(self, name: str) -> None:
        if self._rooms[name].idle:
            del self._rooms[name]
