"""Faults of the opening handshake: an unauthenticated client costs almost nothing."""

import contextlib
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jwt
import pytest
from twisted.internet.defer import CancelledError, Deferred

from tests.connection.test_protocol import client_frame
from tests.faults.support import ATTACKED, GATES, FaultTestCase, Hook, attacked, connect, pour, remarks
from tests.harness.clients import handshake, read_to_end, tls_context
from tests.harness.live import LOOPBACK, Relay, make_certificate, relay
from tests.harness.support import MAX_REQUEST_BYTES, REQUEST_FIELDS, request_bytes
from tests.validators.key_files import RSA_KEY, SECRET, KeyFileTestCase, b64
from tests.validators.test_token import FUTURE, PAST, RIGHT, hs256, token
from wsrelay.grant import Grant
from wsrelay.http.fields import JOINED, MAX_FIELDS
from wsrelay.validators.host import HostValidator
from wsrelay.validators.origin import OriginValidator
from wsrelay.validators.token import TokenValidator

interop = pytest.mark.interop


class DeadlineTests(FaultTestCase):
    """Clients that never finish."""

    def test_handshake_timeout(self) -> None:
        """Silent clients get 408 at --handshake-seconds; newcomers are served meanwhile."""
        with self.attacked(handshake_seconds=4) as relay:
            silent = [relay.wire() for _ in range(50)]
            relay.wait(3)
            relay.bystanders.welcome()
            self.assertEqual([wire.ended for wire in silent], [False] * 50)
            relay.wait(2)
            for wire in silent:
                wire.send(b"")
                self.assertEqual((wire.status, wire.ended), (408, True))

    def test_slowloris(self) -> None:
        """Slow bytes do not extend the deadline."""
        with self.attacked(handshake_seconds=4) as relay:
            wire = relay.wire()
            for byte in request_bytes()[:19]:
                relay.bystanders.exchange()
                self.assertLess(relay.clock.seconds(), 5)
                wire.send(bytes([byte]))
                if wire.ended:
                    break
                relay.wait(0.25)
            self.assertEqual(wire.status, 408)


