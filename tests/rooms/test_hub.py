"""Tests of wsrelay.rooms.hub."""

import itertools
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.support import RecordingSubscriber, joined
from wsrelay import closecodes
from wsrelay.errors import RoomFull, TooManyRooms
from wsrelay.message import Run
from wsrelay.names import PROBE_ROOM
from wsrelay.rooms import room as room_module
from wsrelay.rooms import scheduler
from wsrelay.rooms.due import ENCODED_BYTES
from wsrelay.rooms.frame_cache import ENTRY_BYTES
from wsrelay.rooms.hub import Hub
from wsrelay.settings import Settings
from wsrelay.stats import RoomStatus, Stats
from wsrelay.wire import frames, sse


class HubTests(SynchronousTestCase):
    """Rooms by name. All messages wait for the end of the turn, as in rooms with more members."""

    def setUp(self) -> None:
        self.patch(room_module, "FEW", 0)
        self.patch(room_module, "MANY", 0)

    def hub(self, **settings: Any) -> Hub:
        self.calls: list[Callable[[], None]] = []
        return Hub(Settings(**settings), Stats(), self.calls.append)

    def turn(self) -> None:
        """End a reactor turn."""
        calls, self.calls[:] = self.calls[:], []
        for call in calls:
            call()

    def member(self, hub: Hub, room: str = "room") -> RecordingSubscriber:
        subscriber = RecordingSubscriber()
        hub.join(room, subscriber)
        return subscriber

    def test_rooms_are_apart(self) -> None:
        """A message reaches its room and no other."""
        hub = self.hub()
        a, b, c = self.member(hub, "x"), self.member(hub, "x"), self.member(hub, "y")
        hub.publish("x", Run.text(b"hi", a))
        self.turn()

        self.assertEqual((a.writes, b.writes, c.writes), ([], [frames.encode(frames.TEXT, b"hi")], []))

    def test_crowded(self) -> None:
        """A room is crowded from half a log in one turn on, until it is flushed."""
        hub = self.hub(room_log_bytes=10_000, max_message_bytes=4000)
        self.member(hub, "x")
        self.member(hub, "y")
        for count in (1, 2):
            self.assertEqual(list(hub.crowded), [])
            hub.publish("x", Run.binary(bytes(2600)))
            hub.publish("y", joined([Run.binary(bytes(2600))] * count))
        self.assertEqual(sorted(hub.crowded), ["x", "y"])
        self.turn()
        self.assertEqual(list(hub.crowded), [])
        hub.publish("x", Run.binary(bytes(2600)))

        self.assertEqual(list(hub.crowded), [])

    def test_crowded_flushed_out_of_turn(self) -> None:
        """A room that was flushed out of turn is not crowded any more, also if no other has a flush in this turn."""
        self.patch(room_module, "MANY", 1)
        hub = self.hub(room_log_bytes=10_000, max_message_bytes=4000)
        for room in ("x", "x", "y"):
            self.member(hub, room)
        for _ in range(2):
            hub.publish("x", Run.binary(bytes(3000)))
        self.assertEqual(list(hub.crowded), ["x"])
        hub.flush()
        hub.publish("y", Run.binary(b""))
        self.turn()

        self.assertEqual((list(hub.crowded), self.calls), ([], []))

    def test_crowded_unfinished(self) -> None:
        """A room whose flush takes several turns is crowded until it is done."""
        hub = self.hub(room_log_bytes=10_000, max_message_bytes=4000)
        for _ in range(3):
            self.member(hub, "x")
        self.patch(scheduler, "STRETCH_WRITES", 1)
        hub.publish("x", joined([Run.binary(bytes(2600))] * 2))
        crowded = []
        while self.calls:
            crowded.append(list(hub.crowded))
            self.turn()

        self.assertEqual((len(crowded) > 2, {*map(tuple, crowded)}, list(hub.crowded)), (True, {("x",)}, []))

    def test_flush_in_turn(self) -> None:
        """A room whose flush takes several turns leaves small rooms theirs in each; nothing is written twice."""
        hub = self.hub()
        large = [self.member(hub, "large") for _ in range(100)]
        small = self.member(hub, "small")
        self.patch(scheduler, "STRETCH_WRITES", 40)
        hub.publish("large", Run.text(b"1"))
        delivered = []
        while self.calls:
            hub.publish("small", Run.text(b"2"))
            self.turn()
            delivered.append((sum(len(member.writes) for member in large), len(small.writes)))

        self.assertEqual(delivered[:3], [(39, 1), (78, 2), (100, 3)])
        self.assertEqual({len(member.writes) for member in large}, {1})

    def test_flush_by_time(self) -> None:
        """A flush that takes long leaves further rooms to the next turn."""
        times = itertools.count(0.0, 2 * scheduler.STRETCH_SECONDS)
        self.calls = []
        hub = Hub(Settings(), Stats(), self.calls.append, seconds=lambda: next(times))
        members = [self.member(hub, name) for name in "xyz"]
        for name in "xyz":
            hub.publish(name, Run.text(b"1"))
        delivered = []
        for _ in range(3):
            self.turn()
            delivered.append(sum(len(member.writes) for member in members))

        self.assertEqual((delivered, self.calls), ([1, 2, 3], []))

    def test_encode(self) -> None:
        """Long messages are encoded when they are published, once; short ones by the flush."""
        hub = self.hub()
        member = self.member(hub, "x")
        encoded: list[bytes] = []

        def encode(frame: bytes) -> bytes:
            encoded.append(frame)
            return frame

        hub.join("x", RecordingSubscriber(encoding=encode))
        long, short = Run.text(b"1" * ENCODED_BYTES), Run.text(b"2")
        hub.publish("x", long)
        hub.publish("x", short)
        self.assertEqual(encoded, [long.plain])
        self.turn()

        self.assertEqual((encoded, member.data), ([long.plain, short.plain], long.plain + short.plain))
        self.assertEqual(hub.cached_bytes, 0)

    def test_encode_own(self) -> None:
        """A message is not encoded for its publisher alone, which does not get it."""
        hub = self.hub()
        self.member(hub, "x")
        encoded: list[bytes] = []
        one, other = (RecordingSubscriber(name, lambda frame: encoded.append(frame) or frame) for name in "ab")
        other.encoding = one.encoding
        message = Run.text(b"1" * ENCODED_BYTES, one)
        for publisher in (one, other):
            hub.join("x", publisher)
            hub.publish("x", message)
            self.turn()
            self.assertEqual(encoded, [message.plain] * (publisher is other))

    def test_free_cache(self) -> None:
        """Encoded frames are counted for all rooms; forgotten, they are made again when needed."""
        hub = self.hub()
        slow = [RecordingSubscriber(room, sse.encode) for room in ("x", "y")]
        for member in slow:
            hub.join(member.name, member)
            hub.join(member.name, RecordingSubscriber("", sse.encode))
            hub.pause(member)
            hub.publish(member.name, message := Run.binary(bytes(1000)))
        self.turn()
        self.assertEqual(hub.cached_bytes, 2 * (ENTRY_BYTES + len(sse.encode(message.plain))))
        hub.check()
        self.assertEqual((hub.free(0), hub.cached_bytes), (2 * (ENTRY_BYTES + len(sse.encode(message.plain))), 0))
        for member in slow:
            hub.resume(member)

        self.assertEqual({member.data for member in slow}, {sse.encode(message.plain)})
        self.assertEqual((hub.log_bytes, hub.cached_bytes), (0, 0))

    def test_one_flush_per_turn(self) -> None:
        """However many messages and rooms, the reactor is asked for one call."""
        hub = self.hub()
        a, b = self.member(hub, "x"), self.member(hub, "y")
        for _ in range(10):
            hub.publish("x", Run.text(b"1"))
            hub.publish("y", Run.text(b"2"))
        self.assertEqual(len(self.calls), 1)
        self.turn()

        self.assertEqual((len(a.writes), len(b.writes)), (1, 1))
        hub.publish("x", Run.text(b"3"))
        self.assertEqual(len(self.calls), 1)

    def test_stretches(self) -> None:
        """A flush of many writes takes several turns, in each of which rooms that had none yet come first."""
        self.patch(scheduler, "STRETCH_WRITES", 3)
        hub = self.hub()
        large = [self.member(hub, "large") for _ in range(7)]
        small = self.member(hub, "small")
        message = Run.text(b"1")
        hub.publish("large", message)
        hub.publish("small", message)

        written = []
        while self.calls:
            self.turn()
            written.append((sum(len(one.writes) for one in large), len(small.writes)))
            self.assertLessEqual(len(self.calls), 1)

        self.assertEqual(written, [(3, 0), (5, 1), (7, 1)])

    def test_flush_without_a_limit(self) -> None:
        """A flush without a limit delivers everything; the turn that was scheduled finds nothing left."""
        self.patch(scheduler, "STRETCH_WRITES", 1)
        hub = self.hub()
        members = [self.member(hub) for _ in range(5)]
        hub.publish("room", Run.text(b"1"))
        hub.flush()
        self.turn()

        self.assertEqual([len(one.writes) for one in members], [1] * 5)
        self.assertEqual(self.calls, [])

    def test_statuses(self) -> None:
        """The status of one room and of all rooms."""
        hub = self.hub()
        member = self.member(hub, "x")
        other = RecordingSubscriber()
        hub.join("x", other, can_publish=False)
        message = Run.text(b"12345")
        hub.publish("x", message)

        expected = RoomStatus("x", 2, 1, 2, 0, 0, message.size_bytes, 1, 7, held=False)
        self.assertEqual((hub.status("x"), list(hub.statuses())), (expected, [expected]))
        self.assertIsNone(hub.status("y"))
        self.assertEqual(hub.given(member), (0, 0))
        hub.flush()
        self.assertEqual((hub.given(member), hub.given(other)), ((1, 7), (1, 7)))

    def test_lag(self) -> None:
        """Lagging subscribers are counted, and the lag of the slowest is known; 0 without any."""
        hub = self.hub()
        self.assertEqual((hub.slow_subscribers, hub.lag_messages, hub.lag_bytes), (0, 0, 0))
        for room, count in (("x", 1), ("y", 3)):
            hub.pause(self.member(hub, room))
            hub.publish(room, joined([Run.text(b"1")] * count))
        hub.flush()

        self.assertEqual((hub.slow_subscribers, hub.lag_messages), (2, 3))
        self.assertEqual(hub.lag_bytes, 3 * Run.text(b"1").size_bytes)

    def test_flush_raises(self) -> None:
        """A flush that raises in one room does not keep the others from theirs."""
        hub = self.hub()

        def fail(frame: bytes) -> bytes:
            raise MemoryError

        hub.join("x", RecordingSubscriber("bad", fail))
        b = self.member(hub, "y")
        hub.publish("x", Run.text(b"1"))
        hub.publish("y", Run.text(b"2"))
        self.assertRaises(MemoryError, self.turn)
        self.turn()

        self.assertEqual(b.data, frames.encode(frames.TEXT, b"2"))

    def test_finish(self) -> None:
        """finish() delivers what is pending; a subscriber in no room is ignored."""
        hub = self.hub()
        a, b = self.member(hub), self.member(hub)
        hub.publish("room", Run.text(b"1"))
        hub.finish(a)
        hub.finish(RecordingSubscriber())

        self.assertEqual((len(a.writes), len(b.writes)), (1, 0))

    def test_rooms_come_and_go(self) -> None:
        """A room is there as long as it has members; leaving twice is harmless."""
        hub = self.hub()
        a, b = self.member(hub, "x"), self.member(hub, "x")
        self.assertEqual((len(hub), list(hub), hub.member_count("x")), (1, ["x"], 2))

        hub.leave(a)
        hub.leave(a)
        self.assertEqual(hub.member_count("x"), 1)
        hub.leave(b)

        self.assertEqual((len(hub), hub.member_count("x")), (0, 0))

    def test_publish_without_room(self) -> None:
        """A message to a room that is gone is dropped, and opens none."""
        hub = self.hub()
        hub.publish("x", Run.text(b"1"))

        self.assertEqual((len(hub), self.calls), (0, []))

    def test_room_dropped_with_pending_messages(self) -> None:
        """The last member may leave in the turn in which it published; a new room of that name is empty."""
        hub = self.hub()
        a = self.member(hub)
        hub.publish("room", Run.text(b"old"))
        hub.leave(a)
        b = self.member(hub)
        self.turn()

        self.assertEqual((a.writes, b.writes), ([], []))

    def test_join_while_last_member_fails(self) -> None:
        """A newcomer whose join makes the last member's write fail has a room all the same."""
        hub = self.hub()
        a = self.member(hub)

        def fail() -> None:
            raise RuntimeError("no")

        a.on_send = fail
        a.fail = lambda error: hub.leave(a)  # type: ignore[method-assign]
        hub.publish("room", Run.text(b"1"))
        b = self.member(hub)
        hub.publish("room", Run.text(b"2"))
        self.turn()

        self.assertEqual((b.data, hub.member_count("room")), (frames.encode(frames.TEXT, b"2"), 1))

    def test_max_rooms(self) -> None:
        """One room too many is refused; existing ones can still be joined, and a freed place be taken."""
        hub = self.hub(max_rooms=2)
        a = self.member(hub, "a")
        self.member(hub, "b")
        self.assertRaises(TooManyRooms, self.member, hub, "c")
        self.member(hub, "a")
        self.assertEqual(list(hub), ["a", "b"])

        hub.leave(a)
        self.assertRaises(TooManyRooms, self.member, hub, "c")

    def test_max_room_members(self) -> None:
        """One member too many is refused, whether it may receive or not."""
        hub = self.hub(max_room_members=2)
        a = self.member(hub)
        hub.join("room", RecordingSubscriber(), can_subscribe=False)
        self.assertRaises(RoomFull, self.member, hub)
        hub.leave(a)
        self.member(hub)

        self.assertEqual(hub.member_count("room"), 2)

    def test_check_join(self) -> None:
        """check_join() raises what join() would raise, and opens no room."""
        hub = self.hub(max_rooms=2, max_room_members=1)
        hub.check_join("a")
        self.assertEqual(len(hub), 0)
        self.member(hub, "a")
        self.assertRaises(RoomFull, hub.check_join, "a")
        hub.check_join("b")
        self.member(hub, "b")
        self.assertRaises(TooManyRooms, hub.check_join, "c")

    def test_probe_room(self) -> None:
        """No limit holds for the room of the readiness probe, which takes no place from others."""
        hub = self.hub(max_rooms=1, max_room_members=1)
        probing = [self.member(hub, PROBE_ROOM) for _ in range(2)]
        self.assertFalse(hub.is_full)
        self.member(hub, "a")
        self.assertTrue(hub.is_full)
        hub.check_join(PROBE_ROOM)
        for member in probing:
            hub.leave(member)
        for _ in range(2):
            self.member(hub, PROBE_ROOM)
        self.assertRaises(TooManyRooms, self.member, hub, "b")
        self.assertEqual((hub.member_count(PROBE_ROOM), hub.is_full), (2, True))
        hub.check()

    def test_resume(self) -> None:
        """resume() continues delivery; a subscriber in no room is ignored."""
        hub = self.hub()
        a = self.member(hub)
        hub.pause(a)
        hub.pause(RecordingSubscriber())
        hub.publish("room", Run.text(b"1"))
        self.turn()
        self.assertEqual(a.writes, [])
        hub.resume(a)
        hub.resume(RecordingSubscriber())

        self.assertEqual(len(a.writes), 1)

    def stalled(self, hub: Hub, room: str, count: int = 1) -> RecordingSubscriber:
        """Join a stalled subscriber, and publish some messages to the room."""
        slow = self.member(hub, room)
        hub.pause(slow)
        hub.publish(room, joined([Run.text(bytes(1000))] * count))
        self.turn()
        return slow

    def test_slow_policy_by_room_name(self) -> None:
        """A room has the policy of the first pattern that fits its name."""
        hub = self.hub(max_message_bytes=1000, room_log_bytes=5000, slow_policy=("latest", "a/*=disconnect"))
        slow = [self.stalled(hub, room, 9) for room in ("a/b", "b")]

        self.assertEqual([one.evicted for one in slow], [[closecodes.TOO_SLOW], []])

    def test_slow_seconds(self) -> None:
        """A subscriber that lags for slow_seconds is evicted by a tick, after a partial write as after a pause."""
        hub = self.hub(slow_seconds=5)
        a, b = self.member(hub, "x"), self.member(hub, "y")
        a.takes = 0
        hub.pause(b)
        for room in ("x", "y"):
            hub.publish(room, joined([Run.text(b"1"), Run.text(b"2")]))
        self.turn()
        hub.publish("x", Run.text(b"3"))
        self.turn()
        for now in range(100, 106):
            self.assertEqual([one.evicted for one in (a, b)], [[], []])
            hub.tick(now)

        self.assertEqual([one.evicted for one in (a, b)], [[closecodes.TOO_SLOW]] * 2)

    def test_blocked_reactor_does_not_count(self) -> None:
        """Time during which the reactor was blocked makes no subscriber slow."""
        hub = self.hub(slow_seconds=5)
        hub.tick(100)
        slow = self.stalled(hub, "x")
        hub.tick(100.5)
        hub.tick(1000)
        self.assertEqual(slow.evicted, [])
        for now in (1000.5, 1001, 1001.5, 1002, 1002.5, 1003, 1003.5, 1004, 1004.5):
            hub.tick(now)
            self.assertEqual(slow.evicted, [] if now < 1004 else [closecodes.TOO_SLOW])

    def test_tick_without_lag(self) -> None:
        """A tick looks at rooms with lagging subscribers only."""
        hub = self.hub()
        slow, fast = self.stalled(hub, "slow"), self.member(hub, "fast")
        hub.publish("fast", Run.text(b"1"))
        self.turn()
        self.assertEqual(len(hub._lagging), 1)
        hub.tick(1)
        self.assertEqual(len(hub._lagging), 1)
        hub.resume(slow)
        hub.tick(2)
        self.assertEqual((len(hub._lagging), len(fast.writes)), (0, 1))
        hub.pause(fast)
        hub.leave(fast)
        hub.tick(3)

        self.assertEqual(len(hub._lagging), 0)

    def test_log_bytes(self) -> None:
        """log_bytes is the cost of all messages held."""
        hub = self.hub()
        one = Run.text(bytes(1000)).size_bytes
        slow = self.stalled(hub, "x", 2)
        self.stalled(hub, "y", 3)
        self.assertEqual(hub.log_bytes, 5 * one)
        hub.resume(slow)

        self.assertEqual(hub.log_bytes, 3 * one)

    def test_shed(self) -> None:
        """A stalled subscriber is evicted from its room, and the log that it pins is freed; others stay."""
        hub = self.hub()
        one = Run.text(bytes(1000)).size_bytes
        small, large = self.stalled(hub, "s", 1), self.stalled(hub, "l", 5)
        self.assertEqual([room.stalled() for room in hub.lagging], [[small], [large]])
        hub.shed(large)
        hub.leave(large)
        hub.shed(large)

        self.assertEqual([slow.evicted for slow in (small, large)], [[], [closecodes.OVERLOADED]])
        self.assertEqual(hub.log_bytes, one)

    def test_set_slow_policies(self) -> None:
        """New policies hold for rooms that there are, and for those to come; wrong ones change nothing."""
        hub = self.hub(max_message_bytes=1000, room_log_bytes=5000, slow_policy=("pause-publishers",))
        slow = self.stalled(hub, "x", 4)
        self.assertTrue(slow.held)
        self.assertRaises(ValueError, hub.set_slow_policies, ["newest"])
        self.assertTrue(slow.held)
        hub.set_slow_policies(["latest", "y=disconnect"])
        self.assertFalse(slow.held)
        other = self.stalled(hub, "y", 9)

        self.assertEqual(other.evicted, [closecodes.TOO_SLOW])

    def test_miss(self) -> None:
        """Messages that were lost concern the members of the rooms that are named, but not the readiness probe."""
        hub = self.hub(slow_policy=("disconnect", "l=latest"))
        members = [self.member(hub, room) for room in ("a", "b", "l", PROBE_ROOM)]
        hub.miss(lambda room: room != "b")
        evicted = [bool(member.evicted) for member in members]
        self.assertEqual(evicted, [True, False, False, False])

    def test_miss_while_rooms_end(self) -> None:
        """A room that ends meanwhile, because members leave at an eviction, is passed over."""
        hub = self.hub()
        a, b = self.member(hub, "a"), self.member(hub, "b")
        a.evict = lambda reason: (hub.leave(a), hub.leave(b))  # type: ignore[assignment, func-returns-value]
        b.evict = lambda reason: (hub.leave(a), hub.leave(b))  # type: ignore[assignment, func-returns-value]
        hub.miss(lambda room: True)
        self.assertEqual(list(hub.names), [])

    def test_names(self) -> None:
        """The names are a live view."""
        hub = self.hub()
        names = hub.names
        member = self.member(hub, "a")
        self.assertEqual(set(names), {"a"})
        hub.leave(member)
        self.assertEqual(set(names), set())

    def test_read_only_member_is_not_held(self) -> None:
        """Only members that may publish are held."""
        hub = self.hub(max_message_bytes=1000, room_log_bytes=5000, slow_policy=("pause-publishers",))
        reader = RecordingSubscriber()
        hub.join("x", reader, can_publish=False)
        slow = self.stalled(hub, "x", 4)

        self.assertEqual((slow.held, reader.held), (True, False))

    def test_history(self) -> None:
        """With a history, an empty room stays until its messages are too old."""
        hub = self.hub(history=("9",), history_seconds=60)
        hub.tick(100)
        a = self.member(hub)
        hub.publish("room", Run.text(b"1"))
        self.turn()
        hub.leave(a)
        hub.tick(150)
        self.assertEqual((list(hub), list(hub._idle.rooms)), ([], ["room"]))
        hub.tick(161)

        self.assertEqual((list(hub), list(hub._idle.rooms)), ([], []))

    def test_tick_without_history(self) -> None:
        """Without a history, time changes nothing."""
        hub = self.hub()
        self.member(hub)
        hub.tick(1e9)

        self.assertEqual(list(hub), ["room"])

    def test_check(self) -> None:
        """A log whose cost is not counted is an error, in the room and in the hub."""
        hub = self.hub()
        self.member(hub)
        hub.check()
        hub._stats.log_bytes += 1
        self.assertRaises(AssertionError, hub.check)
        hub._stats.log_bytes -= 1
        hub._rooms["room"].log.size_bytes += 1
        self.assertRaises(AssertionError, hub.check)
