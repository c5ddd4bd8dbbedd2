"""Tests of wsrelay.http.head: the strict parser of requests, down to its bytes."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.support import REQUEST_FIELDS, request_bytes
from wsrelay.errors import Denied
from wsrelay.http.fields import MAX_FIELDS
from wsrelay.http.head import check_no_body, handshake_key, parse_head, parse_lines, parse_request, split_head
from wsrelay.request import MAX_MEMBERS, HandshakeRequest

HEAD = request_bytes()[:-4]

#: The longest head in these tests, in bytes.
MAX = 2000


class SplitHeadTests(SynchronousTestCase):
    """From a buffer to a request head."""

    def test_whole(self) -> None:
        """The head is everything before the blank line; bytes behind it are returned apart."""
        for rest in (b"", b"rest", b"body\r\n\r\n"):
            self.assertEqual(split_head(request_bytes() + rest, MAX), (HEAD, rest))

    def test_every_prefix_waits(self) -> None:
        """Without the blank line, more bytes are needed."""
        request = request_bytes()
        for length in range(len(request)):
            self.assertIsNone(split_head(request[:length], MAX))

    def test_cut_anywhere(self) -> None:
        """Only new bytes are searched; the blank line is found wherever reads cut it."""
        request = request_bytes()
        for size in range(1, 6):
            for cut in range(len(request) - 5, len(request)):
                self.assertIsNone(split_head(request[:cut], MAX, size))
                self.assertEqual(split_head(request, MAX, len(request) - cut), (HEAD, b""))
        self.assertIsNone(split_head(request + b"x" * 9, MAX, 9))

    def test_too_large(self) -> None:
        """A head above the limit is refused as soon as the limit is reached."""
        for buffer, status in (
            (b"x" * MAX, 414),
            (b"x" * (MAX - 3) + b"\r\n\r\n", 431),
            (b"x\r\n" * MAX, 431),
        ):
            denied = self.assertRaises(Denied, split_head, buffer, MAX)
            self.assertEqual((denied.status, denied.cause), (status, "max_request_bytes"))
            self.assertEqual(denied.reason, f"the request is larger than {MAX} bytes (--max-request-bytes)")

    def test_no_request(self) -> None:
        """TLS, and any other bytes that begin no request, are refused at the first byte."""
        for byte in b"\x16\x00\r\n \xff1":
            for rest in (b"", b"GET / HTTP/1.1\r\n\r\n", b"x" * MAX):  # however much of it has come
                denied = self.assertRaises(Denied, split_head, bytes([byte]) + rest, MAX)
                self.assertEqual(
                    (denied.status, denied.reason),
                    (400, "this is no HTTP request; if it is TLS: there is none here, use ws:// or http://"),
                )

    def test_largest(self) -> None:
        """A head of the largest size is accepted, whatever is behind it."""
        for rest in (b"", b"x" * MAX):
            self.assertEqual(split_head(b"x" * (MAX - 4) + b"\r\n\r\n" + rest, MAX), (b"x" * (MAX - 4), rest))


class ParseLinesTests(SynchronousTestCase):
    """From a head to its parts."""

    def denied(self, head: bytes, *methods: str) -> Denied:
        denied: Denied = self.assertRaises(Denied, parse_lines, head, methods)
        return denied

    def test_parts(self) -> None:
        """Method and target are unchanged, field names in lower case, repeated lists joined."""
        lines = b"DELETE /a%20b?c HTTP/1.1\r\nX-A: \t1 2\t\r\nVia: 1.1 a\r\nvia: 1.1 b"

        self.assertEqual(
            parse_lines(lines, ("GET", "DELETE")), ("DELETE", "/a%20b?c", {"x-a": "1 2", "via": "1.1 a, 1.1 b"})
        )

    def test_methods(self) -> None:
        """The refusal of a method names the allowed ones."""
        denied = self.denied(b"PUT / HTTP/1.1", "GET", "POST")

        self.assertEqual((denied.status, denied.reason), (405, "the method must be GET or POST"))
        self.assertEqual(denied.headers, (("Allow", "GET, POST"),))
        denied = self.denied(b"POST / HTTP/1.1", "GET")
        self.assertEqual(denied.reason, "the method must be GET; to publish by POST, start the relay with --http")

    def test_versions(self) -> None:
        """The refusal of another HTTP version names HTTP/1.1 (RFC 9110 section 15.5.22)."""
        for version in (b"1.0", b"2.0", b"0.9"):
            denied = self.denied(b"GET / HTTP/" + version, "GET")
            self.assertEqual((denied.status, dict(denied.headers)["Upgrade"]), (426, "HTTP/1.1"))
            self.assertIn("(nginx: proxy_http_version 1.1)", denied.reason)

    def test_malformed(self) -> None:
        """An ambiguous line is refused, and so is a repeated field."""
        for head in (b"", b"GET /", b"GET / HTTP/1.1\r\nA : b", b"GET / HTTP/1.1\r\nA: b\r\na: c", b"GET /#a HTTP/1.1"):
            self.assertEqual(self.denied(head, "GET").status, 400)

    def test_most_fields(self) -> None:
        """A request above the limit of fields is refused."""
        self.assertEqual(self.denied(b"GET / HTTP/1.1" + (MAX_FIELDS + 1) * b"\r\nA: b", "GET").status, 431)


def head(*arguments: Any, **options: Any) -> bytes:
    """Return a request without its blank line."""
    return request_bytes(*arguments, **options)[:-4]


class ParseTests(SynchronousTestCase):
    """From a head to a request."""

    def denied(self, data: bytes) -> Denied:
        denied: Denied = self.assertRaises(Denied, parse_request, data, None)
        return denied

    def assert_denied(self, status: int, *heads: bytes) -> None:
        for data in heads:
            self.assertEqual(self.denied(data).status, status, data)

    def test_all_fields(self) -> None:
        """A request's parts end up where validators look for them."""
        fields = {
            "Host": "Relay.Example:8080",
            "Origin": "https://app.example",
            "Sec-WebSocket-Protocol": "chat, v2.chat",
            "Cookie": "a=b; c=d",
            "X-Empty": "",
            "X-Tab": "\t a\tb \t",
        }
        request = parse_request(head("/chat/caf%C3%A9?token=a&b=1&b=2&c", fields), "peer", "certificate")

        self.assertEqual((request.path, request.room), ("/chat/café", "chat/café"))
        self.assertEqual(request.query, {"token": ("a",), "b": ("1", "2"), "c": ("",)})
        self.assertEqual((request.host, request.origin), ("relay.example:8080", "https://app.example"))
        self.assertEqual(request.subprotocols, ("chat", "v2.chat"))
        self.assertEqual((request.peer, request.tls), ("peer", "certificate"))
        self.assertEqual(request.headers["cookie"], "a=b; c=d")
        self.assertEqual((request.headers["x-empty"], request.headers["x-tab"]), ("", "a\tb"))
        self.assertNotIn("Cookie", request.headers)

    def test_least(self) -> None:
        """Absent fields are empty or None."""
        request = parse_request(head("/"), None)

        self.assertEqual((request.path, request.room, request.query), ("/", "/", {}))
        self.assertEqual((request.origin, request.subprotocols, request.tls), (None, (), None))

    def test_frozen(self) -> None:
        """A validator cannot change a request for the next one."""
        request = parse_request(head(), None)
        with self.assertRaises(AttributeError):
            request.room = "admin"  # type: ignore[misc]
        for mapping in (request.headers, request.query, parse_request(head("/?a=b"), None).query):
            with self.assertRaises(TypeError):
                mapping["x"] = "y"  # type: ignore[index]

    def test_request_lines(self) -> None:
        """Only GET, only HTTP/1.1, only one space at a time."""
        self.assert_denied(405, head(line="POST /room HTTP/1.1"), head(line="HEAD /room HTTP/1.1"))
        self.assert_denied(426, head(line="GET /room HTTP/1.0"), head(line="PRI * HTTP/2.0"))
        self.assert_denied(
            400,
            b"",
            head(line="GET /room"),
            head(line="GET  /room HTTP/1.1"),
            head(line="GET /room HTTP/1.1 "),
            head(line=" GET /room HTTP/1.1"),
            head(line="get /room HTTP/1.1"),
            head(line="GET /ro om HTTP/1.1"),
            head(line="GET /room\tHTTP/1.1"),
            head(line="GET /ro\xe9m HTTP/1.1"),
            head(line="GET /room HTTP/11"),
            head("/room#part"),
            head("room"),
            head("*"),
            head("http://other.example/room"),
            head("ftp://relay.example/room"),
            head("/a//b"),
            head("/a/%2e%2e/b"),
            head("/%zz"),
            b"\x16\x03\x01\x02\x00\x01\x00",
        )

    def test_not_a_websocket_request(self) -> None:
        """A plain GET is a 426 that names WebSocket (RFC 9110 section 15.5.22)."""
        for changed in ({"Upgrade": None}, {"Upgrade": "h2c"}, {"Connection": None}, {"Connection": "keep-alive"}):
            denied = self.denied(head(fields=changed))
            self.assertEqual((denied.status, dict(denied.headers)["Upgrade"]), (426, "websocket"))

    def test_lists_of_upgrades(self) -> None:
        """Upgrade and Connection are lists, in any case, in one line or several; empty members are ignored."""
        for changed in (
            *({"Connection": "keep-alive, UPGRADE"}, {"Connection": ", upgrade,"}, {"Upgrade": "h2c,  WebSocket"}),
            *({"Upgrade": "websocket,"}, {"Upgrade": ",websocket"}, {"Upgrade": "websocket", "upgrade": "websocket"}),
            *({"Upgrade": "h2c", "upgrade": "websocket"}, {"Connection": "keep-alive", "connection": "Upgrade"}),
        ):
            parse_request(head(fields=changed), None)

    def test_versions(self) -> None:
        """Any version but 13 is a 426 that names 13 (RFC 6455 section 4.4; TRAPS 15)."""
        for version in (None, "8", "12", "13, 8", "013"):
            denied = self.denied(head(fields={"Sec-WebSocket-Version": version}))
            self.assertEqual((denied.status, dict(denied.headers)), (426, {"Sec-WebSocket-Version": "13"}))

    def test_keys(self) -> None:
        """The key is the base64 of 16 bytes."""
        for key in (None, "", "short==", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25jZ!==", "a" * 24):
            self.assert_denied(400, head(fields={"Sec-WebSocket-Key": key}))

    def test_hosts(self) -> None:
        """Host is present and well-formed."""
        for host in (None, "", "a b", "a/b", "user@relay.example", "relay.example:", "relay.example:x", "[::1", "a,b"):
            self.assert_denied(400, head(fields={"Host": host}))
        for host in ("relay.example", "127.0.0.1:8080", "[::1]:8080", "localhost"):
            self.assertEqual(parse_request(head(fields={"Host": host}), None).host, host)

    def test_no_body(self) -> None:
        """A body would be read as frames (aiohttp CVE-2026-69243)."""
        for changed in ({"Content-Length": "1"}, {"Content-Length": "x"}, {"Transfer-Encoding": "chunked"}):
            self.assert_denied(400, head(fields=changed))
        parse_request(head(fields={"Content-Length": "0"}), None)

    def test_smuggled_lines(self) -> None:
        """Only CRLF ends a line: no proxy's field value becomes a field here (TRAPS 10)."""
        for after in (b"x-user: admin", b" x-user: admin"):
            for separator in (b"\x0b", b"\x0c", b"\x1c", b"\x1d", b"\x1e", b"\r", b"\n", b"\x00"):
                self.assert_denied(400, head() + b"\r\nX-A: a" + separator + after)
            for separator in (b"\x85", b"\xc2\x85", b"\xe2\x80\xa8"):
                request = parse_request(head() + b"\r\nX-A: a" + separator + after, None)
                self.assertNotIn("x-user", request.headers)
                self.assertEqual(len(request.headers["x-a"].splitlines()), 1)

    def test_malformed_lines(self) -> None:
        """Folding, spaces around names, no colon, control bytes and 8-bit bytes in names are refused."""
        for line in (
            b" folded",
            b"\tfolded",
            b"X-A : a",
            b" X-A: a",
            b"X-A",
            b": a",
            b"X(A: a",
            b"X-A: \x01",
            b"X-A: \x7f",
            b"X\xe9: a",
            b"",
        ):
            self.assert_denied(400, head() + b"\r\n" + line)

    def test_duplicates(self) -> None:
        """A repeated field is refused, in any case, but for lists."""
        for line in (
            "Host: other.example",
            "Origin: https://evil.example",
            "AUTHORIZATION: x",
            "x-own: 1",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "sec-websocket-version: 13",
            "X-Forwarded-User: admin",
        ):
            name = line.partition(":")[0]
            fields = {name.title(): "a"} if name.title() not in map(str.title, REQUEST_FIELDS) else {}
            self.assert_denied(400, head(fields=fields) + b"\r\n" + line.encode())
        request = parse_request(head() + b"\r\nVia: 1.1 a\r\nvia: 1.1 b\r\nCookie: a=b\r\ncookie: c=d", None)
        self.assertEqual((request.headers["via"], request.headers["cookie"]), ("1.1 a, 1.1 b", "a=b; c=d"))

    def test_fields_are_counted(self) -> None:
        """The limit of fields is exact."""
        most = MAX_FIELDS - len(REQUEST_FIELDS)
        lines = [b"\r\nX-%d: a" % number for number in range(most + 1)]
        parse_request(head() + b"".join(lines[:most]), None)

        self.assert_denied(431, head() + b"".join(lines))

    def test_subprotocols(self) -> None:
        """Offers are distinct tokens (RFC 6455 section 4.1), in one line or several."""
        many = ",".join(map(str, range(MAX_MEMBERS + 2)))
        for offered in ("a, a", "a,,a", "a b", "a;q=1", 'a"', "\xe9", many, "," * 1000):
            self.assert_denied(400, head(fields={"Sec-WebSocket-Protocol": offered}))
        self.assert_denied(400, head(fields={"Sec-WebSocket-Protocol": "a, b", "sec-websocket-protocol": "a"}))
        request = parse_request(head(fields={"Sec-WebSocket-Protocol": "b", "sec-websocket-protocol": "a, c"}), None)
        self.assertEqual(request.subprotocols, ("b", "a", "c"))

    def test_empty_subprotocols(self) -> None:
        """Empty members are ignored (RFC 9110 section 5.6.1.2); a list of nothing offers nothing."""
        for offered, names in (
            *(("chat, ", ("chat",)), (",chat", ("chat",)), ("a,,b", ("a", "b")), ("a ,\t, b,", ("a", "b"))),
            *(("", ()), (",", ()), (" , ,", ())),
        ):
            request = parse_request(head(fields={"Sec-WebSocket-Protocol": offered}), None)
            self.assertEqual((request.subprotocols, request.bearers), (names, ()), offered)

    def test_url_as_target(self) -> None:
        """A URL is its path and query; the Host field stays what it is."""
        for target in ("ws://relay.example/room?a=b", "HTTP://Relay.Example:80/room?a=b", "/room?a=b"):
            request = parse_request(head(target), None)
            self.assertEqual((request.path, request.room, request.host), ("/room", "room", "relay.example"))
            self.assertEqual((request.query, request.headers["host"]), ({"a": ("b",)}, "relay.example"))
        for target in ("ws://relay.example", "ws://relay.example?a=b"):
            self.assertEqual(parse_request(head(target), None).room, "/")
        self.assert_denied(400, head("ws://relay.example/room", {"Host": None}), head("ws://relay.example//room"))

    def test_unread_query(self) -> None:
        """A query that is not UTF-8 is refused only if it is read."""
        request = parse_request(head("/room?q=caf%E9"), None)

        self.assertEqual((request.room, self.assertRaises(Denied, request.query.get, "q").status), ("room", 400))

    def test_bearers(self) -> None:
        """A bearer token is no subprotocol, so that no validator can echo it."""
        request = parse_request(head(fields={"Sec-WebSocket-Protocol": "base64url.bearer.x.dG9r, chat"}), None)

        self.assertEqual((request.subprotocols, request.bearers), (("chat",), ("base64url.bearer.x.dG9r",)))

    def test_no_secrets_in_the_repr(self) -> None:
        """The repr, as in logs and tracebacks, shows no token, cookie or query."""
        fields = {
            "Cookie": "a=secret",
            "Authorization": "Bearer secret",
            "Sec-WebSocket-Protocol": "base64url.bearer.secret",
        }

        request = parse_request(head("/room?token=secret", fields), None)
        for shown in (repr(request), repr(request.__rich_repr__())):
            self.assertNotIn("secret", shown)
            self.assertIn("/room", shown)

    def test_bytes_above_ascii(self) -> None:
        """Bytes above 0x7f pass in the value of a field that decides nothing, as opaque characters."""
        request = parse_request(head() + "\r\nCookie: name=José".encode(), None)

        self.assertEqual(request.headers["cookie"], "name=Jos\uf7c3\uf7a9")
        self.assert_denied(400, head() + b"\r\nOrigin: https://\xe9.example", head(fields={"Host": "\xe9"}))

    @given(st.binary(max_size=200))
    def test_any_bytes(self, data: bytes) -> None:
        """Any bytes give a request or Denied."""
        for candidate in (data, head() + b"\r\n" + data, head("/" + data.decode("latin-1"))):
            try:
                request = parse_request(candidate, None)
            except Denied as denied:
                self.assertIn(denied.status, (400, 405, 426, 431))
            else:
                self.assertIsInstance(request, HandshakeRequest)


class CheckNoBodyTests(SynchronousTestCase):
    """Requests without a body."""

    def test_framing_fields(self) -> None:
        """A length of 0 is no body; any other framing field is refused, well-formed or not."""
        check_no_body({"content-length": "0"}, "a GET")
        for fields in ({"content-length": "1"}, {"content-length": ""}, {"transfer-encoding": "identity"}):
            denied = self.assertRaises(Denied, check_no_body, fields, "a GET", 413)
            self.assertEqual((denied.status, denied.reason), (413, "a GET has no body"))


class ParseHeadTests(SynchronousTestCase):
    """Requests that are no handshakes."""

    def test_any_method(self) -> None:
        """The allowed methods pass; all other checks are those of a handshake."""
        request = parse_head(head("/a?b=c", line="POST /a?b=c HTTP/1.1"), "peer", None, ["GET", "POST"])

        self.assertEqual((request.method, request.room, request.query), ("POST", "a", {"b": ("c",)}))
        for wrong, status in (
            (head(line="PUT / HTTP/1.1"), 405),
            (head(line="POST /a//b HTTP/1.1"), 400),
            (head(fields={"Host": None}, line="POST / HTTP/1.1"), 400),
        ):
            self.assertEqual(self.assertRaises(Denied, parse_head, wrong, None, None, ["POST"]).status, status)

    def test_handshake_key(self) -> None:
        """Only a well-formed handshake has a key."""
        self.assertEqual(handshake_key(parse_head(head(), None)), REQUEST_FIELDS["Sec-WebSocket-Key"])
        for changed in (
            {"Upgrade": None},
            {"Connection": "close"},
            {"Sec-WebSocket-Version": "8"},
            {"Sec-WebSocket-Key": None},
            {"Content-Length": "1"},
        ):
            self.assertIsNone(handshake_key(parse_head(head(fields=changed), None)), changed)

    def test_no_upgrade(self) -> None:
        """Without an upgrade, and with a body, it is a request; what comes of that is the caller's business."""
        fields = {"Upgrade": None, "Connection": None, "Sec-WebSocket-Key": None, "Content-Length": "7"}
        request = parse_head(head(fields=fields), None)

        self.assertEqual((request.method, request.headers["content-length"]), ("GET", "7"))