class BytesTests(FaultTestCase):
    """Invalid requests."""

    def refuse(self, *requests: bytes, status: int = 400, **settings: Any) -> None:
        """Send requests, one per connection: all are refused at once, and no room is joined."""
        with self.attacked(**settings) as relay:
            for request in requests:
                wire = relay.wire()
                wire.send(request)
                self.assertEqual((wire.status, wire.ended), (status, True), request)
                self.assertIn(b"\r\nConnection: close\r\n", wire.received)
                # Bytes behind it are not read.
                self.assertEqual(wire.send(request_bytes("/" + ATTACKED) * 2), b"")
                relay.bystanders.exchange()
            self.assertEqual(relay.factory.hub.member_count(ATTACKED), 2)

    def accept(self, *requests: bytes, **settings: Any) -> None:
        """Send requests, one per connection: all are opened."""
        with self.attacked(**settings) as relay:
            for request in requests:
                wire = relay.wire()
                wire.send(request)
                self.assertEqual((wire.status, wire.ended), (101, False), request)
                relay.bystanders.exchange()
                wire.hang_up()

    def test_max_request_bytes(self) -> None:
        """A head over --max-request-bytes gets 431, complete or not; a request line over it 414."""
        for size, settings in ((MAX_REQUEST_BYTES, {}), (1024, {"max_request_bytes": 1024})):
            least = len(request_bytes(fields={"X-A": ""}))
            largest = request_bytes(fields={"X-A": "a" * (size - least)})
            self.accept(largest, **settings)
            self.refuse(largest[:-4] + b"a\r\n\r\n", largest[:-4] + b"aaaa", status=431, **settings)
            self.refuse(b"x" * size, status=414, **settings)
            self.refuse(b"GET / HTTP/1.1\r\n" + b"X-A: a\r\n" * size, status=431, **settings)

    def test_two_long_cookies(self) -> None:
        """Two cookies of 4 KiB each, as a single sign-on sets them, pass by default."""
        self.accept(request_bytes(fields={"Cookie": f"a={'x' * 4094}; b={'y' * 4094}"}))

    def test_max_fields(self) -> None:
        """A head with more than 100 fields gets 431, equal or different."""
        most = MAX_FIELDS - len(REQUEST_FIELDS)
        different = [b"X-%d:\r\n" % number for number in range(most + 1)]
        alike = [b"Via: a\r\n"] * (most + 1)
        self.accept(*[request_bytes()[:-2] + b"".join(lines[:most]) + b"\r\n" for lines in (different, alike)])
        self.refuse(
            *[request_bytes()[:-2] + b"".join(lines) + b"\r\n" for lines in (different, alike, [b"X-A:\r\n"] * 200)],
            status=431,
        )

    def test_invalid_head_bytes(self) -> None:
        """Only CRLF ends a line; folded lines, a space before a colon and control bytes are refused."""
        separators = ["\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\r", "\n", "\0", "\x7f"]
        lines = ["X-A: a\r\n folded", "X-A : a", " X-A: a", "X-A", ": a", "X\xe9: a"]
        self.refuse(
            *[request_bytes(fields={"X-A": f"a{separator}x-user: admin"}) for separator in separators],
            *[request_bytes()[:-2] + f"{line}\r\n\r\n".encode("latin-1") for line in lines],
            *[request_bytes(line=f"GET /room{separator} HTTP/1.1") for separator in (*separators, "\x85", "\xe9")],
        )

    def test_bytes_above_ascii(self) -> None:
        """Bytes above 0x7f are opaque in a field that decides nothing, and no line or space; elsewhere they are 400."""
        values = ["name=José", "São Paulo".encode().decode("latin-1"), "a\x85admin", "admin\xa0", "a\xe2\x80\xa8admin"]
        hook = Hook(lambda request, grant: grant.narrowed(identity=request.headers.get("x-user", "").strip()))
        with self.attacked([hook]) as relay:
            for value in values:
                for name in ("Cookie", "cf-ipcity", "X-Auth-User", "X-User"):
                    wire = relay.wire()
                    wire.send(request_bytes("/hooked", {name: value}))
                    self.assertEqual(wire.status, 101, value)
                    user = wire.transport.protocol.grant.identity.split()
                    self.assertEqual(("admin" in user, bool(user)), (False, name == "X-User"))
                    relay.bystanders.exchange()
                    wire.hang_up()
        names = ["Host", "Origin", "Authorization", "Upgrade", "Connection", "Content-Length", "Transfer-Encoding"]
        names += ["X-Forwarded-For", "X-Forwarded-User", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions"]
        self.refuse(*[request_bytes(fields={name: value}) for name in names for value in values])

    def test_duplicate_fields(self) -> None:
        """Duplicates of fields that are no lists are refused, equal or not; the reason names the field."""
        names = ["Host", "Origin", "Authorization", "X-Forwarded-User", "X-User", "X-Real-IP", "Content-Length"]
        names += ["Sec-WebSocket-Key", "Sec-WebSocket-Version", "X-Forwarded-Host", "traceparent"]
        with self.attacked() as relay:
            for name in names:
                wire = relay.wire()
                usual = REQUEST_FIELDS.get(name, "0")
                wire.send(request_bytes(fields={name: usual, name.swapcase(): usual}))
                self.assertIn(f"the field {name.swapcase()} comes more than once\n".encode(), wire.received)
                self.assertEqual((wire.status, wire.ended), (400, True))
                relay.bystanders.exchange()

    def test_list_in_several_lines(self) -> None:
        """List fields in several lines are joined, whatever sent them so: aiohttp, Node, HTTP/2, HAProxy, tracing."""
        self.accept(
            *[
                request_bytes(fields={name: REQUEST_FIELDS.get(name.title(), "a"), name.swapcase(): "b"})
                for name in JOINED
            ]
        )
        extensions = {"Sec-WebSocket-Extensions": "x-own", "sec-websocket-extensions": "permessage-deflate"}
        hook = Hook(lambda request, grant: grant.narrowed(subprotocol=request.subprotocols[-1]))
        with self.attacked([hook]) as relay:
            wire = relay.wire()
            protocols = {"Sec-WebSocket-Protocol": "a, , ", "sec-websocket-protocol": ",b"}
            wire.send(request_bytes("/hooked", {**extensions, **protocols}))
            self.assertIn(b"\r\nSec-WebSocket-Protocol: b\r\n", wire.received)
            self.assertIn(b"\r\nSec-WebSocket-Extensions: permessage-deflate; ", wire.received)
            wire.hang_up()

    def test_empty_members(self) -> None:
        """Empty members of lists are ignored."""
        lists = {
            "Sec-WebSocket-Protocol": ["", ",", "chat, ", ",chat", "a,,b"],
            "Sec-WebSocket-Extensions": ["", ",", ",permessage-deflate,", "x,, permessage-deflate"],
            "Upgrade": ["websocket,", ", websocket", "h2c,,websocket"],
            "Connection": [", upgrade", "keep-alive,,Upgrade", "Upgrade,"],
            "X-Forwarded-For": ["", ",", "192.0.2.7,"],
            "Accept": [",", ""],
        }
        self.accept(*[request_bytes(fields={name: value}) for name, values in lists.items() for value in values])
        for name in ("Upgrade", "Connection"):
            self.refuse(request_bytes(fields={name: ","}), request_bytes(fields={name: ""}), status=426)

    def test_room_wildcards(self) -> None:
        """A room name with the wildcard of patterns is refused, percent-encoded or not."""
        paths = ("/*", "/**", "/docs/*", "/docs/**", "/docs/a*b", "/%2A", "/docs/%2a%2A", "ws://relay.example/docs/*")
        self.refuse(*[request_bytes(path) for path in paths])
        with self.attacked() as relay:
            for path in ("/%252A", "/?*", "/docs/%EF%BC%8A?a=*"):
                wire = relay.wire()
                wire.send(request_bytes(path))
                self.assertEqual(wire.status, 101, path)
                wire.hang_up()

    def test_url_as_target(self) -> None:
        """A URL as target names the room by its path; its host must be the Host, and have no user."""
        schemes = ("ws", "wss", "http", "https", "WS")
        self.accept(*[request_bytes(f"{scheme}://Relay.example/attacked?a=b") for scheme in schemes])
        urls = ["ws://other.example", "ws://user@relay.example", "ws://", "ftp://relay.example", "ws:relay.example"]
        urls += ["ws://relay.example:81", "ws://relay.example@other.example", "ws://relay.example/%2e%2e"]
        self.refuse(*[request_bytes(f"{url}/{ATTACKED}") for url in urls], request_bytes("*"), request_bytes("a:80"))
        self.refuse(request_bytes("ws://relay.example/", {"Host": None}))
        with self.attacked() as relay:
            for url, room in (
                ("ws://relay.example", "/"),
                ("ws://relay.example?x", "/"),
                ("wss://relay.example/a", "a"),
            ):
                wire = relay.wire()
                wire.send(request_bytes(url))
                self.assertEqual((wire.status, wire.transport.protocol.grant.room), (101, room))
                wire.hang_up()

    def test_malformed_query(self) -> None:
        """A query that is not UTF-8, or has too many fields, is 400 only for a validator that reads it."""
        queries = ["q=caf%E9", "%ff", "&".join(["a"] * 200)]
        self.accept(*[request_bytes(f"/{ATTACKED}?{query}") for query in queries])
        hook = Hook(lambda request, grant: grant.narrowed(identity=request.query.get("user", ("",))[0]))
        with self.attacked([hook]) as relay:
            for query in queries:
                wire = relay.wire()
                wire.send(request_bytes(f"/hooked?user=admin&{query}"))
                self.assertEqual((wire.status, wire.ended), (400, True))
                self.assertIn(b"\r\n\r\nthe query ", wire.received)
                relay.bystanders.exchange()

    def test_handshake_with_body(self) -> None:
        """A request with a body is refused: it would be read as frames."""
        self.refuse(
            request_bytes(fields={"Content-Length": "6"}) + client_frame(1),
            request_bytes(fields={"Content-Length": "6"}),
            request_bytes(fields={"Transfer-Encoding": "chunked"}) + b"6\r\n" + client_frame(1) + b"\r\n0\r\n\r\n",
            request_bytes(fields={"Transfer-Encoding": "chunked"}),
            request_bytes(fields={"Content-Length": "0", "Transfer-Encoding": "identity"}),
        )

    def test_not_websocket(self) -> None:
        """Any other protocol gets an answer that names the right one."""
        self.refuse(request_bytes(fields={"Upgrade": None}), request_bytes(line="GET / HTTP/1.0"), status=426)
        self.refuse(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", status=426)
        self.refuse(request_bytes(line="POST / HTTP/1.1"), request_bytes(line="CONNECT / HTTP/1.1"), status=405)
        self.refuse(
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + request_bytes(),
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12) + request_bytes(),
            b"\r\n" + request_bytes(),
        )

    def test_early_data(self) -> None:
        """A second request, or a frame, before the 101 is refused: it may be smuggled."""
        self.refuse(request_bytes() + request_bytes("/admin"), request_bytes() + client_frame(1, b"x"))


class HookTests(FaultTestCase):
    """Handshakes during validation."""

    def test_early_data_while_pending(self) -> None:
        """Bytes during validation refuse the handshake, do not start another one, and a late grant is ignored."""
        for more in (request_bytes("/hooked/admin"), client_frame(1, b"x"), b"\0"):
            answer: Deferred[Grant] = Deferred(lambda _: None)
            hook = Hook(answer)
            with self.attacked([hook]) as relay:
                wire = relay.wire()
                wire.send(request_bytes("/hooked"))
                wire.send(more)
                self.assertEqual((wire.status, wire.ended), (400, True))
                wire.hang_up()
                if not answer.called:
                    answer.callback(Grant("hooked"))
                relay.settle()
                self.assertEqual(([request.room for request in hook.requests], len(relay.factory.hub)), (["hooked"], 2))

    def test_gone_while_pending(self) -> None:
        """A client that leaves during validation cancels it; a late grant makes no zombie."""
        answer: Deferred[Grant] = Deferred(lambda _: None)
        with self.attacked([Hook(answer)]) as relay:
            before = len(relay.factory.connections)
            wire = relay.wire()
            wire.send(request_bytes("/hooked"))
            wire.hang_up()
            self.assertTrue(answer.called)
            self.assertEqual((len(relay.factory.connections), len(relay.factory.hub)), (before, 2))

    def test_validate_timeout(self) -> None:
        """A validator that never answers causes 504 at its timeout; newcomers are served meanwhile."""
        with self.attacked([Hook(lambda *_: Deferred())], handshake_seconds=30, validate_seconds=2) as relay:
            wires = [relay.wire() for _ in range(20)]
            for wire in wires:
                wire.send(request_bytes("/hooked"))
            relay.bystanders.welcome()
            relay.wait(2.5)
            self.assertEqual([wire.send(b"")[9:12] for wire in wires], [b"504"] * 20)

    def test_swallowed_cancellation(self) -> None:
        """The late answer of a validator that swallows its cancellation is ignored."""

        async def stubborn(_request: object, grant: Grant) -> Grant:
            try:
                await Deferred()
            except CancelledError:
                await late
            return grant

        late: Deferred[None] = Deferred()
        with self.attacked([Hook(stubborn)], validate_seconds=2) as relay:
            patient, gone = relay.wire(), relay.wire()
            patient.send(request_bytes("/hooked"))
            gone.send(request_bytes("/hooked"))
            gone.hang_up()
            relay.wait(3)
            patient.send(b"")
            late.callback(None)
            self.assertEqual((patient.status, patient.send(b""), len(relay.factory.hub)), (504, b"", 2))

    def test_validator_raises(self) -> None:
        """An exception causes 500 with a fixed text, synchronous or not; it is logged once."""

        async def later(_request: object, _grant: Grant) -> Grant:
            raise KeyError("secret\r\nX-Evil: 1")

        for answer in (KeyError("secret\r\nX-Evil: 1"), later):
            with self.attacked([Hook(answer)], tracebacks=1) as relay:
                wire = relay.wire()
                wire.send(request_bytes("/hooked"))
                self.assertEqual((wire.status, wire.ended), (500, True))
                self.assertNotIn(b"secret", wire.received)
                self.assertNotIn(b"Evil", wire.received)
            self.events.clear()

    def test_validator_invalid_answer(self) -> None:
        """An invalid answer causes 500, a subprotocol that was not offered included; no client hangs."""

        def narrowed(**changes: Any) -> Any:
            return lambda _, grant: grant.narrowed(**changes)

        for answer in (
            None,
            True,
            {"room": "hooked"},
            narrowed(subprotocol="not-offered"),
            narrowed(subprotocol="b\r\nX-Evil: 1"),
            narrowed(room="../admin"),
            narrowed(room=""),
            narrowed(room="\ud800"),
            narrowed(room="docs/*"),
            narrowed(identity="\ud800"),
            narrowed(identity="x" * 4000),
            narrowed(expires_at=float("nan")),
            narrowed(can_publish="no"),
        ):
            with self.attacked([Hook(answer)], tracebacks=1) as relay:
                wire = relay.wire()
                wire.send(request_bytes("/hooked", {"Sec-WebSocket-Protocol": "b"}))
                self.assertEqual((wire.status, wire.ended, len(relay.factory.hub)), (500, True, 2), answer)
                self.assertNotIn(b"Evil", wire.received)
            self.events.clear()


class RuleTestCase(FaultTestCase):
    """Clients that must be refused, through a whole relay; the rules themselves: tests/validators."""

    def statuses(self, validators: Any, *requests: dict[str, str | None], **options: Any) -> list[int]:
        """Return the status for each request; bystanders connect with ``options``."""
        with self.attacked(validators, options=options) as relay:
            answered = []
            for fields in requests:
                wire = relay.wire()
                wire.send(request_bytes("/" + ATTACKED, fields))
                answered.append(wire.status)
                relay.bystanders.exchange()
        return answered


class RuleTests(RuleTestCase):
    """Origins and hosts."""

    def test_default_origin(self) -> None:
        """By default only pages of the same host, and programs without an Origin, are admitted (CSWSH)."""
        origins = ["https://evil.example", "null", "https://relay.example.evil.example", "http://evilrelay.example"]
        origins += ["https://relay.example@evil.example", "https://relay.example/", "file://", ""]
        self.assertEqual(self.statuses(None, *[{"Origin": origin} for origin in origins]), [403] * len(origins))
        self.assertEqual(self.statuses(None, {"Origin": "https://relay.example"}, {}), [101, 101])

    def test_listed_origin(self) -> None:
        """Listed origins match as a whole; a missing Origin matches none."""
        listed = OriginValidator.from_arguments("https://app.example")
        refused = self.statuses(
            [listed],
            {"Origin": "https://app.example:444"},
            {"Origin": "http://app.example"},
            {"Origin": "https://xapp.example"},
            {"Origin": "https://app.example.evil.example"},
            {},
            origin="https://app.example",
        )
        self.assertEqual(refused, [403] * 5)

    def test_origin_pattern(self) -> None:
        """A pattern matches subdomains, and no name that is similar; a missing Origin and null match none."""
        pattern = OriginValidator.from_arguments("https://*.app.example,file://")
        hosts = [
            "app.example",
            "evil-app.example",
            "x.app.example.evil.example",
            ".app.example",
            "x.app.example.",
            "*.app.example",
        ]
        refused = [{"Origin": f"https://{host}"} for host in hosts]
        others = [
            "http://x.app.example",
            "https://x.app.example:444",
            "https://evil.example/.app.example",
            "null",
            "file:///",
        ]
        refused += [{"Origin": origin} for origin in others]
        allowed = [{"Origin": "https://a.b.app.example:443"}, {"Origin": "file://"}]
        statuses = self.statuses([pattern], *refused, {}, *allowed, origin="https://x.app.example")
        self.assertEqual(statuses, [403] * 12 + [101] * 2)

    def test_origin_reason(self) -> None:
        """A refused Origin is quoted cut, without markup and controls, in the answer and in one log line."""
        with self.attacked(None) as relay:
            for origin, quoted in (
                ("https://evil.example", "https://evil.example"),
                ("<script>alert('x')</script>", "?script?alert??x???/script?"),
                ("https://" + "e" * 4000, f"https://{'e' * 112}..."),
                ("a\tdenied with 101: 'x'", "a?denied?with?101:??x?"),
            ):
                wire = relay.wire()
                wire.send(request_bytes("/" + ATTACKED, {"Origin": origin}))
                head, _, body = wire.received.partition(b"\r\n\r\n")
                self.assertIn(b"Content-Type: text/plain; charset=utf-8\r\n", head)
                self.assertIn(b"X-Content-Type-Options: nosniff\r\n", head)
                self.assertIn(quoted, body.decode())
                self.assertLess(len(body), 202)
                relay.settle()
                self.assertIn(repr(body.decode().strip()), self.logged()[-1])

    def test_host_validator(self) -> None:
        """Other hosts get 421 (DNS rebinding), malformed ones 400."""
        ours = HostValidator.from_arguments("relay.example:8080")
        hosts = ["evil.example", "relay.example:81", "relay.example.", "127.0.0.1:8080"]
        self.assertEqual(self.statuses([ours], *[{"Host": host} for host in hosts]), [421] * 4)
        hosts = ["", "a b", "a/b", "user@relay.example", "[::1", "relay.example:99999999"]
        self.assertEqual(self.statuses([ours], *[{"Host": host} for host in hosts], {"Host": None}), [400] * 7)


class TokenTests(RuleTestCase, KeyFileTestCase):
    """Invalid tokens."""

    def setUp(self) -> None:
        """Make a validator."""
        RuleTestCase.setUp(self)
        KeyFileTestCase.setUp(self)
        self.validator = TokenValidator.from_arguments(f"key={self.file(SECRET)},algorithm=HS256,{RIGHT}")

    def test_invalid_tokens(self) -> None:
        """Missing, expired, forged and mangled tokens get 401, and are never logged."""
        claims = {"aud": "relay", "iss": "https://id.example", "exp": FUTURE}
        none = ".".join([b64(b'{"alg":"none"}'), b64(b'{"aud":"relay"}'), ""])
        tokens = [
            token(exp=PAST),
            token(exp=...),
            token(aud="other"),
            hs256({"alg": "HS256"}, claims, b"x" * 32),
            jwt.encode(claims, RSA_KEY, "RS256"),
            token()[:-2] + "!!",
            none,
            "~" * 4000,
            "",
            "\t",
        ]
        good = {"headers": {"Authorization": f"Bearer {token()}"}}
        requests: list[dict[str, str | None]] = [{"Authorization": f"Bearer {bad}"} for bad in tokens]
        self.assertEqual(self.statuses([self.validator], *requests, {}, **good), [401] * 11)
        for bad in tokens[:7]:
            self.assertNotIn(bad[:20], str(self.events))

    def test_token_expiry(self) -> None:
        """At the expiry of its token, a connection, and no other, is closed with 4401."""
        longer = token(exp=FUTURE + 1000)
        with self.attacked([self.validator], options={"headers": {"Authorization": f"Bearer {longer}"}}) as relay:
            relay.now = FUTURE - 100.0 - relay.clock.seconds()
            client = relay.client(headers={"Authorization": f"Bearer {token()}"})
            relay.wait(99)
            self.assertTrue(client.open)
            relay.wait(2)
            self.assertEqual(client.closed, (4401, "the grant has expired"))


# --- on sockets -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a key and a certificate for 127.0.0.1."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def server(certificate: Path) -> Iterator[Relay]:
    """A relay with short timeouts: plain, behind PROXY, and with TLS."""
    with relay(
        *[
            "--handshake-seconds",
            "2",
            "--close-seconds",
            "1",
            "--ping-seconds",
            "1",
            "--validate",
            "python:gates:pending",
        ],
        listen=[LOOPBACK, f"haproxy:{LOOPBACK}", f"ssl:0:interface=127.0.0.1:privateKey={certificate}"],
        environ=GATES,
    ) as started:
        yield started


MIB = 2**20

ENDLESS = [
    # 1 ms on an idle machine; Autobahn's own parser takes a minute for the second.
    pytest.param(b"x" * MIB, 32, 0.1, id="32 MB without a line"),
    pytest.param(b"X-A: b\r\n" * (MIB // 8), 4, 0.05, id="4 MB of lines that are alike"),
    pytest.param(b"".join(b"X-%06x: b\r\n" % n for n in range(MIB // 16)), 4, 0.05, id="4 MB of lines"),
]


@interop
@pytest.mark.parametrize(("chunk", "times", "seconds"), ENDLESS)
def test_endless_head(server: Relay, chunk: bytes, times: int, seconds: float) -> None:
    """An endless request is refused with 431 at --max-request-bytes, at almost no cost."""
    with attacked(server) as attack, server.connect() as connection:
        before = attack.cpu_seconds()
        connection.sendall(b"GET / HTTP/1.1\r\n")
        pour(connection, chunk, times)
        assert read_to_end(connection).startswith(b"HTTP/1.1 431 ")
        assert attack.cpu_seconds() - before < seconds


@interop
def test_head_byte_by_byte(server: Relay) -> None:
    """The longest head byte by byte is not searched from the start for each byte."""
    with attacked(server) as attack, server.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        before = attack.cpu_seconds()
        pour(connection, b"x", MAX_REQUEST_BYTES)
        assert read_to_end(connection).startswith(b"HTTP/1.1 414 ")
        assert attack.cpu_seconds() - before < 2


@interop
def test_handshake_timeout_live(server: Relay) -> None:
    """Silent sockets are closed at their deadline, also before TLS and before a PROXY header."""
    with attacked(server) as attack, ExitStack() as stack:
        silent = [(stack.enter_context(connect(server, end)), end) for end in range(3) for _ in range(20)]
        attack.bystanders.welcome()
        for connection, endpoint in silent:
            # Before the TLS handshake no 408 can be sent.
            assert read_to_end(connection).startswith(b"HTTP/1.1 408 " if endpoint < 2 else b"")


@interop
@pytest.mark.parametrize("part", [0, 0.5, 1], ids=["silent", "half a ClientHello", "a ClientHello"])
def test_handshake_timeout_tls(certificate: Path, part: float) -> None:
    """An unfinished TLS handshake ends at --handshake-seconds: no response could be sent, so none is waited for."""
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost").do_handshake()
    hello = outgoing.read()
    endpoints = [LOOPBACK, f"ssl:0:interface=127.0.0.1:privateKey={certificate}"]
    with (
        relay("--handshake-seconds", "2", "--close-seconds", "3600", listen=endpoints) as server,
        attacked(server),
        connect(server, 1) as connection,
    ):
        connection.sendall(hello[: int(part * len(hello))])
        read_to_end(connection)


GARBAGE = [
    pytest.param(0, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), id="TLS on the plain port"),
    pytest.param(0, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12), id="PROXY v2 on the plain port"),
    pytest.param(0, b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + handshake(), id="PROXY on the plain port"),
    pytest.param(0, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2"),
    pytest.param(0, b"GET / HTTP/1.0\r\n\r\n", id="HTTP/1.0"),
    pytest.param(0, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", id="GET"),
    pytest.param(0, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", id="POST"),
    pytest.param(0, b"\0" * 20000, id="zeros"),
    pytest.param(1, handshake(), id="no PROXY header"),
    pytest.param(1, b"PROXY TCP4 192.0.2.1\r\n" + handshake(), id="short PROXY header"),
    pytest.param(1, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x01" + bytes(40) + handshake(), id="short PROXY v2 header"),
    pytest.param(1, b"\r\n\r\n\0\r\nQUIT\n\xff\xff\xff\xff" + bytes(40), id="bad PROXY v2 header"),
    pytest.param(2, handshake(), id="plain on the TLS port"),
    pytest.param(2, b"\x16\x03\x01\xff\xff" + bytes(70000), id="bad TLS"),
]


@interop
@pytest.mark.parametrize(("endpoint", "garbage"), GARBAGE)
def test_other_protocols(server: Relay, endpoint: int, garbage: bytes) -> None:
    """Other protocols get a refusal or an end, and at most one log line."""
    with attacked(server) as attack, connect(server, endpoint) as connection:
        before = remarks(server)
        pour(connection, garbage, 1)
        answer = read_to_end(connection)
        attack.bystanders.exchange()
        assert len(remarks(server)) - len(before) <= 1, server.output.text
    if endpoint == 0:
        assert answer[:10] == b"HTTP/1.1 4", answer


@interop
def test_gone_while_pending_live(server: Relay) -> None:
    """Clients that reset, close or half-close TCP during validation leave nothing behind."""
    with attacked(server) as attack:
        for end in (reset, socket.socket.close, lambda connection: connection.shutdown(socket.SHUT_WR)):
            for _ in range(10):
                connection = server.connect()
                connection.sendall(handshake("/hooked"))
                attack.bystanders.exchange()
                end(connection)
                if connection.fileno() != -1:
                    assert read_to_end(connection) == b""
                    connection.close()


def reset(connection: socket.socket) -> None:
    """Reset a TCP connection."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()


@interop
def test_tls_close_timeout(server: Relay, certificate: Path) -> None:
    """A TLS peer that neither answers close_notify nor reads is aborted after close-seconds; no descriptor leaks."""
    with attacked(server) as attack, ExitStack() as stack:
        for said in (
            b"",  # refused with 408
            b"GET / HTTP/1.1\r\n\r\n",  # refused with 426
            handshake() + client_frame(1),  # refused with 400
            handshake(f"/{ATTACKED}"),  # open, until the first ping
        ):
            for _ in range(10):
                raw = stack.enter_context(connect(server, 2))
                tls_session(raw, certificate, said)
        attack.bystanders.welcome()
        attack.settle()  # while all these sockets stay open


def tls_session(raw: socket.socket, certificate: Path, said: bytes) -> None:
    """Open a TLS session, send bytes, and stop."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = tls_context(certificate).wrap_bio(incoming, outgoing, server_hostname="localhost")
    while True:
        try:
            session.do_handshake()
            break
        except ssl.SSLWantReadError:
            raw.sendall(outgoing.read())
            incoming.write(raw.recv(2**16))
    if said:
        session.write(said)
    raw.sendall(outgoing.read())


@interop
@pytest.mark.parametrize("words", [b"192.0.2.1 192.0.2.2 1 x", b"\xff 192.0.2.2 1 2"], ids=["port", "address"])
def test_invalid_proxy_header(words: bytes) -> None:
    """A PROXY header with an invalid port or address ends only its connection."""
    with relay(listen=[LOOPBACK, f"haproxy:{LOOPBACK}"]) as server, attacked(server), connect(server, 1) as connection:
        connection.sendall(b"PROXY TCP4 " + words + b"\r\n")
        assert read_to_end(connection) == b""
