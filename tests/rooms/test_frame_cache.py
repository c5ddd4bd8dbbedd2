"""Tests of wsrelay.rooms.frame_cache."""

from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.message import Run
from wsrelay.rooms.frame_cache import ENTRY_BYTES, SHORTEST_BYTES, FrameCache
from wsrelay.settings import Settings
from wsrelay.wire import frames, sse
from wsrelay.wire.deflate import Deflate

#: The bytes of a deflated frame and of an entry with it, for zeros of one length.
ZEROS = bytes(1000)
DEFLATED_BYTES = len(Deflate(9)(frames.encode(frames.BINARY, ZEROS)))


def messages(count: int) -> list[Run]:
    """Return so many messages of 1000 zeros."""
    return [Run.binary(ZEROS) for _ in range(count)]


class FrameCacheTests(SynchronousTestCase):
    """Encoded frames of messages in logs."""

    def cache(self, most_bytes: int) -> FrameCache:
        return FrameCache(Settings(memory_budget=8 * most_bytes, max_message_bytes=1))

    def test_encoded_once(self) -> None:
        """A message is encoded once per encoding, and the frame is the same object each time."""
        cache = self.cache(10**6)
        [message] = messages(1)
        for encoding in (Deflate(9), sse.encode):
            self.assertIs(cache.frames_of(message, encoding), cache.frames_of(message, encoding))
            self.assertEqual(cache.frames_of(message, encoding), encoding(message.plain))
            cache.check([message])

    def test_size_bytes(self) -> None:
        """Frames are counted with their entries; a frame that stays plain is the log's."""
        cache = self.cache(10**6)
        first, second = messages(2)
        for encoding in (Deflate(9), Deflate(15), Deflate(15, min_bytes=2000)):
            cache.frames_of(first, encoding)
        self.assertEqual(cache.size_bytes, ENTRY_BYTES + 2 * DEFLATED_BYTES)
        cache.frames_of(second, sse.encode)
        cache.forget([first, Run.text("other")])
        self.assertEqual(cache.size_bytes, ENTRY_BYTES + len(sse.encode(second.plain)))

        self.assertEqual(cache.clear(), ENTRY_BYTES + len(sse.encode(second.plain)))
        self.assertEqual((cache.size_bytes, len(cache.frames)), (0, 0))

    def test_bounded(self) -> None:
        """An eighth of the budget is kept; the oldest go first, and a frame that is larger is not kept."""
        cache, deflate = self.cache(2 * (ENTRY_BYTES + DEFLATED_BYTES)), Deflate(9)
        first, second, third = messages(3)
        for message in (first, second, first, third):
            cache.frames_of(message, deflate)
        self.assertEqual(list(cache.frames), [second, third])
        cache.check([second, third])
        self.assertEqual(cache.frames_of(first, sse.encode), sse.encode(first.plain))

        self.assertEqual((list(cache.frames), cache.size_bytes), ([], 0))

    def test_bounded_without_budget(self) -> None:
        """Without a budget there is a fixed bound."""
        cache, deflate = FrameCache(Settings(memory_budget=0)), Deflate(9)
        with mock.patch("wsrelay.rooms.frame_cache._MOST_BYTES", ENTRY_BYTES + DEFLATED_BYTES):
            for message in messages(3):
                cache.frames_of(message, deflate)

        self.assertEqual(len(cache.frames), 1)

    def test_short_messages_not_kept(self) -> None:
        """Short messages are encoded each time."""
        cache = self.cache(10**6)
        for length in (0, SHORTEST_BYTES - 5):
            message = Run.binary(bytes(length))
            self.assertEqual(cache.frames_of(message, sse.encode), sse.encode(message.plain))

        self.assertEqual(len(cache.frames), 0)

    def test_check(self) -> None:
        """A kept frame of a message that has left its log is an error."""
        cache = self.cache(10**6)
        [message] = messages(1)
        cache.frames_of(message, sse.encode)

        error = self.assertRaises(AssertionError, cache.check, [])
        self.assertIn("no log has", str(error))
