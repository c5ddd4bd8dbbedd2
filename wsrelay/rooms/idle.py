"""Idle rooms: without members, open for their history only, until it is too old or something else needs the place.

Pure. Must not live here: the history of one room (history), which rooms have one (histories), other rooms (hub).
"""

from collections.abc import Callable
from typing import Final

from wsrelay.message import Run
from wsrelay.rooms.histories import Histories
from wsrelay.rooms.room import Room
from wsrelay.settings import Settings
from wsrelay.stats import Stats

__all__ = ["ROOM_BYTES", "IdleRooms"]

#: Upper bound of the memory of a room without members beside its messages: on CPython 3.11, 1.9 KiB.
ROOM_BYTES: Final = 2048

#: The bound on all of them where there is no memory budget, and else as a share of it.
_MOST_BYTES: Final = 128 * 2**20
_SHARE: Final = 1 / 4


class IdleRooms:
    """The idle rooms of one hub.

    Args:
        histories: which rooms have one.
        make_room: makes a room, given its name.
        settings: ``history_seconds`` and ``history_total_bytes`` are read at each use.
        stats: where to count.

    Attributes:
        rooms: these rooms by name, the longest idle first. Read only.
    """

    def __init__(
        self, histories: Histories, make_room: Callable[[str], Room], settings: Settings, stats: Stats
    ) -> None:
        self._histories, self._make_room, self._settings, self._stats = histories, make_room, settings, stats
        self.rooms: dict[str, Room] = {}
        #: In the same order: their memory, as it is counted.
        self._entries: dict[str, int] = {}

    @property
    def overhead_bytes(self) -> int:
        """Their memory beside their logs."""
        return ROOM_BYTES * len(self.rooms)

    def begin(self, name: str, room: Room) -> None:
        """A room with history has no members any more, or a message; it is now idle for the shortest time."""
        self.take(name)
        self.rooms[name], self._entries[name] = room, 0
        self.expire(name)
        while self._stats.history_bytes > self._most_bytes:
            self.close_oldest()

    def expire(self, name: str) -> None:
        """Forget what is too old in a room, if it is idle; if nothing is left, close it."""
        room = self.rooms.get(name)
        if room is None:
            return
        room.expire()
        size_bytes = room.log.size_bytes + ROOM_BYTES
        self._count(size_bytes - self._entries[name])
        self._entries[name] = size_bytes
        if room.idle:
            self.close(name)

    def take(self, name: str) -> Room | None:
        """Return a room that is idle no longer; ``None``: it was not."""
        room = self.rooms.pop(name, None)
        if room is not None:
            self._count(-self._entries.pop(name))
        return room

    def publish(self, name: str, run: Run, *, is_full: bool) -> None:
        """Publish to a room without members: it is opened if it has a history.

        Args:
            name: the room's.
            run: the messages.
            is_full: whether there is no place for one more.
        """
        room = self.rooms.get(name)
        if room is None and self._histories.keeps(name):
            if not is_full:
                room = self._make_room(name)
            elif run.id is not None:  # with a broker: it is missing here
                self._histories.timeline_of(name).raise_floor(run.id.plus(run.count - 1))
        if room is not None:
            room.publish(run)
            room.flush()
            self.begin(name, room)

    def tick(self) -> None:
        """Close the rooms whose messages are too old; of one that is idle for a shorter time than another, later.

        Complexity:
            One look at the room that is idle for longest, and those that are closed.
        """
        count = -1
        while len(self.rooms) != count:
            count = len(self.rooms)
            self.expire(next(iter(self.rooms), ""))

    def close_oldest(self) -> None:
        """Close the room that is idle for longest; there is one."""
        self.close(next(iter(self.rooms)))

    def close(self, name: str) -> None:
        """Close a room; if it is opened again, it knows nothing of what was before now."""
        room = self.take(name)
        assert room is not None, f"{name} is not idle"
        assert room.history is not None, f"{name} has no history"
        self._histories.timeline_of(name).raise_floor(room.history.newest)
        room.forget()

    def drop(self, is_affected: Callable[[str], bool]) -> None:
        """Close rooms that are going to be filled again with all that they have, and more."""
        for name in [name for name in self.rooms if is_affected(name)]:
            room = self.take(name)
            assert room is not None
            room.forget()

    @property
    def _most_bytes(self) -> float:
        settings = self._settings
        return settings.history_total_bytes or settings.memory_budget * _SHARE or _MOST_BYTES

    def _count(self, size_bytes: int) -> None:
        self._stats.history_bytes += size_bytes
        self._stats.history_rooms = len(self.rooms)
