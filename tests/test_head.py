"""Tests of wsrelay.head: which bytes are a request's head. What is malformed in one is tests.test_request's, too."""

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.support import request_bytes
from wsrelay.errors import Denied
from wsrelay.head import MAX_HEAD_BYTES, MAX_HEAD_LINES, parse_lines, split_head, take_head

HEAD = request_bytes()[:-4]


class TakeHeadTests(SynchronousTestCase):
    """From a buffer to a request head."""

    def test_whole(self) -> None:
        """The head is everything before the blank line."""
        self.assertEqual(take_head(request_bytes()), HEAD)

    def test_every_prefix_waits(self) -> None:
        """As long as the blank line is missing, more bytes are awaited."""
        request = request_bytes()
        for length in range(len(request)):
            self.assertIsNone(take_head(request[:length]))

    def test_too_large(self) -> None:
        """A head that is too long is refused as soon as it can be known, whatever comes."""
        for buffer, status in (
            (b"x" * MAX_HEAD_BYTES, 414),
            (b"x" * (MAX_HEAD_BYTES - 3) + b"\r\n\r\n", 431),
            (b"x\r\n" * MAX_HEAD_BYTES, 431),
        ):
            self.assertEqual(self.assertRaises(Denied, take_head, buffer).status, status)

    def test_no_request(self) -> None:
        """What does not begin as a request, such as TLS, is refused at its first byte."""
        for byte in b"\x16\x00\r\n \xff1":
            for rest in (b"", b"GET / HTTP/1.1\r\n\r\n", b"x" * MAX_HEAD_BYTES):  # however much of it has come
                denied = self.assertRaises(Denied, take_head, bytes([byte]) + rest)
                self.assertEqual((denied.status, denied.reason), (400, "this is no HTTP request; is it TLS?"))

    def test_largest(self) -> None:
        """A head of just the largest size is taken."""
        self.assertIsNotNone(take_head(b"x" * (MAX_HEAD_BYTES - 4) + b"\r\n\r\n"))

    def test_nothing_may_follow(self) -> None:
        """A frame or a second request sent before the 101 is refused (TRAPS 11)."""
        for more in (b"\x81", request_bytes("/admin")):
            self.assertEqual(self.assertRaises(Denied, take_head, request_bytes() + more).status, 400)


class SplitHeadTests(SynchronousTestCase):
    """A head with a body behind it."""

    def test_split(self) -> None:
        """What is behind the blank line is the caller's."""
        self.assertEqual(split_head(request_bytes() + b"body\r\n\r\n"), (HEAD, b"body\r\n\r\n"))
        self.assertEqual(split_head(request_bytes()), (HEAD, b""))

    def test_wait(self) -> None:
        """Without it, more bytes are awaited."""
        self.assertIsNone(split_head(b""))
        self.assertIsNone(split_head(HEAD + b"\r\n"))


class ParseLinesTests(SynchronousTestCase):
    """From a head to its parts."""

    def denied(self, head: bytes, *methods: str) -> Denied:
        denied: Denied = self.assertRaises(Denied, parse_lines, head, methods)
        return denied

    def test_parts(self) -> None:
        """Method and target are as they came, the names of fields in lower case; lists are joined."""
        lines = b"DELETE /a%20b?c HTTP/1.1\r\nX-A: \t1 2\t\r\nVia: 1.1 a\r\nvia: 1.1 b"

        self.assertEqual(
            parse_lines(lines, ("GET", "DELETE")), ("DELETE", "/a%20b?c", {"x-a": "1 2", "via": "1.1 a, 1.1 b"})
        )

    def test_methods(self) -> None:
        """A method that may not be used is answered with those that may."""
        denied = self.denied(b"PUT / HTTP/1.1", "GET", "POST")

        self.assertEqual((denied.status, denied.reason), (405, "the method must be GET or POST"))
        self.assertEqual(denied.headers, (("Allow", "GET, POST"),))

    def test_versions(self) -> None:
        """Another version of HTTP is told which it must be (RFC 9110 section 15.5.22)."""
        for version in (b"1.0", b"2.0", b"0.9"):
            denied = self.denied(b"GET / HTTP/" + version, "GET")
            self.assertEqual((denied.status, dict(denied.headers)["Upgrade"]), (426, "HTTP/1.1"))

    def test_malformed(self) -> None:
        """A line that some other parser might read otherwise is refused, and so is a field that comes twice."""
        for head in (b"", b"GET /", b"GET / HTTP/1.1\r\nA : b", b"GET / HTTP/1.1\r\nA: b\r\na: c", b"GET /#a HTTP/1.1"):
            self.assertEqual(self.denied(head, "GET").status, 400)

    def test_lines(self) -> None:
        """One line too many is refused."""
        self.assertEqual(self.denied(b"GET / HTTP/1.1" + MAX_HEAD_LINES * b"\r\nA: b", "GET").status, 431)
