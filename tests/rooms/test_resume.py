"""Return to a room with history: what a member gets that comes with an id or a number, and what others do not notice.

By examples, on the hub alone. For any acts in any order: :mod:`tests.rooms.test_history_model`.
"""

import gc
import weakref
from collections.abc import Callable
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.streams import chunks, events
from tests.harness.support import RecordingSubscriber, joined
from tests.wire.test_frames import parse
from wsrelay import closecodes
from wsrelay.errors import TooManyRooms
from wsrelay.message import FRAME_OVERHEAD_BYTES, Run
from wsrelay.message_id import MessageId
from wsrelay.rooms.hub import Hub
from wsrelay.rooms.idle import ROOM_BYTES
from wsrelay.settings import Settings
from wsrelay.stats import Stats
from wsrelay.wanted import ALL_NEW, Start, Wanted
from wsrelay.wire import frames, sse
from wsrelay.wire.deflate import Deflate
from wsrelay.wire.frames import Encoding


class Listener(RecordingSubscriber):
    """A subscriber that records what it was told to miss, and may stall."""

    def __init__(self, name: str = "", encoding: Encoding = frames.plain) -> None:
        super().__init__(name, encoding)
        self.gaps: list[tuple[int, MessageId, str]] = []
        self.hub: Hub | None = None

    def skipped(self, *told: Any) -> None:
        at, why = told[-2:]
        self.gaps.append((len(self.heard), at, why))

    def evict(self, reason: closecodes.CloseReason) -> None:
        super().evict(reason)
        if self.hub is not None:
            self.hub.finish(self)  # as a connection does before its close frame
            self.hub.leave(self)

    @property
    def heard(self) -> list[str]:
        """The texts that it was given."""
        return [frame.data.decode() for frame in parse(self.data)]


def since(identity: MessageId | str, last: int | None = None) -> Wanted:
    """Return the wish for everything behind an id."""
    try:
        return Wanted(str(identity), MessageId.parse(str(identity)), last)
    except ValueError:
        return Wanted(str(identity), None, last)


class ResumeTestCase(SynchronousTestCase):
    """A hub with the room "h", which keeps five messages unless a test says otherwise."""

    def setUp(self) -> None:
        """Keep no more than the settings say."""
        patch = mock.patch.multiple("wsrelay.rooms.history", SLACK=0, SLACK_RUNS=0)
        patch.start()
        self.addCleanup(patch.stop)

    def open(self, **settings: Any) -> Hub:
        """Return a hub."""
        self.calls: list[Callable[[], None]] = []
        self.stats = Stats()
        changed = {"history": ("h=5", "h/*=5"), "history_seconds": 0, **settings}
        self.hub = Hub(Settings(**changed), self.stats, self.calls.append, epoch="k3fj9a2q")
        self.now = 0.0
        return self.hub

    @property
    def idle(self) -> list[str]:
        """The rooms without members, the longest idle first."""
        return [*self.hub._idle.rooms]

    def turn(self) -> None:
        """End the turn, and those that it asks for."""
        while self.calls:
            calls, self.calls[:] = self.calls[:], []
            for call in calls:
                call()
        self.hub.check()

    def pass_seconds(self, seconds: float) -> None:
        """Let time pass, in steps that count."""
        for _ in range(int(seconds)):
            self.now += 1
            self.hub.tick(self.now)
            self.turn()

    def say(self, *texts: str, room: str = "h", publisher: object = None, in_one_run: bool = False) -> list[MessageId]:
        """Publish texts; return their ids."""
        runs = [Run.text(text, publisher) for text in texts]
        ids = []
        for run in [joined(runs)] if in_one_run else runs:
            self.hub.publish(room, run)
            assert run.id is not None
            ids += [run.id.plus(index) for index in range(run.count)]
        self.turn()
        return ids

    def enter(self, wanted: Wanted = ALL_NEW, room: str = "h", **options: Any) -> tuple[Listener, Start]:
        """Add a listener; all that it is given at once is there afterwards."""
        listener = Listener(**options)
        listener.hub = self.hub
        start = self.hub.join(room, listener, wanted=wanted)
        self.turn()
        return listener, start


