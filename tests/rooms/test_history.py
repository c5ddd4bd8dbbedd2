"""wsrelay.rooms.history: ids, where members start, what is kept, and what is gone."""

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.support import EPOCH, Historical, RecordingSubscriber, joined
from wsrelay.message import Run
from wsrelay.message_id import MessageId, epoch_of
from wsrelay.policies import SLOW_POLICIES
from wsrelay.rooms.history import SLACK, History
from wsrelay.rooms.timeline import Timeline
from wsrelay.settings import Settings
from wsrelay.stats import Stats
from wsrelay.wanted import ALL_NEW, Start, Wanted
from wsrelay.wire import frames


def at(number: int) -> MessageId:
    """Return the id of a message, without a broker."""
    return MessageId(EPOCH, (number,))


def since(identity: MessageId, last: int | None = None) -> Wanted:
    """Return the wish for what is behind an id."""
    return Wanted(str(identity), identity, last)


class HistoryTestCase(SynchronousTestCase):
    """A room that keeps ten messages."""

    def setUp(self) -> None:
        self.timeline = Timeline(EPOCH)
        self.make()

    def make(self, most: int = 10, greeting: int = 0, **settings: int) -> None:
        """Make the room."""
        self.settings = Settings(**settings)  # type: ignore[arg-type]  # numbers only
        self.room = Historical(self.settings, Stats(), most=most, greeting=greeting, timeline=self.timeline)
        assert self.room.history is not None
        self.history: History = self.room.history

    def publish(self, *numbers: int, size: int = 0) -> Run:
        """Publish a run."""
        run = joined([Run.text(b"%d" % number + b" " * size) for number in numbers])
        self.room.publish(run)
        self.room.flush()
        self.room.check()
        return run

    def join(self, wanted: Wanted = ALL_NEW) -> tuple[RecordingSubscriber, Start]:
        """Let a member join, and get what it wants."""
        member = RecordingSubscriber()
        start = self.room.join(member, wanted=wanted)
        self.room.flush()
        self.room.check()
        return member, start

    def read(self, wanted: Wanted) -> list[int] | None:
        """Return the numbers of the messages that are read."""
        reading = self.history.read(wanted)
        return None if reading is None else numbers(b"".join([run.plain for run in reading.messages]))


def numbers(data: bytes) -> list[int]:
    """Return the numbers in some frames."""
    return [int(frames.payload_of(frame)) for frame in frames.split(data)]


class IdTests(HistoryTestCase):
    """The ids of messages."""

    def test_ids(self) -> None:
        """Messages are numbered in their room, from 1; a run has the id of its first."""
        self.assertEqual([self.publish(1).id, self.publish(2, 3).id, self.publish(4).id], [at(1), at(2), at(4)])
        self.assertEqual((self.history.at, self.history.newest), (at(4), at(4)))

    def test_given_id(self) -> None:
        """An id and a time that a broker gave stay."""
        run = Run.text("x")
        run.id, run.published_at = MessageId(EPOCH, (7, 0, 0)), 5.0
        self.room.publish(run)
        self.assertEqual((run.id, run.published_at), (MessageId(EPOCH, (7, 0, 0)), 5.0))

    def test_floor(self) -> None:
        """A room that is opened again goes on behind all that it may have had before."""
        self.timeline.head = (40,)
        self.timeline.raise_floor(at(40))
        self.make()
        self.assertEqual((self.history.at, self.publish(1).id), (at(40), at(41)))
        self.assertIsNone(self.read(since(at(39))))
        self.assertEqual(self.read(since(at(40))), [1])

    def test_head(self) -> None:
        """With a broker, a quiet room's position goes on with what was delivered."""
        self.timeline.head = (9, 1)
        self.assertEqual(self.history.at, MessageId(EPOCH, (9, 1)))


