"""A subscriber of a room with or without history, and what it must see: the room's order from where it starts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from websockets.extensions.permessage_deflate import PerMessageDeflate

from tests.harness.streams import Event, chunks, events
from tests.harness.support import RecordingSubscriber
from tests.wire.test_frames import parse
from wsrelay import closecodes
from wsrelay.message_id import MessageId
from wsrelay.stats import Tally
from wsrelay.wire import frames, sse
from wsrelay.wire.frames import Encoding

if TYPE_CHECKING:
    from tests.rooms.test_history_model import HistoryMachine


@dataclass(frozen=True, eq=False)
class Said:
    """A message in the order of its room. No two are the same.

    Attributes:
        content: opcode and payload.
        size_bytes: what it costs in a log.
        at: when, in seconds in which the reactor was not blocked.
        published_at: when, on the hub's clock.
        publisher: does not get it.
        id: ``None`` in a room without history.
        run: a number that the messages of one run share.
    """

    content: tuple[int, bytes]
    size_bytes: int
    at: float
    published_at: float
    publisher: object
    id: MessageId | None
    run: int


@dataclass
class Order:
    """All messages that a room ever had, in their order, over all its lives.

    Attributes:
        said: the messages.
        place: content → its index.
        forgotten: the number of messages that the room may have forgotten, whatever its settings.
    """

    said: list[Said] = field(default_factory=list)
    place: dict[tuple[int, bytes], int] = field(default_factory=dict)
    forgotten: int = 0

    def add(self, one: Said) -> None:
        """Append a message; ids ascend."""
        if self.said and one.id is not None:
            before = self.said[-1].id
            assert before is not None
            assert before < one.id, f"{one.id} comes behind {before}"
        self.place[one.content] = len(self.said)
        self.said.append(one)

    def behind(self, cursor: MessageId) -> int:
        """Return the index of the first message behind an id."""
        return sum(one.id is not None and one.id <= cursor for one in self.said)


@dataclass(frozen=True)
class Gap:
    """What a member was told that it misses."""

    after: MessageId
    at: MessageId
    why: str


class Member(RecordingSubscriber):
    """A subscriber with what it must have seen.

    Attributes:
        begin: the index of the first message of its view.
        joined: the number of messages of its room when it joined; those from ``begin`` to here are a replay.
        end: the same when it left.
        gaps: what it was told.
        given: what it was given in all, once it has left.
        may_skip: whether it was under a policy that lets it go on without some messages.
        broken: every write raises.
        lazy: takes half of every write, as a socket with a full buffer does.
        encrypts: takes all, as TLS does; with ``lazy``, it is paused before the write returns.
        stalled: takes nothing more until it resumes; since ``stalled_at``.
    """

    def __init__(self, encoding: Encoding, machine: "HistoryMachine", room: str, lazy: bool, encrypts: bool) -> None:
        super().__init__(f"{len(machine.members_ever)} in {room}", encoding)
        self.machine, self.hub = machine, machine.hub
        self.room, self.order = room, machine.orders[room]
        self.can_subscribe = self.can_publish = True
        self.begin = self.joined = len(self.order.said)
        self.joined_at = machine.served
        self.start_at: MessageId | None = None
        self.end: int | None = None
        self.gaps: list[Gap] = []
        self.given: Tally | None = None
        self.may_skip = self.broken = self.stalled = False
        self.stalled_at = 0.0
        self.present = True
        self.lazy, self.encrypts = lazy, encrypts
        self._seen: list[int] = []
        self._parsed_bytes = 0

    def send(self, data: bytes) -> int:
        assert not self.stalled, "written to while paused"  # the room reports it through fail()
        if self.broken:
            raise EOFError("broken")
        self.takes = len(data) // 2 if self.lazy and not self.encrypts else None
        taken = super().send(data)
        if self.lazy and self.encrypts:
            self.stall()
            self.hub.pause(self)
        return taken

    def write_later(self, data: bytes, sent: int) -> None:
        super().write_later(data, sent)
        self.stall()

    def stall(self) -> None:
        """Take nothing more."""
        self.stalled, self.stalled_at = True, self.machine.served

    def resume(self) -> None:
        """Take more."""
        self.writes.append(self.kept)
        self.kept = b""
        self.stalled = False
        if self.present:
            self.hub.resume(self)

    def fail(self, error: Exception) -> None:
        super().fail(error)
        assert isinstance(error, EOFError), error  # not one of ours, nor an assertion's
        self.leave()

    def evict(self, reason: closecodes.CloseReason) -> None:
        super().evict(reason)
        self.machine.judge(self, reason)
        self.hub.finish(self)  # as a connection does before its close frame
        self.leave()

    def skipped(self, *told: Any) -> None:
        """Note what it misses, behind what it knows."""
        after = self.last_seen
        at, why = told[-2:]
        assert self.present, self
        assert after is not None, f"told in a room without history: {self}"
        assert after < at, "nothing is missing"
        self.gaps.append(Gap(after, at, why))

    def leave(self) -> None:
        """Leave the room, if it is there; all it was given is known then."""
        given = self.hub.leave(self)
        assert (given is not None) == self.present, self
        if self.present:
            self.end = len(self.order.said)
        self.given = self.given if given is None else given
        self.present = False

    @property
    def view(self) -> Sequence[Said]:
        """All that was said in its view; its own among it."""
        return self.order.said[self.begin : self.end] if self.can_subscribe else []

    @property
    def expected(self) -> list[int]:
        """The indices of what it is to see, in order."""
        return [self.begin + place for place, one in enumerate(self.view) if one.publisher is not self]

    @property
    def unread(self) -> Sequence[Said]:
        """What was said behind the last message that it has seen, or behind a gap; its own among it."""
        if not self.can_subscribe:
            return []
        seen = max([self.begin, *(index + 1 for index in self.seen[-1:])])
        told = self.order.behind(self.gaps[-1].at) if self.gaps else 0
        return self.order.said[max(seen, told) : self.end]

    @property
    def waiting(self) -> list[Said]:
        """The same, of others than it."""
        return [one for one in self.unread if one.publisher is not self]

    @property
    def waiting_bytes(self) -> int:
        """What that costs in a log, its own messages included."""
        return sum(one.size_bytes for one in self.unread)

    @property
    def is_replaying(self) -> bool:
        """Whether it lacks messages that were there before it."""
        seen = self.seen[-1] + 1 if self.seen else self.begin
        told = self.order.behind(self.gaps[-1].at) if self.gaps else 0
        return self.present and max(seen, told) < self.joined

    @property
    def bytes_since(self) -> int:
        """What was published since it joined."""
        return sum(one.size_bytes for one in self.order.said[self.joined :])

    @property
    def seen(self) -> list[int]:
        """The indices of the messages that it has received, by parsers that are not ours."""
        data = self.data
        if len(data) != self._parsed_bytes:
            self._seen = [self.order.place[content] for content in self._read(data)]
            self._parsed_bytes = len(data)
        return self._seen

    def _read(self, data: bytes) -> list[tuple[int, bytes]]:
        if self.encoding is sse.encode:
            return [self._checked(event) for event in events(chunks(data)[0])]
        extensions = None if self.encoding is frames.plain else [PerMessageDeflate(False, False, 15, 15)]
        return [(int(frame.opcode), bytes(frame.data)) for frame in parse(data, extensions)]

    def _checked(self, event: Event) -> tuple[int, bytes]:
        """Return the message of an event; its id is that of the room's order."""
        content = event.message
        assert content is not None, event
        identity = self.order.said[self.order.place[content]].id
        assert event.last_id == ("" if identity is None else str(identity)), event
        return content

    @property
    def last_seen(self) -> MessageId | None:
        """The id that its client knows: of the last event, of a gap, or of its start."""
        gap = self.gaps[-1].at if self.gaps else None
        known = [self.order.said[index].id for index in self.seen[-1:]]
        return max([one for one in (*known, gap, self.start_at) if one is not None], default=None)
