"""Histories: which rooms have one and how long, and reading one by the name of its room.

Pure. Must not live here: the history of one room (history), rooms that are open for their history only (idle).
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from wsrelay.message import Run
from wsrelay.message_id import MessageId
from wsrelay.names import PROBE_ROOM
from wsrelay.policies import COUNTS, ByRoom
from wsrelay.rooms.frame_cache import FrameCache
from wsrelay.rooms.history import History, Reading
from wsrelay.rooms.log import Log
from wsrelay.rooms.room import Room
from wsrelay.rooms.timeline import Timeline
from wsrelay.settings import Settings
from wsrelay.stats import Stats
from wsrelay.wanted import Wanted

__all__ = ["Histories"]

#: The most rooms whose choice is remembered.
_REMEMBERED: Final = 4096


class Histories:
    """Makes the histories of rooms, and reads them.

    Args:
        found: returns an open room, given its name, or ``None``.
        settings: ``history`` and ``greet`` are read once, the others at each use.
        stats: where to count.
        cache: of encoded frames.
        seconds: the time.
        epoch: the first epoch of ids, without a broker.

    Attributes:
        placing: runs whose ids are awaited → what is called with the id. See :meth:`when_placed`.
        exist: whether any room has a history.
        keeps: returns how many messages a room keeps, given its name; 0: it has no history.
        timeline_of: returns the timeline of a room, given its name; a backplane with a broker sets its own.
    """

    def __init__(
        self,
        found: Callable[[str], Room | None],
        settings: Settings,
        stats: Stats,
        cache: FrameCache,
        *,
        seconds: Callable[[], float],
        epoch: str,
    ) -> None:
        self._found, self._settings, self._stats, self._cache, self._seconds = found, settings, stats, cache, seconds
        self._kept, self._greetings = ByRoom(settings.history, COUNTS), ByRoom(settings.greet, COUNTS)
        self.exist = any([*self._kept.chosen, *self._greetings.chosen])
        self.keeps = lru_cache(_REMEMBERED)(self._keeps) if self.exist else _nothing
        timeline = Timeline(epoch)
        self.timeline_of: Callable[[str], Timeline] = lambda _: timeline
        self.placing: dict[Run, Callable[[MessageId], object]] = {}

    def log(self, room: str) -> Log:
        """Return a new log for a room: its history, if it has one."""
        most = self.keeps(room)
        if not most:
            return Log(self._stats, self._cache)
        return self._history(room, most)

    def at(self, room: str) -> MessageId:
        """Return the id up to which everything is published now in a room with history, open or not."""
        return self._of(room).at

    def read(self, room: str, wanted: Wanted) -> Reading | None:
        """Return messages of a room with history, open or not, after it has expired; ``None``: what is wanted is gone.

        Complexity:
            That of the messages.
        """
        return self._of(room).read(wanted)

    def when_placed(self, run: Run, placed: Callable[[MessageId], object]) -> Callable[[], object]:
        """Call a function with the id of a run that is published in a room with history, as soon as it has one.

        Returns:
            What gives this up: with a broker, it may be lost.
        """
        if run.id is not None:
            placed(run.id)
        else:
            self.placing[run] = placed
        return lambda: self.placing.pop(run, None)

    def placed(self, run: Run) -> None:
        """Tell the id of a run that was published, where that is awaited."""
        if run.id is not None and run in self.placing:
            self.placing.pop(run)(run.id)

    def _of(self, room: str) -> History:
        """Return the history of a room; if it is not open, that with which it would be opened."""
        opened = self._found(room)
        if opened is not None and opened.history is not None:
            return opened.history
        return self._history(room, self.keeps(room))

    def _history(self, room: str, most: int) -> History:
        return History(
            self._stats,
            self._cache,
            timeline=self.timeline_of(room),
            settings=self._settings,
            seconds=self._seconds,
            most_messages=most,
            greeting=self._greetings.of(room),
        )

    def _keeps(self, room: str) -> int:
        return 0 if room == PROBE_ROOM else max(self._kept.of(room), self._greetings.of(room))


def _nothing(_: str) -> int:
    return 0
