"""Tests of wsrelay.http.responses: refusals, answers, the 101, and the security fields."""

import email.parser
import re

from hypothesis import given
from hypothesis import strategies as st

from tests.harness.support import REQUEST_FIELDS, RelayTestCase, request_bytes
from wsrelay.errors import Denied
from wsrelay.http.head import parse_head
from wsrelay.http.responses import (
    MAX_REASON_CHARS,
    PRIVATE_FIELDS,
    SAFE_FIELDS,
    acceptance,
    content_policy,
    explained_refusal,
    head,
    refusal,
    response,
)


class RefusalTests(RelayTestCase):
    """The HTTP response."""

    def test_response(self) -> None:
        """A refusal has status, fields, length, close, and the reason as its body, never as markup."""
        self.assertEqual(
            refusal(Denied(403, "not you", [("X-A", "b")])),
            b"HTTP/1.1 403 Forbidden\r\nX-A: b\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
            b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 8\r\nConnection: close\r\n\r\nnot you\n",
        )

    def test_head(self) -> None:
        """The refusal of HEAD is the same without the reason."""
        denied = Denied(403, "not you")
        self.assertEqual(refusal(denied, is_head=True) + b"not you\n", refusal(denied))

    def test_fields_of_the_refusal(self) -> None:
        """A field of the refusal replaces ours: browsers refuse an answer with two Access-Control-Allow-Origin."""
        head = refusal(
            Denied(403, "no", [("access-control-allow-origin", "*")]), [("Access-Control-Allow-Origin", "x")]
        )
        self.assertIn(b"\r\naccess-control-allow-origin: *\r\n", head)
        self.assertNotIn(b"\r\nAccess-Control-Allow-Origin", head)

    def test_fields(self) -> None:
        """The security fields come once, also where more of them are asked for."""
        fields = refusal(Denied(403, "not you"), PRIVATE_FIELDS)
        for name, value in PRIVATE_FIELDS:
            self.assertEqual(fields.count(f"{name}: {value}\r\n".encode()), 1)

    def test_statuses_that_do_not_refuse(self) -> None:
        """A validator that denies with 200, 101 or nonsense refuses with 500."""
        for status in (101, 200, 302, 0, 999, "403", None):
            self.assertTrue(refusal(Denied(status, "x")).startswith(b"HTTP/1.1 500 "))  # type: ignore[arg-type]

    def test_statuses_without_a_name(self) -> None:
        """A status without a standard phrase goes out with one of ours."""
        self.assertTrue(refusal(Denied(499, "x")).startswith(b"HTTP/1.1 499 Refused\r\n"))

    def test_content_fields(self) -> None:
        """A validator cannot change where the response ends, or what its content is."""
        expected = refusal(Denied(403, "no"))
        for name in ("Content-Length", "CONTENT-LENGTH", "Transfer-Encoding", "Content-Type", "Content-Encoding"):
            self.assertEqual(refusal(Denied(403, "no", [(name, "5")])), expected)

    @given(st.text(), st.text(), st.text())
    def test_one_response_whatever_the_text(self, reason: str, name: str, value: str) -> None:
        """No text of a validator adds a line, another field, or a second response (TRAPS 12)."""
        response = refusal(Denied(403, reason, [(name, value)]))
        headers, _, body = response.partition(b"\r\n\r\n")
        status, _, fields = headers.partition(b"\r\n")
        parsed = email.parser.BytesParser().parsebytes(fields + b"\r\n\r\n")

        self.assertEqual(status, b"HTTP/1.1 403 Forbidden")
        self.assertLessEqual(set(parsed), {"Content-Type", "Content-Length", "Connection", name, *dict(SAFE_FIELDS)})
        self.assertEqual(fields.count(b"\n"), len(parsed) - 1)
        self.assertEqual(int(parsed["Content-Length"]), len(body))
        self.assertLessEqual(len(body), MAX_REASON_CHARS + 1)


class ExplainedTests(RelayTestCase):
    """A refusal as a close frame."""

    def explained(self, denied: Denied, **fields: str | None) -> bytes | None:
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        return explained_refusal(denied, parse_head(request_bytes(fields=named)[:-4], None))

    def test_bytes(self) -> None:
        """It is the 101 of the key, without extensions, and a close frame with 4000 + status and the reason."""
        self.assertEqual(
            self.explained(Denied(403, "not you", [("X-A", "b")]), Sec_WebSocket_Extensions="permessage-deflate"),
            acceptance(REQUEST_FIELDS["Sec-WebSocket-Key"]) + b"\x88\x09" + (4403).to_bytes(2) + b"not you",
        )

    def test_subprotocol(self) -> None:
        """The first offered subprotocol is chosen, or browsers would fail; a token never is."""
        token = "base64url.bearer.x.c2VjcmV0"
        for offered, chosen in ((f"{token}, b, a", b"b"), (token, None), ("", None)):
            answer = self.explained(Denied(401, "no"), Sec_WebSocket_Protocol=offered)
            assert answer is not None
            field = re.search(rb"\r\nSec-WebSocket-Protocol: (.+)\r\n", answer)
            self.assertEqual(field and field[1], chosen)

    def test_reason(self) -> None:
        """A reason that is too long, or not printable, is cut and mended."""
        answer = self.explained(Denied(500, "é\r\n" * 100))
        assert answer is not None
        self.assertTrue(answer.endswith((4500).to_bytes(2) + b"???" * 41))

    def test_no_handshake(self) -> None:
        """What is no well-formed handshake has none."""
        self.assertIsNone(self.explained(Denied(403, "no"), Upgrade=None))
        self.assertIsNone(self.explained(Denied(426, "no"), Sec_WebSocket_Version="8"))


class ResponseTests(RelayTestCase):
    """Answers."""

    def test_bytes(self) -> None:
        """An answer has its fields, its length, and the end of the connection."""
        self.assertEqual(
            response(200, [("X-A", "b")], b"hello"),
            b"HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
        )

    def test_head(self) -> None:
        """The answer to HEAD has the length without the body (RFC 9110 section 9.3.2)."""
        self.assertEqual(response(200, [], b"hello", is_head=True), head(200, [("Content-Length", "5")]))

    def test_no_content(self) -> None:
        """A 204 has neither body nor length (RFC 9110 section 8.6)."""
        self.assertEqual(response(204, [], b""), b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")

    def test_forbidden_characters(self) -> None:
        """A field with a line break is left out."""
        fields = [("X-A", "b\r\nX-B: c"), ("X C", "d"), ("X-E", "\xe9")]
        self.assertEqual(head(200, fields), b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")

    def test_content_policy(self) -> None:
        """A policy allows nothing but its sources."""
        self.assertEqual(
            content_policy("img-src data:"),
            "default-src 'none'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        )


class AcceptanceTests(RelayTestCase):
    """The response to a granted handshake."""

    def test_bytes(self) -> None:
        """The sample key gives the accept value of RFC 6455 section 1.3; there is no version (TRAPS 14)."""
        self.assertEqual(
            acceptance("dGhlIHNhbXBsZSBub25jZQ==", "chat", "permessage-deflate").split(b"\r\n"),
            [
                b"HTTP/1.1 101 Switching Protocols",
                b"Upgrade: websocket",
                b"Connection: Upgrade",
                b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
                b"Sec-WebSocket-Protocol: chat",
                b"Sec-WebSocket-Extensions: permessage-deflate",
                b"",
                b"",
            ],
        )
        self.assertTrue(acceptance("dGhlIHNhbXBsZSBub25jZQ==").endswith(b"xOo=\r\n\r\n"))
