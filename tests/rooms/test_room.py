"""Tests of wsrelay.rooms.room: the promises of a room to its subscribers."""

import weakref
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.support import Historical, RecordingSubscriber, joined
from tests.wire.test_frames import parse
from wsrelay import closecodes
from wsrelay.message import Run
from wsrelay.policies import SLOW_POLICIES, SlowPolicy
from wsrelay.rooms import room as room_module
from wsrelay.rooms.batch import WRITE_BYTES
from wsrelay.rooms.frame_cache import FrameCache
from wsrelay.rooms.log import SLICE_BYTES, Log
from wsrelay.rooms.publishers import HIGH_WATER, LOW_WATER
from wsrelay.rooms.room import SHED, Room
from wsrelay.settings import Settings
from wsrelay.stats import Stats
from wsrelay.wire import frames
from wsrelay.wire.deflate import Deflate


def limits(log_bytes: int, slow_seconds: float = 0) -> Settings:
    """Return settings for a room with such a log."""
    return Settings(max_message_bytes=1, room_log_bytes=log_bytes, slow_seconds=slow_seconds)


class RoomTestCase(SynchronousTestCase):
    """A room with a small log. All messages wait for a flush, as in rooms with more members."""

    log_bytes = 10_000

    def setUp(self) -> None:
        self.patch(room_module, "FEW", 0)
        self.patch(room_module, "MANY", 0)
        self.stats = Stats()
        self.room = Room(limits(self.log_bytes), self.stats)

    def policy(self, name: str, slow_seconds: float = 0) -> None:
        """Let the room have another policy."""
        self.room = Room(limits(self.log_bytes, slow_seconds), self.stats, slow_policy=SLOW_POLICIES[name])

    def join(self, name: str = "", **options: Any) -> RecordingSubscriber:
        subscriber = RecordingSubscriber(name, **options)
        self.room.join(subscriber)
        return subscriber

    def stall(self, name: str = "") -> RecordingSubscriber:
        """Join a stalled subscriber."""
        subscriber = self.join(name)
        self.room.pause(subscriber)
        return subscriber

    def pass_by(self, count: int, first: int = 0, size: int = 1000) -> None:
        """Publish messages that begin with their number in two digits, each in a turn of its own."""
        for number in range(first, first + count):
            self.publish(b"%02d" % number + bytes(size))
            self.room.flush()

    def numbers(self, subscriber: RecordingSubscriber) -> list[int]:
        """Return the numbers of those that it got."""
        return [int(payload[:2]) for payload in self.got(subscriber)]

    def publish(self, *payloads: bytes, publisher: object = None) -> None:
        self.room.publish(joined([Run.binary(payload, publisher) for payload in payloads]))

    def got(self, subscriber: RecordingSubscriber) -> list[bytes]:
        return [bytes(frame.data) for frame in parse(subscriber.data)]


