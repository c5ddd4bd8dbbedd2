"""Tests of wsrelay.http.body: bodies by length and by chunks, cut anywhere."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wsrelay.errors import Denied
from wsrelay.http.body import CHUNK_BYTES, FREE_CHUNKS, STRETCH_CHUNKS, Body

CHUNKED = {"transfer-encoding": "chunked"}


class BodyTests(SynchronousTestCase):
    """What is read, and what is refused."""

    def refused(self, headers: dict[str, str], data: bytes = b"", max_bytes: int = 10) -> int:
        """Return the status of the refusal."""

        def read() -> None:
            body = Body(headers, max_bytes)
            body.receive(data)
            body.read()

        status: int = self.assertRaises(Denied, read).status
        return status

    def test_content_length(self) -> None:
        """A body by length is complete with its last byte; bytes behind it are not read."""
        body = Body({"content-length": "5"}, 10)
        body.receive(b"")
        self.assertIsNone(body.read())
        body.receive(b"hell")
        self.assertIsNone(body.read())
        body.receive(b"o, POST /")

        self.assertEqual(body.read(), b"hello")

    def test_empty(self) -> None:
        """An empty body is complete at once."""
        self.assertEqual(Body({"content-length": "0"}, 10).read(), b"")

    def test_chunked(self) -> None:
        """Chunks are joined; extensions and trailer fields are dropped; bytes behind them are not read."""
        body = Body({"transfer-encoding": "Chunked"}, 10)
        body.receive(b"5;a=b\r\nhello\r\n0\r\nX-User: admin\r\n\r\nPOST /")

        self.assertEqual(body.read(), b"hello")

    def test_many_chunks(self) -> None:
        """Many chunks are decoded in stretches; those cut by a read count once."""
        body = Body(CHUNKED, 10**6)
        count = 2 * STRETCH_CHUNKS + 1
        body.receive(b"2\r\nab\r\n" * count + b"2\r\na")
        for _ in range(2):
            self.assertIsNone(body.read())
            self.assertTrue(body.is_behind)
        self.assertIsNone(body.read())
        self.assertEqual((body.is_behind, body.chunks), (False, count + 1))
        body.receive(b"b\r\n0\r\n\r\n")

        self.assertEqual((body.read(), body.is_behind, body.chunks), (b"ab" * (count + 1), False, count + 1))

    def test_too_many_chunks(self) -> None:
        """More chunks than a body of its size needs are a 400; lines of a hundred bytes are not too many."""
        for size, count, status in ((1, FREE_CHUNKS, 0), (1, FREE_CHUNKS + 500, 400), (100, 10486, 0)):
            body = Body(CHUNKED, 2**21)
            body.receive(b"%x\r\n%b\r\n" % (size, b"x" * size) * count + b"0\r\n\r\n")
            try:
                while (content := body.read()) is None:
                    self.assertTrue(body.is_behind)
            except Denied as denied:
                self.assertEqual(denied.status, status)
                self.assertIn("send larger ones, or a Content-Length", denied.reason)
                self.assertLessEqual(body.chunks, FREE_CHUNKS + FREE_CHUNKS // CHUNK_BYTES + STRETCH_CHUNKS)
            else:
                self.assertEqual((len(content), status), (size * count, 0))

    def test_framing_fields(self) -> None:
        """A body of unclear length is refused: request smuggling is made of these."""
        for headers, status in (
            ({}, 411),
            ({"content-length": "5", **CHUNKED}, 400),
            ({"transfer-encoding": "gzip, chunked"}, 400),
            ({"transfer-encoding": "chunked, identity"}, 400),
            ({"content-length": "+5"}, 400),
            ({"content-length": "5, 5"}, 400),
            ({"content-length": ""}, 400),
            ({"content-length": "0x5"}, 400),
            ({"content-length": "\N{ARABIC-INDIC DIGIT FIVE}"}, 400),
            ({"content-length": "9" * 19}, 400),
        ):
            self.assertEqual(self.refused(headers), status, headers)

    def test_malformed_chunks(self) -> None:
        """Chunks that two parsers could read in two ways are a 400."""
        for data in (
            b"zz\r\nhello\r\n",
            b"-5\r\nhello\r\n0\r\n\r\n",
            b"0x5\r\nhello\r\n0\r\n\r\n",
            b"5\r\nhelloXX0\r\n\r\n",
            b"5 \rX\r\nhello\r\n0\r\n\r\n",
            b"\r\n5\r\nhello\r\n0\r\n\r\n",
            b"%s\r\n" % (b"1" * 40),
            b"0\r\nno field\r\n\r\n",
            b"5;" + b"x" * 20_000,
        ):
            self.assertEqual(self.refused(CHUNKED, data), 400, data[:40])

    def test_bare_line_feeds(self) -> None:
        """A bare line feed does not end a chunk size: the body stays incomplete."""
        body = Body(CHUNKED, 10)
        body.receive(b"5\nhello\n0\n\n")

        self.assertIsNone(body.read())

    def test_max_bytes(self) -> None:
        """A body above the limit is a 413: by its announced length, and by its chunks."""
        self.assertEqual(self.refused({"content-length": "11"}), 413)
        self.assertEqual(self.refused({"content-length": "9" * 18}), 413)
        self.assertEqual(self.refused(CHUNKED, b"5\r\nhello\r\n6\r\nworlds\r\n0\r\n\r\n"), 413)
        self.assertEqual(self.refused(CHUNKED, b"fffffffff\r\n" + b"x" * 11), 413)

    @given(st.lists(st.binary(min_size=1, max_size=50), max_size=5), st.lists(st.integers(0, 400), max_size=4))
    def test_any_cuts(self, chunks: list[bytes], cuts: list[int]) -> None:
        """Chunks arrive unchanged, however TCP cuts them."""
        data = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
        body = Body(CHUNKED, 250)
        edges = [0, *sorted(min(cut, len(data) - 1) for cut in cuts), len(data)]
        for start, end in pairwise(edges):
            self.assertIsNone(body.read())
            body.receive(data[start:end])

        self.assertEqual(body.read(), b"".join(chunks))