class OffsetTests(ResumeTestCase):
    """CLIENTS 5.2: return at every offset."""

    def test_since_at_every_offset(self) -> None:
        """A cursor from the last forgotten message to the newest holds; the one before and the one behind are gone."""
        for most in (-1, 128):  # messages wait for the flush, or go at once
            with mock.patch.multiple("wsrelay.rooms.room", FEW=most, MANY=most):
                self.return_at_every_offset()

    def return_at_every_offset(self) -> None:
        """Return a member at each offset of a room that has forgotten seven of its twelve messages."""
        self.open()
        self.enter()
        texts = [str(number) for number in range(1, 13)]
        ids = self.say(*texts)
        newest = ids[-1]
        for number, identity in enumerate([ids[0].plus(-1), *ids, newest.plus(1), newest.plus(2)]):
            listener, start = self.enter(since(identity))
            holds = 7 <= number <= 12
            self.assertEqual(start.is_gone, not holds, number)
            self.assertEqual(start.at, identity if holds else newest, number)
            self.assertEqual(listener.heard, texts[number:] if holds else [], number)
            self.hub.leave(listener)
        self.assertEqual(self.stats.replayed_messages, 15)
        self.assertEqual(self.stats.resumes, {"resumed": 6, "gone": 9})

    def test_since_every_age(self) -> None:
        """A cursor holds from each message on, at each moment of a room's life, exactly as long as nothing is lost."""
        for most in (-1, 128):
            with mock.patch.multiple("wsrelay.rooms.room", FEW=most, MANY=most):
                self.open()
                self.enter()
                said: list[tuple[MessageId, str]] = [(self.hub.histories.at("h"), "")]
                for number in range(1, 20):
                    [identity] = self.say(str(number))
                    said.append((identity, str(number)))
                    for place, (cursor, _) in enumerate(said):
                        listener, start = self.enter(since(cursor))
                        behind = [text for _, text in said[place + 1 :]]
                        self.assertEqual(start.is_gone, len(behind) > 5)
                        self.assertEqual(listener.heard, [] if len(behind) > 5 else behind)
                        self.hub.leave(listener)

    def test_since_in_forgotten_runs(self) -> None:
        """A cursor within a run that was forgotten is gone, also where a stalled member pins it in the log."""
        for most, is_pinned in ((-1, False), (128, False), (-1, True)):
            with mock.patch.multiple("wsrelay.rooms.room", FEW=most, MANY=most):
                self.open()
                stalled, _ = self.enter()
                if is_pinned:
                    self.hub.pause(stalled)
                ids = self.say("1", "2", "3", "4", in_one_run=True)
                ids += self.say("5", "6", in_one_run=True) + self.say("7", "8", "9", in_one_run=True)
                for number, identity in enumerate([ids[0].plus(-1), *ids]):
                    listener, start = self.enter(since(identity))
                    self.assertEqual(start.is_gone, number < 4, number)
                    self.assertEqual("".join(listener.heard), "" if number < 4 else "123456789"[number:])
                self.hub.resume(stalled)
                self.turn()
                self.assertEqual("".join(stalled.heard), "123456789")

    def test_since_within_runs(self) -> None:
        """A cursor within a run holds: the rest of it comes, then the others."""
        self.open(history=("h=100",))
        self.enter()
        texts = [str(number) for number in range(1, 13)]
        ids = self.say(*texts[:5], in_one_run=True) + self.say(*texts[5:8]) + self.say(*texts[8:], in_one_run=True)
        for number, identity in enumerate([ids[0].plus(-1), *ids]):
            for encoding in (frames.plain, sse.encode):
                listener, start = self.enter(since(identity), encoding=encoding)
                self.assertEqual(start, Start(identity))
                if encoding is frames.plain:
                    self.assertEqual(listener.heard, texts[number:])
                else:
                    found = [(event.data.decode(), event.last_id) for event in events(chunks(listener.data)[0])]
                    self.assertEqual(found, [*zip(texts, map(str, ids), strict=True)][number:])
                self.hub.leave(listener)

    def test_since_another_epoch(self) -> None:
        """No cursor of another epoch holds, smaller or larger, whatever its position."""
        self.open()
        self.enter()
        ids = self.say("1", "2", "3")
        for epoch in ("00000000", "zzzzzzzz"):
            for number in range(5):
                listener, start = self.enter(since(MessageId(epoch, (number,))))
                self.assertEqual((start, listener.heard), (Start(ids[-1], True), []))

    def test_since_before_first_message(self) -> None:
        """The position of a room without messages is a cursor: all that comes later is behind it."""
        self.open()
        _, start = self.enter()
        begin = start.at
        assert begin is not None
        self.assertEqual(self.enter(since(begin))[1], Start(begin))
        self.say("1", "2")
        listener, again = self.enter(since(begin))
        self.assertEqual((again, listener.heard), (Start(begin), ["1", "2"]))
        self.assertTrue(self.enter(since(begin.plus(-1)))[1].is_gone)

    def test_since_invalid(self) -> None:
        """An id that no relay of this version writes is gone."""
        self.open()
        self.enter()
        [identity] = self.say("1")
        for text in (
            "1",
            "-",
            str(identity).upper().replace("1", "l"),
            f"{identity}-0-0-0",
            f" {identity}",
            f"{identity}\n",
            "x" * 5000,
        ):
            self.assertTrue(self.enter(since(text))[1].is_gone, text)

    def test_since_other_form(self) -> None:
        """An id with more numbers than the room's own is gone: it is from a relay with a broker."""
        self.open()
        self.enter()
        ids = self.say("1", "2", "3", in_one_run=True)
        self.assertTrue(self.enter(since(f"{ids[0]}-0"))[1].is_gone)

    def test_since_in_other_room(self) -> None:
        """A cursor of another room never gives more than the room has, nor anything twice."""
        self.open()
        self.enter()
        self.enter(room="h/2")
        ids = self.say(*map(str, range(1, 9)), room="h/2")
        self.say("a", "b")
        for cursor in ids:
            listener, start = self.enter(since(cursor))
            self.assertLessEqual(len(listener.heard), 2)
            self.assertIn(start.is_gone, (True, False))
            self.assertEqual(listener.heard, ["a", "b"][2 - len(listener.heard) :])

    def test_no_history(self) -> None:
        """A room without history has no ids, and no wish has an effect there."""
        self.open()
        self.enter(room="plain")
        run = Run.text("1")
        self.hub.publish("plain", run)
        listener, start = self.enter(since("k3fj9a2q-0", last=5), room="plain")
        self.turn()
        self.assertEqual((run.id, start, listener.heard), (None, Start(), []))
        self.assertEqual((self.hub.histories.keeps("plain"), self.hub.histories.keeps("h")), (0, 5))
        self.assertEqual(self.hub.log_bytes, 0)


