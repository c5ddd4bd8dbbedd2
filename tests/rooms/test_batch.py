"""Tests of wsrelay.rooms.batch."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.support import RecordingSubscriber
from wsrelay.message import Run
from wsrelay.rooms.batch import WRITE_BYTES, Batch, Unsent
from wsrelay.stats import Stats
from wsrelay.wire import frames
from wsrelay.wire.deflate import Deflate


def message(payload: bytes, publisher: object = None) -> Run:
    """Return a binary message."""
    return Run.binary(payload, publisher)


class BatchTests(SynchronousTestCase):
    """Messages as bytes to write."""

    def test_shared_frames(self) -> None:
        """Subscribers of one encoding that published nothing get the same bytes object."""
        batch = Batch([message(b"a"), message(b"b")], 0)
        plain, other = RecordingSubscriber(), RecordingSubscriber()
        deflating = RecordingSubscriber(encoding=Deflate(15))

        self.assertIs(batch.frames_for(plain), batch.frames_for(other))
        self.assertEqual(batch.frames_for(plain), frames.encode(2, b"a") + frames.encode(2, b"b"))
        self.assertEqual(batch.frames_for(deflating), frames.encode(2, b"a") + frames.encode(2, b"b"))
        self.assertEqual(batch.tally_for(plain)[0], 2)

    def test_publisher_gets_other_messages(self) -> None:
        """A publisher gets the batch without its own."""
        publisher = RecordingSubscriber()
        batch = Batch([message(b"a", publisher), message(b"b"), message(b"c", publisher)], 0)

        self.assertEqual(batch.frames_for(publisher), frames.encode(2, b"b"))
        self.assertEqual(batch.tally_for(publisher)[0], 1)

    @given(st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=300)), min_size=1, max_size=20))
    def test_any_publishers(self, published: list[tuple[int, bytes]]) -> None:
        """Each member gets all messages except its own, in order, in both encodings, for any mix of publishers."""
        for encoding in (frames.plain, Deflate(15)):
            members = [RecordingSubscriber(str(number), encoding) for number in range(4)]
            batch = Batch([message(payload, members[number]) for number, payload in published], 0)
            for number, member in enumerate(members):
                others = [frames.encode(2, payload) for publisher, payload in published if publisher != number]
                self.assertEqual(batch.frames_for(member), b"".join(map(encoding, others)))
                self.assertEqual(batch.tally_for(member)[0], len(others))


class DeliverTests(SynchronousTestCase):
    """Writing a batch."""

    def setUp(self) -> None:
        self.stats = Stats()
        self.members = [RecordingSubscriber(str(number)) for number in range(4)]

    def deliver(self, batch: Batch) -> Unsent:
        return batch.deliver(frames.plain, {member: member.send for member in self.members}, self.stats)

    def test_deliver(self) -> None:
        """Each member gets the others' messages in one write; the publisher of all of them gets none."""
        a, b, *_ = self.members
        unsent = self.deliver(Batch([message(b"12", a), message(b"3", a)], 7))
        self.assertEqual(unsent, {})
        self.assertEqual([len(member.writes) for member in self.members], [0, 1, 1, 1])
        self.assertEqual((self.stats.deliveries, self.stats.bytes_out), (6, 3 * 7))

        self.deliver(Batch([message(b"12", a), message(b"3", b)], 7))

        self.assertEqual((a.writes[-1], b.writes[-1]), (frames.encode(2, b"3"), frames.encode(2, b"12")))
        self.assertEqual((self.stats.deliveries, self.stats.bytes_out), (6 + 6, 3 * 7 + 2 * 7 + 3 + 4))

    def test_partial_write(self) -> None:
        """Unsent bytes are returned, a part or all; the others get theirs."""
        part, nothing, *others = self.members
        part.takes, nothing.takes = 3, 0
        data = frames.encode(2, b"hello")
        unsent = self.deliver(Batch([message(b"hello")], 0))

        self.assertEqual(unsent, {part: (data, 3), nothing: (data, 0)})
        self.assertEqual([member.data for member in others], [data, data])

    def test_send_raises(self) -> None:
        """The exception of a failed send is returned, and the others get their messages."""
        bad, *others = self.members

        def fail() -> None:
            raise EOFError

        bad.on_send = fail
        unsent = self.deliver(Batch([message(b"hello")], 0))

        self.assertEqual({subscriber: type(error) for subscriber, error in unsent.items()}, {bad: EOFError})
        self.assertEqual([len(member.writes) for member in others], [1, 1, 1])

    def test_cost(self) -> None:
        """A write of 16 KiB counts as two."""
        self.assertEqual(Batch([message(bytes(WRITE_BYTES - 4))], 0).cost, 2)

    def test_no_encoding_without_receivers(self) -> None:
        """Nothing is deflated for an encoding that only the publisher has."""
        deflated: list[bytes] = []
        publisher = RecordingSubscriber("publisher", lambda frame: deflated.append(frame) or frame)
        Batch([message(b"x", publisher)], 0).deliver(publisher.encoding, {publisher: publisher.send}, self.stats)

        self.assertEqual((deflated, publisher.writes), ([], []))
