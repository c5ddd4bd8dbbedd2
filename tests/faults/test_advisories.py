"""Vulnerabilities of other servers: one test per class, named after it, with the affected ones in its docstring."""

import time
import zlib
from typing import Any

import jwt
from autobahn.websocket.protocol import WebSocketServerProtocol

from tests.faults.support import ATTACKED, FaultTestCase, Hook, closed_with, masked
from tests.harness.support import MAX_REQUEST_BYTES, request_bytes
from tests.validators.key_files import RSA_KEY, KeyFileTestCase, b64, public_pem
from tests.validators.test_token import FUTURE, PAST, RIGHT, hs256
from tests.wire.test_frames import parse
from wsrelay.connection.protocol import RelayProtocol
from wsrelay.errors import Denied
from wsrelay.settings import Settings
from wsrelay.validators.token import TokenValidator

DEFLATE: dict[str, str | None] = {"Sec-WebSocket-Extensions": "permessage-deflate"}


def bomb(size: int) -> bytes:
    """Return a compressed message of this many zeros."""
    compressor = zlib.compressobj(wbits=-15)
    return (compressor.compress(bytes(size)) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")


class HandshakeTests(FaultTestCase):
    """Vulnerabilities in opening handshakes."""

    def refuse(self, *requests: bytes) -> list[bytes]:
        """Send requests, one per connection; assert that all are refused, and return the responses."""
        told = []
        with self.attacked() as relay:
            for request in requests:
                wire = relay.wire()
                told.append(wire.send(request))
                self.assertEqual((wire.status // 100, wire.ended), (4, True), request)
                relay.bystanders.exchange()
        return told

    def test_endless_request(self) -> None:
        """A request without an end is not buffered.

        tungstenite CVE-2023-43669 (RUSTSEC-2023-0065), Twisted CVE-2022-21716 (a banner), ws CVE-2024-37890 and Cowboy
        CVE-2026-65624 (header lines, by one name), Daphne CVE-2026-44545.
        """
        self.refuse(b"x" * 10**6, b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 10**5, b"GET /" + b"x" * 10**6)
        with self.attacked() as relay:
            wire = relay.wire()
            for _ in range(MAX_REQUEST_BYTES - 1):
                wire.transport.bufferReceived(b"x")
            self.assertEqual(len(wire.transport.protocol.data), MAX_REQUEST_BYTES - 1)
            wire.send(b"x")
            self.assertEqual(wire.status, 414)

    def test_superlinear_fields(self) -> None:
        """Parsing a field takes linear time.

        ws CVE-2021-32640 (Sec-WebSocket-Protocol), websocket-extensions CVE-2020-7662 and CVE-2020-7663
        (Sec-WebSocket-Extensions), ws GHSA-5v72-xg48-5rpm, cowlib CVE-2026-7790.
        """
        parts = ['a; b="' + "\\c" * 3500, "a;" * 3500, "a, " * 2300, "," * 7000, " " * 7000, "a;b=" * 1700, '"' * 7000]
        parts += ["permessage-deflate; " * 350, "permessage-deflate, " * 350, "a=b; " * 1400, "%25" * 2300, "a/" * 3500]
        names = [
            "Sec-WebSocket-Extensions",
            "Sec-WebSocket-Protocol",
            "Connection",
            "Upgrade",
            "Origin",
            "Host",
            "Cookie",
        ]
        with self.attacked(None) as relay:
            begun = time.process_time()
            for part in parts:
                for name in names:
                    relay.wire().send(request_bytes(fields={name: part}))
                relay.wire().send(request_bytes("/" + part.replace(" ", "").replace('"', "")))
            # Some 0.1 s; a backtracking parser takes minutes for one of them.
            self.assertLess(time.process_time() - begun, 5)

    def test_fields_that_crash(self) -> None:
        """No field crashes its parser.

        websocket-driver CVE-2026-61666 (Host), Granian (Sec-WebSocket-Protocol that is not ASCII), undici CVE-2026-2229
        (window bits out of range).
        """
        hosts = [
            "[",
            "[::1",
            "]",
            ":",
            "a:b",
            "a:99999999999999999999",
            "[::1]:x",
            "%",
            "xn--\xff",
            "\xe9.example",
            "@",
        ]
        self.refuse(
            *[request_bytes(fields={"Host": host}) for host in hosts],
            *[
                request_bytes(fields={"Sec-WebSocket-Protocol": value})
                for value in ("\xe9", "a b", "a,a", "a,,a", ", \xa0")
            ],
            *[request_bytes(fields={"Sec-WebSocket-Key": value}) for value in ("\xe9" * 24, "=" * 24, "a" * 10**3)],
        )
        with self.attacked() as relay:
            for bits in (
                "",
                "0",
                "7",
                "16",
                "-1",
                "1e1",
                "999999999999",
                '"8"',
                "\t9",
                "8; server_max_window_bits=9",
                "=",
            ):
                for name in ("server_max_window_bits", "client_max_window_bits"):
                    wire = relay.open_wire({"Sec-WebSocket-Extensions": f"permessage-deflate; {name}={bits}"})
                    wire.send(masked(0x81, b"x"))
                    relay.bystanders.exchange()

    def test_response_splitting(self) -> None:
        """No text of a client or validator adds a line, or a link, to a response.

        Autobahn CVE-2020-35678 (PYSEC-2020-25), Twisted CVE-2019-12387, CVE-2022-39348, CVE-2024-41810 and #12754.
        """
        evil = "%0d%0aX-Evil:%201"
        said = self.refuse(
            request_bytes(f"/?redirect=https://evil.example/{evil}&after=1", {"Upgrade": None}),
            request_bytes(f"/{evil}"),
            request_bytes("/", {"Host": "a\nX-Evil: 1"}),
            request_bytes("/", {"Sec-WebSocket-Key": "<script>"}),
            request_bytes("//evil.example/%2f.."),
        )
        hook = Hook(Denied(403, "no\r\nX-Evil: 1", [("X-A", "b\r\nX-Evil: 1"), ("X-B\r\nX-Evil", "1")]))
        with self.attacked([hook]) as relay:
            said.append(relay.wire().send(request_bytes("/hooked")))
        for answer in said:
            head, _, body = answer.partition(b"\r\n\r\n")
            self.assertNotRegex(head, b"(?i)evil|location|script")
            self.assertIn(b"\r\nContent-Length: %d\r\n" % len(body), head)
            self.assertNotRegex(body, b"[<>\r\0]")

    def test_smuggling(self) -> None:
        """A request that two parsers could read differently is refused.

        Daphne CVE-2026-44546, Twisted CVE-2020-10108, CVE-2020-10109, CVE-2022-24801, CVE-2026-42304's class, aiohttp
        CVE-2026-69243 (a body on an upgrade). Behind real proxies: test_proxies.py.
        """
        chunked = b"0\r\n\r\n" + request_bytes("/admin")
        ends = ("\x0b", "\x0c", "\x1c", "\r", "\n")
        self.refuse(
            request_bytes(fields={"Content-Length": "5", "Transfer-Encoding": "chunked"}) + chunked,
            request_bytes(fields={"Content-Length": "+0"}),
            request_bytes(fields={"Content-Length": "0, 0"}),
            request_bytes(fields={"Transfer-Encoding": "xchunked"}),
            *[request_bytes(fields={"X-A": f"a{end}X-User: admin"}) for end in ends],
            *[request_bytes(fields={f"X-A{end}": "a"}) for end in (*ends, "\x85", " ", "\t")],
            *[request_bytes(fields={"X-Forwarded-User": f"a{end}X-User: admin"}) for end in ("\x85", "\xa0")],
        )

    def test_pipelining(self) -> None:
        """One request per connection: bytes behind it are not answered, and have no influence.

        Twisted CVE-2023-46137 and CVE-2024-41671, fastify-http-proxy CVE-2026-130647 and CVE-2026-129502 (a fragment).
        """
        said = self.refuse(
            request_bytes("/public") + request_bytes("/admin"),
            request_bytes("/public", {"Upgrade": None}) + request_bytes("/admin"),
            request_bytes("/public#/admin"),
            request_bytes("/public?#/admin"),
            request_bytes("http://other.example/admin"),
            request_bytes("http://relay.example@other.example/admin"),
            request_bytes("/public/../admin"),
            request_bytes("/public/%2e%2e/admin"),
        )
        self.assertEqual([answer.count(b"HTTP/1.1 ") for answer in said], [1] * len(said))

    def test_field_aliases(self) -> None:
        """A field has one spelling; any other is another field.

        FrankenPHP CVE-2026-128023, CVE-2015-0219 (``x_user`` for ``X-User``).
        """
        hook = Hook(lambda request, grant: grant.narrowed(identity=request.headers.get("x-user")))
        with self.attacked([hook]) as relay:
            for name in ("X_User", "X.User", "X-User-", "Http-X-User", "HTTP_X_USER"):
                wire = relay.wire()
                wire.send(request_bytes("/hooked", {name: "admin"}))
                self.assertEqual((wire.status, wire.transport.protocol.grant.identity), (101, None))

    def test_forged_address(self) -> None:
        """A forged client address is ignored.

        Pingvin CVE-2026-108162 (X-Forwarded-For past a limit).
        """
        hook = Hook(lambda request, grant: grant.narrowed(identity=request.peer.host))
        with self.attacked([hook]) as relay:
            for name in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "True-Client-IP", "CF-Connecting-IP"):
                wire = relay.wire()
                wire.send(request_bytes("/hooked", {name: "203.0.113.7"}))
                self.assertEqual(wire.transport.protocol.grant.identity, "192.0.2.1")
        self.assertNotIn("203.0.113.7", str(self.logged()))

    def test_cross_site(self) -> None:
        """By default pages of other sites are refused (CWE-1385).

        Phoenix CVE-2022-42975, code-server GHSA-frjg-g767-7363, Che and Theia CVE-2020-14368, Sente CVE-2019-1000022,
        Cline CVE-2026-44211, Spring CVE-2026-59390.
        """
        with self.attacked(None) as relay:
            for origin in ("https://evil.example", "http://localhost", "null", "https://relay.example.evil.example"):
                wire = relay.wire()
                wire.send(request_bytes(fields={"Origin": origin, "Cookie": "session=1"}))
                self.assertEqual(wire.status, 403)


class FrameTests(FaultTestCase):
    """Vulnerabilities in frames and messages."""

    def test_unlimited_by_default(self) -> None:
        """Every size is limited by default.

        Daphne CVE-2026-44545, Bandit CVE-2026-39804, undici CVE-2026-12151, ws CVE-2016-10542.
        """
        limits = [
            Settings().max_message_bytes,
            Settings().max_fragments,
            Settings().max_frames_per_second,
            Settings().memory_budget,
            Settings().room_log_bytes,
        ]
        self.assertEqual([limit > 0 for limit in limits], [True] * 5)
        with self.attacked() as relay:
            self.assertLess(relay.factory.max_connections, 2**20)
            for attack in (masked(0x82, length=2**24), masked(1) + masked(0) * 5000):
                self.assertIn(closed_with(relay.open_wire().send(attack))[0], (1008, 1009))

    def test_limit_before_inflation(self) -> None:
        """The limit holds for the inflated message, in any number of frames.

        Autobahn CVE-2026-77528 (GHSA-hxp9-w8x3-p566), uws CVE-2016-10544, websockets CVE-2018-1000518, nats-server
        CVE-2026-27571, undici CVE-2026-1526, aiohttp CVE-2026-59881.
        """
        with self.attacked(max_message_bytes=128) as relay:
            for size in (129, 4096, 10**7):
                payload = bomb(size)
                for attack in (
                    masked(0xC2, payload),
                    masked(0x42, payload[:3]) + masked(0x80, payload[3:]),
                ):
                    wire = relay.open_wire(DEFLATE)
                    self.assertEqual(closed_with(wire.send(attack))[0], 1009)
                relay.bystanders.exchange()

    def test_other_compressions(self) -> None:
        """Only deflate is negotiated: the limits cover no other compression.

        Autobahn CVE-2026-116579 (GHSA-pjh6-c8mg-3x7m: brotli).
        """
        with self.attacked() as relay:
            for offered in ("permessage-brotli", "permessage-bzip2", "permessage-snappy", "x-webkit-deflate-frame"):
                wire = relay.wire()
                answer = wire.send(request_bytes(fields={"Sec-WebSocket-Extensions": offered}))
                self.assertEqual((wire.status, b"Extensions" in answer), (101, False))
                self.assertEqual(closed_with(wire.send(masked(0xC1, b"x")))[0], 1002)

    def test_unauthenticated_flood(self) -> None:
        """Before the handshake is accepted, only one request may be sent.

        nats-server CVE-2026-33219 (before authentication).
        """
        with self.attacked([Hook(Denied(401, "log in"))]) as relay:
            wire = relay.wire()
            wire.send(request_bytes("/hooked"))
            for _ in range(100):
                wire.transport.bufferReceived(masked(0x82, bytes(10_000)))
            self.assertEqual((wire.status, wire.ended, len(wire.transport.protocol.data)), (401, True, 0))

    def test_length_overflow(self) -> None:
        """A negative or huge length is neither awaited nor looped over.

        gorilla/websocket CVE-2020-27813, Tomcat CVE-2020-13935, undici CVE-2026-1528.
        """
        with self.attacked() as relay:
            for length in (2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1):
                for first in (0x82, 0x02, 0x89, 0x88):
                    wire = relay.open_wire()
                    data = wire.send(masked(first, length=length))
                    self.assertIn(closed_with(data)[0], (1002, 1009))
                relay.bystanders.exchange()

    def test_endless_fragments(self) -> None:
        """The number of fragments is limited, too.

        ws CVE-2026-48779 and CVE-2026-62389, undici CVE-2026-9675, socket.io CVE-2026-33151.
        """
        with self.attacked(max_fragments=100) as relay:
            for fragment in (b"", b"x"):
                wire = relay.open_wire()
                wire.send(masked(1) + masked(0, fragment) * 99)
                self.assertEqual(closed_with(wire.send(masked(0, fragment) * 10_000))[0], 1008)

    def test_memory_disclosure(self) -> None:
        """Answers contain the sent bytes only.

        ws CVE-2016-10518 and CVE-2026-45736.
        """
        with self.attacked() as relay:
            for length in (0, 1, 2, 124, 125):
                wire = relay.open_wire()
                payload = bytes(range(length))
                [pong] = parse(wire.send(masked(0x89, payload)))
                self.assertEqual((pong.opcode, pong.data), (10, payload))
                [close] = parse(wire.send(masked(0x88, b"\x03\xe8" + b"r" * min(length, 123))))
                self.assertEqual(close.data, b"\x03\xe8")


class LeakTests(FaultTestCase):
    """Leaked connections."""

    def test_never_closed(self) -> None:
        """After any end of a connection, nothing of it is left.

        Tomcat CVE-2024-23672, engine.io CVE-2026-59725, Mesop CVE-2026-34824, tls-listener CVE-2024-28854 (for TLS:
        test_opening.py).
        """
        attacks = [b"", b"x", request_bytes("/x")[:-1], request_bytes("//"), request_bytes("/x")]
        attacks += [request_bytes("/x", {"Upgrade": None}), request_bytes("/x") + b"x"]
        frames = [b"", masked(0x88), masked(0x83), masked(0x01, b"x"), masked(0x89), b"\x81"]
        with self.attacked(handshake_seconds=2, ping_seconds=2, close_seconds=1) as relay:
            for attack in attacks:
                for frame in frames if attack == request_bytes("/x") else [b""]:
                    wire = relay.wire()
                    wire.send(attack)
                    if frame:
                        wire.send(frame)
            relay.wait(8)
            left = relay.factory.connections - relay.guests
            self.assertEqual([one for one in left if not one.transport.aborted], [])

    def test_join_leak(self) -> None:
        """A connection is in one room, and a room ends with its last member.

        Phoenix CVE-2026-56811 (joins without limit on a connection).
        """
        with self.attacked(max_rooms=4) as relay:
            wires = [relay.wire() for _ in range(10)]
            statuses = []
            for number, wire in enumerate(wires):
                wire.send(request_bytes(f"/room/{number}"))
                statuses.append(wire.status)
            self.assertEqual(statuses, [101, 101, *[503] * 8])
            for wire in wires[:2]:
                wire.hang_up()
            self.assertEqual(relay.client("/room/again").open, True)

    def test_no_state_before_the_101(self) -> None:
        """A handshake that is refused late joins nothing.

        Autobahn, TRAPS 11: a zombie opened after its end.
        """
        with self.attacked([Hook(lambda _, grant: grant.narrowed(expires_at=1.0))]) as relay:
            wire = relay.wire()
            wire.send(request_bytes("/hooked"))
            self.assertEqual((wire.status, list(relay.factory.hub)), (401, ["attacked", "elsewhere"]))


class TokenTests(FaultTestCase, KeyFileTestCase):
    """Vulnerabilities in authentication."""

    def setUp(self) -> None:
        """Make a validator of a public key."""
        FaultTestCase.setUp(self)
        KeyFileTestCase.setUp(self)
        self.key = public_pem(RSA_KEY)
        self.validator = TokenValidator.from_arguments(f"key={self.file(self.key)},algorithm=RS256,{RIGHT}")
        self.claims = {"exp": FUTURE, "aud": "relay", "iss": "https://id.example"}
        self.good = jwt.encode(self.claims, RSA_KEY, "RS256")

    def options(self) -> dict[str, Any]:
        """Return the bystanders' options."""
        return {"headers": {"Authorization": f"Bearer {self.good}"}}

    def test_key_confusion(self) -> None:
        """The token chooses neither its algorithm nor its key.

        PyJWT CVE-2026-48523, CVE-2026-32597, CVE-2026-102268, CVE-2026-102273 to -102275.
        """
        head, body, signature = self.good.split(".")
        forged = [
            hs256({"alg": "HS256"}, self.claims, self.key),
            hs256({"alg": "HS256", "typ": "JWT"}, self.claims, self.key.strip()),
            hs256({"alg": "RS256"}, self.claims, self.key),
            *[".".join([b64(b'{"alg":"%s"}' % name), body, ""]) for name in (b"none", b"None", b"NONE", b"nOnE", b"")],
            ".".join([b64(b'{"alg":"RS256","crit":["b64"],"b64":false}'), body, signature]),
            ".".join([b64(b'{"alg":"RS512"}'), body, signature]),
            f"{head}.{body}.",
            f"{head}.{body}",
            f"{head}.{b64(b'{}')}.{signature}",
        ]
        with self.attacked([self.validator], options=self.options()) as relay:
            for token in forged:
                wire = relay.wire()
                wire.send(request_bytes(f"/{ATTACKED}", {"Authorization": f"Bearer {token}"}))
                self.assertEqual(wire.status, 401, token)

    def test_outlived_token(self) -> None:
        """No connection outlives its token.

        OpenClaw CVE-2026-41356 (a revoked token keeps its socket).
        """
        stale, short = (jwt.encode({**self.claims, "exp": exp}, RSA_KEY, "RS256") for exp in (PAST, FUTURE - 100))
        with self.attacked([self.validator], options=self.options()) as relay:
            self.assertEqual(relay.client(headers={"Authorization": f"Bearer {stale}"}).status, 401)
            relay.now = FUTURE - 110.0 - relay.clock.seconds()
            client = relay.client(headers={"Authorization": f"Bearer {short}"})
            relay.wait(11)
            self.assertEqual(client.closed[0], 4401)

    def test_compared_text(self) -> None:
        """Tokens are compared as signed bytes: text that is not ASCII is harmless.

        websockets CVE-2021-33880 (timing of a comparison of passwords).
        """
        with self.attacked([self.validator], options=self.options()) as relay:
            for token in (b64(("é" * 20 + ".a.b").encode()), "~"):
                wire = relay.wire()
                wire.send(
                    request_bytes(f"/{ATTACKED}", {"Sec-WebSocket-Protocol": f"chat, base64url.bearer.a.{token}"})
                )
                self.assertEqual(wire.status, 401)


class StackTests(FaultTestCase):
    """Unused features of the stack."""

    def test_web_pages(self) -> None:
        """No page of Autobahn or Twisted is served, and no version is shown.

        Autobahn CVE-2020-35678, Twisted's HTTP/2 floods (GHSA-32gv-6cf3-wcmq): there is no HTTP/2.
        """
        with self.attacked() as relay:
            for request in (request_bytes("/", {"Upgrade": None}), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"):
                answer = relay.wire().send(request)
                self.assertNotRegex(answer, b"(?i)server:|autobahn|twisted|<html")
            self.assertEqual(relay.factory.acceptableProtocols(), [b"http/1.1"])
            self.assertTrue(issubclass(relay.factory.protocol, WebSocketServerProtocol))
            self.assertIs(relay.factory.protocol.dataReceived, RelayProtocol.dataReceived)