class LastTests(ResumeTestCase):
    """The newest messages, asked for or not."""

    def test_last(self) -> None:
        """So many of the newest messages at most; none for 0."""
        self.open()
        self.enter()
        ids = self.say(*"1234567")
        for last, texts in ((0, ""), (1, "7"), (3, "567"), (5, "34567"), (6, "34567"), (1_000_000, "34567")):
            listener, start = self.enter(Wanted(last=last))
            self.assertEqual("".join(listener.heard), texts)
            self.assertEqual(start, Start(ids[6 - len(texts)]))

    def test_last_where_since_fails(self) -> None:
        """With both, ``last`` applies only where ``since`` fails."""
        self.open()
        self.enter()
        ids = self.say(*"12345678")
        listener, start = self.enter(since(ids[4], last=1))
        self.assertEqual((listener.heard, start.is_gone), (["6", "7", "8"], False))
        listener, start = self.enter(since(ids[0], last=2))
        self.assertEqual((listener.heard, start), (["7", "8"], Start(ids[5], True)))

    def test_greet(self) -> None:
        """Newcomers get the newest messages unasked, and only those that want nothing else."""
        self.open(greet=("h=2",))
        self.enter()
        ids = self.say(*"1234567")
        for wanted, texts in (
            (Wanted(), "67"),
            (Wanted(last=0), ""),
            (Wanted(last=4), "4567"),
            (since(ids[6]), ""),
            (since(ids[3]), "567"),
            (since("gone"), ""),
            (Wanted(may_greet=False), ""),
        ):
            self.assertEqual("".join(self.enter(wanted)[0].heard), texts, wanted)

    def test_greet_alone(self) -> None:
        """A room that greets has a history of as many messages."""
        self.open(history=(), greet=("h=1",))
        self.say("1", "2")
        self.assertEqual(self.enter()[0].heard, ["2"])
        self.assertEqual(self.hub.histories.keeps("h"), 1)

    def test_runs_cut(self) -> None:
        """A run is kept whole while a part of it is within the count, and cut for those who want a part of it."""
        self.open(history=("h=3",))
        self.enter()
        ids = self.say(*"12345678", in_one_run=True)
        self.assertEqual(ids, [ids[0].plus(place) for place in range(8)])
        listener, start = self.enter(Wanted(last=3), encoding=sse.encode)
        self.assertEqual(start, Start(ids[4]))
        found = [(event.last_id, event.data) for event in events(chunks(listener.data)[0])]
        self.assertEqual(found, [(str(ids[5]), b"6"), (str(ids[6]), b"7"), (str(ids[7]), b"8")])
        self.say(*"abc", in_one_run=True)
        self.assertEqual("".join(self.enter(Wanted(last=100))[0].heard), "abc")
        self.assertTrue(self.enter(since(ids[6]))[1].is_gone)
        self.assertEqual(self.enter(since(ids[7]))[0].heard, ["a", "b", "c"])

    def test_history_bytes(self) -> None:
        """The bytes cut a run in the middle; the rest costs no more."""
        cost = len(frames.encode(frames.TEXT, b"0")) + FRAME_OVERHEAD_BYTES
        self.open(history=("h=100",), history_bytes=4 * cost)
        self.enter()
        self.say(*"012345")
        self.say(*"67", in_one_run=True)
        self.say(*"89")
        self.assertEqual("".join(self.enter(Wanted(last=100))[0].heard), "6789")
        self.assertLessEqual(self.hub.log_bytes, 4 * cost)
        self.say("a")
        self.assertEqual("".join(self.enter(Wanted(last=100))[0].heard), "789a")
        self.say(*"0123456789", in_one_run=True)
        self.assertEqual("".join(self.enter(Wanted(last=100))[0].heard), "6789")

    def test_history_seconds(self) -> None:
        """Messages are forgotten at an age, in a room with members too; a cursor before them is gone."""
        self.open(history_seconds=10)
        self.enter()
        [old] = self.say("1")
        self.pass_seconds(6)
        [new] = self.say("2")
        self.pass_seconds(6)
        self.assertEqual(self.enter(Wanted(last=9))[0].heard, ["2"])
        self.assertEqual(self.enter(since(old))[0].heard, ["2"])
        self.assertTrue(self.enter(since(old.plus(-1)))[1].is_gone)
        self.pass_seconds(6)
        self.assertEqual(self.enter(Wanted(last=9))[0].heard, [])
        self.assertTrue(self.enter(since(old))[1].is_gone)
        self.assertFalse(self.enter(since(new))[1].is_gone)

    def test_history_bytes_of_one_message(self) -> None:
        """A message that is larger than the history is delivered, and not kept; a cursor before it is gone."""
        self.open(history_bytes=1000)
        listener, start = self.enter()
        [identity] = self.say("x" * 2000)
        assert start.at is not None
        self.assertEqual(listener.heard, ["x" * 2000])
        self.assertTrue(self.enter(since(start.at))[1].is_gone)
        self.assertEqual(self.enter(since(identity))[1], Start(identity))
        self.assertEqual(self.hub.log_bytes, 0)


