"""Faults in frames and messages: they end their own connection at most."""

import re
import signal
import socket
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.faults.support import (
    ATTACKED,
    GATES,
    Attack,
    FaultTestCase,
    attacked,
    closed_with,
    closes_with,
    connect,
    masked,
    pour,
    remarks,
)
from tests.harness.clients import handshake, mute, read_to_end
from tests.harness.live import LOOPBACK, Relay, relay
from tests.wire.test_frames import parse
from wsrelay import closecodes
from wsrelay.closecodes import CloseReason
from wsrelay.connection.websocket import OpenWebSocket

interop = pytest.mark.interop

MIB = 2**20

TEXT, BINARY, CLOSE, PING, PONG, FIN, RSV1 = 1, 2, 8, 9, 10, 0x80, 0x40

DEFLATE = {"Sec-WebSocket-Extensions": "permessage-deflate"}


def deflated(payload: bytes) -> bytes:
    """Return a payload deflated as in a compressed message (RFC 7692 section 7.2.1)."""
    compressor = zlib.compressobj(wbits=-15)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")


class ViolationTests(FaultTestCase):
    """Protocol violations."""

    def fail(self, row: CloseReason, *attacks: bytes, fields: Any = None, **settings: Any) -> None:
        """Send bytes, one attack per connection: each is closed as in the row, and nothing is relayed."""
        with self.attacked(**settings) as relay:
            for attack in attacks:
                before = relay.stats.messages_in
                wire = relay.open_wire(fields)
                [frame] = [frame for frame in parse(wire.send(attack)) if frame.opcode == CLOSE]
                self.assertEqual(int.from_bytes(frame.data[:2]), row.code, attack[:50])
                self.assertTrue(frame.data[2:].decode().startswith(row.text), frame.data)
                # TCP stays open, so that no reset overtakes the close frame; further input is discarded.
                self.assertEqual((wire.ended, wire.send(masked(FIN | TEXT, b"more") * 100)), (False, b""))
                self.assertEqual(relay.stats.messages_in, before)
                relay.bystanders.exchange()
                if attack is attacks[0]:
                    wire.send(masked(FIN | CLOSE, row.code.to_bytes(2)))
                    self.assertTrue(wire.ended)

    def test_invalid_frames(self) -> None:
        """RSV bits, opcodes, masks, lengths and fragments against RFC 6455 are closed with 1002."""
        self.fail(
            closecodes.PROTOCOL_ERROR,
            *[masked(FIN | rsv | TEXT, b"x") for rsv in (0x10, 0x20, 0x40, 0x70)],
            *[masked(FIN | opcode, b"x") for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)],
            b"\x81\x01x",
            b"\x89\x00",
            *[masked(FIN | opcode, bytes(126)) for opcode in (CLOSE, PING, PONG)],
            *[masked(opcode, b"x") for opcode in (CLOSE, PING, PONG)],
            masked(FIN, b"x"),
            masked(0, b"x"),
            masked(TEXT, b"x") + masked(FIN | TEXT, b"x"),
            masked(BINARY, b"") + masked(FIN | PING) + masked(BINARY, b""),
            masked(FIN | TEXT, b"x", form=16),
            masked(FIN | TEXT, b"x", form=64),
            masked(FIN | BINARY, bytes(1000), form=64),
            masked(FIN | BINARY, length=2**63, form=64),
            masked(FIN | BINARY, length=2**64 - 1, form=64),
        )

    def test_invalid_frames_with_deflate(self) -> None:
        """The same with compression: RSV1 is for the first frame of a message only."""
        self.fail(
            closecodes.PROTOCOL_ERROR,
            masked(FIN | 0x20 | TEXT, b"x"),
            masked(RSV1 | TEXT, deflated(b"x")) + masked(FIN | RSV1, b"x"),
            masked(FIN | RSV1 | PING),
            masked(FIN | RSV1 | CLOSE),
            fields=DEFLATE,
        )

    def test_invalid_utf8(self) -> None:
        """Text that is not UTF-8 is closed with 1007, for any fragmentation, and nothing of it is relayed."""
        bad = [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"good \xe2\x82", b"good \xf0\x9f\x98"]
        self.fail(
            closecodes.INVALID_PAYLOAD,
            *[masked(FIN | TEXT, payload) for payload in bad],
            *[masked(TEXT, payload[:1]) + masked(FIN, payload[1:]) for payload in bad],
            masked(TEXT, b"good" * 1000) + masked(0, b"") + masked(FIN, b"\xff"),
        )

    def test_max_message_bytes(self) -> None:
        """A message that declares, or collects, too many bytes is closed with 1009 as early as possible."""
        self.fail(
            closecodes.TOO_BIG,
            masked(FIN | BINARY, bytes(1001)),
            masked(FIN | BINARY, length=3000),
            masked(FIN | BINARY, length=2**63 - 1),
            masked(BINARY, bytes(500)) + masked(0, bytes(500)) + masked(FIN, bytes(1)),
            masked(BINARY, bytes(1000)) + masked(0, bytes(1000)) * 9,
            max_message_bytes=1000,
        )

    def test_max_message_bytes_inflated(self) -> None:
        """A message that inflates beyond the limit is closed with 1009, for any fragmentation."""
        bombs = [deflated(bytes(1001)), deflated(bytes(100_000)), deflated(bytes(10_000_000))]
        self.fail(
            closecodes.TOO_BIG,
            *[masked(FIN | RSV1 | BINARY, bomb) for bomb in bombs],
            *[masked(RSV1 | BINARY, bomb[:5]) + masked(0, b"") + masked(FIN, bomb[5:]) for bomb in bombs],
            masked(RSV1 | BINARY, bombs[2]),
            fields=DEFLATE,
            max_message_bytes=1000,
        )

    def test_corrupt_deflate(self) -> None:
        """Data that does not inflate, or refers to unsent data, is closed with 1007."""
        self.fail(
            closecodes.INVALID_PAYLOAD,
            masked(FIN | RSV1 | BINARY, b"\xff\xff\xff\xff"),
            masked(FIN | RSV1 | TEXT, deflated(b"\xff\xfe")),
            masked(RSV1 | BINARY, b"\x07") + masked(FIN, b"\xff" * 100),
            masked(FIN | RSV1 | BINARY, b"\x03\x02\x00\xff\xff" * 2),
            fields=DEFLATE,
        )

    def test_max_fragments(self) -> None:
        """Too many fragments, empty ones included, are closed with 1008, also with control frames between."""
        self.fail(
            closecodes.TOO_MANY_FRAGMENTS,
            masked(TEXT) + masked(0) * 20,
            masked(TEXT) + (masked(0) + masked(FIN | PONG)) * 20,
            masked(TEXT, b"x") + masked(0, b"x") * 20,
            max_fragments=10,
        )

    def test_invalid_close_frames(self) -> None:
        """Invalid close frames are closed with 1002, and not echoed."""
        reasons = [b"\0", *[code.to_bytes(2) for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)]]
        with self.attacked() as relay:
            for payload in (*reasons, b"\x03\xe8\xff", b"\x03\xe8" + b"\xe2\x82"):
                wire = relay.open_wire()
                [frame] = parse(wire.send(masked(FIN | CLOSE, payload)))
                self.assertIn(int.from_bytes(frame.data[:2]), (1002, 1007), payload)
                relay.bystanders.exchange()

    def test_close_code_echo(self) -> None:
        """Registered and private close codes are echoed."""
        with self.attacked() as relay:
            for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999):
                wire = relay.open_wire()
                [frame] = parse(wire.send(masked(FIN | CLOSE, code.to_bytes(2) + b"bye")))
                self.assertEqual((int.from_bytes(frame.data), wire.ended), (code, True))

    def test_close_code_echo_late(self) -> None:
        """1012 to 1014, registered after RFC 6455, are echoed, or answered with 1002."""
        with self.attacked() as relay:
            for code in (1012, 1013, 1014):
                wire = relay.open_wire()
                [frame] = parse(wire.send(masked(FIN | CLOSE, code.to_bytes(2))))
                self.assertIn(int.from_bytes(frame.data[:2]), (code, 1002))