class StartTests(HistoryTestCase):
    """Where members start."""

    def test_every_offset(self) -> None:
        """An id is good from that of the message forgotten last to that of the newest."""
        self.make(most=8)
        for number in range(1, 61):
            self.publish(number)
        tail = self.room.log.tail
        for number in range(tail - 1, 62):
            member, start = self.join(since(at(number)))
            with self.subTest(number):
                self.assertEqual(start, Start(at(60), True) if number < tail or number > 60 else Start(at(number)))
                self.assertEqual(numbers(member.data), [] if start.is_gone else list(range(number + 1, 61)))
        self.assertIn(60 - tail, range(8, 2 * 8 + 1))

    def test_cut_run(self) -> None:
        """An id may be that of any message of a run."""
        self.publish(1, 2, 3)
        self.publish(4, 5)
        for number in range(6):
            member, _ = self.join(since(at(number)))
            self.assertEqual(numbers(member.data), list(range(number + 1, 6)))

    def test_before_the_first_message(self) -> None:
        """The position of an empty room is good."""
        before = self.history.at
        self.publish(1)
        self.assertEqual((before, self.read(since(before))), (at(0), [1]))

    def test_other_epoch(self) -> None:
        """An id of another epoch, or none of ours, is gone."""
        self.publish(1, 2)
        ids = [MessageId(epoch_of(2), (1,)), MessageId(epoch_of(0), (1,)), MessageId(EPOCH, (1, 0, 0))]
        for wanted in (*map(since, ids), Wanted("null")):
            member, start = self.join(wanted)
            self.assertEqual((start, member.data), (Start(at(2), True), b""))

    def test_last(self) -> None:
        """The newest messages are given, as many as there are."""
        self.publish(1, 2, 3)
        for last in range(5):
            member, start = self.join(Wanted(last=last))
            self.assertEqual(numbers(member.data), [1, 2, 3][max(0, 3 - last) :])
            self.assertEqual(start, Start(at(max(0, 3 - last))))

    def test_last_and_since(self) -> None:
        """Where the history behind an id is gone, the newest messages are given if they are wanted then."""
        self.publish(1, 2, 3)
        gone = MessageId(epoch_of(2), (1,))
        self.assertEqual(numbers(self.join(since(at(2), last=3))[0].data), [3])
        member, start = self.join(since(gone, last=2))
        self.assertEqual((numbers(member.data), start), ([2, 3], Start(at(1), True)))

    def test_greeting(self) -> None:
        """Newcomers are greeted, unless they want something else, or may not be."""
        self.make(greeting=2)
        self.publish(1, 2, 3)
        wishes = {ALL_NEW: [2, 3], Wanted(last=0): [], since(at(2)): [3], Wanted(may_greet=False): [], Wanted("x"): []}
        for wanted, expected in wishes.items():
            self.assertEqual(numbers(self.join(wanted)[0].data), expected)

    def test_silent_member(self) -> None:
        """A member that receives nothing gets no history either, and no id."""
        self.publish(1)
        member = RecordingSubscriber()
        self.assertEqual(self.room.join(member, can_subscribe=False, wanted=Wanted(last=1)), Start())
        self.room.flush()
        self.assertEqual(member.data, b"")