class LiveTests(ResumeTestCase):
    """CLIENTS 5.3: from the replay to what is live."""

    def test_storm_while_replaying(self) -> None:
        """Publishes within each write of a replay: nothing twice, nothing missing at the seam."""
        for lazy in (False, True):
            with (
                mock.patch("wsrelay.rooms.log.SLICE_BYTES", 40),
                mock.patch("wsrelay.rooms.scheduler.STRETCH_WRITES", 1),
            ):
                self.open(history=("h=50",))
                self.enter()
                ids = self.say(*map(str, range(50)))
                listener = Listener(encoding=sse.encode)
                left = [str(number) for number in range(50, 90)]

                def publish(listener: Listener = listener, left: list[str] = left) -> None:
                    for _ in range(2):
                        if left:
                            self.hub.publish("h", Run.text(left.pop(0)))

                listener.on_send = publish
                listener.takes = 30 if lazy else None
                self.hub.join("h", listener, wanted=since(ids[4]))
                for _ in range(500):
                    self.turn()
                    if listener.kept:
                        listener.writes.append(listener.kept)
                        listener.kept = b""
                        self.hub.resume(listener)
                found = events(chunks(listener.data)[0])
                self.assertEqual([event.data.decode() for event in found], [str(number) for number in range(5, 90)])
                self.assertEqual(self.hub.replaying, 0)
                self.assertEqual(self.hub.given(listener)[0], 85)

    def test_join_while_pending(self) -> None:
        """What was published in the turn of a join comes once: in the replay, or live."""
        for room, wanted, texts in (
            ("h", Wanted(), "45"),
            ("h", Wanted(last=2), "2345"),
            ("h", Wanted(last=0), "45"),
            ("h", None, "345"),
            ("plain", Wanted(), "45"),
        ):
            self.open()
            for _ in range(3):
                self.enter(room=room)
            for text in "123":  # the first goes at once, the others wait
                self.hub.publish(room, Run.text(text))
            listener = Listener()
            cursor = since(self.hub.histories.at("h").plus(-1)) if wanted is None else wanted
            start = self.hub.join(room, listener, wanted=cursor)
            self.assertFalse(start.is_gone)
            self.hub.publish(room, Run.text("4"))
            self.turn()
            self.hub.publish(room, Run.text("5"))
            self.turn()
            self.assertEqual("".join(listener.heard), texts, wanted)

    def test_resumed_before_flush(self) -> None:
        """A member that is paused and resumed between its join and the flush gets all once, and its replay ends."""
        self.open()
        for _ in range(3):
            self.enter()
        self.hub.publish("h", Run.text("1"))
        ids = [self.hub.histories.at("h")]
        self.hub.publish("h", Run.text("2"))
        listener = Listener()
        self.hub.join("h", listener, wanted=since(ids[0]))
        self.hub.pause(listener)
        self.hub.resume(listener)
        self.turn()
        self.say("3")
        self.assertEqual((listener.heard, self.hub.replaying), (["2", "3"], 0))

    def test_own_messages(self) -> None:
        """A replaying member does not get its own messages; one that comes back gets what it said before."""
        self.open()
        talker, _ = self.enter()
        ids = self.say("1", "2", publisher=talker)
        self.assertEqual(talker.heard, [])
        self.hub.leave(talker)
        again = Listener()
        self.hub.join("h", again, wanted=since(ids[0]))
        self.hub.publish("h", Run.text("3", again))
        self.turn()
        self.say("4")
        self.assertEqual(again.heard, ["2", "4"])

    def test_publisher_forgotten(self) -> None:
        """A kept message keeps no connection alive, once all have it; a stalled member delays that, and no more."""
        self.open()
        reader, _ = self.enter()
        stalled, _ = self.enter()
        self.hub.pause(stalled)
        talker, _ = self.enter()
        gone = weakref.ref(talker)
        self.say("1", "2", publisher=talker)
        self.hub.leave(talker)
        del talker
        self.hub.resume(stalled)
        self.turn()
        self.say("3")
        gc.collect()
        self.assertIsNone(gone())
        self.assertEqual((reader.heard, stalled.heard), (["1", "2", "3"], ["1", "2", "3"]))
        self.assertEqual(self.enter(Wanted(last=5))[0].heard, ["1", "2", "3"])