class DeliveryTests(RoomTestCase):
    """The common case: all subscribers read."""

    def test_others_only(self) -> None:
        """A message reaches every subscriber but its publisher."""
        a, b, c = self.join("a"), self.join("b"), self.join("c")

        self.publish(b"from a", publisher=a)
        self.room.flush()

        self.assertEqual([self.got(one) for one in (a, b, c)], [[], [b"from a"], [b"from a"]])

    def test_one_write_per_subscriber_and_turn(self) -> None:
        """All that was published since the last flush goes out as one write, one bytes object for all."""
        a, b = self.join("a"), self.join("b")
        self.publish(b"1", b"2", b"3")
        self.assertEqual((a.writes, b.writes), ([], []))

        self.room.flush()

        self.assertEqual(len(a.writes), 1)
        self.assertIs(a.writes[0], b.writes[0])
        self.assertEqual(self.got(a), [b"1", b"2", b"3"])

    def test_one_order_for_all(self) -> None:
        """All see one sequence, each without its own messages."""
        members = [self.join(str(number)) for number in range(3)]
        for turn in range(4):
            for number, member in enumerate(members):
                self.publish(b"%d-%d" % (turn, number), publisher=member)
            self.room.flush()

        for number, member in enumerate(members):
            expected = [b"%d-%d" % (turn, n) for turn in range(4) for n in range(3) if n != number]
            self.assertEqual(self.got(member), expected)

    def test_no_empty_write(self) -> None:
        """A publisher alone in a batch gets no write, and an empty flush writes nothing."""
        a = self.join()
        self.room.flush()
        self.publish(b"mine", publisher=a)
        self.room.flush()

        self.assertEqual(a.writes, [])

    def test_join_with_pending_messages(self) -> None:
        """Messages published before a join do not go to the new member, even in the same turn."""
        a = self.join("a")
        self.publish(b"before")
        b = self.join("b")
        self.publish(b"after")
        self.room.flush()

        self.assertEqual((self.got(a), self.got(b)), ([b"before", b"after"], [b"after"]))

    def test_leave_with_pending_messages(self) -> None:
        """Leaving ends delivery at once; what the leaver published is still delivered."""
        a, b = self.join("a"), self.join("b")
        self.publish(b"from b", publisher=b)
        self.publish(b"from a", publisher=a)
        self.room.leave(b)
        self.room.leave(b)
        self.room.flush()

        self.assertEqual((self.got(a), self.got(b)), ([b"from b"], []))

    def test_write_only_member(self) -> None:
        """A member that may not subscribe counts as a member and gets no write."""
        silent, a = RecordingSubscriber("silent"), self.join("a")
        self.room.join(silent, can_subscribe=False)
        self.publish(b"x", publisher=silent)
        self.room.flush()

        self.assertEqual(len(self.room), 2)
        self.assertEqual((self.got(a), silent.writes), ([b"x"], []))

    def test_encodings(self) -> None:
        """Each subscriber gets frames of its encoding, made once per encoding."""
        shared = Deflate(15)
        plain, deflate, other = self.join(), self.join(encoding=shared), self.join(encoding=shared)
        self.publish(b"hello hello hello")
        self.room.flush()

        self.assertEqual(plain.data, frames.encode(frames.BINARY, b"hello hello hello"))
        self.assertEqual(deflate.data, shared(frames.encode(frames.BINARY, b"hello hello hello")))
        self.assertIs(deflate.writes[0], other.writes[0])

    def test_counts(self) -> None:
        """Deliveries are counted per message and subscriber, bytes as they are written."""
        a, b = self.join(), self.join()
        self.publish(b"12", b"34", publisher=a)
        self.publish(b"56", publisher=b)
        self.room.flush()

        self.assertEqual((self.stats.deliveries, self.stats.bytes_out), (3, 12))

    def test_send_raises(self) -> None:
        """Whatever one write raises, the others get their messages and the failed one is out and told."""
        a, bad, b = self.join("a"), self.join("bad"), self.join("b")

        def fail() -> None:
            raise RuntimeError("no")

        bad.on_send = fail
        self.publish(b"x")
        self.room.flush()

        self.assertEqual((self.got(a), self.got(b), bad.failures, len(self.room)), ([b"x"], [b"x"], 1, 2))
        self.assertEqual((self.stats.deliveries, self.stats.messages_missed), (2, 1))

    def test_send_raises_while_others_are_paused(self) -> None:
        """A subscriber paused while another one's write fails still gets the message later."""
        bad, slow = self.join("bad"), self.join("slow")

        def fail() -> None:
            raise RuntimeError("no")

        bad.on_send = fail
        self.room.pause(slow)
        self.publish(b"x")
        self.room.flush()
        self.room.resume(slow)

        self.assertEqual((self.got(slow), bad.failures), ([b"x"], 1))
        self.assertEqual(self.room.log.size_bytes, 0)

    def test_send_raises_in_catch_up(self) -> None:
        """A write that fails while catching up ends that subscriber, and the log is not kept for it."""
        bad = self.join("bad")
        self.room.pause(bad)
        self.publish(b"x")
        self.room.flush()

        def fail() -> None:
            raise RuntimeError("no")

        bad.on_send = fail
        self.room.resume(bad)

        self.assertEqual((bad.failures, len(self.room), self.room.log.size_bytes), (1, 0, 0))

    def test_leave_in_flush(self) -> None:
        """A subscriber that leaves within a write does not disturb the flush."""
        a, b = self.join("a"), self.join("b")
        a.on_send = lambda: self.room.leave(a)
        self.publish(b"1")
        self.room.flush()
        self.publish(b"2")
        self.room.flush()

        self.assertEqual((self.got(a), self.got(b)), ([b"1"], [b"1", b"2"]))


