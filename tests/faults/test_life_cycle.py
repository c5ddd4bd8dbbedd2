"""Faults of the relay's own life: its end, its callbacks, its clock."""

import signal
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.clients import WebsocketsClient, handshake, mute, read_to_end, text
from tests.faults.support import ATTACKED, ELSEWHERE, FaultTestCase, Hook, attacked, closed_with, masked, pour
from tests.live import SECONDS, Process, command_line, relay
from tests.support import request_bytes
from wsrelay import closecodes

interop = pytest.mark.interop

MIB = 2**20

#: What a relay that stops may tell its clients; which of them it is, is tests/test_process.py's.
STOPPING = {(row.code, row.text) for row in closecodes.TABLE if row.code in (1001, 1012)}


class CallbackTests(FaultTestCase):
    """Ends that go wrong."""

    def test_on_close_raises(self) -> None:
        """A bug in the callback for the end of a connection keeps it neither in its room nor in the relay's books."""
        with self.attacked() as relay:
            wire = relay.open_wire()
            [connection] = relay.factory.connections - relay.guests
            connection.onClose = lambda *_: 1 / 0
            self.assertRaises(ZeroDivisionError, wire.hang_up)  # for Twisted, which logs it
            self.assertEqual(relay.factory.connections, relay.guests)
            self.assertEqual(relay.factory.hub.member_count(ATTACKED), 2)

    def test_never_answers_close(self) -> None:
        """A peer that does not answer our close is aborted after close-seconds, and is in no room meanwhile."""
        with self.attacked(close_seconds=4) as relay:
            wire = relay.open_wire()
            [connection] = relay.factory.connections - relay.guests
            connection.close(closecodes.INTERNAL_ERROR)
            relay.wait(3)
            relay.bystanders.exchange()
            self.assertEqual((relay.factory.hub.member_count(ATTACKED), wire.transport.aborted), (2, False))
            relay.wait(2)
            self.assertTrue(wire.transport.aborted)

    def test_clock_jump(self) -> None:
        """When the wall clock jumps, forwards or back, nobody is closed; a grant ends when it would have ended."""
        hook = Hook(lambda _, grant: grant.narrowed(expires_at=relay.now + relay.clock.seconds() + 100))
        with self.attacked([hook], ping_seconds=5, handshake_seconds=5) as relay:
            client, opening = relay.client("/hooked"), relay.wire()
            for jump in (86400.0, -2 * 86400.0, 10.0**9):
                relay.now += jump
                relay.wait(1)
                relay.bystanders.exchange()
            opening.send(request_bytes(f"/{ATTACKED}"))
            self.assertEqual(opening.status, 101)
            opening.hang_up()
            relay.wait(95)
            self.assertTrue(client.open)
            relay.wait(3)
            self.assertEqual(client.closed[0], closecodes.EXPIRED.code)


@interop
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped(number: signal.Signals) -> None:
    """A signal ends every connection behind its messages, with a code of the table, and the process with 0.

    Some never answer, some never read, some have not opened yet and some never will.
    """
    with relay("--close-seconds", "2") as server, ExitStack() as stack:
        silent = stack.enter_context(server.connect())
        half = stack.enter_context(server.connect())
        half.sendall(handshake("/half")[:-2])
        deaf = stack.enter_context(mute(server, f"/{ATTACKED}"))
        members = [stack.enter_context(WebsocketsClient(server.url(ATTACKED))) for _ in range(10)]
        for count in range(20):
            members[0].say(text(f"{count}"))
        members[0].hears_nothing()  # and the relay has them
        server.signal(number)
        for member in members[1:]:
            assert [member.hear() for _ in range(20)] == [f"{count}" for count in range(20)]
        assert {member.closed() for member in members} <= STOPPING
        assert server.wait() == 0
        assert closed_with(read_to_end(deaf)) in STOPPING
        for connection in (silent, half):
            assert read_to_end(connection).startswith(b"HTTP/1.1 503 ")
        assert "Traceback" not in server.output.text


@interop
def test_unread_bytes() -> None:
    """A close frame arrives, however much the peer is still sending: TCP's reset does not overtake it."""
    violations = {
        closecodes.PROTOCOL_ERROR: masked(0x83, b"x"),
        closecodes.INVALID_PAYLOAD: masked(0x81, b"\xff"),
        closecodes.TOO_BIG: masked(0x82, length=2**40),
    }
    with relay("--close-seconds", "1") as server, attacked(server), ExitStack() as stack:
        connections = [stack.enter_context(mute(server, f"/{ATTACKED}")) for _ in violations]
        for connection, violation in zip(connections, violations.values(), strict=True):
            pour(connection, violation + masked(0x82, bytes(MIB)) * 8)
        for connection, row in zip(connections, violations, strict=True):
            assert closed_with(read_to_end(connection))[0] == row.code


@interop
def test_log_on_a_full_disk(tmp_path: Path) -> None:
    """A relay whose log cannot be written relays on."""
    path = tmp_path / "relay.sock"
    program, *options = command_line("twistd", "--listen", f"unix:{path}", "--close-seconds", "1")
    with Process([program, "--logfile=/dev/full", *options], str(tmp_path)) as server, ExitStack() as stack:
        deadline = time.monotonic() + SECONDS
        while not listens(path):
            assert time.monotonic() < deadline, server.output.text
        one, other = (
            stack.enter_context(WebsocketsClient(f"ws://localhost/{ELSEWHERE}", unix=str(path))) for _ in range(2)
        )
        for count in range(10):
            one.say(text(f"{count}"))
            assert other.hear() == f"{count}"
            with socket.socket(socket.AF_UNIX) as refused:  # which is a line in the log
                refused.connect(str(path))
                refused.sendall(b"GET / HTTP/1.1\r\n\r\n")
                assert read_to_end(refused).startswith(b"HTTP/1.1 400 ")
        server.signal(signal.SIGTERM)
        assert {one.closed(), other.closed()} <= STOPPING
        assert server.wait() == 0


def listens(path: Path) -> bool:
    """Whether somebody listens on a socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(str(path)) == 0