class NeverReaderTests(ResumeTestCase):
    """CLIENTS 5.7: a member that wants a history, and does not read it."""

    def stall(self, policy: str, **settings: Any) -> Listener:
        """Return a member that is given the history, and takes one byte of it."""
        patch = mock.patch("wsrelay.rooms.log.SLICE_BYTES", 5000)
        patch.start()
        self.addCleanup(patch.stop)
        self.open(
            history=("h=1000",),
            room_log_bytes=100_000,
            history_bytes=50_000,
            max_message_bytes=10_000,
            slow_policy=(policy,),
            slow_seconds=20,
            **settings,
        )
        self.talker, _ = self.enter()
        self.reader, _ = self.enter()
        ids = self.say(*["x" * 1000] * 60)
        self.pass_seconds(100)
        member = Listener()
        member.hub, member.takes = self.hub, 1
        self.assertFalse(self.hub.join("h", member, wanted=since(ids[20])).is_gone)
        self.turn()
        self.assertEqual(self.hub.replaying, 1)
        return member

    def test_never_reader_evicted_by_age(self) -> None:
        """Old messages do not make it late: it is, slow_seconds after it came."""
        member = self.stall("disconnect")
        self.pass_seconds(19)
        self.assertEqual(member.evicted, [])
        self.pass_seconds(4)
        self.assertEqual(member.evicted, [closecodes.TOO_SLOW])
        self.assertEqual(self.hub.replaying, 0)

    def test_never_reader_holds_no_publisher(self) -> None:
        """With pause-publishers, nobody is held for it, whatever is published meanwhile."""
        member = self.stall("pause-publishers")
        for _ in range(90):
            self.say("y" * 1000, publisher=self.talker)
            self.assertFalse(self.talker.held)
            self.assertLessEqual(self.hub.log_bytes, 102_000)
        self.assertEqual(member.evicted, [closecodes.TOO_SLOW])
        self.assertEqual(len(self.reader.heard), 150)

    def test_reader_of_history_holds_later(self) -> None:
        """Once it has the history it is like any other: publishers are held when it does not read what comes then."""
        member = self.stall("pause-publishers")
        member.takes = None
        member.writes.append(member.kept)
        member.kept = b""
        self.hub.resume(member)
        self.turn()
        self.assertEqual((self.hub.replaying, len(parse(member.data))), (0, 39))
        member.takes = 1
        held = 0
        for number in range(70):
            self.say("y" * 1000, publisher=self.reader)
            held = held or self.talker.held * number
        self.assertIn(held, range(50, 70))

    def test_paused_at_end_of_replay(self) -> None:
        """The last write of a replay is not taken whole: what waits then is no replay, and holds publishers."""
        member = self.stall("pause-publishers")
        while len(parse(member.data)) < 39:
            member.writes.append(member.kept)
            member.kept = b""
            self.hub.resume(member)
        self.assertTrue(member.kept)
        self.assertEqual(self.hub.replaying, 0)
        for _ in range(70):
            self.say("y" * 1000, publisher=self.reader)
        self.assertTrue(self.talker.held)

    def test_never_reader_bounded(self) -> None:
        """It falls off the log once more than half of that is newer than it, not before."""
        member = self.stall("disconnect")
        for _ in range(36):
            self.say("y" * 1000, publisher=self.talker)
        self.assertEqual(member.evicted, [])
        for _ in range(40):
            self.say("y" * 1000, publisher=self.talker)
            self.assertLessEqual(self.hub.log_bytes, 102_000)
        self.assertEqual(member.evicted, [closecodes.TOO_SLOW])

    def test_gap_of_hidden_messages(self) -> None:
        """A gap ends before the next message given, also where that cannot be read by others any more."""
        self.open(slow_policy=("latest",), history_seconds=5)
        for _ in range(3):
            self.enter()
        stalled, _ = self.enter()
        self.hub.pause(stalled)
        ids = self.say("1", "2")
        self.now += 20  # the reactor was blocked: it is not late yet
        self.hub.tick(self.now)
        self.assertEqual(self.enter(Wanted(last=5))[0].heard, [])
        self.pass_seconds(2)
        self.hub.resume(stalled)
        self.turn()
        self.assertEqual(stalled.heard, ["2"])
        self.assertEqual([at for _, at, _ in stalled.gaps], [ids[0]])

    def test_falls_off_alone(self) -> None:
        """A stalled member that pins the log takes no replay with it: more than half of the log must be newer."""
        self.stall("disconnect")
        stalled = Listener()
        stalled.hub = self.hub
        self.hub.join("h", stalled)
        self.hub.pause(stalled)
        ids = self.say(*["z" * 1000] * 70)
        replay = Listener()
        replay.hub, replay.takes = self.hub, 1
        self.assertFalse(self.hub.join("h", replay, wanted=since(ids[40])).is_gone)
        self.turn()
        self.say(*["y" * 1000] * 30)
        self.assertEqual((stalled.evicted, replay.evicted), ([closecodes.TOO_SLOW], []))

    def test_two_fall_off(self) -> None:
        """Two members that fall off the log at once take nothing with them that a third still needs."""
        self.open(room_log_bytes=10_000, history_bytes=2000, max_message_bytes=2000)
        self.enter()
        stalled = [self.enter()[0], self.enter()[0]]
        for member in stalled:
            self.hub.pause(member)
        self.say(*["x" * 1000] * 3)
        third, _ = self.enter(Wanted(last=0))
        self.hub.pause(third)
        self.say(*["y" * 1000] * 6)
        self.assertEqual([member.evicted for member in stalled], [[closecodes.TOO_SLOW]] * 2)
        self.hub.resume(third)
        self.turn()
        self.assertEqual((third.heard, third.evicted), (["y" * 1000] * 6, []))

    def test_never_reader_is_told(self) -> None:
        """Under a policy that skips it goes on, and is told what it misses: no hole in silence."""
        for policy in ("drop-oldest", "latest"):
            member = self.stall(policy)
            for _ in range(150):
                self.say("y" * 1000, publisher=self.talker)
                self.assertLessEqual(self.hub.log_bytes, 102_000)
            self.assertEqual(member.evicted, [])
            member.takes = None
            member.writes.append(member.kept)
            member.kept = b""
            self.hub.resume(member)
            self.turn()
            # All were of one byte more or less, so the last gap says how many are left.
            heard = member.heard
            [*_, (before, at, _)] = member.gaps
            self.assertEqual(len(heard) - before, 210 - at.place[-1], policy)
            self.assertEqual({why for *_, why in member.gaps}, {policy})


