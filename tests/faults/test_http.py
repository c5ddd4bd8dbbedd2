"""Faults of plain HTTP requests: the same strict parser and the same limits as for handshakes."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.faults.support import ATTACKED, GATES, FaultTestCase, Hook, attacked, pour
from tests.harness.clients import read_to_end
from tests.harness.http import Response, http_bytes
from tests.harness.live import Relay, relay
from tests.harness.support import MAX_REQUEST_BYTES
from tests.wire.test_sse import read
from wsrelay import closecodes
from wsrelay.validators.origin import OriginValidator

interop = pytest.mark.interop

MIB = 2**20
POST = f"POST /{ATTACKED}"
TAIL = http_bytes(f"GET /{ATTACKED}", None, {"Accept": "text/event-stream"})
DESCRIBE = http_bytes(f"GET /{ATTACKED}", None, {"Accept": "application/json"})


class RequestTests(FaultTestCase):
    """Invalid requests."""

    def refuse(self, *requests: bytes, statuses: tuple[int, ...] = (400,), **settings: Any) -> None:
        """Send requests, one per connection: all are refused at once, and nothing is published."""
        with self.attacked(http=True, **settings) as relay:
            for request in requests:
                wire = relay.wire()
                wire.send(request)
                self.assertIn(wire.status, statuses, request)
                self.assertIn(b"\r\nConnection: close\r\n", wire.received)
                # Bytes behind it are not read.
                self.assertEqual(wire.send(http_bytes(POST, b"late")), b"")
                relay.bystanders.exchange()
            relay.wait(relay.factory.settings.close_seconds + 1)
            self.assertEqual(relay.stats.http_requests, {})

    def test_http_invalid_requests(self) -> None:
        """Bytes, lines, duplicates and targets that no handshake may have are refused."""
        good = http_bytes(POST, b"hello")
        self.refuse(
            good.replace(b"\r\nContent", b"\nContent"),
            good.replace(b"Host: ", b"Host:\r\n "),
            good.replace(b"Host:", b"Host :"),
            good.replace(b"relay.example", b"relay\x85.example"),
            good.replace(b"\r\nContent", b"\r\nContent-Length: 5\r\nContent"),
            good.replace(b"\r\nContent", b"\r\nTransfer-Encoding: chunked\r\nContent"),
            good.replace(f"/{ATTACKED} ".encode(), f"http://other.example/{ATTACKED} ".encode()),
            good.replace(b"/room", b"/a/../b").replace(ATTACKED.encode(), b"a/../b"),
            b"\x16\x03\x01\x02\x00\x01" + good,
        )
        self.refuse(b"POST /" + b"x" * MAX_REQUEST_BYTES, statuses=(414,))
        self.refuse(good.replace(b"Host", b"X-A: a\r\n" * 100 + b"Host"), statuses=(400, 431))

    def test_http_unusual_requests(self) -> None:
        """URLs as targets, bytes above 0x7f, repeated lists and an unread malformed query are served."""
        url = f"POST http://relay.example/{ATTACKED}"
        repeated = {"Cookie": "a=é", "cookie": "b=c", "X-Forwarded-For": "192.0.2.7", "x-forwarded-for": "192.0.2.8"}
        with self.attacked(http=True) as relay:
            for line, fields in ((url, {}), (f"{POST}?q=caf%E9", {}), (POST, {"Cookie": "a=é"}), (POST, repeated)):
                wire = relay.wire()
                wire.send(http_bytes(line, b"", fields))
                self.assertEqual(wire.status, 202, line)

    def test_http_invalid_bodies(self) -> None:
        """Bodies of unclear length, too long ones, and bodies of GET requests are refused."""
        self.refuse(
            http_bytes(POST, b"hello", {"Content-Length": "0x5"}),
            http_bytes(POST, b"hello", {"Content-Length": None, "Transfer-Encoding": "gzip"}),
            http_bytes(POST, b"\xff\xfe"),
            DESCRIBE.replace(b"Accept", b"Content-Length: 5\r\nAccept") + b"hello",
        )
        self.refuse(http_bytes(POST, None), statuses=(411,))
        self.refuse(http_bytes(POST, b"x" * (MIB + 1)), statuses=(413,))
        self.refuse(http_bytes(POST, b"x", {"Content-Encoding": "gzip"}), statuses=(415,))

    def test_http_second_request(self) -> None:
        """Bytes behind a request are not a second request: nothing can be smuggled."""
        with self.attacked(http=True) as relay:
            for first in (http_bytes(POST, b"{}"), DESCRIBE, TAIL):
                wire = relay.wire()
                answers = wire.send(first + http_bytes("POST /elsewhere", b"smuggled"))
                answers += wire.send(http_bytes("POST /elsewhere", b"smuggled"))
                self.assertEqual(answers.count(b"HTTP/1.1 "), 1)
                if not wire.ended:
                    wire.hang_up()
            self.assertEqual(relay.stats.messages_in - relay.stats.http_requests["POST", 202], self.said(relay))
            for client in relay._clients:
                client.messages = [message for message in client.messages if message != "{}"]

    def test_http_head(self) -> None:
        """HEAD, refused or not, gets one response without content, whatever comes behind it."""
        with self.attacked(http=True) as relay:
            for first in (DESCRIBE, TAIL, http_bytes(f"GET /{ATTACKED}"), b"GET /..\r\n\r\n", b"GET /" + b"x" * 70_000):
                wire = relay.wire()
                answer = wire.send(first.replace(b"GET", b"HEAD") + http_bytes("POST /elsewhere", b"smuggled"))
                self.assertEqual((answer.count(b"HTTP/1.1 "), answer[-4:]), (1, b"\r\n\r\n"))
                relay.bystanders.exchange()
                wire.hang_up()
            self.assertEqual(relay.stats.messages_in, self.said(relay))

    def test_http_foreign_page(self) -> None:
        """A page of an origin that is not allowed gets 403, which it may read without credentials; nothing is said."""
        foreign = {"Origin": "https://evil.example"}
        preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
        with self.attacked([OriginValidator(words=["same-host"])], http=True) as relay:
            for request in (
                http_bytes(f"OPTIONS /{ATTACKED}", None, {**foreign, **preflight}),
                http_bytes(POST, b"forged", foreign),
                http_bytes(POST, b"{}", {**foreign, "Content-Type": "application/json"}),
                TAIL.replace(b"Accept", b"Origin: https://evil.example\r\nAccept"),
                TAIL.replace(b"Accept", b"Sec-Fetch-Site: cross-site\r\nAccept"),
                TAIL.replace(b"Accept", b"Sec-Fetch-Site: same-site\r\nAccept"),
            ):
                wire = relay.wire()
                response = Response(wire.send(request))
                self.assertEqual((response.status, response.headers["Access-Control-Allow-Origin"]), (403, "*"))
                self.assertNotIn("Access-Control-Allow-Credentials", response.headers)
                self.assertNotIn("Access-Control-Allow-Methods", response.headers)
                relay.bystanders.exchange()
                wire.hang_up()
            self.assertEqual((relay.stats.messages_in, relay.stats.http_requests), (self.said(relay), {}))

    def test_http_own_page(self) -> None:
        """The relay's own page needs no Origin for a stream where its origin is listed; one of another host does."""
        origins = OriginValidator.from_arguments("https://relay.example")
        own = TAIL.replace(b"Accept", b"Sec-Fetch-Site: same-origin\r\nAccept")
        with self.attacked([origins], http=True, options={"origin": "https://relay.example"}) as relay:
            for request, status in (
                (own, 200),
                (own.replace(b"Host: relay.example", b"Host: evil.example"), 403),
                (TAIL, 403),
            ):
                wire = relay.wire()
                wire.send(request)
                self.assertEqual(wire.status, status, request)
                relay.bystanders.exchange()
                wire.hang_up()

    def test_http_guessed_handle(self) -> None:
        """A publisher cannot hide a message from another client: numbers are no handles."""
        with self.attacked(http=True) as relay:
            victim = relay.client()
            for number in range(1, victim.server.number + 2):
                for guess, status in ((str(number), 400), (f"{number:022d}", 202)):
                    wire = relay.wire()
                    wire.send(http_bytes(POST, b"hidden", {"Wsrelay-Except": guess}))
                    self.assertEqual(wire.status, status)
                    wire.hang_up()
            relay.settle()
            self.assertEqual(victim.messages.count("hidden"), victim.server.number + 1)

    def said(self, relay: Any) -> int:
        """Return the number of the bystanders' messages."""
        return sum(connection.status().messages_in for connection in relay.guests)

    def test_http_dribble(self) -> None:
        """A body byte by byte gets 408 at its deadline, for any declared length."""
        with self.attacked(http=True, message_seconds=4) as relay:
            wire = relay.wire()
            wire.send(http_bytes(POST, None, {"Content-Length": "1000000"}))
            for _ in range(40):
                relay.wait(0.25)
                wire.send(b"x")
                relay.bystanders.exchange()
                if wire.received:
                    break
            self.assertEqual(wire.status, 408)
            self.assertLess(relay.clock.seconds(), 6)

    def test_http_gone_while_pending(self) -> None:
        """A client that leaves during validation cancels the validators."""
        pending: Deferred[Any] = Deferred()
        with self.attacked([Hook(pending)], http=True) as relay:
            wire = relay.wire()
            wire.send(http_bytes("POST /hooked", b"hello"))
            wire.hang_up()
            self.assertTrue(pending.called)

    def test_http_flood(self) -> None:
        """One address that posts in a loop gets 429; others are not affected."""
        with self.attacked(http=True, max_connects_per_second_per_address=10, burst_seconds=1) as relay:
            answers = [relay.wire().send(http_bytes("POST /flooded", b"x")) for _ in range(100)]
            statuses = [int(answer.split()[1]) for answer in answers if answer]
            self.assertLessEqual(set(statuses), {202, 429})
            self.assertLessEqual(statuses.count(202), 10)


