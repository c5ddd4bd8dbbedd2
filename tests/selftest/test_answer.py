"""HTTP responses."""

from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from wsrelay.selftest.answer import Answer, accept_of, read_answer, settled
from wsrelay.selftest.connection import Connection
from wsrelay.selftest.outcome import BrokenRule


class AnswerTests(SynchronousTestCase):
    """What a server answers."""

    def answer(self, *pieces: bytes, ends: bool = True) -> Answer | None:
        """Return the answer in some pieces."""
        connection = Connection("client", Clock(), 10)
        connection.makeConnection(StringTransport())
        reading = Deferred.fromCoroutine(read_answer(connection))
        for piece in pieces:
            connection.dataReceived(piece)
        if ends:
            connection.connectionLost(Failure(ConnectionDone()))
        results: list[Any] = []
        reading.addBoth(results.append)
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return cast("Answer | None", results[0])

    def test_101(self) -> None:
        """A 101 ends with its head; bytes behind it are kept. Other interim responses are skipped."""
        head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nA: 1\r\nA: 2\r\n\r\n"
        answer = self.answer(b"HTTP/1.1 103 Early Hints\r\n\r\n" + head[:20], head[20:] + b"\x81\0", ends=False)
        assert answer is not None
        self.assertTrue(answer.is_open)
        self.assertEqual((dict(answer.fields), answer.rest), ({"upgrade": "websocket", "a": "1, 2"}, b"\x81\0"))

    def test_explained(self) -> None:
        """A close with the status of a refusal behind the 101, or in later reads, is that refusal; others are not."""
        for code, status in ((4401, 401), (4503, 503), (4399, 101), (1000, 101)):
            close = b"\x88\4" + code.to_bytes(2) + b"no"
            for rest, later in ((close, ()), (b"", (close,)), (b"\x82\1a", (close[:3], close[3:]))):
                answer = self.settled(rest, *later)
                self.assertEqual((answer.status, answer.text), (status, "no" if status > 101 else "Yes"))

    def test_not_explained(self) -> None:
        """A pong, an end, a broken rule or nothing at all is no refusal; no other answer is waited for."""
        for rest in (b"\x8a\7settled", b"\x82\1a\x8a\7settled", b"", b"\xff\xff"):
            self.assertTrue(self.settled(rest, b"").is_open)
        self.assertTrue(self.settled(b"", seconds=10).is_open)
        self.assertEqual(self.settled(b"", status=404).status, 404)

    def settled(self, rest: bytes, *later: bytes, seconds: float = 0, status: int = 101) -> Answer:
        """Return what an answer is when more has come; the end for an empty piece."""
        clock = Clock()
        connection = Connection("client", clock, 10)
        connection.makeConnection(StringTransport())
        settling = Deferred.fromCoroutine(settled(Answer(status, "Yes", {}, rest=rest), connection))
        for piece in later:
            if piece:
                connection.dataReceived(piece)
            else:
                connection.connectionLost(Failure(ConnectionDone()))
        clock.advance(seconds)
        return cast("Answer", self.successResultOf(settling))

    def test_much_behind_the_101(self) -> None:
        """Messages of any size may come in one read with the 101: a room that greets new members."""
        head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
        answer = self.answer(head + b"a" * 200000, ends=False)
        assert answer is not None
        self.assertEqual((answer.is_open, len(answer.rest)), (True, 200000))

    def test_content(self) -> None:
        """Content with a length, in chunks, until the end, and cut."""
        for rest, content in (
            (b"Content-Length: 2\r\n\r\nno", "no"),
            (b"Transfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", "no"),
            (b"\r\nno", "no"),
            (b"Content-Length: 9\r\n\r\nno", "no"),
        ):
            answer = self.answer(b"HTTP/1.1 400 Bad Request\r\n" + rest)
            assert answer is not None
            self.assertEqual((answer.status, answer.content, answer.is_open), (400, content, False))

    def test_text(self) -> None:
        """The text is the first line of the content, if it is no markup, else the reason phrase."""
        for content, text in (("", "Why"), ("\n one\ntwo", "one"), ("<html>", "Why"), ("a" * 300, "a" * 200)):
            self.assertEqual(Answer(400, "Why", {}, content).text, text)

    def test_no_http(self) -> None:
        """Nothing at all is no answer; anything else is not HTTP."""
        self.assertIsNone(self.answer())
        for data in (b"SSH-2.0\r\n\r\n", b"HTTP/1.1 101"):
            with self.assertRaisesRegex(BrokenRule, "the response is not HTTP/1.1"):
                self.answer(data)

    def test_endless(self) -> None:
        """Of a long response the beginning is read."""
        answer = self.answer(b"HTTP/1.1 200 OK\r\n\r\n", b"a" * 70000, ends=False)
        assert answer is not None
        self.assertEqual(answer.status, 200)

    def test_accept(self) -> None:
        """The example of RFC 6455 section 1.3."""
        self.assertEqual(accept_of("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