class EncodingTests(ResumeTestCase):
    """CLIENTS 5.6: the bytes of members that know of no ids."""

    def test_plain_bytes_unchanged(self) -> None:
        """Members in a room with history get the bytes of one without; an event stream has an id line more."""
        deflate = Deflate(15, min_bytes=8)
        texts = ["a", "b" * 200, "c\nd", "e\rf", "", "g" * 70_000]
        given: list[list[bytes]] = []
        for room in ("h", "plain"):
            self.open()
            talker, *members = [
                self.enter(room=room, encoding=encoding)[0]
                for encoding in (frames.plain, frames.plain, deflate, sse.encode)
            ]
            for number in range(3):
                for text in texts:
                    self.hub.publish(room, joined([Run.text(f"{number}{text}", talker), Run.binary(b"x", talker)]))
                self.turn()
                self.hub.publish(room, Run.text(f"alone {number}"))
                self.turn()
            given.append([talker.data, *[member.data for member in members]])
        (talker_h, *others_h, stream_h), (talker_p, *others_p, stream_p) = given
        self.assertEqual((talker_h, others_h), (talker_p, others_p))
        blocks = chunks(stream_h)[0].split(b"\n\n")
        without_ids = [b"\n".join(line for line in block.split(b"\n") if line[:3] != b"id:") for block in blocks]
        self.assertEqual(b"\n\n".join(without_ids), chunks(stream_p)[0])
        ids = [MessageId.parse(event.last_id) for event in events(chunks(stream_h)[0])]
        self.assertEqual(ids, sorted(set(ids)))
        self.assertNotIn(b"id:", chunks(stream_p)[0])

    def test_join_within_a_batch(self) -> None:
        """A join in the middle of a run that is being delivered leaves no frames behind in the cache."""
        with mock.patch.multiple("wsrelay.rooms.room", FEW=-1, MANY=-1):
            self.open(history=("h=3",))
            listeners = [self.enter(encoding=encoding)[0] for encoding in [frames.plain] * 3 + [sse.encode] * 3]
            self.hub.publish("h", joined([Run.text(text * 300) for text in "1234"]))
            at = self.hub.histories.at("h")
            self.hub.flush(1)
            again, _ = self.enter(since(at.plus(-2)))
            self.turn()
            self.say("5", "6", "7", "8")
            self.assertEqual([text[0] for text in again.heard], [*"345678"])
            self.assertEqual({len(events(chunks(one.data)[0])) for one in listeners[3:]}, {8})

    def test_history_cut_within_a_batch(self) -> None:
        """A run that is too long for the history is cut while it is being delivered; no frames of it stay behind."""
        with mock.patch.multiple("wsrelay.rooms.room", FEW=-1, MANY=-1):
            self.open(history_bytes=1000)
            listeners = [self.enter(encoding=encoding)[0] for encoding in [frames.plain] * 3 + [sse.encode] * 3]
            self.hub.publish("h", joined([Run.text(text * 300) for text in "1234"]))
            for _ in range(9):
                self.hub.flush(1)
                self.hub.check()
            self.turn()
            self.assertEqual({len(events(chunks(one.data)[0])) for one in listeners[3:]}, {4})

    def test_replay_in_each_encoding(self) -> None:
        """A replay is what live members got, in each encoding, with the same ids."""
        deflate = Deflate(15, min_bytes=8)
        self.open(history=("h=100",))
        encodings: list[Encoding] = [frames.plain, deflate, sse.encode, sse.encode_without_id]
        live = [self.enter(encoding=encoding) for encoding in encodings]
        begin = live[0][1].at
        assert begin is not None
        for number in range(5):
            self.say(f"{number}" * 100, f"{number}\n", "x" * 5000, in_one_run=bool(number % 2))
        for (listener, _), encoding in zip(live, encodings, strict=True):
            again, start = self.enter(since(begin), encoding=encoding)
            self.assertFalse(start.is_gone)
            self.assertEqual(again.data, listener.data)
            self.assertEqual(self.hub.given(again), self.hub.given(listener))


