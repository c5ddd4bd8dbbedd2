"""The hub against a model: lists of what each subscriber must have seen.

The model knows nothing of logs, cursors, flushes and slices: a published message is appended to the list of every
other subscriber of the room, and that is what must come out, whoever joins, leaves, stalls or is evicted meanwhile.
"""

from collections.abc import Callable
from unittest import mock

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from tests.strategies import messages, rooms
from tests.support import RecordingSubscriber
from tests.test_frames import parse
from wsrelay import closecodes, frames
from wsrelay.frames import Encoding
from wsrelay.hub import Hub
from wsrelay.message import Message
from wsrelay.settings import Settings
from wsrelay.stats import Stats

#: Short messages stay plain.
DEFLATE = frames.Deflate(15, min_bytes=8)


class Modelled(RecordingSubscriber):
    """A subscriber with what it must have seen.

    Attributes:
        expected: (opcode, payload) in order.
        broken: every write raises.
        lazy: takes half of every write, as a socket with a full buffer does.
        stalled: takes nothing more until it resumes.
    """

    def __init__(self, name: str, encoding: Encoding, hub: Hub, lazy: bool) -> None:
        super().__init__(name, encoding)
        self.hub = hub
        self.expected: list[tuple[int, bytes]] = []
        self.present = True
        self.broken = False
        self.lazy = lazy
        self.stalled = False

    def send(self, data: bytes) -> int:
        assert not self.stalled, "written to while paused"  # the room reports it through fail()
        if self.broken:
            raise EOFError("broken")
        self.takes = len(data) // 2 if self.lazy else None
        return super().send(data)

    def keep(self, data: bytes, sent: int) -> None:
        super().keep(data, sent)
        self.stalled = True

    def resume(self) -> None:
        self.writes.append(self.kept)
        self.kept = b""
        self.stalled = False
        if self.present:
            self.hub.resume(self)

    def fail(self, error: Exception) -> None:
        super().fail(error)
        assert isinstance(error, EOFError), error  # not one of ours, nor an assertion's
        self.present = False
        self.hub.leave(self)

    def evict(self, reason: closecodes.CloseReason) -> None:
        super().evict(reason)
        self.present = False
        self.hub.leave(self)

    @property
    def seen(self) -> list[tuple[int, bytes]]:
        """What it has received, by a parser that is not ours."""
        from websockets.extensions.permessage_deflate import PerMessageDeflate  # noqa: PLC0415

        extensions = None if self.encoding is frames.plain else [PerMessageDeflate(False, False, 15, 15)]
        return [(int(frame.opcode), bytes(frame.data)) for frame in parse(self.data, extensions)]


class HubMachine(RuleBasedStateMachine):
    """Members of a few rooms do what they like, flushed in stretches of very few writes."""

    log_bytes = 8000
    members = Bundle("members")

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Callable[[], None]] = []
        self._stretch = mock.patch("wsrelay.hub.STRETCH_WRITES", 2)
        self._stretch.start()
        self.hub = Hub(Settings(max_message_bytes=6000, room_log_bytes=self.log_bytes), Stats(), self.calls.append)
        self.everybody: list[Modelled] = []
        self.rooms: dict[Modelled, str] = {}
        self.can_subscribe: dict[Modelled, bool] = {}

    @rule(
        target=members,
        room=rooms,
        encoding=st.sampled_from([frames.plain, frames.plain, DEFLATE]),
        can_subscribe=st.sampled_from([True, True, True, False]),
        lazy=st.booleans(),
    )
    def join(self, room: str, encoding: Encoding, can_subscribe: bool, lazy: bool) -> Modelled:
        member = Modelled(str(len(self.everybody)), encoding, self.hub, lazy)
        self.hub.join(room, member, can_subscribe=can_subscribe)
        self.everybody.append(member)
        self.rooms[member] = room
        self.can_subscribe[member] = can_subscribe
        return member

    @rule(member=consumes(members))
    def leave(self, member: Modelled) -> None:
        self.hub.leave(member)
        member.present = False

    @rule(member=members, message=messages, echo=st.booleans())
    def publish(self, member: Modelled, message: tuple[int, bytes], echo: bool) -> None:
        if not member.present:
            return
        room = self.rooms[member]
        for other in self.everybody:
            if (
                other.present
                and self.rooms[other] == room
                and self.can_subscribe[other]
                and (echo or other is not member)
            ):
                other.expected.append(message)
        self.hub.publish(room, [Message.of(*message, None if echo else member)])

    @rule(member=members)
    def stall(self, member: Modelled) -> None:
        member.stalled = True
        self.hub.pause(member)

    @rule(member=members)
    def resume(self, member: Modelled) -> None:
        member.resume()

    @rule()
    def stretch(self) -> None:
        calls, self.calls[:] = self.calls[:], []
        for call in calls:
            call()

    @rule(member=members)
    def finish(self, member: Modelled) -> None:
        self.hub.finish(member)
        if member.present and not member.stalled:
            assert member.seen == member.expected, f"{member} was to be given everything"

    @rule()
    def turns(self) -> None:
        while self.calls:
            self.stretch()
        for member in self.everybody:
            if member.present and not member.stalled:
                assert member.seen == member.expected, f"{member} reads, and yet is behind"

    @rule(member=members)
    def break_transport(self, member: Modelled) -> None:
        member.broken = True

    @rule(member=members)
    def make_diligent(self, member: Modelled) -> None:
        member.lazy = False

    @invariant()
    def nothing_but_the_sequence(self) -> None:
        """Others-only, in order, once each, type and bytes kept: what was seen is how the expected begins."""
        for member in self.everybody:
            seen = member.seen
            assert seen == member.expected[: len(seen)], member

    @invariant()
    def told_when_not(self) -> None:
        """Who misses anything without having left has been told, once."""
        for member in self.everybody:
            assert member.evicted in ([], [closecodes.TOO_SLOW]), member
            assert member.failures <= member.broken, member

    @invariant()
    def rooms_are_those_with_members(self) -> None:
        """Empty rooms are gone, all others are there with their members."""
        present = [member for member in self.everybody if member.present]
        assert sorted(self.hub) == sorted({self.rooms[member] for member in present})
        for room in self.hub:
            assert self.hub.member_count(room) == sum(self.rooms[member] == room for member in present)

    def teardown(self) -> None:
        """In the end everybody reads: those still there have seen everything."""
        self.turns()
        self._stretch.stop()
        for member in self.everybody:
            member.lazy = False
            member.broken = False
            member.resume()
        self.nothing_but_the_sequence()
        for member in self.everybody:
            if member.present:
                assert member.seen == member.expected, member


HubMachine.TestCase.settings = hypothesis_settings(max_examples=400, stateful_step_count=40, deadline=None)
HubModelTests = HubMachine.TestCase