@pytest.fixture(scope="module")
def server() -> Iterator[Relay]:
    """Run one relay for all live tests of this module."""
    with relay("--http", "--message-seconds", "3", "--room-log-bytes", str(2 * MIB), "--slow-seconds", "3") as started:
        yield started


@interop
def test_http_endless_body(server: Relay) -> None:
    """An endless body costs no more than one message: its client gets 413, and is not read for ever."""
    with attacked(server) as attack, server.connect() as connection:
        connection.sendall(http_bytes(POST, None, {"Transfer-Encoding": "chunked"}))
        pour(connection, b"%x\r\n%b\r\n" % (65536, b"x" * 65536), 1000)
        assert Response(read_to_end(connection)).status == 413
        assert attack.grown_bytes() < 8 * MIB


@interop
def test_http_tiny_chunks(server: Relay) -> None:
    """A body in tiny chunks is refused with 400 after a few thousand, for little CPU time; lines are not."""
    with attacked(server) as attack:
        before = attack.cpu_seconds()
        for _ in range(5):
            with server.connect() as connection:
                connection.sendall(http_bytes(POST, None, {"Transfer-Encoding": "chunked"}))
                pour(connection, b"1\r\nx\r\n" * 10_000, 10)
                answer = Response(read_to_end(connection))
                assert (answer.status, b"Content-Length" in answer.body) == (400, True)
            attack.bystanders.exchange()
        # 3 MB in all; they took 3 seconds.
        assert attack.cpu_seconds() - before < 1
        with server.connect() as connection:
            line = b"x" * 99 + b"\n"
            connection.sendall(http_bytes(POST, None, {"Transfer-Encoding": "chunked"}))
            pour(connection, b"%x\r\n%b\r\n" % (len(line), line) * 900)
            connection.sendall(b"0\r\n\r\n")
            assert Response(read_to_end(connection)).status == 202


