"""Tests of wsrelay.wire.inflate."""

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.framing import deflated
from wsrelay.wire.inflate import inflate


class InflateTests(SynchronousTestCase):
    """Inflating whole messages."""

    def test_inflate_limit(self) -> None:
        """A message of the largest size is inflated, a longer one is not."""
        for payload in (b"", b"hello " * 100, bytes(100_000)):
            self.assertEqual(inflate(deflated(payload), len(payload)), payload)
            if payload:
                self.assertIsNone(inflate(deflated(payload), len(payload) - 1))

    def test_inflate_wrong_data(self) -> None:
        """Data that is not deflate's, or breaks off within a block, is not inflated."""
        self.assertIsNone(inflate(b"\xff\xff", 100))
        self.assertIsNone(inflate(deflated(b"hello " * 100)[:-3], 600))

    def test_inflate_final_block(self) -> None:
        """A final block is not inflated: it is left to Autobahn."""
        self.assertIsNone(inflate(deflated(b"hello", final=True), 100))