class KeepTests(HistoryTestCase):
    """What is kept."""

    def test_count(self) -> None:
        """As many messages as are to be kept are kept, and a few more."""
        for most, limit in ((1, 2), (16, 32), (1000, 1000 + SLACK)):
            self.make(most=most)
            kept = []
            for number in range(2 * limit):
                self.publish(number)
                kept.append(self.room.log.head - self.room.log.tail)
            self.assertEqual((kept[most - 1], min(kept[most:]), max(kept)), (most, most, limit))

    def test_bytes(self) -> None:
        """The bytes of a history are bounded."""
        self.make(most=1000, max_message_bytes=1000, room_log_bytes=10_000)
        for number in range(20):
            self.publish(number, size=500)
        self.assertLessEqual(self.room.log.size_bytes, 5000)
        self.assertEqual(self.read(Wanted(last=1000)), list(range(14, 20)))

    def test_bytes_of_a_run(self) -> None:
        """A run that is larger than the history is taken apart: its newest messages stay."""
        self.make(most=1000, max_message_bytes=1000, room_log_bytes=10_000)
        self.publish(*range(10), size=500)
        self.assertEqual(self.read(Wanted(last=1000)), list(range(4, 10)))
        self.publish(*range(10, 13), size=500)
        self.assertEqual(self.read(Wanted(last=1000)), list(range(7, 13)))

    def test_needed(self) -> None:
        """What a slow member needs is held for it, and for nobody else."""
        slow, _ = self.join()
        self.room.pause(slow)
        for number in range(1, 101):
            self.publish(number)
        self.assertEqual(self.room.log.tail, 0)
        self.assertEqual((self.read(since(at(60))), self.read(Wanted(last=50))), (None, list(range(91, 101))))
        self.room.resume(slow)
        self.publish(101)
        self.assertGreaterEqual(self.room.log.tail, 90)  # forgotten as soon as nobody needs it
        for number in range(102, 110):
            self.publish(number)
        self.assertIn(self.room.log.tail, range(90, 100))
        self.assertEqual((numbers(slow.data), self.read(Wanted(last=50))), ([*range(1, 110)], [*range(100, 110)]))

    def test_too_old(self) -> None:
        """Messages that are too old are read no more, though a slow member still gets them."""
        slow, _ = self.join()
        self.room.pause(slow)
        for second in (1, 2, 70):
            self.room.now = second
            self.publish(second)
        self.room.expire()
        self.assertEqual((self.read(Wanted(last=9)), self.read(since(at(1))), self.room.log.tail), ([70], None, 0))
        self.room.resume(slow)
        self.room.expire()
        self.assertEqual((numbers(slow.data), self.room.log.tail, self.read(since(at(2)))), ([1, 2, 70], 2, [70]))

    def test_trim(self) -> None:
        """A bound that is not reached changes nothing."""
        self.publish(1, 2)
        self.room.log.trim(10**6)
        self.assertEqual((self.room.log.tail, self.history.forgotten_id), (0, at(0)))

    def test_old_and_overflow(self) -> None:
        """The log's own bound forgets what cannot be read first; the count of such bytes stays right."""
        self.make(most=1000, max_message_bytes=1000, room_log_bytes=10_000)
        slow, _ = self.join()
        self.room.pause(slow)
        for number in range(30):
            self.publish(number, size=500)
        self.assertEqual(len(slow.evicted), 1)
        self.publish(30)
        reading = self.read(Wanted(last=1000))
        assert reading is not None
        self.assertEqual(reading[-1], 30)
        self.assertGreater(len(reading), 5)

    def test_publisher(self) -> None:
        """A run forgets its publisher once all have it, so that the log keeps no connection."""
        publisher, _ = self.join()
        slow, _ = self.join()
        self.room.pause(slow)
        run = Run.text("1", publisher)
        self.room.publish(run)
        self.room.flush()
        self.assertIs(run.publisher, publisher)
        self.room.resume(slow)
        self.assertIsNone(run.publisher)
        self.assertEqual((publisher.data, numbers(slow.data)), (b"", [1]))

    def test_own_messages_in_a_replay(self) -> None:
        """What a member publishes during its replay does not come back to it."""
        self.publish(1, 2)
        member = RecordingSubscriber()
        self.room.join(member, wanted=Wanted(last=2))
        member.takes = 1
        self.room.flush()
        self.room.publish(Run.text("3", member))
        self.room.publish(Run.text("4"))
        self.room.flush()
        member.takes = None
        member.writes.append(member.kept)
        member.kept = b""
        self.room.resume(member)
        self.room.check()
        self.assertEqual(numbers(member.data), [1, 2, 4])

    def test_forget(self) -> None:
        """Forgotten messages are gone, and those who want them are told."""
        self.publish(1, 2)
        self.room.forget()
        self.assertEqual((self.read(since(at(1))), self.read(since(at(2)))), (None, []))
        self.assertEqual(self.history.at, at(2))

    def test_break_off(self) -> None:
        """Where messages are missing, nothing from before is read any more."""
        self.publish(1, 2)
        member, _ = self.join()
        self.timeline.head = (5,)
        self.timeline.raise_floor(at(5))
        self.room.miss()
        self.assertEqual((member.skips, len(member.evicted)), ([], 1))
        self.assertEqual((self.read(since(at(2))), self.read(Wanted(last=9))), (None, []))
        self.publish(3)
        self.assertEqual(self.read(Wanted(last=9)), [3])

    def test_break_off_told(self) -> None:
        """Members that are not evicted are told."""
        self.room.set_slow_policy(SLOW_POLICIES["drop-oldest"])
        self.publish(1, 2)
        member, _ = self.join()
        self.room.miss()
        self.assertEqual((member.skips, member.evicted), ([(at(2), "lost")], []))

    def test_epoch(self) -> None:
        """In another epoch, messages from before can be read, but their ids are void."""
        self.publish(1, 2)
        self.timeline.change(epoch_of(2), (2,))
        self.assertEqual((self.read(since(at(1))), self.read(Wanted(last=9))), (None, [1, 2]))
        self.assertEqual(self.read(since(self.history.at)), [])