class BugTests(FaultTestCase):
    """Bugs in the relay."""

    def break_relay_of(self, connection: Any) -> None:
        """Let publishing raise on one connection."""
        phase, publish = connection.phase, OpenWebSocket._publish
        self.patch(OpenWebSocket, "_publish", lambda one, *plain: (broken if one is phase else publish)(one, *plain))

    def test_internal_error(self) -> None:
        """A raising callback closes its connection with 1011; one traceback is logged."""
        for frame in (masked(FIN | TEXT, b"x"), masked(TEXT, b"x") + masked(FIN, b"x"), masked(FIN | PING)):
            with self.attacked(tracebacks=1) as relay:
                wire = relay.open_wire()
                [connection] = relay.factory.connections - relay.guests
                self.break_relay_of(connection)
                connection.onPing = broken
                self.assertTrue(closes_with(closecodes.INTERNAL_ERROR, wire.send(frame * 3)))
                self.assertEqual(relay.stats.failures, 1)
            self.events.clear()


def broken(*_: object) -> None:
    """Raise, as a bug."""
    raise RuntimeError("a bug")


class FloodTests(FaultTestCase):
    """Floods of control frames."""

    def test_unread_pongs(self) -> None:
        """Pings of a peer that does not read its pongs are not answered, and buffer nothing."""
        with self.attacked() as relay:
            client = relay.client()
            client.server_transport.stalled = True
            for _ in range(100):
                client.server.dataReceived(masked(FIN | PING, bytes(125)) * 100)
            self.assertLess(sum(map(len, client.server_transport.stream)), 2 * 65536)
            relay.bystanders.exchange()
            client.server_transport.stalled = False

    def test_unsolicited_pongs(self) -> None:
        """Unsolicited pongs have no effect, also during a pending ping, and are not logged."""
        with self.attacked(ping_seconds=1) as relay:
            wire = relay.open_wire()
            lines = len(self.logged())
            for _ in range(4):
                for _ in range(50):
                    wire.send(masked(FIN | PONG, b"nobody asked") * 20)
                relay.wait(0.5)
            self.assertEqual(len(self.logged()), lines)


