"""Placer: gives messages their ids, by the places of their entries in the stream, where any room has a history.

A room's history is filled from the stream before its first member comes (warm-up), and by all that comes after.

Must not live here: epochs (:mod:`wsrelay.backplane.epochs`), duplicates and gaps (:mod:`wsrelay.backplane.inbox`), what
a room keeps (:mod:`wsrelay.rooms.history`).
"""

from collections.abc import Callable, Iterator, Mapping

from twisted.logger import Logger

from wsrelay.backplane.context import Relay
from wsrelay.backplane.entry import Entry, Id, unpack
from wsrelay.backplane.epochs import Epochs
from wsrelay.backplane.inbox import Verdict
from wsrelay.backplane.outbox import Outbox
from wsrelay.message import Run
from wsrelay.message_id import MessageId
from wsrelay.names import PROBE_ROOM
from wsrelay.rooms.timeline import Timeline

__all__ = ["Placer"]

_log = Logger(namespace="wsrelay")


class Placer:
    """The way of entries to rooms of which some have a history.

    Args:
        node: the name in the own entries.
        outbox: the own entries.
        epochs: of the stream.
        timeline: of the shard's rooms.
        relay: this process.
        is_mine: whether a room's messages are in this stream.
    """

    def __init__(
        self,
        node: str,
        outbox: Outbox,
        epochs: Epochs,
        timeline: Timeline,
        relay: Relay,
        is_mine: Callable[[str], bool],
    ) -> None:
        self._node, self._outbox = node, outbox
        self._epochs, self._timeline = epochs, timeline
        self._relay, self._hub, self._stats = relay, relay.hub, relay.stats.backplane
        self._keeps = relay.hub.histories.keeps
        self._is_mine = is_mine
        self._is_first = True

    def learn(self) -> None:
        """The stream is read from its start, and what its rooms kept is dropped; none has a member."""
        self._hub.drop_idle(self._is_mine)
        self._is_first = True

    def miss(self, place: Id) -> None:
        """Messages before a place are missing: rooms that are opened from now on know nothing of them."""
        self._timeline.raise_floor(MessageId(self._timeline.epoch, place))

    def doubt(self) -> None:
        """The broker has lost entries: see :meth:`wsrelay.backplane.epochs.Epochs.doubt`."""
        self._epochs.doubt()

    def lose(self, owed: Mapping[str, int], until: float) -> None:
        """The broker has lost entries: see :meth:`wsrelay.backplane.epochs.Epochs.lose`."""
        _log.warn("backplane: messages may be lost or come again: clients that return from now on get no history")
        self._epochs.lose(owed, until)

    def deliver(self, identity: Id, found: Entry, verdict: Verdict, last: Id | None = None) -> Iterator[None]:
        """Deliver the messages of an entry, and yield behind each run.

        Args:
            identity: of the entry.
            found: the entry.
            verdict: of the inbox. What was published before this node started goes to rooms with a history only.
            last: while the stream is read for the first time, its last id then; ages count from it.
        """
        timeline, age_seconds = self._timeline, 0.0 if last is None else last.seconds_behind(identity)
        is_kept = not 0.0 < self._relay.settings.history_seconds < age_seconds
        self._epochs.read(found, identity)
        if self._is_first and is_kept:
            self._is_first = False
            self.miss(identity)
        if last is None and self._epochs.is_unknown:  # an empty stream, or one of nodes without history
            self._epochs.begin(identity)
        if verdict is Verdict.LEARNED_GAP:
            self._forget(identity, is_warm_up=last is not None)
        if verdict is not Verdict.DUPLICATE and is_kept:
            at = self._relay.reactor.seconds() - age_seconds
            is_old = verdict is Verdict.LEARNED or verdict is Verdict.LEARNED_GAP
            yield from self._publish(identity, at, self._runs(found, is_old=is_old))
        timeline.head = identity.behind
        self._epochs.delivered(found, timeline.head)

    def _publish(self, place: Id, at: float, runs: Iterator[tuple[int, str, Run]]) -> Iterator[None]:
        publish, histories, keeps = self._hub.publish, self._hub.histories, self._keeps
        epoch, (milliseconds, sequence) = self._timeline.epoch, place
        for index, room, run in runs:
            if keeps(room):
                run.id, run.published_at = MessageId(epoch, (milliseconds, sequence, index)), at
            publish(room, run)
            if histories.placing:
                histories.placed(run)
            yield

    def _runs(self, found: Entry, *, is_old: bool) -> Iterator[tuple[int, str, Run]]:
        """Return what is to be delivered: indexes in the entry, rooms and runs, the own ones as they were published."""
        own = self._outbox.take(found.seq) if found.node == self._node else None
        if own is None:
            yield from self._foreign(found, is_old=is_old)
            return
        index = 0
        for room, run in own:
            if not is_old or self._keeps(room):
                yield index, room, run
            index += run.count

    def _foreign(self, found: Entry, *, is_old: bool) -> Iterator[tuple[int, str, Run]]:
        keeps, counts, index = self._keeps, self._stats.read_messages, 0
        rooms = () if is_old else self._hub.names
        for record in unpack(found.blob):
            room, count, handle = record.room, record.count, record.left_out
            if keeps(room) or (room in rooms and room != PROBE_ROOM):  # each node probes itself
                counts["yes"] += count
                yield index, room, Run(record.plain, count, self._relay.member(handle) if handle else None)
            else:
                counts["no"] += count
            index += count

    def _forget(self, place: Id, *, is_warm_up: bool) -> None:
        """Entries are missing that this node was not to deliver: rooms with a history forget what was before."""
        self.miss(place)
        if is_warm_up:
            self._hub.drop_idle(self._is_mine)
        else:
            self._hub.miss(lambda room: self._is_mine(room) and self._keeps(room) > 0)
