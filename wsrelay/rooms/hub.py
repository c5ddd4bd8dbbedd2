"""The hub: the rooms of this process by name, the room of each member, and when rooms are flushed.

Pure: no I/O, no clock. Must not live here: where messages come from (connection), other processes (backplane), what
happens inside a room (room).
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from wsrelay.errors import RoomFull, TooManyRooms
from wsrelay.interfaces import Subscriber
from wsrelay.message import Run
from wsrelay.message_id import epoch_of
from wsrelay.names import PROBE_ROOM
from wsrelay.policies import SLOW_POLICIES, ByRoom
from wsrelay.rooms.due import Due
from wsrelay.rooms.frame_cache import FrameCache
from wsrelay.rooms.histories import Histories
from wsrelay.rooms.history import Reading
from wsrelay.rooms.idle import IdleRooms
from wsrelay.rooms.invariants import require
from wsrelay.rooms.room import Room
from wsrelay.rooms.scheduler import Scheduler
from wsrelay.settings import Settings
from wsrelay.stats import NOTHING, RoomStatus, Stats, Tally
from wsrelay.wanted import ALL_NEW, Start, Wanted

__all__ = ["CROWDED_SHARE", "TICK_SECONDS", "Hub"]

#: The share of a room's log that its publishers may fill within one turn, about.
CROWDED_SHARE: Final = 1 / 2

#: The most that counts of the time between two ticks. In the rest the reactor was blocked, which makes no subscriber
#: slow.
TICK_SECONDS: Final = 1.0


class Hub:
    """All rooms of this process.

    A room is *crowded* once its publishers have filled half its log within one turn. The others had better wait for the
    next one: subscribers cannot take more before it, and would fall off the log although they read (issue 2).

    Args:
        settings: the limits on rooms, members and logs are read at each use; ``slow_policy`` once, see
            :meth:`set_slow_policies`.
        stats: where to count.
        call_soon: calls a function at the end of this reactor turn; the hub asks for one flush per turn.
        seconds: the time on a fine clock, for measuring flushes.
        epoch: the epoch of messages' ids, without a broker.
        now: the time, as for :meth:`tick`.

    Attributes:
        histories: which rooms have one.
        drop_idle: closes idle rooms. See :meth:`wsrelay.rooms.idle.IdleRooms.drop`.
        names: a view of the names of the rooms.
        crowded: the crowded rooms by name, until they are flushed. For reading.
    """

    def __init__(
        self,
        settings: Settings,
        stats: Stats,
        call_soon: Callable[[Callable[[], None]], object],
        *,
        seconds: Callable[[], float] = lambda: 0.0,
        epoch: str = epoch_of(0),
        now: float = 0.0,
    ) -> None:
        self._settings, self._stats = settings, stats
        self._slow_policies = ByRoom(settings.slow_policy, SLOW_POLICIES)
        self._now = now
        #: The time during which the reactor was not blocked.
        self._served_seconds = 0.0
        self._rooms: dict[str, Room] = {}
        self.names = self._rooms.keys()
        self._cache = cache = FrameCache(settings)
        self.histories = Histories(self._found, settings, stats, cache, seconds=lambda: self._now, epoch=epoch)
        #: Rooms with members are in _rooms only, so that a publish looks there only.
        self._idle = IdleRooms(self.histories, self._make_room, settings, stats)
        self.drop_idle = self._idle.drop
        self._room_of: dict[Subscriber, str] = {}
        self._scheduler = Scheduler(stats, call_soon, seconds)
        self.crowded = self._scheduler.crowded
        self._lagging = self._scheduler.lagging

    def __len__(self) -> int:
        """Return the number of rooms."""
        return len(self._rooms)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the rooms, oldest first; a snapshot."""
        return iter(tuple(self._rooms))

    @property
    def log_bytes(self) -> int:
        """The cost of all rooms' logs now, as plain frames, and of rooms that are open for them only."""
        return self._stats.log_bytes + self._idle.overhead_bytes

    @property
    def cached_bytes(self) -> int:
        """The memory of encoded frames that are kept for lagging subscribers, and histories."""
        return self._cache.size_bytes

    def free(self, excess_bytes: float) -> int:
        """Forget what can be done without, because memory is short; return the freed bytes.

        Encoded frames first, which are made again when needed; then as much history, idle rooms' first, as is needed.
        """
        freed_bytes, kept_bytes = self._cache.clear(), self.log_bytes
        enough_bytes = kept_bytes - (excess_bytes - freed_bytes)
        while self._idle.rooms and self.log_bytes > enough_bytes:
            self._idle.close_oldest()
        for room in self._rooms.values():
            if self.log_bytes <= enough_bytes:
                break
            room.forget()
        return freed_bytes + kept_bytes - self.log_bytes

    @property
    def is_full(self) -> bool:
        """Whether there are ``max_rooms`` rooms with members, without the readiness probe's."""
        return len(self._rooms) - (PROBE_ROOM in self._rooms) >= self._settings.max_rooms

    def member_count(self, name: str) -> int:
        """Return the number of members of a room; 0 where there is none."""
        return len(self._rooms.get(name, ()))

    def statuses(self) -> Iterator[RoomStatus]:
        """Iterate over the status of each room, oldest first; rooms may come and go meanwhile."""
        return (status for name in self if (status := self.status(name)))

    def status(self, name: str) -> RoomStatus | None:
        """Return the status of a room, ``None`` where there is no such room."""
        return self._rooms[name].status(name) if name in self._rooms else None

    @property
    def lagging(self) -> tuple[Room, ...]:
        """The rooms whose logs may be kept for lagging subscribers."""
        return tuple(self._lagging)

    @property
    def slow_subscribers(self) -> int:
        """The number of subscribers that lag behind their room."""
        return sum(room.lagging for room in self._lagging)

    @property
    def lag_messages(self) -> int:
        """The lag of the slowest subscriber of all, in messages."""
        return max((room.lag_messages for room in self._lagging), default=0)

    @property
    def lag_bytes(self) -> int:
        """The cost of the largest log of a room with lagging subscribers."""
        return max((room.log.size_bytes for room in self._lagging), default=0)

    @property
    def replaying(self) -> int:
        """The number of subscribers that get what was published before they joined."""
        return sum(len(room.replays) for room in self._lagging)

    def given(self, subscriber: Subscriber) -> Tally:
        """Return the messages and the plain bytes that a subscriber was given since it joined; 0 if it is in no room.

        Its own messages do not count, nor what it skipped. Bytes that wait in its transport do.

        Complexity:
            Constant; while a flush of several stretches is under way, for a publisher that of its messages in it.
        """
        room = self._room_with(subscriber)
        return NOTHING if room is None else room.given(subscriber)

    def join(
        self,
        name: str,
        subscriber: Subscriber,
        *,
        can_subscribe: bool = True,
        can_publish: bool = True,
        wanted: Wanted = ALL_NEW,
    ) -> Start:
        """Add a member to a room; the first member opens it. What it wants of the history comes in the next flush.

        Args:
            name: a canonical room name.
            subscriber: a member of no room so far.
            can_subscribe: whether it receives messages.
            can_publish: whether it may publish; only then it is ever held.
            wanted: what it wants of the history.

        Raises:
            TooManyRooms: the room would exceed ``max_rooms``.
            RoomFull: the room has ``max_room_members`` already.
        """
        room = self._rooms.get(name)
        if room is None or len(room) >= self._settings.max_room_members:
            self.check_join(name)
            if room is None:  # else the readiness probe's, for which there is no limit
                room = self._rooms[name] = self._take_or_make(name)
        room.expire()
        start = room.join(subscriber, can_subscribe=can_subscribe, can_publish=can_publish, wanted=wanted)
        self._room_of[subscriber] = name
        if subscriber in room.replays:
            self._scheduler.add(room, 0)
        return start

    def check_join(self, name: str) -> None:
        """Raise what :meth:`join` would raise now, without joining. No limit holds for the readiness probe."""
        if name == PROBE_ROOM:
            return
        room = self._rooms.get(name)
        if room is not None and len(room) >= self._settings.max_room_members:
            raise RoomFull
        if room is None and self.is_full:
            raise TooManyRooms

    def _take_or_make(self, name: str) -> Room:
        room = self._idle.take(name)
        if room is None:
            return self._make_room(name)
        room.set_slow_policy(self._slow_policies.of(name))
        return room

    def _make_room(self, name: str) -> Room:
        """Make a room, for which there is a place; the room that is idle for longest may have to give its own."""
        idle = self._idle
        if idle.rooms and name != PROBE_ROOM and len(self._rooms) + len(idle.rooms) >= self._settings.max_rooms:
            idle.close_oldest()
        policy = self._slow_policies.of(name)
        return Room(self._settings, self._stats, slow_policy=policy, log=self.histories.log(name))

    def leave(self, subscriber: Subscriber) -> Tally | None:
        """Remove a member from its room.

        Returns:
            The messages and plain bytes that it was given in all, also where the room has evicted it. ``None``: it
            is in no room, or has left already.
        """
        name = self._room_of.pop(subscriber, None)
        if name is None:
            return None
        given = self._rooms[name].leave(subscriber)
        self._drop_if_idle(name)
        return given

    def publish(self, room: str, run: Run) -> None:
        """Deliver a run to a room, at once or at the end of this reactor turn.

        Messages to a room without members are dropped, unless it has a history.

        Complexity:
            See :meth:`wsrelay.rooms.room.Room.publish`.
        """
        opened = self._rooms.get(room)
        if opened is None:
            if self.histories.exist:
                self._idle.publish(room, run, is_full=self.is_full)
            return
        due = opened.publish(run)
        if not due:  # the usual case in rooms of two
            return
        if due is Due.FLUSH:
            published_bytes = self._scheduler.add(opened, len(run.plain))
            if published_bytes > self._settings.room_log_bytes * CROWDED_SHARE:
                self.crowded[room] = opened
        else:
            self._scheduler.add_end(opened)

    def flush(self, writes: float = math.inf) -> None:
        """Deliver all pending messages, rooms in the order of their first one.

        Args:
            writes: see :meth:`wsrelay.rooms.room.Room.flush`. The rest is delivered in the next reactor turn, rooms
                without a turn so far first.
        """
        self._scheduler.flush(writes)

    def finish(self, subscriber: Subscriber) -> None:
        """Give a subscriber that is about to leave all that has been published; no effect if it is in no room."""
        room = self._room_with(subscriber)
        if room is not None:
            room.finish(subscriber)

    def pause(self, subscriber: Subscriber) -> None:
        """Leave a subscriber where it stands until it resumes; no effect if it is in no room."""
        room = self._room_with(subscriber)
        if room is not None:
            room.pause(subscriber)
            self._lagging[room] = None

    def resume(self, subscriber: Subscriber) -> None:
        """Go on delivering to a paused subscriber; no effect if it is in no room."""
        room = self._room_with(subscriber)
        if room is not None:
            room.resume(subscriber)

    def tick(self, now: float) -> None:
        """Evict slow subscribers by age, and close idle rooms whose history is too old.

        Args:
            now: seconds on any clock that does not go back. Call this every :data:`TICK_SECONDS` or more often; of a
                longer time, in which the reactor was blocked, only that much counts against subscribers.

        Complexity:
            One look at each room with lagging subscribers, and at those that are closed.
        """
        self._served_seconds += min(now - self._now, TICK_SECONDS)
        self._now = now
        for room in tuple(self._lagging):
            room.tick(self._served_seconds)
            if not room.lagging:
                del self._lagging[room]
        self._idle.tick()

    def shed(self, subscriber: Subscriber) -> None:
        """Evict a stalled subscriber because memory is short; no effect if it is in no room.

        Applies under any slow policy. Peer sees: 1013 and "overloaded".
        """
        name = self._room_of.get(subscriber)
        if name is not None:
            room = self._rooms[name]
            room.shed(subscriber)
            if name in self._idle.rooms:  # it was the last member, and what only it needed is forgotten
                self._idle.begin(name, room)

    def miss(self, is_affected: Callable[[str], bool]) -> None:
        """Apply the slow policy of rooms to their subscribers, because messages may be lost before they came here.

        Args:
            is_affected: takes a room's name. The readiness probe's is spared.
        """
        for name in (*self._rooms, *self._idle.rooms):
            if name != PROBE_ROOM and is_affected(name) and (room := self._found(name)) is not None:
                room.miss()

    def check_publish(self, name: str) -> None:
        """Raise ``TooManyRooms`` where a message had to open a room with history, and there is no place for one."""
        if self.is_full and self.histories.keeps(name) and self._found(name) is None:
            raise TooManyRooms

    def read(self, name: str, wanted: Wanted) -> Reading | None:
        """See :meth:`wsrelay.rooms.histories.Histories.read`."""
        room = self._rooms.get(name)
        self._idle.expire(name) if room is None else room.expire()
        return self.histories.read(name, wanted)

    def set_slow_policies(self, policies: Sequence[str]) -> None:
        """Replace the slow policies, in open rooms as well.

        Args:
            policies: as ``Settings.slow_policy``.

        Raises:
            ValueError: some are wrong; all policies stay.
        """
        self._slow_policies = ByRoom(policies, SLOW_POLICIES)
        for name, room in self._rooms.items():
            room.set_slow_policy(self._slow_policies.of(name))

    def _room_with(self, subscriber: Subscriber) -> Room | None:
        return None if (name := self._room_of.get(subscriber)) is None else self._rooms[name]

    def _drop_if_idle(self, name: str) -> None:
        room = self._rooms[name]
        if not len(room):
            del self._rooms[name]
            if room.history is not None:
                self._idle.begin(name, room)

    def _found(self, name: str) -> Room | None:
        """Return an open room, with members or without."""
        room = self._rooms.get(name)
        return self._idle.rooms.get(name) if room is None else room

    def check(self) -> None:
        """Raise ``AssertionError`` if an invariant of the hub or of its rooms is broken. For tests, between calls.

        Complexity:
            One look at each member, and at each message in the logs.
        """
        rooms, idle = self._rooms, self._idle.rooms.values()
        every = [*rooms.values(), *idle]
        for room in every:
            room.check()
        self._cache.check([run for room in every for run in room.log])
        require(
            {
                "the logs do not add up": self._stats.log_bytes == sum(room.log.size_bytes for room in every),
                "an idle room has members, or no messages": not any(len(room) or room.idle for room in idle),
                "a room has other members than those of the hub": Counter(self._room_of.values())
                == {name: len(room) for name, room in rooms.items()},
                "a room is neither flushed nor looked at by the tick": all(
                    room in self._lagging or room in self._scheduler or not (room.lagging and room.lag_messages)
                    for room in every
                ),
            }
        )