# --- on sockets -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[Relay]:
    """A relay that grants the attacker an identity of its own choice."""
    options = ["--close-seconds", "1", "--max-message-bytes", str(4 * MIB), "--room-log-bytes", str(5 * MIB)]
    listen = [LOOPBACK, f"haproxy:{LOOPBACK}"]
    with relay(*options, "--validate", "python:gates:named", listen=listen, environ=GATES) as started:
        yield started


@interop
@pytest.mark.parametrize(
    ("head", "chunk", "times", "code"),
    [
        pytest.param(masked(FIN | BINARY, length=2**63 - 1), bytes(MIB), 64, 1009, id="message of 2^63 - 1 bytes"),
        pytest.param(masked(FIN | PING, length=2**40), bytes(MIB), 64, 1002, id="ping of 2^40 bytes"),
        pytest.param(masked(BINARY), masked(0, bytes(MIB)), 16, 1009, id="message over the limit in fragments"),
        pytest.param(masked(BINARY), masked(0) * 50_000, 20, 1008, id="empty continuations"),
    ],
)
def test_endless_frames(server: Relay, head: bytes, chunk: bytes, times: int, code: int) -> None:
    """A huge or endless frame is closed with its code, and costs no more than one message."""
    with attacked(server) as attack, mute(server, f"/{ATTACKED}") as connection:
        pour(connection, head, 1)
        pour(connection, chunk, times)
        assert attack.grown_bytes() < 12 * MIB
        assert closed_with(read_to_end(connection))[0] == code


@interop
@pytest.mark.parametrize(
    "frame", [masked(FIN | PING), masked(0), masked(FIN | TEXT, b"x")], ids=["pings", "continuations", "messages"]
)
def test_bytes_behind_violation(server: Relay, frame: bytes) -> None:
    """Bytes behind a violation are discarded as they come."""
    with attacked(server) as attack, mute(server, f"/{ATTACKED}") as connection:
        connection.sendall(masked(FIN | 3))
        pour(connection, frame * 10_000, 1000)
        assert closed_with(read_to_end(connection))[0] == 1002
        assert attack.grown_bytes() < 2 * MIB


@interop
def test_deflate_bombs(server: Relay) -> None:
    """Deflate bombs are closed with 1009, and cost less than four maximum messages."""
    bomb = deflated(bytes(200 * MIB))
    with attacked(server) as attack, ExitStack() as stack:
        for frames in (
            masked(FIN | RSV1 | BINARY, bomb),
            masked(RSV1 | BINARY, bomb[:1000]) + masked(FIN, bomb[1000:]),
        ):
            connection = stack.enter_context(server.connect())
            connection.sendall(handshake(f"/{ATTACKED}", Sec_WebSocket_Extensions="permessage-deflate"))
            assert b" 101 " in connection.recv(1000)
            pour(connection, frames, 1)
            assert closed_with(read_to_end(connection))[0] == 1009
        assert attack.grown_bytes() < 4 * 4 * MIB