class IdleTests(ResumeTestCase):
    """Rooms without members."""

    def test_idle_kept(self) -> None:
        """A room without members is there until its newest message is too old."""
        self.open(history_seconds=10)
        member, _ = self.enter()
        ids = self.say("1", "2")
        self.hub.leave(member)
        self.assertEqual((self.idle, self.stats.history_rooms), (["h"], 1))
        self.assertEqual(self.stats.history_bytes, self.hub.log_bytes)
        self.pass_seconds(8)
        again, start = self.enter(since(ids[0]))
        self.assertEqual((again.heard, start.is_gone, self.stats.history_rooms), (["2"], False, 0))
        self.hub.leave(again)
        self.pass_seconds(4)
        self.assertEqual((self.idle, self.hub.log_bytes, self.stats.history_bytes), ([], 0, 0))

    def test_ids_never_again(self) -> None:
        """A room that was forgotten and is opened again gives no id twice; what it forgot is gone."""
        self.open(history_seconds=5, max_rooms=2)
        seen: list[MessageId] = []
        for _ in range(4):
            member, start = self.enter()
            for old in seen[:-1]:
                self.assertTrue(self.enter(since(old))[1].is_gone, f"{old} holds, and what was behind it is lost")
            assert start.at is not None
            self.assertGreaterEqual(start.at, seen[-1] if seen else start.at)
            new = self.say("a", "b")
            self.assertFalse(set(new) & set(seen))
            seen += new
            self.assertEqual(seen, sorted(seen))
            for other in tuple(self.hub._room_of):
                self.hub.leave(other)
            self.pass_seconds(7)
            self.assertEqual(self.idle, [])
            del member

    def test_idle_give_way(self) -> None:
        """Under max_rooms the oldest idle room gives its place; a room with members does not."""
        self.open(max_rooms=3)
        for room in ("h/1", "h/2", "h/3"):
            self.say("x", room=room)
        self.assertEqual(self.hub.is_full, False)
        self.enter(room="plain")
        self.assertEqual((self.idle, list(self.hub)), (["h/2", "h/3"], ["plain"]))
        self.say("x", room="h/4")
        self.assertEqual((self.idle, list(self.hub)), (["h/3", "h/4"], ["plain"]))
        self.enter(room="h/3")
        self.enter(room="other")
        self.assertEqual((self.idle, list(self.hub)), ([], ["plain", "h/3", "other"]))
        with self.assertRaises(TooManyRooms):
            self.hub.check_publish("h/5")
        with self.assertRaises(TooManyRooms):
            self.enter(room="h/5")
        self.hub.check_publish("h/3")
        self.hub.publish("h/5", Run.text("dropped"))
        self.assertEqual((self.idle, len(self.hub)), ([], 3))

    def test_history_total_bytes(self) -> None:
        """All idle histories together are bounded: the oldest idle ones go."""
        cost = len(frames.encode(frames.TEXT, b"x" * 1000)) + FRAME_OVERHEAD_BYTES
        cost += ROOM_BYTES
        self.open(history_total_bytes=3 * cost, max_rooms=100)
        for number in range(10):
            self.say("x" * 1000, room=f"h/{number}")
            self.assertLessEqual(self.stats.history_bytes, 3 * cost)
        self.assertEqual(self.idle, ["h/7", "h/8", "h/9"])

    def test_drop_history(self) -> None:
        """Short memory takes idle histories, the oldest first, and no member."""
        self.open()
        listener, _ = self.enter(room="h/live")
        for number in range(4):
            self.say("x" * 1000, room=f"h/{number}")
        before = self.hub.log_bytes
        freed = self.hub.free(1500 + ROOM_BYTES)
        self.assertGreaterEqual(freed, 1500 + ROOM_BYTES)
        self.assertEqual(self.hub.log_bytes, before - freed)
        self.assertEqual((self.idle, list(self.hub)), (["h/2", "h/3"], ["h/live"]))
        self.hub.free(10**9)
        self.assertEqual((self.hub.log_bytes, self.idle, list(self.hub)), (0, [], ["h/live"]))
        self.assertEqual(listener.evicted, [])
        self.say("y", room="h/live")
        self.assertEqual(listener.heard, ["y"])

    def test_slow_policy_while_idle(self) -> None:
        """A slow policy that is set while a room is idle holds for those who come back."""
        self.open()
        self.say("1")
        self.hub.set_slow_policies(["latest"])
        member, _ = self.enter()
        self.hub.pause(member)
        self.say("2", "3", "4")
        self.pass_seconds(40)
        self.assertEqual((member.evicted, [why for *_, why in member.gaps]), ([], ["latest"]))

    def test_shed_last_member(self) -> None:
        """A room whose last member is evicted because memory is short leaves nothing behind."""
        self.open()
        member, _ = self.enter()
        self.hub.pause(member)
        self.say("1")
        self.hub.shed(member)
        self.turn()
        self.assertEqual((member.evicted, self.hub.log_bytes), ([closecodes.OVERLOADED], 0))
        self.assertEqual((self.idle, self.stats.history_rooms, self.stats.history_bytes), ([], 0, 0))

    def test_publish_opens(self) -> None:
        """A message to a room with history opens it, though no member is there; to another room it is dropped."""
        self.open()
        run = Run.text("1")
        self.hub.publish("h", run)
        self.hub.publish("plain", Run.text("1"))
        self.turn()
        self.assertEqual((self.idle, run.id), (["h"], self.hub.histories.at("h")))
        self.assertEqual(self.enter(Wanted(last=1))[0].heard, ["1"])

    def test_empty_room_is_dropped(self) -> None:
        """A room with history in which nothing was said does not stay without members."""
        self.open()
        member, _ = self.enter()
        self.hub.leave(member)
        self.assertEqual((self.idle, self.stats.history_rooms), ([], 0))


