"""Tail: reads the stream of one shard, and gives its messages to the hub.

Own messages come back, too, and are delivered only then: one order on all nodes. Must not live here: duplicates and
gaps (:mod:`wsrelay.backplane.inbox`), what follows from a failure (:mod:`wsrelay.backplane.shard`).
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final, cast

from twisted.logger import Logger

from wsrelay.backplane import entry
from wsrelay.backplane.context import Relay
from wsrelay.backplane.entry import Entry, Id
from wsrelay.backplane.inbox import Inbox, Verdict
from wsrelay.backplane.outbox import Outbox
from wsrelay.backplane.placer import Placer
from wsrelay.backplane.redis_errors import RedisError
from wsrelay.backplane.redis_protocol import RedisProtocol, Reply
from wsrelay.backplane.survey import START
from wsrelay.backplane.trim import Marks
from wsrelay.message import Run
from wsrelay.names import PROBE_ROOM

__all__ = ["BLOCK_SECONDS", "Tail"]

_log = Logger(namespace="wsrelay")

#: How long the broker waits for a new entry before it answers that there is none.
BLOCK_SECONDS: Final = 1.0

#: About the most bytes of one reply, and the most entries.
_REPLY_BYTES: Final = 2**20
_REPLY_ENTRIES: Final = 1024

#: The time for deliveries in one turn of the reactor, about: an entry may have messages for a thousand rooms.
STRETCH_SECONDS: Final = 0.005

#: A node that was not read for so long before a loss is not awaited after it.
SILENT_SECONDS: Final = 10.0

#: The entries of a first reply, which are of an unknown size.
_FIRST_ENTRIES: Final = 64

#: An id, and names and values in turn.
_Read = tuple[bytes, list[bytes]]


class Tail:
    """The way from a stream to the rooms of this process.

    Args:
        key: of the stream.
        node: the name in the own entries, which are in the outbox.
        outbox: the own entries.
        relay: this process.
        placer: delivers entries where any room has a history.
        is_mine: whether a room's messages are in this stream.
        came_back: called with the sequence number of an own entry that was read.
        delivered: called when all that was read is delivered.
        failed: called with an error reply.

    Attributes:
        read_at: when the last reply came.
        asked_at: since when a reply is awaited; infinite: none is.
        newest: the newest id that was read.
        inbox: the other nodes.
        marks: for trimming.
    """

    def __init__(
        self,
        key: str,
        node: str,
        outbox: Outbox,
        relay: Relay,
        placer: Placer,
        *,
        is_mine: Callable[[str], bool],
        came_back: Callable[[int], None],
        delivered: Callable[[], None],
        failed: Callable[[RedisError], None],
    ) -> None:
        self._key = key
        self._node = node
        self._outbox = outbox
        self._relay, self._placer = relay, placer
        self._hub, self._stats = relay.hub, relay.stats.backplane
        self._has_history = relay.hub.histories.exist
        self._is_mine = is_mine
        self._came_back, self._delivered = came_back, delivered
        self._failed = failed
        self._connection: RedisProtocol | None = None
        #: The id and the fields of the last entry that was read.
        self._cursor, self._last = str(START).encode(), list[bytes]()
        self._entries = _FIRST_ENTRIES
        #: What is in the stream up to here was published before this node came.
        self._learn_until = START
        self._has_lost = False
        #: Whether the last reply may have left entries in the stream; what was read and not delivered; its delivery,
        #: while it is under way.
        self._is_full = False
        self._backlog: deque[_Read] = deque()
        self._delivering: Iterator[None] | None = None
        self.read_at, self.asked_at = 0.0, math.inf
        self.inbox, self.marks = Inbox(relay.reactor.seconds()), Marks()

    @property
    def is_behind(self) -> bool:
        """Whether there may be entries in the stream, or were read, that are not delivered yet."""
        return self._is_full or self._delivering is not None

    @property
    def newest(self) -> Id:
        """The newest id that was read."""
        return Id.parse(self._cursor)

    def learn(self, last: Id, now: float) -> None:
        """Read a stream for the first time: its entries tell where each node is, and go into histories only.

        Args:
            last: the last id of the stream.
            now: the time.
        """
        self._cursor, self._last, self._learn_until = str(START).encode(), [], last
        self.inbox = Inbox(now)
        self._backlog.clear()
        if self._delivering is not None:
            self._delivering = iter(())
        self.marks.clear()
        if self._has_history:
            self._placer.learn()

    def has_lost(self, fields: list[bytes]) -> bool:
        """Return whether the entry at the cursor is gone, or another one.

        Args:
            fields: of the entry that is there now; empty: there is none.
        """
        return fields != self._last

    def go_on(self, fields: list[bytes]) -> None:
        """Read on behind the cursor if its entry is still there; else from the start of the stream.

        There may be entries that were lost and sent again, with ids below the cursor. What was read before is skipped.

        Args:
            fields: of the entry that is at the cursor now.
        """
        if self.has_lost(fields):
            self._cursor, self._last = str(START).encode(), []
            self.marks.clear()

    def lose(self) -> None:
        """The broker has lost entries: as soon as what was read before is delivered, another epoch begins."""
        self._has_lost = True
        self._placer.doubt()

    def begin(self, connection: RedisProtocol) -> None:
        """Read on a connection from now on, behind the last entry that was read."""
        self._connection = connection
        self._entries, self._is_full = _FIRST_ENTRIES, False  # after an outage, entries may be many, and full
        if self._delivering is None:
            self._read(self._relay.reactor.seconds())

    def end(self) -> None:
        """The connection has ended. What was read is still delivered."""
        self._connection, self.asked_at = None, math.inf

    def _read(self, now: float) -> None:
        if self._connection is not None:
            if self._has_lost:
                self._has_lost = False
                owed = self.inbox.last_of(self.read_at - SILENT_SECONDS)
                self._placer.lose(owed, now + self._relay.settings.backplane_grace_seconds)
            self.asked_at = now
            block_ms = round(BLOCK_SECONDS * 1e3)
            words = ("XREAD", "COUNT", self._entries, "BLOCK", block_ms, "STREAMS", self._key, self._cursor)
            self._connection.command(self._took, *words)

    def _took(self, reply: Reply) -> None:
        if isinstance(reply, RedisError):
            self._failed(reply)
            return
        self.read_at, self.asked_at = self._relay.reactor.seconds(), math.inf
        # [[key, [[id, [name, value, …]], …]]], or nothing within BLOCK_SECONDS. Source: redis.io, "XREAD".
        found = cast("list[_Read]", cast("list[list[object]]", reply)[0][1]) if reply else []
        self._is_full = len(found) >= self._entries
        if found:
            self._cursor, self._last = found[-1]
            size_bytes = sum([len(fields[5]) for _, fields in found if len(fields) > 5])
            self.marks.add(size_bytes, self._cursor)
            self._entries = max(1, min(_REPLY_ENTRIES, _REPLY_BYTES * len(found) // max(size_bytes, 1)))
        self._backlog.extend(found)
        if self._delivering is None:
            self._read(self.read_at)  # the broker works meanwhile
            self._delivering = self._deliveries()
            self._deliver()

    def _deliver(self) -> None:
        """Deliver for :data:`STRETCH_SECONDS`, the rest in later turns; when all is done, read on."""
        seconds = self._relay.busy_clock
        until = seconds() + STRETCH_SECONDS
        try:
            for _ in self._delivering or ():
                if seconds() >= until:
                    self._relay.reactor.callLater(0, self._deliver)
                    return
        except Exception:
            self._delivering = None  # else nothing would ever be delivered again, nor doubted
            raise
        self._delivering = None
        self._delivered()
        if self.asked_at == math.inf:
            self._read(self._relay.reactor.seconds())

    def _deliveries(self) -> Iterator[None]:
        """Deliver what was read; yield behind each run and each entry, which may be one to skip."""
        backlog = self._backlog
        while backlog:
            identity, fields = backlog.popleft()
            try:
                yield from self._accept(identity, fields)
                yield
            except Exception:  # noqa: BLE001 - one entry does not stop the others
                _log.failure("backplane: the entry {id} could not be delivered", id=identity.decode("ascii", "replace"))
                self._miss(Id.parse(identity).behind)

    def _accept(self, identity: bytes, fields: Sequence[bytes]) -> Iterator[None]:
        self._stats.read_entries += 1
        try:
            found = entry.parse(fields)
        except ValueError as problem:  # if a node did send it, its next entry shows the gap
            _log.warn("backplane: skipping an entry that no relay has sent: {problem}", problem=problem)
            return
        if self._learn_until is not START and (last := self._last_learnt(identity)):
            verdict = self.inbox.learn(found)
            if self._has_history:
                yield from self._placer.deliver(Id.parse(identity), found, verdict, last)
            return
        verdict = self.inbox.accept(found, self.read_at)
        if verdict is Verdict.GAP:
            self._tell_gap(found, Id.parse(identity))
        elif verdict is Verdict.DUPLICATE:
            self._stats.duplicates += 1
        if self._has_history:
            yield from self._placer.deliver(Id.parse(identity), found, verdict)
        elif verdict is Verdict.DELIVER or verdict is Verdict.GAP:
            yield from self._own(found) if found.node == self._node else self._foreign(found)
        if found.node == self._node:
            self._came_back(found.seq)

    def _last_learnt(self, identity: bytes) -> Id | None:
        """Return the last id of the stream when it was first read; ``None``: the entry is behind it, the first such."""
        last = self._learn_until
        if Id.parse(identity) > last:
            self._learn_until = START
            return None
        return last

    def _own(self, found: Entry) -> Iterator[None]:
        publish = self._hub.publish
        for room, run in self._outbox.take(found.seq) or ():
            publish(room, run)
            yield

    def _foreign(self, found: Entry) -> Iterator[None]:
        publish, rooms, counts = self._hub.publish, self._hub.names, self._stats.read_messages
        for record in entry.unpack(found.blob):
            room, count, handle = record.room, record.count, record.left_out
            if room in rooms and room != PROBE_ROOM:  # each node probes itself
                counts["yes"] += count
                publish(room, Run(record.plain, count, self._relay.member(handle) if handle else None))
                yield
            else:
                counts["no"] += count

    def _tell_gap(self, found: Entry, place: Id) -> None:
        _log.warn(
            "backplane: messages of node {node} before its entry {seq} were lost: applying the slow policies",
            node=found.node,
            seq=found.seq,
        )
        self._miss(place)

    def _miss(self, place: Id) -> None:
        """Messages before a place are missing."""
        self._stats.gaps += 1
        self._placer.miss(place)
        self._hub.miss(self._is_mine)