@interop
def test_ping_flood(server: Relay) -> None:
    """Endless pings of a peer that never reads cost a bounded amount of memory and no log line."""
    with attacked(server) as attack, mute(server, f"/{ATTACKED}", receive_bytes=4096) as connection:
        lines = remarks(server)
        for _ in range(20):
            connection.sendall(masked(FIN | PING, bytes(125)) * 5000)
            attack.bystanders.exchange()
        assert remarks(server) == lines
        assert attack.grown_bytes() < 2 * MIB


@interop
def test_pong_flood(server: Relay) -> None:
    """Endless unsolicited pongs cost neither memory nor a log line."""
    with attacked(server) as attack, mute(server, f"/{ATTACKED}") as connection:
        lines = remarks(server)
        for _ in range(20):
            connection.sendall(masked(FIN | PONG, b"x") * 5000)
            attack.bystanders.exchange()
        assert remarks(server) == lines
        assert attack.grown_bytes() < 2 * MIB


#: UTF-8 that breaks a line, clears the screen, rings, or reverses the text.
UNSEEN = "\n2026-01-01T00:00:00+0000 [wsrelay#info] forged\r\x1b[2J\x07\x9b31m\x85\u2028\u202e"


def quoted(text: str) -> str:
    """Return text completely percent-encoded."""
    return "".join(f"%{byte:02X}" for byte in text.encode())


def say(server: Relay, attack: Attack, *requests: bytes, frame: bytes = b"", endpoint: int = 0) -> None:
    """Send bytes, one attack per connection, and wait for the ends."""
    for request in requests:
        with connect(server, endpoint) as connection:
            connection.sendall(request)
            if frame:
                assert b" 101 " in connection.recv(1000)
                connection.sendall(frame)
            connection.shutdown(socket.SHUT_WR)
            read_to_end(connection)
        attack.bystanders.exchange()


@interop
def test_log_injection(server: Relay) -> None:
    """No text of a client adds a log line, or unprintable characters, to the log."""
    with attacked(server) as attack:
        text = UNSEEN.encode()
        say(
            server,
            attack,
            handshake(f"/{quoted(UNSEEN)}"),
            *[handshake(f"/room{quoted(character)}") for character in UNSEEN[-8:]],
            handshake(f"/{ATTACKED}?a={quoted(UNSEEN)}"),
            handshake("/\x1b[2J"),
            *[handshake(**{name: UNSEEN}) for name in ("Origin", "User_Agent", "X_Forwarded_For", "Cookie")],
            handshake(Origin="https://evil.example/%0aforged%1b"),
            handshake(host=UNSEEN),
            handshake(Sec_WebSocket_Protocol=UNSEEN),
        )
        say(server, attack, handshake("/hooked"), frame=masked(FIN | CLOSE, b"\x03\xe8" + text[-123:]))
        say(server, attack, handshake("/hooked"), frame=masked(FIN | TEXT, text))
        # Twisted's parser accepts any text in a PROXY header as an address (TRAPS 72).
        peer = f"PROXY TCP4 {UNSEEN.replace(' ', '')} 192.0.2.2 1 2\r\n".encode()
        say(server, attack, peer + handshake("/hooked"), endpoint=1)
        assert len(server.output.wait_for("joined .* as 'mallory", 2)) == 2
        log = server.output.text
        assert [line for line in log.split("\n") if not line.removeprefix("\t").isprintable()] == []
        assert re.findall(r"^\S+ \[[^]]*\] forged", log, re.MULTILINE) == []


@interop
def test_log_injection_by_exception() -> None:
    """The same for text quoted in a validator's exception."""
    with relay("--validate", "python:gates:raising", environ=GATES) as server:
        with attacked(server, tracebacks=1) as attack:
            say(server, attack, handshake(f"/hooked?user={quoted(UNSEEN)}"))
            server.output.wait_for("LookupError")
            log = server.output.text
            assert [line for line in log.split("\n") if not line.replace("\t", "").isprintable()] == []
            assert re.findall(r"^\S+ \[[^]]*\] forged", log, re.MULTILINE) == []
        server.signal(signal.SIGTERM)  # here, because a relay that ends with the block must not have had a traceback
        assert server.wait() == 0
