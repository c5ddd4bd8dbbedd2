"""The hub with histories against a model: the order of each room, and where each member starts in it.

The model knows no logs and cursors: a published message is appended to the order of its room. What a member sees is
that order from its start on, without its own; where a message is missing, the member was told. Members come with any
id: of their room, of others, of another epoch; rooms stay without members, give way, and are opened again.

The hub without histories: :mod:`tests.rooms.test_hub_model`. For many more examples than here, raise the two numbers
at the end.
"""

import os
from collections.abc import Callable, Iterator
from itertools import groupby, pairwise
from typing import Any
from unittest import mock

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from tests.harness.strategies import messages
from tests.harness.support import joined
from tests.rooms.history_member import Member, Order, Said
from wsrelay import closecodes
from wsrelay.errors import TooManyRooms
from wsrelay.message import Run
from wsrelay.message_id import MessageId
from wsrelay.policies import SLOW_POLICIES
from wsrelay.rooms.hub import TICK_SECONDS, Hub
from wsrelay.rooms.idle import ROOM_BYTES
from wsrelay.rooms.publishers import HIGH_WATER, LOW_WATER
from wsrelay.rooms.room import Room
from wsrelay.settings import Settings
from wsrelay.stats import Stats
from wsrelay.wanted import Start, Wanted
from wsrelay.wire import frames, sse
from wsrelay.wire.deflate import Deflate

#: Short messages stay plain.
DEFLATE = Deflate(15, min_bytes=8)

LOG_BYTES = 8000
HISTORY_BYTES = 3000
#: A few histories and rooms.
TOTAL_BYTES = 11_000
HISTORY_SECONDS = 12
SLOW_SECONDS = 5
MAX_ROOMS = 4

#: Room → the number of kept messages; the last one has no history.
KEPT = {"h": 4, "h/long": 1000, "g": 3, "h/b": 4, "x/1": 2, "x/2": 2, "x/3": 2, "a": 0}

#: Room → the number of messages that greet.
GREETING = {"g": 3}

#: Mostly the first, so that members share it.
rooms = st.sampled_from(["h", "h", "h/long", "h/long", "g", "h/b", "a", "x/1", "x/2", "x/3"])

#: Ids that no relay of today writes, or not yet.
STRANGE = (
    "",
    "h",
    "0",
    "-",
    "k3fj9a2q",
    "k3fj9a2q-",
    "k3fj9a2q--1",
    "K3FJ9A2Q-1",
    "k3fj9a2q-1-2-3-4",
    "é-1",
    "9" * 500,
)

contents = st.lists(
    messages | st.tuples(st.just(frames.TEXT), st.sampled_from([300, 700, 1500]).map(bytes)), min_size=1, max_size=4
)

#: What one wants: nothing, the last ones, everything behind an id (a place in the list of candidates), or both.
wishes = st.tuples(st.none() | st.integers(0, 30), st.none() | st.sampled_from([0, 1, 2, 3, 5, 1000]), st.booleans())