class StretchTests(RoomTestCase):
    """Flushes in stretches of a few writes."""

    def test_a_flush_in_stretches(self) -> None:
        """Each stretch writes to a few, all the same object; in the end all have everything, in order."""
        members = [self.join(str(number)) for number in range(5)]
        self.publish(b"1", b"2")

        for served in (2, 4, 5):
            self.assertTrue(self.room.pending)
            self.room.flush(2)
            self.assertEqual([len(member.writes) for member in members], [1] * served + [0] * (5 - served))
        self.assertFalse(self.room.pending)
        for member in members:
            self.assertIs(member.writes[0], members[0].writes[0])

    def test_publish_between_stretches(self) -> None:
        """A message that is published while a flush is half done goes out after it, once to each."""
        members = [self.join(str(number)) for number in range(5)]
        self.publish(b"1", publisher=members[4])
        self.room.flush(2)
        self.publish(b"2", publisher=members[0])
        late = self.join("late")
        self.publish(b"3")
        while self.room.pending:
            self.room.flush(2)

        expected = [[b"1", b"3"], *[[b"1", b"2", b"3"]] * 3, [b"2", b"3"], [b"3"]]
        self.assertEqual([self.got(member) for member in [*members, late]], expected)
        self.assertEqual(self.room.log.size_bytes, 0)

    def test_large_writes_count_as_several(self) -> None:
        """Writes of much data take longer, so that a stretch has fewer of them."""
        self.room = Room(limits(10 * WRITE_BYTES), self.stats)
        members = [self.join(str(number)) for number in range(5)]
        self.publish(bytes(3 * WRITE_BYTES))

        left = self.room.flush(8)

        self.assertEqual([len(member.writes) for member in members], [1, 1, 0, 0, 0])
        self.assertLess(left, 1)

    def test_full_log_is_flushed_whole(self) -> None:
        """A full log is flushed whole, so that no subscriber is evicted while it is due."""
        members = [self.join(str(number)) for number in range(5)]
        self.publish(bytes(5000))
        self.room.flush(1)
        self.publish(bytes(5000), bytes(5000))

        self.assertEqual([member.evicted for member in members], [[]] * 5)
        self.assertEqual([len(self.got(member)) for member in members], [3] * 5)

    def test_leave_and_pause_while_due(self) -> None:
        """A due subscriber that leaves or is paused is skipped; the paused one goes on when it resumes."""
        first, leaver, slow = self.join("first"), self.join("leaver"), self.join("slow")
        self.publish(b"1")
        self.room.flush(1)
        self.room.leave(leaver)
        self.room.pause(slow)
        while self.room.pending:
            self.room.flush(1)
        self.assertEqual([one.writes for one in (leaver, slow)], [[], []])
        self.room.resume(slow)

        self.assertEqual([self.got(one) for one in (first, slow)], [[b"1"], [b"1"]])

    def test_last_current_leaves_while_others_are_due(self) -> None:
        """The flush ends when all subscribers leave in the middle of it."""
        members = [self.join(str(number)) for number in range(3)]
        self.publish(b"1")
        self.room.flush(1)
        for member in members:
            self.room.leave(member)

        self.assertFalse(self.room.pending)
        self.assertTrue(self.room.idle)

    def test_finish(self) -> None:
        """finish() delivers everything at once, out of turn; nothing comes twice if the subscriber stays."""
        a, b, slow = self.join("a"), self.join("b"), self.join("slow")
        self.room.pause(slow)
        self.room.finish(b)
        self.publish(b"1", b"2")
        self.room.finish(b)
        self.room.finish(slow)
        self.assertEqual([self.got(one) for one in (a, b, slow)], [[], [b"1", b"2"], []])
        self.publish(b"3")
        self.room.flush()

        self.assertEqual([self.got(one) for one in (a, b, slow)], [[b"1", b"2", b"3"]] * 2 + [[]])

    def test_resume_ahead_of_the_flush(self) -> None:
        """A subscriber that did not take all of finish(), and stays, is served again."""
        a, b = self.join("a"), self.join("b")
        b.takes = 1
        self.publish(b"1")
        self.room.finish(b)
        b.takes = None
        self.room.resume(b)
        self.publish(b"2")
        self.room.flush()
        self.publish(b"3")
        self.room.flush()

        self.assertEqual(self.got(a), [b"1", b"2", b"3"])
        self.assertEqual(b.writes[0] + b.kept + b"".join(b.writes[1:]), a.data)

    def test_finish_while_due(self) -> None:
        """finish() gives a due subscriber the batch and the messages after it."""
        a, b = self.join("a"), self.join("b")
        self.publish(b"1")
        self.room.flush(1)
        self.publish(b"2")
        self.room.finish(b)
        self.assertEqual([self.got(one) for one in (a, b)], [[b"1"], [b"1", b"2"]])
        self.room.leave(b)
        self.room.flush()

        self.assertEqual([self.got(one) for one in (a, b)], [[b"1", b"2"]] * 2)


