"""Tests of wsrelay.batch."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support import RecordingSubscriber
from wsrelay import frames
from wsrelay.batch import Batch
from wsrelay.message import Message


def message(payload: bytes, publisher: object = None) -> Message:
    """Return a binary message."""
    return Message.of(frames.BINARY, payload, publisher)


class BatchTests(SynchronousTestCase):
    """Messages as bytes to write."""

    def test_everybody_shares_one_object(self) -> None:
        """Subscribers of one encoding that published nothing get the same bytes object."""
        batch = Batch([message(b"a"), message(b"b")], 2)
        plain, other = RecordingSubscriber(), RecordingSubscriber()
        deflating = RecordingSubscriber(encoding=frames.Deflate(15))

        self.assertIs(batch.frames_for(plain), batch.frames_for(other))
        self.assertEqual(batch.frames_for(plain), frames.encode(2, b"a") + frames.encode(2, b"b"))
        self.assertEqual(batch.frames_for(deflating), frames.encode(2, b"a") + frames.encode(2, b"b"))
        self.assertEqual(batch.count_for(plain), 2)

    def test_publishers_get_the_others_messages(self) -> None:
        """A publisher gets the batch without its own."""
        publisher = RecordingSubscriber()
        batch = Batch([message(b"a", publisher), message(b"b"), message(b"c", publisher)], 3)

        self.assertEqual(batch.frames_for(publisher), frames.encode(2, b"b"))
        self.assertEqual(batch.count_for(publisher), 1)

    @given(st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=300)), min_size=1, max_size=20))
    def test_any_publishers(self, published: list[tuple[int, bytes]]) -> None:
        """Whoever published what, each member gets all but its own, in order, in both encodings."""
        for encoding in (frames.plain, frames.Deflate(15)):
            members = [RecordingSubscriber(str(number), encoding) for number in range(4)]
            batch = Batch([message(payload, members[number]) for number, payload in published], 0)
            for number, member in enumerate(members):
                others = [frames.encode(2, payload) for publisher, payload in published if publisher != number]
                self.assertEqual(batch.frames_for(member), b"".join(map(encoding, others)))
                self.assertEqual(batch.count_for(member), len(others))