class HistoryMachine(RuleBasedStateMachine):
    """Members of a few rooms come, go and return, flushed in stretches of very few writes."""

    members = Bundle("members")

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Callable[[], None]] = []
        self._patches = [
            mock.patch("wsrelay.rooms.scheduler.STRETCH_WRITES", 2),
            mock.patch("wsrelay.rooms.frame_cache.SHORTEST_BYTES", 0),
        ]
        self.stats = Stats()
        self.members_ever: list[Member] = []
        self.orders = {room: Order() for room in KEPT}
        self.now, self.served, self.serial, self.runs = 100.0, 0.0, 0, 0
        self.reason_now = closecodes.TOO_SLOW
        self.ticking = False

    @initialize(
        target=members,
        policies=st.lists(st.sampled_from(sorted(SLOW_POLICIES)), min_size=2, max_size=2),
        echo=st.booleans(),
        many=st.sampled_from([0, 3, 128]),
        slice_bytes=st.sampled_from([1000, 65536]),
        slack=st.sampled_from([0, 0, 1, 64]),
    )
    def begin(self, policies: list[str], echo: bool, many: int, slice_bytes: int, slack: int) -> Any:
        """Open the hub, with members of each encoding in one room."""
        self._patches += [
            mock.patch.multiple("wsrelay.rooms.room", FEW=0 if many else 2, MANY=many, QUIET_TURNS=1),
            mock.patch("wsrelay.rooms.log.SLICE_BYTES", slice_bytes),
            mock.patch.multiple("wsrelay.rooms.history", SLACK=slack, SLACK_RUNS=0),
        ]
        for patch in self._patches:
            patch.start()
        self.echo, self.slack = echo, slack
        self.policies = {room: policies[place % 2] for place, room in enumerate(KEPT)}
        self.hub = Hub(
            Settings(
                max_message_bytes=3000,
                max_rooms=MAX_ROOMS,
                room_log_bytes=LOG_BYTES,
                slow_seconds=SLOW_SECONDS,
                slow_policy=self.slow_policy,
                history=("h/long=1000", "h/*=4", "h=4", "g=1", "x/*=2"),
                greet=("g=3",),
                history_seconds=HISTORY_SECONDS,
                history_bytes=HISTORY_BYTES,
                history_total_bytes=TOTAL_BYTES,
            ),
            self.stats,
            self.calls.append,
        )
        self.hub.tick(self.now)
        self.foreign = MessageId("zzzzzzz0", (2,))
        return multiple(
            *[
                self.enter("h", encoding, Wanted())
                for encoding in (frames.plain, frames.plain, DEFLATE, sse.encode, sse.encode)
            ]
        )

    @property
    def slow_policy(self) -> tuple[str, ...]:
        return tuple(f"{room}={policy}" for room, policy in self.policies.items())

    # --- members ----------------------------------------------------------------------------------

    def others(self, room: str) -> list[Member]:
        """Return the members of a room."""
        return [member for member in self.members_ever if member.present and member.room == room]

    @rule(
        target=members,
        room=rooms,
        encoding=st.sampled_from([frames.plain, DEFLATE, sse.encode, sse.encode]),
        wish=wishes,
        can_subscribe=st.sampled_from([True, True, True, False]),
        can_publish=st.sampled_from([True, True, True, False]),
        lazy=st.booleans(),
        encrypts=st.booleans(),
    )
    def join(
        self,
        room: str,
        encoding: frames.Encoding,
        wish: tuple[int | None, int | None, bool],
        can_subscribe: bool,
        can_publish: bool,
        lazy: bool,
        encrypts: bool,
    ) -> Any:
        wanted = self.wanted(room, *wish) if KEPT[room] and can_subscribe else Wanted()
        if self.is_refused(room):
            return multiple()
        return self.enter(room, encoding, wanted, can_subscribe, can_publish, lazy, encrypts)

    @rule(target=members, member=consumes(members), encoding=st.sampled_from([frames.plain, sse.encode]))
    def come_back(self, member: Member, encoding: frames.Encoding) -> Any:
        """A client that was away, evicted or not, returns with the id that it saw last."""
        cursor = member.last_seen
        if member.present:
            member.leave()
        if cursor is None or self.is_refused(member.room):
            return multiple()
        return self.enter(member.room, encoding, Wanted(str(cursor), cursor, None), lazy=member.lazy)

    def is_refused(self, room: str) -> bool:
        """Whether there is no place for a room; the hub says the same."""
        living = {member.room for member in self.members_ever if member.present}
        if room in self.there or len(living) < MAX_ROOMS:
            self.hub.check_join(room)
            return False
        with pytest.raises(TooManyRooms):
            self.hub.join(room, Member(frames.plain, self, room, False, False))
        return True

    def wanted(self, room: str, place: int | None, last: int | None, may_greet: bool) -> Wanted:
        """Return what a client asks for: the ids of its room first, the newest first."""
        if place is None:
            return Wanted(None, None, last, may_greet)
        ids: list[MessageId | str] = [one.id for one in reversed(self.orders[room].said) if one.id is not None]
        at = self.hub.histories.at(room)
        strange = [at, at.plus(-1), at.plus(1), at.plus(10**15), self.foreign, *STRANGE]
        others = [one.id for name in ("h", "g", "h/long") for one in self.orders[name].said[-2:] if one.id is not None]
        lowest = [self.hub.histories.timeline_of(room).begin, MessageId(at.epoch, (0,))]
        candidates = [*ids[:8], *strange, *ids[8:], *others, *lowest]
        text = str(candidates[place % len(candidates)])
        try:
            return Wanted(text, MessageId.parse(text), last, may_greet)
        except ValueError:
            return Wanted(text, None, last, may_greet)

    def enter(
        self,
        room: str,
        encoding: frames.Encoding,
        wanted: Wanted,
        can_subscribe: bool = True,
        can_publish: bool = True,
        lazy: bool = False,
        encrypts: bool = False,
    ) -> Member:
        self.notice_drops()
        member = Member(encoding, self, room, lazy, encrypts)
        was_there = room in self.there
        member.can_subscribe, member.can_publish = can_subscribe, can_publish
        self.members_ever.append(member)
        start = self.hub.join(room, member, can_subscribe=can_subscribe, can_publish=can_publish, wanted=wanted)
        if not KEPT[room]:
            assert start == Start(), start
        elif can_subscribe:
            assert start.at is not None
            member.start_at, member.begin = start.at, member.order.behind(start.at)
            self.check_start(room, wanted, start, self.hub.histories.at(room), was_there)
        self.notice_drops()
        self.note_policies()
        return member

    def check_start(self, room: str, wanted: Wanted, start: Start, at: MessageId, was_there: bool) -> None:
        """A start is where it was asked for, or the client is told."""
        order = self.orders[room]
        kept, count = self.kept(room), len(order.said)
        replayed = count - order.behind(start.at or at)
        assert start.at is not None
        assert start.at <= at, "it starts in the future"
        if wanted.since and not start.is_gone:
            assert wanted.id is not None, f"{wanted.since!r} holds"
            assert wanted.id.epoch == at.epoch, "another epoch"
            assert wanted.id <= at, "an id that was not given yet"
            assert order.behind(start.at) == order.behind(wanted.id), f"{wanted.since} starts at {start.at}"
            return
        if wanted.since:
            is_sound = wanted.id is not None and wanted.id.epoch == at.epoch and len(wanted.id.place) == 1
            oldest = order.said[-kept].id if kept else None
            known = None if oldest is None else order.said[-kept - 1].id if kept < count else oldest.plus(-1)
            is_known = is_sound and wanted.id is not None and known is not None and known <= wanted.id <= at
            assert not (is_known and was_there), f"{wanted.since} is gone, and all behind it is there"
        greeting = GREETING.get(room, 0) if wanted.may_greet and not wanted.since else 0
        last = greeting if wanted.last is None else wanted.last
        assert min(last, kept) <= replayed <= last, f"{replayed} messages where {kept} are kept, and {last} wanted"

    def kept(self, room: str) -> int:
        """Return the number of messages that the room must still have: whole runs within the bytes."""
        order, count, size_bytes = self.orders[room], 0, 0
        for _, group in groupby(reversed(order.said[order.forgotten :]), lambda one: one.run):
            run = [*group]
            size_bytes += sum(one.size_bytes for one in run)
            if count >= KEPT[room] or size_bytes > HISTORY_BYTES or self.now - run[0].published_at >= HISTORY_SECONDS:
                break
            count += len(run)
        return min(count, KEPT[room])

    @rule(member=consumes(members))
    def leave(self, member: Member) -> None:
        member.leave()
        self.notice_drops()

    # --- messages ---------------------------------------------------------------------------------

    @rule(member=members, contents=contents, in_one_run=st.booleans())
    def publish(self, member: Member, contents: list[tuple[int, bytes]], in_one_run: bool) -> None:
        """A held member may publish, too: messages read before the hold."""
        if member.present and member.can_publish:
            self.say(member.room, None if self.echo else member, contents, in_one_run)

    @rule(room=rooms, contents=contents, in_one_run=st.booleans())
    def post(self, room: str, contents: list[tuple[int, bytes]], in_one_run: bool) -> None:
        """Somebody who is no member publishes, also to a room without members."""
        if KEPT[room]:
            living = {member.room for member in self.members_ever if member.present}
            if room not in self.there and len(living) >= MAX_ROOMS:
                with pytest.raises(TooManyRooms):
                    self.hub.check_publish(room)
            else:
                self.hub.check_publish(room)
        self.say(room, None, contents, in_one_run)

    def say(self, room: str, publisher: Member | None, contents: list[tuple[int, bytes]], in_one_run: bool) -> None:
        self.serial += 1
        sent = [
            (opcode, b"%d.%d:%s" % (self.serial, place, payload)) for place, (opcode, payload) in enumerate(contents)
        ]
        made = [Run(frames.encode(*content), 1, publisher) for content in sent]
        for batch in [[*range(len(sent))]] if in_one_run else [[place] for place in range(len(sent))]:
            self.notice_drops()
            run = joined([made[place] for place in batch])
            living = {member.room for member in self.members_ever if member.present}
            if room in living or (KEPT[room] and (room in self.there or len(living) < MAX_ROOMS)):
                self.place(room, run, [sent[place] for place in batch], publisher)
            else:
                self.hub.publish(room, run)
                assert room not in self.there
            self.notice_drops()

    def place(self, room: str, run: Run, sent: list[tuple[int, bytes]], publisher: Member | None) -> None:
        """Publish a run; all messages are in the order before any member sees one."""
        order = self.orders[room]
        if not KEPT[room]:
            for content, one in zip(sent, run.messages(), strict=True):
                order.add(Said(content, one.size_bytes, self.served, self.now, publisher, None, self.runs))
            self.hub.publish(room, run)
            return
        if room not in self.there:  # another room may have to give way, so that its ids begin later
            self.hub.publish(room, run)
        expected = run.id or self.hub.histories.at(room).plus(1)
        for place, (content, one) in enumerate(zip(sent, run.messages(), strict=True)):
            said = Said(content, one.size_bytes, self.served, self.now, publisher, expected.plus(place), self.runs)
            order.add(said)
        self.runs += 1
        if run.id is None:  # some see it within publish(): the ids are known before
            self.hub.publish(room, run)
        assert run.id == expected, (run.id, expected)
        if room in self.there:
            assert self.hub.histories.at(room) == expected.plus(run.count - 1), room

    @rule(room=rooms, wish=wishes)
    def read(self, room: str, wish: tuple[int | None, int | None, bool]) -> None:
        """GET: the same messages that a member would get, and the newest id."""
        if not KEPT[room]:
            return
        wanted, order, kept = self.wanted(room, *wish), self.orders[room], self.kept(room)
        was_there, at = room in self.there, self.hub.histories.at(room)
        reading = self.hub.read(room, wanted)
        assert (room in self.there) == was_there, "a reader has opened or closed a room"
        if reading is None:
            assert wanted.since
            assert wanted.last is None
            return
        found = [
            order.place[(frames.opcode_of(run.plain), bytes(frames.payload_of(run.plain)))] for run in reading.messages
        ]
        assert found == [*range(len(order.said))][len(order.said) - len(found) :], "not the newest messages"
        assert [run.id for run in reading.messages] == [order.said[index].id for index in found]
        assert reading.at == at
        if wanted.since is None:
            last = wanted.last or 0
            assert min(last, kept) <= len(found) <= last
            if reading.is_complete:
                assert len(found) == last or len(found) == len(order.said), "said to be complete, and is not"

    # --- the pace of members ----------------------------------------------------------------------

    @rule(member=members)
    def stall(self, member: Member) -> None:
        member.stall()
        self.hub.pause(member)

    @rule(member=members)
    def resume(self, member: Member) -> None:
        member.resume()

    @rule(member=members)
    def make_diligent(self, member: Member) -> None:
        member.lazy = False

    @rule(member=members)
    def break_transport(self, member: Member) -> None:
        member.broken = True

    @rule(member=members)
    def finish(self, member: Member) -> None:
        self.hub.finish(member)
        if member.present and not member.stalled:
            self.has_all(member)

    # --- time and memory --------------------------------------------------------------------------

    @rule()
    def stretch(self) -> None:
        calls, self.calls[:] = self.calls[:], []
        for call in calls:
            call()

    @rule()
    def turns(self) -> None:
        while self.calls:
            self.stretch()
        for member in self.members_ever:
            if member.present and not member.stalled:
                self.has_all(member)
            elif member.present and not member.may_skip and not member.is_replaying:
                self.is_held_for(member)
        for room in self.there:
            if not any(member.stalled for member in self.others(room)):
                self.has_little(room)

    def has_little(self, room: str) -> None:
        """A room in which all read has its history, whose publishers are forgotten."""
        log = self.there[room].log
        runs = list(log)
        assert log.size_bytes <= (HISTORY_BYTES if KEPT[room] else 0), f"{room}: more bytes than are kept"
        # Whole runs, and some more.
        counts = [run.count for run in runs]
        is_short = (
            sum(counts) <= KEPT[room] + min(KEPT[room], max(self.slack, KEPT[room] // 8))
            or sum(counts[1:]) < KEPT[room]
        )
        assert is_short, f"{room}: more messages than are kept"
        assert all(run.publisher is None for run in runs), f"{room}: publishers are kept that nobody needs"

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
        self.notice_drops()
        for member in self.members_ever:
            if member.present and member.stalled and not member.may_skip and not self.skips(member):
                since = [max(one.at, member.stalled_at, member.joined_at) for one in member.waiting]
                # A message is dated at a tick, one in so many.
                most = SLOW_SECONDS * 17 / 16 + 2 * TICK_SECONDS
                assert max([self.served - begin for begin in since], default=0) < most, f"{member} was not evicted"
        for room in self.idle:
            newest = self.orders[room].said[-1].published_at
            assert self.now - newest < HISTORY_SECONDS + 1, f"{room} is kept for too long"

    @rule(size_bytes=st.sampled_from([1, 300, 3000, 30_000]))
    def shed(self, size_bytes: int) -> None:
        """As the memory budget does: idle histories first, then those that pin a log."""
        self.turns()
        self.drop_history(size_bytes)
        before, self.reason_now = self.hub.log_bytes, closecodes.OVERLOADED
        pinned = True
        while pinned and before - self.hub.log_bytes < size_bytes:
            pinned = [one for room in self.hub.lagging for one in room.stalled()]
            for subscriber in pinned:
                self.hub.shed(subscriber)
        self.reason_now = closecodes.TOO_SLOW
        for order in self.orders.values():
            order.forgotten = len(order.said)

    @rule(excess_bytes=st.sampled_from([1, 500, 3000, 30_000]))
    def drop_history(self, excess_bytes: int) -> None:
        """Free memory: no member notices."""
        evicted, before = sum(self.stats.evictions.values()), self.hub.log_bytes + self.hub.cached_bytes
        idle_bytes = sum(self.there[room].log.size_bytes + ROOM_BYTES for room in self.idle)
        freed = self.hub.free(excess_bytes)
        assert freed == before - self.hub.log_bytes - self.hub.cached_bytes, "freed bytes do not add up"
        assert freed >= min(excess_bytes, idle_bytes), "idle histories are kept while memory is short"
        assert sum(self.stats.evictions.values()) == evicted
        for order in self.orders.values():
            order.forgotten = len(order.said)

    @rule(room=rooms, policy=st.sampled_from(sorted(SLOW_POLICIES)))
    def set_slow_policy(self, room: str, policy: str) -> None:
        self.policies[room] = policy
        self.hub.set_slow_policies(self.slow_policy)
        self.note_policies()

    # --- helpers ----------------------------------------------------------------------------------

    @property
    def there(self) -> dict[str, Room]:
        """The rooms that are there: with members, or idle."""
        return {**self.hub._rooms, **self.hub._idle.rooms}

    @property
    def idle(self) -> list[str]:
        """The rooms without members."""
        return [room for room in self.there if not self.others(room)]

    def notice_drops(self) -> None:
        """A room that is not there has forgotten everything."""
        for room, order in self.orders.items():
            if room not in self.there:
                order.forgotten = len(order.said)

    def skips(self, member: Member) -> bool:
        """Whether the policy lets it go on without some messages."""
        return not SLOW_POLICIES[self.policies[member.room]].evicts

    def note_policies(self) -> None:
        """Note members whose policy lets them skip messages from now on."""
        for member in self.members_ever:
            member.may_skip |= member.present and self.skips(member)

    def has_all(self, member: Member) -> None:
        """A reading member has seen everything, or, where it may skip, the newest message of others."""
        if member.may_skip:
            newest = [index for index in member.expected if index == len(member.order.said) - 1]
            assert not newest or member.seen[-1:] == newest, f"{member} reads, and yet is behind"
        else:
            assert member.seen == member.expected, f"{member} reads, and yet is behind"

    def is_held_for(self, member: Member) -> None:
        """With pause-publishers, the publishers are held while a member is far behind."""
        behind_bytes = sum(one.size_bytes for one in member.waiting)
        if self.policies[member.room] == "pause-publishers" and behind_bytes > HIGH_WATER * LOG_BYTES:
            assert all(other.held or not other.can_publish for other in self.others(member.room)), member

    def judge(self, member: Member, reason: closecodes.CloseReason) -> None:
        """Check an eviction: the member was slow, or memory short."""
        assert reason is self.reason_now, member
        assert member.stalled, f"{member} reads"
        if reason is closecodes.OVERLOADED:
            return
        assert not self.skips(member), member
        if self.ticking:
            since = max(member.unread[0].at, member.joined_at)
            assert self.served - since >= SLOW_SECONDS or member.may_skip, f"{member} was evicted early"
        elif member.is_replaying:
            assert member.bytes_since > LOG_BYTES / 2, f"{member} was evicted for what was there before it"
        else:
            assert member.waiting_bytes > LOG_BYTES, f"{member} was not that far behind"

    def missing(self, member: Member) -> Iterator[int]:
        """Iterate over what a member has not seen, and messages behind which it has."""
        expected, seen = member.expected, set(member.seen)
        newest = member.seen[-1] if member.seen else -1
        return (index for index in expected if index < newest and index not in seen)

    # --- invariants -------------------------------------------------------------------------------

    @invariant()
    def order_or_told(self) -> None:
        """Others-only, in order, once, unchanged; what is missing lies within a gap that the member was told."""
        for member in self.members_ever:
            seen = member.seen
            assert all(before < after for before, after in pairwise(seen)), f"{member}: repeated, or out of order"
            assert not seen or set(seen) <= set(member.expected), f"{member}: not in its view"
            missing = [*self.missing(member)]
            assert not missing or member.may_skip, f"{member} misses {missing}"
            if KEPT[member.room]:
                said = member.order.said
                untold = [one for one in missing if not any(is_in(said[one], gap) for gap in member.gaps)]
                assert not untold, f"{member} misses {untold}, and was not told"
                for gap in member.gaps:
                    assert gap.why in SLOW_POLICIES
                    assert not any(is_in(said[one], gap) for one in seen), f"{member}: {gap}, and yet given"

    @invariant()
    def given_is_seen(self) -> None:
        """The account of each member is exact to the byte, at any time and after it has left."""
        for member in self.members_ever:
            sizes = [len(frames.encode(*member.order.said[index].content)) for index in member.seen]
            given = self.hub.given(member) if member.given is None else member.given
            assert given == (len(sizes), sum(sizes)), member

    @invariant()
    def containers_agree(self) -> None:
        """The invariants of all containers hold."""
        if self.members_ever:
            self.hub.check()

    @invariant()
    def held_for_a_reason(self) -> None:
        """Publishers are held only while a member is far behind that is not replaying; all of a room's or none."""
        for room in self.orders:
            here = self.others(room)
            held = {member.held for member in here if member.can_publish}
            assert len(held) <= 1, room
            if held == {True}:
                assert self.policies[room] == "pause-publishers", room
                behind = max([member.waiting_bytes for member in here if not member.is_replaying], default=0)
                assert behind > LOG_BYTES * LOW_WATER, f"{room} holds its publishers for one that replays"
        for member in self.members_ever:
            assert not member.held or (member.present and member.can_publish), member

    @invariant()
    def told_when_not(self) -> None:
        """A member is evicted or failed at most once."""
        for member in self.members_ever:
            assert member.evicted in ([], [closecodes.TOO_SLOW], [closecodes.OVERLOADED]), member
            assert member.failures <= member.broken, member

    @invariant()
    def rooms_and_memory_are_bounded(self) -> None:
        """Rooms have members or a history; idle histories are counted, and bounded together."""
        if not self.members_ever:
            return
        living = {member.room for member in self.members_ever if member.present}
        assert living == set(self.hub), "rooms are those with members"
        assert self.idle == [*self.hub._idle.rooms], "idle rooms are those without"
        assert len(self.there) <= MAX_ROOMS
        assert all(KEPT[room] for room in self.idle), "a room without history is idle"
        logs = {room: self.there[room].log.size_bytes for room in self.there}
        idle_bytes = sum(logs[room] + ROOM_BYTES for room in self.idle)
        assert self.hub.log_bytes == sum(logs.values()) + ROOM_BYTES * len(self.idle)
        assert (self.stats.history_bytes, self.stats.history_rooms) == (idle_bytes, len(self.idle))
        if not self.calls:
            assert idle_bytes <= TOTAL_BYTES, "more idle history than is kept"
            assert all(size <= LOG_BYTES + 12_000 for size in logs.values())

    def teardown(self) -> None:
        """In the end all read: present members have seen everything, or the missed messages are counted."""
        if self.members_ever:
            self.turns()
            for member in self.members_ever:
                member.lazy = False
                member.broken = False
                member.resume()
            self.order_or_told()
            for member in self.members_ever:
                if member.present:
                    self.has_all(member)
            unseen = [(one, index) for one in self.members_ever for index in {*one.expected} - {*one.seen}]
            live = sum(index >= member.joined for member, index in unseen)  # old messages may count, or not
            own = sum(one.publisher is member for member in self.members_ever for one in member.view)
            assert live <= self.stats.messages_missed <= len(unseen) + own
            assert self.hub.replaying == 0
        for patch in self._patches:
            patch.stop()


def is_in(one: Said, gap: Any) -> bool:
    """Whether a message lies within a gap."""
    return one.id is not None and gap.after < one.id <= gap.at


HistoryMachine.TestCase.settings = hypothesis_settings(
    max_examples=int(os.environ.get("WSRELAY_FUZZ_EXAMPLES", "200")), stateful_step_count=40
)
HistoryModelTests = HistoryMachine.TestCase