class ReadTests(HistoryTestCase):
    """Reading without joining."""

    def test_complete(self) -> None:
        """A reading is complete if nothing that is wanted is missing."""
        self.make(most=4, greeting=1)
        complete: dict[tuple[int, bool, int | None], tuple[bool, int]] = {}
        for number in range(1, 9):
            self.publish(number)
            for wanted in (Wanted(last=3), Wanted(last=6), since(at(number - 1)), since(MessageId("0", (1,)), last=2)):
                reading = self.history.read(wanted)
                assert reading is not None
                complete[number, wanted.since is None, wanted.last] = (reading.is_complete, len(reading.messages))
                self.assertEqual(reading.at, at(number))
        self.assertEqual((complete[2, True, 3], complete[4, True, 6]), ((True, 2), (True, 4)))
        self.assertEqual((complete[8, True, 3], complete[8, True, 6]), ((True, 3), (False, 4)))
        self.assertEqual((complete[8, False, None], complete[8, False, 2]), ((True, 1), (False, 2)))

    def test_ids(self) -> None:
        """Each message has its id."""
        self.publish(1, 2, 3)
        reading = self.history.read(since(at(1)))
        assert reading is not None
        self.assertEqual([run.id for run in reading.messages], [at(2), at(3)])


class ReplayTests(HistoryTestCase):
    """Members that get old messages."""

    def test_skip(self) -> None:
        """A member that skips messages is told up to where."""
        self.make()
        self.room.set_slow_policy(SLOW_POLICIES["latest"])
        slow, _ = self.join()
        self.room.pause(slow)
        for second in range(9):
            self.publish(second)
            self.room.tick(second)
        self.assertEqual(slow.skips[-1][1], "latest")
        self.assertGreater(slow.skips[-1][0], at(1))

    def test_late(self) -> None:
        """A member that does not read its replay is evicted after ``slow_seconds`` of its own."""
        self.make(room_log_bytes=4_000_000)
        for second in range(100):
            self.publish(second, size=30_000)
            self.room.tick(second)
        slow = RecordingSubscriber()
        slow.takes = 1
        self.room.join(slow, wanted=Wanted(last=9))
        self.room.flush()
        for second in range(100, 130):
            self.room.tick(second)
            self.publish(second)
        self.assertEqual((slow.evicted, len(self.room.replays)), ([], 1))
        self.room.tick(130)
        self.assertEqual(len(slow.evicted), 1)

    def test_publishers_are_not_held(self) -> None:
        """A replay holds no publisher, however far behind it is; one that lags does."""
        self.make(most=1000, max_message_bytes=1000, room_log_bytes=400_000)
        self.room.set_slow_policy(SLOW_POLICIES["pause-publishers"])
        for _ in range(8):
            self.publish(1, size=20_000)
        publisher, replaying, slow = (RecordingSubscriber(name) for name in ("publisher", "replaying", "slow"))
        self.room.join(publisher)
        self.room.join(replaying, wanted=Wanted(last=8))
        replaying.takes = 0
        self.room.flush()
        for _ in range(8):
            self.publish(2, size=20_000)
        self.assertEqual((publisher.held, len(self.room.replays)), (False, 1))
        self.room.join(slow)
        self.room.pause(slow)
        for _ in range(16):
            self.publish(3, size=20_000)
        self.assertEqual((publisher.held, len(replaying.evicted)), (True, 1))

    def test_encodings(self) -> None:
        """An encoding is given the id of each message."""
        seen: list[object] = []

        def encoding(frame: bytes, identity: object = None, /) -> bytes:
            seen.append(identity)
            return frame

        self.room.join(member := RecordingSubscriber(encoding=encoding))
        self.publish(1, 2)
        self.publish(3)
        self.assertEqual((numbers(member.data), seen), ([1, 2, 3], [at(1), at(2), at(3)]))
