"""Tests of messages that are delivered without the log: :meth:`wsrelay.rooms.subscribers.Subscribers.send_now`."""

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.support import Historical, RecordingSubscriber, joined
from wsrelay.message import Run
from wsrelay.rooms import room as room_module
from wsrelay.rooms.due import FEW, QUIET_TURNS, Due
from wsrelay.rooms.room import Room
from wsrelay.settings import Settings
from wsrelay.stats import Stats
from wsrelay.wanted import Wanted
from wsrelay.wire import frames

A, B = (frames.encode(frames.TEXT, text) for text in (b"a", b"b"))


class SendNowTests(SynchronousTestCase):
    """A room of two."""

    def setUp(self) -> None:
        self.stats = Stats()
        self.room = self.make()
        self.one, self.other = self.join("one"), self.join("other")

    def make(self) -> Room:
        return Room(Settings(), self.stats)

    def join(self, name: str, encoding: frames.Encoding = frames.plain) -> RecordingSubscriber:
        subscriber = RecordingSubscriber(name, encoding)
        self.room.join(subscriber)
        return subscriber

    def publish(self, *texts: bytes, publisher: object = None) -> Due:
        """Publish a run; return what it leaves for the end of the turn."""
        due = self.room.publish(joined([Run.text(text, publisher) for text in texts]))
        self.room.check()
        return due

    def test_others_only(self) -> None:
        """A run is written at once to all but its publisher, in one write, and leaves the log empty."""
        self.assertIs(self.publish(b"a", b"b", publisher=self.one), Due.NOTHING)

        self.assertEqual((self.one.writes, self.other.writes), ([], [A + B]))
        self.assertEqual([self.room.given(one) for one in (self.one, self.other)], [(0, 0), (2, len(A + B))])
        self.assertEqual((self.room.log.head, self.room.log.size_bytes, self.stats.log_bytes), (2, 0, 0))
        self.assertEqual((self.stats.deliveries, self.stats.bytes_out), (2, len(A + B)))
        self.assertFalse(self.room.pending)

    def test_no_publisher(self) -> None:
        """A run without a publisher among the subscribers goes to all; one in a room without subscribers to none."""
        self.publish(b"a")
        self.publish(b"b", publisher=object())
        self.assertEqual({one.data for one in (self.one, self.other)}, {A + B})
        for one in (self.one, self.other):
            self.room.leave(one)
        self.publish(b"a")

        self.assertEqual((self.stats.deliveries, self.room.log.head, self.room.idle), (4, 3, True))

    def test_encoding(self) -> None:
        """Each message of a run is encoded by itself, and not for a publisher alone."""
        encoded: list[bytes] = []

        def encode(frame: bytes) -> bytes:
            encoded.append(frame)
            return frame.upper()

        self.room.leave(self.other)
        reverse = self.join("reverse", encode)
        self.publish(b"a", b"b", publisher=reverse)
        self.assertEqual((encoded, self.one.data), ([], A + B))
        self.publish(b"a", b"b", publisher=self.one)

        self.assertEqual((encoded, reverse.data), ([A, B], (A + B).upper()))

    def test_many(self) -> None:
        """With more subscribers, messages wait for the flush: others may join the write."""
        self.patch(room_module, "MANY", 0)
        third = self.join("third")
        self.assertIs(self.publish(b"a", publisher=self.one), Due.FLUSH)
        self.assertIs(self.publish(b"b", publisher=self.other), Due.FLUSH)
        self.assertEqual(third.writes, [])
        self.room.flush()
        self.assertEqual((third.writes, self.one.writes, self.other.writes), ([A + B], [B], [A]))
        self.room.leave(third)

        self.assertEqual((FEW, self.publish(b"a", publisher=self.one)), (2, Due.NOTHING))

    def test_alone(self) -> None:
        """The first run of a turn goes at once if the last turns had one run each; from the second one on all wait."""
        third = self.join("third")
        ways: list[tuple[Due, ...]] = []
        alone = [(self.one,)] * QUIET_TURNS
        for publishers in (*alone, (self.one, self.one), (self.one, self.other), *alone, (self.other,), (self.other,)):
            ways.append(tuple(self.publish(b"a", publisher=publisher) for publisher in publishers))
            if Due.END in ways[-1]:
                self.room.end_turn()
            self.room.flush(writes=1)  # in several visits, as the scheduler does while other rooms wait
            self.room.flush()

        at_once, in_flush = [(Due.END,)], [(Due.FLUSH,)]
        several = [(Due.END, Due.FLUSH), (Due.FLUSH, Due.FLUSH)]
        self.assertEqual(ways, at_once * QUIET_TURNS + several + in_flush * QUIET_TURNS + at_once * 2)
        of_one, of_other = 2 * QUIET_TURNS + 3, 3
        given = [of_other, of_one, of_one + of_other]
        self.assertEqual([len(one.data) // len(A) for one in (self.one, self.other, third)], given)

    def test_too_many(self) -> None:
        """In a large room also the only run of a turn waits: so many writes are done in stretches."""
        self.patch(room_module, "MANY", 3)
        self.join("third")
        self.assertIs(self.publish(b"a"), Due.END)
        self.room.end_turn()
        self.join("fourth")

        self.assertIs(self.publish(b"a"), Due.FLUSH)

    def test_publish_only(self) -> None:
        """Members that only publish count as well: their messages may join a write."""
        third = RecordingSubscriber("third")
        self.room.join(third, can_subscribe=False)
        self.assertIs(self.publish(b"a", publisher=third), Due.END)
        self.assertIs(self.publish(b"b", publisher=third), Due.FLUSH)
        self.room.flush()
        self.room.leave(self.other)

        self.assertIs(self.publish(b"b", publisher=third), Due.NOTHING)
        self.assertEqual(self.one.data, A + B + B)

    def test_pending(self) -> None:
        """A message never overtakes those that wait for a flush."""
        self.patch(room_module, "MANY", 0)
        third = self.join("third")
        self.publish(b"a", publisher=third)
        self.room.leave(third)
        self.assertIs(self.publish(b"b", publisher=self.one), Due.FLUSH)
        self.room.flush()

        self.assertEqual((self.one.data, self.other.data), (A, A + B))

    def test_history(self) -> None:
        """In a room with history a run is written at once, too, and stays in the log without its publisher."""
        self.room = Historical(Settings(), self.stats)
        one, other = self.join("one"), self.join("other")
        self.assertIs(self.publish(b"a", publisher=one), Due.NOTHING)
        self.assertEqual((one.data, other.data, self.room.log.tail), (b"", A, 0))
        self.assertEqual([run.publisher for run in self.room.log], [None])
        late = RecordingSubscriber()
        self.room.join(late, wanted=Wanted(last=1))
        self.assertIs(self.publish(b"b", publisher=one), Due.FLUSH)
        self.room.flush()
        self.assertEqual((one.data, other.data, late.data), (b"", A + B, A + B))

    def test_partial_write(self) -> None:
        """A subscriber that does not take all is paused; the rest waits in its transport, later messages in the log."""
        self.other.takes = 2
        self.publish(b"a", publisher=self.one)
        self.assertEqual((self.other.writes, self.other.kept), ([A[:2]], A[2:]))
        self.other.takes = None
        self.assertIs(self.publish(b"b", publisher=self.one), Due.FLUSH)
        self.room.flush()
        self.assertEqual((self.room.lagging, self.room.lag_messages, self.other.data), (1, 1, A))
        self.other.writes.append(self.other.kept)
        self.other.kept = b""
        self.room.resume(self.other)
        self.assertEqual((self.other.data, self.room.given(self.other)), (A + B, (2, len(A + B))))

        self.assertIs(self.publish(b"a", publisher=self.one), Due.NOTHING)
        self.assertEqual(self.other.data, A + B + A)

    def test_send_raises(self) -> None:
        """A subscriber whose write raises fails; the other gets its messages, and none counts as given."""

        def fail() -> None:
            raise EOFError

        self.one.on_send = fail
        self.assertIs(self.publish(b"a", b"b"), Due.NOTHING)

        self.assertEqual((self.one.failures, self.other.data, len(self.room)), (1, A + B, 1))
        self.assertEqual((self.stats.deliveries, self.stats.messages_missed), (2, 2))

    def test_pause_in_write(self) -> None:
        """A transport that takes all, but pauses its subscriber meanwhile, leaves it with everything given."""
        self.other.on_send = lambda: self.room.pause(self.other)
        self.publish(b"a", publisher=self.one)

        self.assertEqual((self.other.data, self.room.given(self.other), self.room.lagging), (A, (1, len(A)), 1))