class ReadTests(ResumeTestCase):
    """What GET gives."""

    def read(self, wanted: Wanted) -> Any:
        """Return position, texts and completeness; ``None``: gone."""
        reading = self.hub.read("h", wanted)
        if reading is None:
            return None
        return reading.at, "".join(parse(run.plain)[0].data.decode() for run in reading.messages), reading.is_complete

    def test_read(self) -> None:
        """The newest messages, or those behind an id, and the position at the end of them."""
        self.open()
        self.assertEqual(self.read(Wanted(last=5))[1:], ("", True))
        ids = self.say(*"123")
        at = ids[-1]
        self.assertEqual(self.read(Wanted(last=5)), (at, "123", True))
        self.assertEqual(self.read(Wanted(last=2)), (at, "23", True))
        self.assertEqual(self.read(Wanted())[:2], (at, ""))
        self.assertEqual(self.read(since(ids[0])), (at, "23", True))
        ids += self.say(*"4567")
        self.assertEqual(self.read(Wanted(last=5)), (ids[-1], "34567", True))
        self.assertEqual(self.read(Wanted(last=6)), (ids[-1], "34567", False))
        self.assertIsNone(self.read(since(ids[0])))
        self.assertEqual(self.read(since(ids[0], last=2)), (ids[-1], "67", False))

    def test_read_incomplete(self) -> None:
        """What is kept beyond the count is not given, and the answer says that it is incomplete."""
        self.open()
        ids = self.say(*"12345678", in_one_run=True)
        self.assertEqual(self.read(Wanted(last=6)), (ids[-1], "45678", False))
        self.assertEqual(self.read(Wanted(last=5)), (ids[-1], "45678", True))

    def test_read_opens_nothing(self) -> None:
        """A reader opens no room, and the position of one that is not there holds until something is said."""
        self.open()
        at, *_ = self.read(Wanted())
        self.assertEqual((at, self.idle), (self.hub.histories.at("h"), []))
        self.say("1")
        self.assertEqual(self.read(since(at))[1:], ("1", True))
        listener, start = self.enter(since(at))
        self.assertEqual((listener.heard, start.is_gone), (["1"], False))
