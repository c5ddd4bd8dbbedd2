"""The hub against a model: lists of what each subscriber must have seen.

The model knows nothing of logs, cursors, flushes and slices: a published message is appended to the list of every
other subscriber of the room, and that list must come out, while others join, leave, stall or are evicted.
Where the slow policy skips messages, the rest comes out, and skipped messages are counted.

For many more examples than here, raise the two numbers at the end.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from tests.harness.strategies import messages, rooms
from tests.harness.support import RecordingSubscriber, joined
from tests.wire.test_frames import parse
from wsrelay import closecodes
from wsrelay.message import Run
from wsrelay.policies import SLOW_POLICIES
from wsrelay.rooms.hub import TICK_SECONDS, Hub
from wsrelay.rooms.publishers import HIGH_WATER, LOW_WATER
from wsrelay.settings import Settings
from wsrelay.stats import Stats, Tally
from wsrelay.wire import frames
from wsrelay.wire.deflate import Deflate
from wsrelay.wire.frames import Encoding

#: Short messages stay plain.
DEFLATE = Deflate(15, min_bytes=8)

LOG_BYTES = 8000
#: A few frames.
CACHE_BYTES = 2000
SLOW_SECONDS = 5


@dataclass(frozen=True)
class Published:
    """A message as the model knows it. No two are the same.

    Attributes:
        content: opcode and payload.
        size_bytes: what it costs in a log.
        at: when, in seconds in which the reactor was not blocked.
        is_own: whether it is from the one in whose list it is.
    """

    content: tuple[int, bytes]
    size_bytes: int
    at: float
    is_own: bool = False


class Modelled(RecordingSubscriber):
    """A subscriber with what it must have seen.

    Attributes:
        published: all that was published to its room while it was there.
        given: what it was given in all, once it has left.
        may_skip: whether it was under a policy that lets it go on without some of that.
        broken: every write raises.
        lazy: takes half of every write, as a socket with a full buffer does.
        encrypts: takes all, as TLS does; with ``lazy``, it is paused before the write returns.
        stalled: takes nothing more until it resumes; since ``stalled_at``.
    """

    def __init__(self, name: str, encoding: Encoding, machine: "HubMachine", lazy: bool, encrypts: bool) -> None:
        super().__init__(name, encoding)
        self.machine = machine
        self.hub = machine.hub
        self.published: list[Published] = []
        self.may_skip = False
        self.present = True
        self.given: Tally | None = None
        self.broken = False
        self.lazy = lazy
        self.encrypts = encrypts
        self.stalled = False
        self.stalled_at = 0.0
        self._seen: list[tuple[int, bytes]] = []
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
        self.stalled = True
        self.stalled_at = self.machine.served

    def resume(self) -> None:
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
        self.leave()

    def leave(self) -> None:
        given = self.hub.leave(self)
        assert (given is not None) == self.present, self
        self.given = self.given if given is None else given
        self.present = False

    @property
    def expected(self) -> list[tuple[int, bytes]]:
        """What it is to see, in order."""
        return [message.content for message in self.published if not message.is_own]

    @property
    def waiting(self) -> list[Published]:
        """Messages published after the last one that it has seen; its own among them."""
        seen = self.seen
        contents = [message.content for message in self.published]
        return self.published[contents.index(seen[-1]) + 1 if seen else 0 :]

    @property
    def waiting_bytes(self) -> int:
        """What these cost."""
        return sum(message.size_bytes for message in self.waiting)

    @property
    def seen(self) -> list[tuple[int, bytes]]:
        """What it has received, by a parser that is not ours."""
        from websockets.extensions.permessage_deflate import PerMessageDeflate  # noqa: PLC0415

        data = self.data
        if len(data) != self._parsed_bytes:
            extensions = None if self.encoding is frames.plain else [PerMessageDeflate(False, False, 15, 15)]
            self._seen = [(int(frame.opcode), bytes(frame.data)) for frame in parse(data, extensions)]
            self._parsed_bytes = len(data)
        return self._seen


class HubMachine(RuleBasedStateMachine):
    """Members of a few rooms do what they like, flushed in stretches of very few writes."""

    members = Bundle("members")

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Callable[[], None]] = []
        self._stretch = mock.patch("wsrelay.rooms.scheduler.STRETCH_WRITES", 2)
        self._stretch.start()
        self._shortest = mock.patch("wsrelay.rooms.frame_cache.SHORTEST_BYTES", 0)
        self._shortest.start()
        self.stats = Stats()
        self.all_members: list[Modelled] = []
        self.rooms: dict[Modelled, str] = {}
        self.can_subscribe: dict[Modelled, bool] = {}
        self.can_publish: dict[Modelled, bool] = {}
        self.now = 100.0
        self.served = 0.0
        self.serial = 0
        self.reason_now = closecodes.TOO_SLOW
        self.ticking = False

    @initialize(
        target=members,
        policies=st.lists(st.sampled_from(sorted(SLOW_POLICIES)), min_size=3, max_size=3),
        echo=st.booleans(),
        few=st.sampled_from([0, 2, 4]),
        many=st.sampled_from([0, 3, 128]),
        quiet_turns=st.sampled_from([0, 1, 2]),
    )
    def begin(self, policies: list[str], echo: bool, few: int, many: int, quiet_turns: int) -> Any:
        """Open the hub, with members in one room, so that new members mostly meet some.

        With few, messages are delivered at once, through a flush and from the log, as members come, go and stall.
        """
        self._few = mock.patch.multiple("wsrelay.rooms.room", FEW=few, MANY=many, QUIET_TURNS=quiet_turns)
        self._few.start()
        self.echo = echo
        self.policies = dict(zip(("a", "a/b", "/"), policies, strict=True))
        limits = Settings(
            max_message_bytes=6000,
            room_log_bytes=LOG_BYTES,
            slow_seconds=SLOW_SECONDS,
            memory_budget=8 * CACHE_BYTES,
            slow_policy=tuple(f"{room}={policy}" for room, policy in self.policies.items()),
        )
        self.hub = Hub(limits, self.stats, self.calls.append)
        self.hub.tick(self.now)
        return multiple(*[self.join("a", encoding, True, True, False) for encoding in [frames.plain] * 3 + [DEFLATE]])

    def others(self, room: str) -> list[Modelled]:
        """Return the members of a room."""
        return [member for member in self.all_members if member.present and self.rooms[member] == room]

    @rule(
        target=members,
        room=st.just("a") | rooms,
        encoding=st.sampled_from([frames.plain, frames.plain, DEFLATE]),
        can_subscribe=st.sampled_from([True, True, True, False]),
        can_publish=st.sampled_from([True, True, True, False]),
        lazy=st.booleans(),
        encrypts=st.booleans(),
    )
    def join(
        self, room: str, encoding: Encoding, can_subscribe: bool, can_publish: bool, lazy: bool, encrypts: bool = False
    ) -> Modelled:
        member = Modelled(str(len(self.all_members)), encoding, self, lazy, encrypts)
        self.hub.join(room, member, can_subscribe=can_subscribe, can_publish=can_publish)
        self.all_members.append(member)
        self.rooms[member] = room
        self.can_subscribe[member] = can_subscribe
        self.can_publish[member] = can_publish
        self.note_policies()
        return member

    @rule(member=consumes(members))
    def leave(self, member: Modelled) -> None:
        member.leave()

    @rule(
        member=members,
        contents=st.lists(
            messages | st.tuples(st.just(frames.TEXT), st.sampled_from([700, 1500]).map(bytes)), min_size=1, max_size=4
        ),
        in_one_run=st.booleans(),
    )
    def publish(self, member: Modelled, contents: list[tuple[int, bytes]], in_one_run: bool) -> None:
        """A held member may publish, too: messages read before the hold."""
        if not member.present or not self.can_publish[member]:
            return
        room = self.rooms[member]
        sent = [(opcode, self.unique(payload)) for opcode, payload in contents]
        made = [Run(frames.encode(*content), 1, None if self.echo else member) for content in sent]
        for batch in (
            [[*zip(sent, made, strict=True)]] if in_one_run else [[one] for one in zip(sent, made, strict=True)]
        ):
            for other in self.others(room):  # without those whose write has failed since
                if self.can_subscribe[other]:
                    is_own = other is member and not self.echo
                    other.published += [
                        Published(content, run.size_bytes, self.served, is_own) for content, run in batch
                    ]
            self.hub.publish(room, joined([run for _, run in batch]))

    def unique(self, payload: bytes) -> bytes:
        """Return a payload like none before."""
        self.serial += 1
        return b"%d:%s" % (self.serial, payload)

    @rule(member=members)
    def stall(self, member: Modelled) -> None:
        member.stall()
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
            self.has_all(member)

    @rule()
    def turns(self) -> None:
        while self.calls:
            self.stretch()
        for member in self.all_members:
            if member.present and not member.stalled:
                self.has_all(member)
            elif member.present and not member.may_skip and self.can_subscribe[member]:
                unseen = [message for message in member.waiting if not message.is_own]
                self.is_held_for(member, sum(message.size_bytes for message in unseen))
        if not any(member.present and member.stalled for member in self.all_members):
            assert self.hub.log_bytes == 0, "messages are kept that no subscriber needs"

    @rule(seconds=st.sampled_from([0.1, 0.5, 1, 1, 1, 30]), count=st.integers(1, 4))
    def tick(self, seconds: float, count: int) -> None:
        """Time passes; a step of more than a second means that the reactor was blocked. Each is a turn of its own."""
        for _ in range(count):
            self.stretch()
            self.ticking = True
            self.now += seconds
            self.served += min(seconds, TICK_SECONDS)
            self.hub.tick(self.now)
            self.ticking = False
        for member in self.all_members:
            if member.present and member.stalled and not member.may_skip:
                since = [max(message.at, member.stalled_at) for message in member.waiting if not message.is_own]
                ages = [self.served - begin for begin in since]
                # A message is dated at a tick, one in so many.
                assert max(ages, default=0) < SLOW_SECONDS * 17 / 16 + 2 * TICK_SECONDS or self.skips(member), member

    @rule(size_bytes=st.sampled_from([1, 300, 3000, 30_000]))
    def shed(self, size_bytes: int) -> None:
        self.turns()
        before, self.reason_now = self.hub.log_bytes, closecodes.OVERLOADED
        pinned = True
        while pinned and before - self.hub.log_bytes < size_bytes:
            pinned = [one for room in self.hub.lagging for one in room.stalled()]
            for subscriber in pinned:
                self.hub.shed(subscriber)
        self.reason_now = closecodes.TOO_SLOW
        assert before - self.hub.log_bytes >= size_bytes or self.hub.log_bytes == 0, "not all of it was shed"

    @rule(room=rooms, policy=st.sampled_from(sorted(SLOW_POLICIES)))
    def set_slow_policy(self, room: str, policy: str) -> None:
        self.policies[room] = policy
        self.hub.set_slow_policies([f"{room}={policy}" for room, policy in self.policies.items()])
        self.note_policies()

    @rule(member=members)
    def break_transport(self, member: Modelled) -> None:
        member.broken = True

    @rule(member=members)
    def make_diligent(self, member: Modelled) -> None:
        member.lazy = False

    def skips(self, member: Modelled) -> bool:
        """Whether the policy lets it go on without some messages."""
        return not SLOW_POLICIES[self.policies[self.rooms[member]]].evicts

    def note_policies(self) -> None:
        """Note members whose policy lets them skip messages from now on."""
        for member in self.all_members:
            member.may_skip |= member.present and self.skips(member)

    def has_all(self, member: Modelled) -> None:
        """A reading member has seen everything, or, where it may skip, the newest message of others."""
        if member.may_skip:
            newest = [message.content for message in member.published[-1:] if not message.is_own]
            assert not newest or member.seen[-1:] == newest, f"{member} reads, and yet is behind"
        else:
            assert member.seen == member.expected, f"{member} reads, and yet is behind"

    def is_held_for(self, member: Modelled, behind_bytes: int) -> None:
        """With pause-publishers, the publishers are held while a member is far behind."""
        room = self.rooms[member]
        if self.policies[room] == "pause-publishers" and behind_bytes > HIGH_WATER * LOG_BYTES:
            assert all(other.held or not self.can_publish[other] for other in self.others(room)), member

    def judge(self, member: Modelled, reason: closecodes.CloseReason) -> None:
        """Check an eviction: the member was slow, or memory short."""
        assert reason is self.reason_now, member
        if reason is closecodes.OVERLOADED:
            assert member.stalled, member
            return
        assert member.stalled, f"{member} reads"
        assert not self.skips(member), member
        if self.ticking:
            assert self.served - member.waiting[0].at >= SLOW_SECONDS or member.may_skip, f"{member} was evicted early"
        else:
            assert member.waiting_bytes > LOG_BYTES, f"{member} was not that far behind"

    @invariant()
    def nothing_but_the_sequence(self) -> None:
        """Others-only, in order, once, unchanged: the seen messages are a prefix of the expected ones."""
        for member in self.all_members:
            seen = member.seen
            if member.may_skip:
                rest = iter(member.expected)
                assert all(content in rest for content in seen), member
            else:
                assert seen == member.expected[: len(seen)], member

    @invariant()
    def given_is_seen(self) -> None:
        """The account of each member is exact to the byte, at any time and after it has left."""
        for member in self.all_members:
            sizes = [len(frames.encode(opcode, payload)) for opcode, payload in member.seen]
            given = self.hub.given(member) if member.given is None else member.given
            assert given == (len(sizes), sum(sizes)), member

    @invariant()
    def containers_agree(self) -> None:
        """The invariants of all containers hold."""
        if self.all_members:
            self.hub.check()

    @invariant()
    def status_is_true(self) -> None:
        """The status of a room counts its members, publishers and subscribers."""
        for status in self.hub.statuses() if self.all_members else ():
            here = [member for member in self.all_members if member.present and self.rooms[member] == status.name]
            publishers = [member for member in here if self.can_publish[member]]
            assert (status.members, status.publishers) == (len(here), len(publishers)), status
            assert status.held == any(member.held for member in here) or not publishers, status
            assert status.slow <= status.subscribers <= status.members, status

    @invariant()
    def told_when_not(self) -> None:
        """A member is evicted or failed at most once."""
        for member in self.all_members:
            assert member.evicted in ([], [closecodes.TOO_SLOW], [closecodes.OVERLOADED]), member
            assert member.failures <= member.broken, member

    @invariant()
    def held_for_a_reason(self) -> None:
        """All of a room's publishers are held or none, and only while a member is far behind."""
        for room in rooms_of(self.all_members, self.rooms):
            here = self.others(room)
            held = {member.held for member in here if self.can_publish[member]}
            assert len(held) <= 1, room
            if held == {True}:
                assert self.policies[room] == "pause-publishers", room
                assert max(member.waiting_bytes for member in here) > LOW_WATER * LOG_BYTES, room
        for member in self.all_members:
            assert not member.held or (member.present and self.can_publish[member]), member

    @invariant()
    def rooms_are_those_with_members(self) -> None:
        """Empty rooms are gone, all others are there with their members; what their logs cost is known."""
        if not self.all_members:
            return
        present = [member for member in self.all_members if member.present]
        assert sorted(self.hub) == sorted({self.rooms[member] for member in present})
        for room in self.hub:
            assert self.hub.member_count(room) == sum(self.rooms[member] == room for member in present)
        assert self.hub.log_bytes == sum(room.log.size_bytes for room in self.hub._rooms.values())

    def teardown(self) -> None:
        """In the end all read: present members have seen everything, or the missed messages are counted."""
        if hasattr(self, "hub"):
            self.turns()
            for member in self.all_members:
                member.lazy = False
                member.broken = False
                member.resume()
            self.nothing_but_the_sequence()
            for member in self.all_members:
                if member.present:
                    self.has_all(member)
            missed = sum(len(member.expected) - len(member.seen) for member in self.all_members)
            own = sum(message.is_own for member in self.all_members for message in member.published)
            assert missed <= self.stats.messages_missed <= missed + own
            self._few.stop()
        self._stretch.stop()
        self._shortest.stop()


def rooms_of(members: list[Modelled], rooms: dict[Modelled, str]) -> set[str]:
    """Return the rooms that have members."""
    return {rooms[member] for member in members if member.present}


HubMachine.TestCase.settings = hypothesis_settings(max_examples=300, stateful_step_count=40)
HubModelTests = HubMachine.TestCase