class SlowTests(RoomTestCase):
    """Subscribers that are paused."""

    def test_slow_subscriber_delays_none(self) -> None:
        """A paused subscriber gets nothing, delays no other, and catches up in order when it resumes."""
        slow, fast = self.join("slow"), self.join("fast")
        self.room.pause(slow)
        for number in range(5):
            self.publish(b"%d" % number)
            self.room.flush()
        self.assertEqual((len(self.got(fast)), slow.writes), (5, []))

        self.room.resume(slow)

        self.assertEqual(self.got(slow), self.got(fast))
        self.assertEqual(len(slow.writes), 1)

    def test_partial_write_pauses(self) -> None:
        """Of a write that was cut short, the rest is kept by the subscriber, which is behind until it resumes."""
        slow, fast = self.join("slow"), self.join("fast")
        slow.takes = 2
        self.publish(b"1")
        self.room.flush()
        slow.takes = None
        self.publish(b"2")
        self.room.flush()
        self.assertEqual((self.got(slow), slow.kept), ([b"1"], b"1"))
        self.room.resume(slow)

        self.assertEqual(slow.writes[-1], frames.encode(frames.BINARY, b"2"))
        self.assertEqual(self.got(fast), [b"1", b"2"])

    def test_pause_write_only_member(self) -> None:
        """A member that receives nothing may pause and resume, too."""
        silent = RecordingSubscriber()
        self.room.join(silent, can_subscribe=False)
        self.room.pause(silent)
        self.publish(b"1")
        self.room.flush()
        self.room.resume(silent)

        self.assertEqual((silent.writes, len(self.room)), ([], 1))

    def test_catch_up_ends_current(self) -> None:
        """After catching up, a subscriber is served with all others again."""
        slow = self.join()
        self.room.pause(slow)
        self.publish(b"1")
        self.room.flush()
        self.room.resume(slow)
        self.publish(b"2")
        self.room.flush()

        self.assertEqual(self.got(slow), [b"1", b"2"])

    def test_pending_messages_come_once(self) -> None:
        """Resuming between a publish and its flush neither loses nor doubles the message."""
        slow = self.join()
        self.room.pause(slow)
        self.publish(b"1")
        self.room.flush()
        self.publish(b"2")
        self.room.resume(slow)
        self.room.flush()
        self.publish(b"3")
        self.room.flush()

        self.assertEqual(self.got(slow), [b"1", b"2", b"3"])

    def test_own_messages_in_catch_up(self) -> None:
        """A slow publisher does not get its own messages later either."""
        slow = self.join()
        self.room.pause(slow)
        self.publish(b"mine", publisher=slow)
        self.publish(b"theirs")
        self.room.flush()
        self.room.resume(slow)

        self.assertEqual(self.got(slow), [b"theirs"])

    def test_resume_without_lag(self) -> None:
        """Resuming the current, the strange and the departed does nothing."""
        a = self.join()
        self.room.resume(a)
        self.room.resume(RecordingSubscriber())
        self.publish(b"1")
        self.room.flush()

        self.assertEqual(self.got(a), [b"1"])

    def test_pause_in_catch_up(self) -> None:
        """Catching up stops where the transport pauses again, and goes on from there."""
        self.room = Room(limits(10 * SLICE_BYTES), self.stats)
        slow, fast = self.join("slow"), self.join("fast")
        self.room.pause(slow)
        payloads = [bytes([number]) * (SLICE_BYTES // 2) for number in range(6)]
        self.publish(*payloads)
        self.room.flush()

        def pause() -> None:
            self.room.pause(slow)

        slow.on_send = pause
        for turn in range(10):
            self.room.resume(slow)
            self.assertLessEqual(len(slow.writes), turn + 1)

        self.assertEqual(self.got(slow), payloads)
        self.assertEqual(self.got(fast), payloads)

    def test_pause_in_flush(self) -> None:
        """A big flush goes out in slices; a subscriber paused by one gets the rest later, in order."""
        self.room = Room(limits(10 * SLICE_BYTES), self.stats)
        slow, fast = self.join("slow"), self.join("fast")

        def pause() -> None:
            self.room.pause(slow)

        slow.on_send = pause
        payloads = [bytes([number]) * (SLICE_BYTES // 2) for number in range(6)]
        for payload in payloads:
            self.publish(payload)
        self.room.flush()
        self.assertLess(len(slow.data), 2 * SLICE_BYTES)
        self.assertEqual(self.got(fast), payloads)

        slow.on_send = lambda: None
        self.room.resume(slow)

        self.assertEqual(self.got(slow), payloads)

    def test_leave_in_catch_up(self) -> None:
        """A subscriber that is gone after a write is not served on."""
        self.room = Room(limits(10 * SLICE_BYTES), self.stats)
        slow = self.join("slow")
        self.room.pause(slow)
        self.publish(bytes(SLICE_BYTES), bytes(SLICE_BYTES))
        self.room.flush()
        slow.on_send = lambda: self.room.leave(slow)
        self.room.resume(slow)

        self.assertEqual((len(slow.writes), len(self.room)), (1, 0))


class BoundTests(RoomTestCase):
    """The log is bounded, with any number of stalled subscribers."""

    def test_log_is_bounded(self) -> None:
        """A thousand stalled subscribers cost one log."""
        for _ in range(1000):
            self.room.pause(self.join())
        for _ in range(100):
            self.publish(bytes(1000))
            self.room.flush()
            self.assertLessEqual(self.room.log.size_bytes, self.log_bytes)

    def test_slow_policy_disconnect(self) -> None:
        """A subscriber that falls off the log's tail is evicted with 1013, once; the others are not affected."""
        slow, fast = self.join("slow"), self.join("fast")
        self.room.pause(slow)
        for number in range(20):
            self.publish(b"%d" % number + bytes(1000))
            self.room.flush()

        self.assertEqual(slow.evicted, [closecodes.TOO_SLOW])
        self.assertEqual((slow.writes, len(self.got(fast)), fast.evicted), ([], 20, []))
        self.assertEqual((self.stats.evictions, self.stats.messages_missed), ({"disconnect": 1}, 8))
        self.assertEqual(len(self.room), 1)

    def test_lag_within_log_is_no_eviction(self) -> None:
        """A subscriber that resumes before it falls off has missed nothing."""
        slow = self.join()
        self.room.pause(slow)
        for number in range(7):
            self.publish(b"%d" % number + bytes(1000))
            self.room.flush()
        self.room.resume(slow)

        self.assertEqual((len(self.got(slow)), slow.evicted), (7, []))

    def test_a_full_log_is_flushed_at_once(self) -> None:
        """One turn that publishes more than the log holds loses nothing for reading subscribers."""
        fast, slow = self.join("fast"), self.join("slow")
        self.room.pause(slow)
        for number in range(100):
            self.publish(b"%d" % number + bytes(1000))
            self.assertLessEqual(self.room.log.size_bytes, self.log_bytes)
        self.room.flush()

        self.assertEqual(len(self.got(fast)), 100)
        self.assertEqual(slow.evicted, [closecodes.TOO_SLOW])

    def test_slow_policy_moves_cursor(self) -> None:
        """A row of the table may keep the subscriber: it goes on with as much of the log as the row says."""
        self.room = Room(limits(self.log_bytes), self.stats, slow_policy=SlowPolicy("to-tail", log_share=1))
        slow = self.join()
        self.room.pause(slow)
        for number in range(20):
            self.publish(b"%02d" % number + bytes(1000))
            self.room.flush()
        self.room.resume(slow)

        self.assertEqual([payload[:2] for payload in self.got(slow)], [b"%02d" % number for number in range(13, 20)])
        self.assertEqual((slow.evicted, self.stats.messages_missed), ([], 13))

    def test_leave_counts_missed_messages(self) -> None:
        """Messages that a subscriber left before it got them are counted as missed."""
        slow = self.join()
        self.room.pause(slow)
        self.publish(b"1", b"2", b"3")
        self.room.flush()
        self.room.leave(slow)

        self.assertEqual(self.stats.messages_missed, 3)

    def test_log_is_empty_without_lag(self) -> None:
        """Delivered messages and their publishers are not referenced by the room."""
        a = self.join()
        publisher = RecordingSubscriber()
        gone = weakref.ref(publisher)
        self.publish(b"1", publisher=publisher)
        self.room.flush()
        self.assertEqual(len(a.writes), 1)
        del publisher

        self.assertIs(gone(), None)

    def test_leave_while_due_counts_missed_messages(self) -> None:
        """Leaving in the middle of a flush, or before it, is counted, too."""
        a, b = self.join("a"), self.join("b")
        self.publish(b"1")
        self.room.flush(1)
        self.room.leave(b)
        self.publish(b"2")
        self.room.leave(a)

        self.assertEqual((self.stats.deliveries, self.stats.messages_missed), (1, 2))

    def test_low_watermark(self) -> None:
        """The log is empty when all are served; offsets go on."""
        a = self.join()
        self.publish(b"1", b"2")
        self.room.flush()
        self.assertEqual((self.room.log.size_bytes, self.room.log.tail, self.room.log.head), (0, 2, 2))

        self.room.pause(a)
        self.publish(b"3")
        self.room.flush()
        self.assertGreater(self.room.log.size_bytes, 0)
        self.room.leave(a)

        self.assertEqual(self.room.log.size_bytes, 0)


class DroppingTests(RoomTestCase):
    """Policies that move a cursor that fell off the log. The log holds 7 of these messages."""

    def test_slow_policy_drop_oldest(self) -> None:
        """A fallen subscriber goes on with half of the log; skipped messages are counted."""
        self.policy("drop-oldest")
        slow, fast = self.stall("slow"), self.join("fast")
        self.pass_by(7)
        self.assertEqual(self.stats.evictions, {})
        self.pass_by(1, first=7)
        self.assertEqual((self.stats.evictions, self.stats.messages_missed), ({"drop-oldest": 1}, 5))
        self.pass_by(4, first=8)
        self.assertEqual(self.stats.evictions, {"drop-oldest": 1})
        self.room.resume(slow)

        self.assertEqual(self.numbers(slow), [5, 6, 7, 8, 9, 10, 11])
        self.assertEqual((self.numbers(fast), slow.evicted, self.stats.messages_missed), ([*range(12)], [], 5))

    def test_slow_policy_latest(self) -> None:
        """A fallen subscriber goes on with the newest message, and no other is kept for it."""
        self.policy("latest")
        slow = self.stall()
        self.pass_by(8)
        self.assertEqual((self.room.log.tail, self.room.log.head), (7, 8))
        self.room.resume(slow)
        self.pass_by(1, first=8)

        self.assertEqual((self.numbers(slow), slow.evicted), ([7, 8], []))
        self.assertEqual((self.stats.evictions, self.stats.messages_missed), ({"latest": 1}, 7))

    def test_miss(self) -> None:
        """Where messages were lost before they came, a policy that evicts evicts all, also those that read."""
        current, slow = self.join(), self.stall()
        self.publish(b"1")
        self.room.miss()
        self.assertEqual([one.evicted for one in (current, slow)], [[closecodes.MESSAGES_LOST]] * 2)
        self.assertEqual(dict(self.stats.evictions), {"disconnect": 2})

    def test_miss_without_eviction(self) -> None:
        """Other policies go on, and count each subscriber."""
        for name in ("drop-oldest", "latest"):
            self.policy(name)
            current, slow = self.join(), self.stall()
            self.room.miss()
            self.publish(b"1")
            self.room.flush()
            self.assertEqual((self.got(current), current.evicted, slow.evicted), ([b"1"], [], []))
            self.assertEqual(self.stats.evictions[name], 2)

    def test_skipped_messages_are_counted(self) -> None:
        """Messages received and messages counted as missed add up to all messages."""
        for name in ("drop-oldest", "latest"):
            self.stats = Stats()
            self.policy(name)
            slow = self.stall()
            for turn in range(9):
                self.pass_by(10, first=10 * turn)
                self.room.resume(slow)
                self.room.pause(slow)
            self.assertEqual(len(self.got(slow)) + self.stats.messages_missed, 90, name)
            self.assertEqual(self.numbers(slow), sorted(set(self.numbers(slow))))

    def test_drop_oldest_with_a_message_of_half_the_log(self) -> None:
        """There is always a newest message to go on with."""
        self.policy("drop-oldest")
        slow = self.stall()
        self.pass_by(3, size=6000)
        self.room.resume(slow)

        self.assertEqual(self.numbers(slow), [2])

    def test_slow_seconds_do_not_apply(self) -> None:
        """Where messages may be missed, waiting long is nothing to be closed for."""
        for name in ("drop-oldest", "latest"):
            self.policy(name, slow_seconds=1)
            slow = self.stall()
            self.pass_by(1)
            for now in range(9):
                self.room.tick(now)
            self.assertEqual((slow.evicted, self.stats.evictions), ([], {}), name)
            self.room.resume(slow)
            self.assertEqual(self.numbers(slow), [0])

    def test_latest_skips_by_age(self) -> None:
        """latest: a paused subscriber skips messages older than a quarter of a second, long before the log is full."""
        self.policy("latest")
        slow = self.stall()
        self.pass_by(2)
        self.room.tick(0)
        self.pass_by(2, first=2)
        self.room.tick(0.2)
        self.assertEqual(self.stats.evictions, {})
        self.room.tick(0.5)
        self.assertEqual((self.stats.evictions, self.stats.messages_missed), ({"latest": 1}, 3))
        self.assertEqual((self.room.log.tail, self.room.log.head), (3, 4))
        self.room.resume(slow)

        self.assertEqual(self.numbers(slow), [3])

    def test_latest_skips_within_stretch(self) -> None:
        """No frames are kept of a run that is taken apart while some have still to get it."""
        cache = FrameCache(Settings())
        self.room = Room(
            limits(self.log_bytes), self.stats, slow_policy=SLOW_POLICIES["latest"], log=Log(self.stats, cache)
        )
        self.stall()
        readers = [self.join(str(number), encoding=bytes.upper) for number in range(3)]
        self.publish(bytes(700), bytes(700))
        self.room.flush(writes=1)
        for now in (0.0, 0.5):
            self.room.tick(now)
        self.room.flush()

        self.assertEqual([len(self.got(reader)) for reader in readers], [2] * 3)
        cache.check(self.room.log)

    def test_latest_of_another(self) -> None:
        """latest: the newest message of another member is kept, although the subscriber has published since."""
        self.policy("latest")
        slow = self.stall()
        self.pass_by(3)
        self.publish(b"03", b"04", publisher=slow)
        self.room.flush()
        self.room.tick(0)
        self.room.tick(1)
        self.room.resume(slow)

        self.assertEqual((self.numbers(slow), self.stats.messages_missed), ([2], 2))

    def test_publisher_fills_log_alone(self) -> None:
        """A paused subscriber whose own messages fill the log falls off once per full log, not at each message."""
        for name in ("drop-oldest", "latest"):
            self.stats = Stats()
            self.policy(name)
            slow = self.stall()
            self.pass_by(1)
            for _ in range(900):
                self.publish(bytes(1000), publisher=slow)
                self.room.flush()
            self.assertLess(self.stats.evictions[name], 900 / 3, name)

    def test_drop_oldest_by_age(self) -> None:
        """drop-oldest: nothing is skipped before the log is full."""
        self.policy("drop-oldest")
        slow = self.stall()
        self.pass_by(7)
        for now in range(99):
            self.room.tick(now)
        self.room.resume(slow)

        self.assertEqual(self.numbers(slow), [*range(7)])


class SecondsTests(RoomTestCase):
    """Subscribers that are behind for long."""

    def setUp(self) -> None:
        super().setUp()
        self.policy("disconnect", slow_seconds=10)

    def test_slow_seconds(self) -> None:
        """A subscriber paused for slow_seconds is evicted and counted; the others are not affected."""
        slow, fast = self.stall("slow"), self.join("fast")
        self.pass_by(1)
        self.room.tick(100)
        self.pass_by(1, first=1)
        self.room.tick(109)
        self.assertEqual(slow.evicted, [])
        self.room.tick(110)

        self.assertEqual((slow.evicted, self.numbers(fast)), ([closecodes.TOO_SLOW], [0, 1]))
        self.assertEqual((self.stats.evictions, self.stats.messages_missed), ({"disconnect": 1}, 2))
        self.assertFalse(self.room.lagging)

    def test_slow_seconds_with_progress(self) -> None:
        """A subscriber that reads slowly, but within slow_seconds, stays."""
        slow = self.stall()
        for now in range(90):
            self.pass_by(1, first=now)
            self.room.tick(now)
            if now % 5 == 4:
                self.room.resume(slow)
                self.room.pause(slow)

        self.assertEqual((slow.evicted, self.numbers(slow)), ([], [*range(90)]))

    def test_slow_seconds_with_nothing_to_read(self) -> None:
        """A paused subscriber without messages to read is not slow."""
        self.pass_by(1)
        slow = self.stall()
        for now in range(90):
            self.room.tick(now)

        self.assertEqual(slow.evicted, [])

    def test_slow_seconds_while_due(self) -> None:
        """A due subscriber is not slow."""
        a = self.join("a")
        self.publish(b"1")
        late = self.join("late")
        self.publish(b"2")
        for now in range(90):
            self.room.tick(now)
        self.room.flush()

        self.assertEqual([self.got(one) for one in (a, late)], [[b"1", b"2"], [b"2"]])
        self.assertEqual([one.evicted for one in (a, late)], [[], []])

    def test_slow_seconds_after_another_policy(self) -> None:
        """A message that is old for latest is not old for disconnect, when the policy is set while it waits."""
        self.room.set_slow_policy(SLOW_POLICIES["latest"])
        slow = self.stall()
        self.pass_by(1)
        for now in (0, 1, 2):
            self.room.tick(now)
        self.room.set_slow_policy(SLOW_POLICIES["disconnect"])
        self.room.tick(2.5)
        self.room.set_slow_policy(SLOW_POLICIES["disconnect"])  # a reload without a change
        self.room.tick(12)
        self.assertEqual(slow.evicted, [])
        self.room.tick(13)

        self.assertEqual(slow.evicted, [closecodes.TOO_SLOW])

    def test_slow_seconds_off(self) -> None:
        """With slow_seconds 0, age evicts no subscriber."""
        self.policy("disconnect", slow_seconds=0)
        slow = self.stall()
        self.pass_by(1)
        for now in range(90):
            self.room.tick(now)

        self.assertEqual(slow.evicted, [])


class PauseTests(RoomTestCase):
    """Rooms that pause their publishers. The log holds 7 of these messages, three quarters of it are 5."""

    def setUp(self) -> None:
        super().setUp()
        self.policy("pause-publishers", slow_seconds=10)

    def test_hold_and_release(self) -> None:
        """All publishers are held while a subscriber is far behind, and released after that."""
        self.room = Room(limits(20 * SLICE_BYTES), self.stats, slow_policy=SLOW_POLICIES["pause-publishers"])
        slow, a = self.stall("slow"), self.join("a")
        writer, reader = RecordingSubscriber("writer"), RecordingSubscriber("reader")
        self.room.join(writer, can_subscribe=False)
        self.room.join(reader, can_publish=False)

        self.pass_by(15, size=SLICE_BYTES - 500)
        self.assertEqual([one.held for one in (slow, a, writer, reader)], [False] * 4)
        self.pass_by(1, first=15, size=SLICE_BYTES - 500)
        self.assertEqual([one.held for one in (slow, a, writer, reader)], [True, True, True, False])

        slow.on_send = lambda: self.room.pause(slow)
        for _ in range(10):
            self.room.resume(slow)
        self.assertEqual([one.held for one in (slow, a, writer)], [True] * 3)
        self.room.resume(slow)
        self.assertEqual([one.held for one in (slow, a, writer)], [False] * 3)
        slow.on_send = lambda: None
        self.room.resume(slow)

        self.assertEqual((self.numbers(slow), self.numbers(a)), ([*range(16)], [*range(16)]))
        self.assertEqual((self.stats.pauses, self.stats.evictions), (1, {}))

    def test_hysteresis(self) -> None:
        """The two marks are far apart, and leave space for messages read before the hold."""
        self.assertLess(2 * LOW_WATER, HIGH_WATER)
        self.assertLess(HIGH_WATER, 1)

    def test_join_and_leave_while_held(self) -> None:
        """A publisher that joins is held, too; one that leaves is released."""
        self.stall()
        self.pass_by(7)
        new, reader = self.join("new"), RecordingSubscriber("reader")
        self.room.join(reader, can_publish=False)
        self.assertEqual((new.held, reader.held), (True, False))
        self.room.leave(new)

        self.assertFalse(new.held)

    def test_slowest_leaves_while_held(self) -> None:
        """All go on when the one for whom they were held has left."""
        slow, a = self.stall("slow"), self.join("a")
        self.pass_by(7)
        self.assertTrue(a.held)
        self.room.leave(slow)

        self.assertEqual((slow.held, a.held, self.room.log.size_bytes), (False, False, 0))

    def test_slow_seconds_end_a_hold(self) -> None:
        """A subscriber that stalls for slow_seconds is evicted, and the publishers are released."""
        slow, a = self.stall("slow"), self.join("a")
        self.pass_by(7)
        self.room.tick(0)
        self.assertTrue(a.held)
        self.room.tick(10)

        self.assertEqual((slow.evicted, a.held), ([closecodes.TOO_SLOW], False))
        self.assertEqual(self.stats.evictions, {"pause-publishers": 1})

    def test_publish_while_held(self) -> None:
        """Messages from held publishers are published; a subscriber that falls off is evicted."""
        slow, a = self.stall("slow"), self.join("a")
        self.pass_by(20)

        self.assertEqual((slow.evicted, slow.held, a.held), ([closecodes.TOO_SLOW], False, False))
        self.assertEqual((self.numbers(a), self.stats.pauses), ([*range(20)], 1))

    def test_send_raises_while_held(self) -> None:
        """One whose write fails in the flush that ends the pause is released as well."""
        slow, bad = self.stall("slow"), self.join("bad")
        self.pass_by(7)
        self.assertTrue(bad.held)

        def fail() -> None:
            raise RuntimeError("no")

        bad.on_send = fail
        self.pass_by(3, first=7)

        self.assertEqual((bad.failures, bad.held, slow.evicted), (1, False, [closecodes.TOO_SLOW]))

    def test_set_slow_policy(self) -> None:
        """Another policy releases the publishers, and applies from now on."""
        slow, a = self.stall("slow"), self.join("a")
        self.pass_by(7)
        self.room.set_slow_policy(SLOW_POLICIES["latest"])
        self.assertEqual((slow.held, a.held), (False, False))
        self.pass_by(3, first=7)
        self.assertEqual(slow.evicted, [])
        self.room.set_slow_policy(SLOW_POLICIES["pause-publishers"])
        self.pass_by(3, first=10)

        self.assertEqual((a.held, self.stats.evictions), (True, {"latest": 1}))


class ShedTests(RoomTestCase):
    """Evicting because memory is short."""

    def test_shed_slowest(self) -> None:
        """The slowest pin the log until all of them are evicted, whatever the policy; it is counted."""
        for name in SLOW_POLICIES:
            self.stats = Stats()
            self.policy(name)
            slow = []
            for number in range(4):
                slow.append(self.stall(str(number)))
                self.pass_by(1, first=number)
            fast = self.join("fast")
            before = self.room.log.size_bytes
            for one in slow[:2]:
                self.assertEqual(self.room.stalled(), [one])
                self.room.shed(one)

            self.assertEqual([one.evicted for one in slow], [[closecodes.OVERLOADED]] * 2 + [[]] * 2, name)
            self.assertEqual((self.room.log.tail, self.stats.log_bytes), (2, before // 2))
            self.assertEqual((self.stats.evictions, self.stats.messages_missed), ({SHED: 2}, 4 + 3))
            self.assertEqual((fast.evicted, len(self.room)), ([], 3))

    def test_stalled_together(self) -> None:
        """Subscribers with the same cursor pin the log together: it is freed with the last of them."""
        slow = [self.stall("1"), self.stall("2")]
        self.pass_by(3)
        self.assertEqual(self.room.stalled(), slow)
        self.room.shed(slow[0])
        self.assertEqual((self.room.stalled(), self.room.log.tail), (slow[1:], 0))
        self.room.shed(slow[1])

        self.assertEqual((self.room.stalled(), self.room.log.size_bytes), ([], 0))

    def test_stalled_without_lag(self) -> None:
        """No subscriber is stalled for pending messages, nor one that does not lag."""
        idle = self.stall("idle")
        self.pass_by(1)
        self.room.resume(idle)
        self.room.pause(idle)
        fast = self.join("fast")
        self.publish(b"1")
        self.assertEqual(self.room.stalled(), [])
        self.room.flush()

        self.assertEqual(self.got(fast), [b"1"])

    def test_stalled_history(self) -> None:
        """Messages kept for the history only are forgotten before any subscriber is evicted."""
        self.room = Historical(limits(self.log_bytes), self.stats)
        self.pass_by(3)
        slow = self.stall()
        self.pass_by(1)
        self.assertEqual((self.room.stalled(), self.room.log.tail), ([slow], 3))
        self.room.shed(slow)

        self.assertEqual((self.room.log.size_bytes, slow.evicted), (0, [closecodes.OVERLOADED]))


class LifeTests(RoomTestCase):
    """When a room may disappear."""

    def test_idle(self) -> None:
        """A room is idle without members, even if messages were pending when the last one left."""
        self.assertTrue(self.room.idle)
        a = self.join()
        self.assertFalse(self.room.idle)
        self.publish(b"x", publisher=a)
        self.room.leave(a)

        self.assertTrue(self.room.idle)

    def test_history(self) -> None:
        """With a history, messages stay after delivery until they are too old, and the room is not idle."""
        room = Historical(limits(self.log_bytes), self.stats)
        a = RecordingSubscriber()
        room.join(a)
        for second in (1, 10, 20):
            room.now = second
            room.publish(Run.binary(b"x"))
            room.flush()
        room.leave(a)
        self.assertEqual((room.log.tail, room.idle), (0, False))

        room.now = 75
        room.expire()
        self.assertEqual((room.log.tail, room.idle), (2, False))
        room.now = 90
        room.expire()
        self.assertEqual((room.log.tail, room.idle), (3, True))

    def test_history_and_due_messages(self) -> None:
        """Age does not take a message from those whose turn in a flush has not come."""
        room = Historical(limits(self.log_bytes), self.stats)
        a, b = RecordingSubscriber(), RecordingSubscriber()
        for subscriber in (a, b):
            room.join(subscriber)
        room.publish(joined([Run.binary(b"1"), Run.binary(b"2")]))
        room.flush(1)
        room.now = 1000
        room.expire()
        room.pause(b)
        room.resume(b)

        self.assertEqual(self.got(b), [b"1", b"2"])

    def test_history_and_low_watermark(self) -> None:
        """Age alone does not take a message from a subscriber that is behind."""
        room = Historical(limits(self.log_bytes), self.stats)
        slow = RecordingSubscriber()
        room.join(slow)
        room.pause(slow)
        room.publish(Run.binary(b"x"))
        room.flush()
        room.now = 1000
        room.expire()
        room.resume(slow)

        self.assertEqual(self.got(slow), [b"x"])

    def test_expire_without_history(self) -> None:
        """Without a history nothing is too old."""
        self.room.expire()
        self.assertTrue(self.room.idle)