@interop
def test_http_stalled_body(server: Relay) -> None:
    """A stalled body gets 408 at --message-seconds."""
    with attacked(server), server.connect() as connection:
        connection.sendall(http_bytes(POST, None, {"Content-Length": "10"}) + b"hello")
        assert Response(read_to_end(connection)).status == 408


@interop
@pytest.mark.parametrize("body", [b"hello", b"x" * 100_000], ids=["short", "long"])
def test_http_half_closed(body: bytes) -> None:
    """A POST is published and answered, although its client shuts down while a validator is asked."""
    with (
        relay("--http", "--validate", "python:gates:later", environ=GATES) as server,
        attacked(server),
        server.connect() as connection,
    ):
        connection.sendall(http_bytes(POST, body))
        connection.shutdown(socket.SHUT_WR)
        answer = Response(read_to_end(connection))
        assert (answer.status, answer.json["members"]) == (202, 2)


@interop
@pytest.mark.parametrize(
    "request_bytes", [http_bytes(POST + "?no", b"\xff"), http_bytes("GET /", None)], ids=["POST", "GET"]
)
def test_http_half_closed_refused(server: Relay, request_bytes: bytes) -> None:
    """A refusal is written, although its client shuts down behind the request."""
    with attacked(server):
        for _ in range(10):
            with server.connect() as connection:
                connection.sendall(request_bytes)
                connection.shutdown(socket.SHUT_WR)
                assert Response(read_to_end(connection)).status in (400, 426)


@interop
def test_http_unread_stream(server: Relay) -> None:
    """An unread event stream costs as much as any slow subscriber, and is evicted as one."""
    with attacked(server, shared=False) as attack, server.connect(4096) as connection:
        connection.sendall(TAIL)
        for _ in range(100):
            with server.connect() as publisher:
                publisher.sendall(http_bytes(POST, b"x" * 100_000))
                assert Response(read_to_end(publisher)).status == 202
        assert attack.grown_bytes() < 8 * MIB
        head, _, stream = read_to_end(connection).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        *_, (kind, data) = read(stream)
        assert (kind, json.loads(data)["code"]) == ("close", closecodes.TOO_SLOW.code)
