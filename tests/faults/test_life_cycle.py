"""Faults of the relay itself: its end, its callbacks, its clock."""

import os
import re
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred
from websockets.exceptions import ConnectionClosed

from tests.faults.support import ATTACKED, ELSEWHERE, FaultTestCase, Hook, attacked, closed_with, masked, pour
from tests.harness.clients import WebsocketsClient, binary, handshake, mute, read_to_end, text
from tests.harness.live import LOOPBACK, SECONDS, Process, command_line, relay
from tests.harness.support import request_bytes
from wsrelay import closecodes

interop = pytest.mark.interop

MIB = 2**20

#: Close codes of a stopping relay; tests/interop/test_process.py has the exact ones.
STOPPING = {(row.code, row.text) for row in closecodes.TABLE if row.code in (1001, 1012)}


class CallbackTests(FaultTestCase):
    """Failing ends."""

    def test_on_close_raises(self) -> None:
        """A bug in the callback for the end of a connection leaves nothing of it in room and relay."""
        with self.attacked() as relay:
            wire = relay.open_wire()
            [connection] = relay.factory.connections - relay.guests
            connection.onClose = lambda *_: 1 / 0
            self.assertRaises(ZeroDivisionError, wire.hang_up)  # for Twisted, which logs it
            self.assertEqual(relay.factory.connections, relay.guests)
            self.assertEqual(relay.factory.hub.member_count(ATTACKED), 2)

    def test_close_timeout(self) -> None:
        """A peer that does not answer our close is aborted after close-seconds, and in no room until then."""
        with self.attacked(close_seconds=4) as relay:
            wire = relay.open_wire()
            [connection] = relay.factory.connections - relay.guests
            connection.close(closecodes.INTERNAL_ERROR)
            relay.wait(3)
            relay.bystanders.exchange()
            self.assertEqual((relay.factory.hub.member_count(ATTACKED), wire.transport.aborted), (2, False))
            relay.wait(2)
            self.assertTrue(wire.transport.aborted)

    def test_wall_clock_jump(self) -> None:
        """A jump of the wall clock closes no connection but those whose grant has expired by it."""
        hook = Hook(lambda _, grant: grant.narrowed(expires_at=date))
        with self.attacked([hook], ping_seconds=5, handshake_seconds=5) as relay:
            date = relay.now + 10.0**9
            client, opening = relay.client("/hooked"), relay.wire()
            for jump in (86400.0, -2 * 86400.0, 10.0**9):
                self.assertTrue(client.open)
                relay.now += jump
                relay.wait(1)
                relay.bystanders.exchange()
            self.assertTrue(client.open)  # for another day
            opening.send(request_bytes(f"/{ATTACKED}"))
            self.assertEqual(opening.status, 101)
            opening.hang_up()
            relay.now = date
            relay.wait(1)
            self.assertEqual(client.closed[0], closecodes.EXPIRED.code)


class DrainTests(FaultTestCase):
    """Draining during other activity."""

    def test_drain_spread(self) -> None:
        """Closes are spread evenly; each client works until its turn, beside stalled and new ones."""
        pending = Hook(lambda *_: Deferred())
        relay = self.relay([pending], close_seconds=3)
        pairs = [[relay.client(f"/pair/{number}") for _ in range(2)] for number in range(50)]
        stalled = [relay.client("/pair/0") for _ in range(5)]
        for client in stalled:
            client.server_transport.stalled = True
        opening = [relay.wire() for _ in range(3)]
        opening[0].send(b"G")
        opening[1].send(request_bytes()[:-2])
        opening[2].send(request_bytes("/hooked"))
        done = relay.factory.close_all(closecodes.RESTARTING, 13, 10)
        relay.settle()
        late = relay.wire()
        late.send(request_bytes())
        for wire in (*opening, late):
            self.assertEqual((wire.received or wire.send(b""))[:12], b"HTTP/1.1 503")
            wire.hang_up()
        members = [client for pair in pairs for client in pair]
        left = [len(members)]
        for number in range(40):
            left.append(sum(client.open for client in members))
            for one, other in pairs:
                if one.open and other.open:
                    one.say(f"{number}")
                    relay.settle()
                    self.assertEqual(other.messages.pop(), f"{number}")
            relay.wait(0.25)
        # Of 105 turns in 10 s, two or three in each quarter of a second.
        self.assertLessEqual(max(before - after for before, after in pairwise(left)), 5)
        relay.wait(4)
        self.assertEqual({client.closed and client.closed[0] for client in members}, {closecodes.RESTARTING.code})
        self.assertEqual([client.server_transport.aborted for client in stalled], [True] * 5)
        for client in stalled:
            client.server_transport.reportDisconnect()
        self.successResultOf(done)
        self.assertEqual((relay.factory.connections, list(relay.factory.hub)), (set(), []))


@interop
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_by_signal(number: signal.Signals) -> None:
    """A signal ends every connection behind its messages, with a code of the table, and the process with 0.

    Some never answer, some never read, some have not opened yet and some never will.
    """
    with relay("--close-seconds", "2", "--drain-seconds", "1") as server, ExitStack() as stack:
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
        assert read_to_end(half).startswith(b"HTTP/1.1 503 ")
        assert read_to_end(silent) == b""
        assert "Traceback" not in server.output.text


#: A module that signals its own process at three stages of the start: while the options are read, at the beginning of
#: makeService, and when the reactor has installed its handlers.
EARLY = """
import gc, importlib.abc, os, sys

def send(stage):
    for name in os.environ.get(f"EARLY_{stage}", "").split():
        os.kill(os.getpid(), getattr(signal, name))

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "wsrelay.factory":
            send("make")

def collect(collect=gc.collect):
    gc.collect = collect
    send("run")

import signal
send("options")
sys.meta_path.insert(0, Finder())
gc.collect = collect

def validator(request, grant):
    return grant
"""


@contextmanager
def early(**signals: str) -> Iterator[dict[str, str]]:
    """Write the module; yield an environment in which a relay gets these signals at these stages of its start."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "early.py").write_text(EARLY, "utf-8")
        path = os.pathsep.join([folder, *filter(None, [os.environ.get("PYTHONPATH")])])
        stages = {f"EARLY_{stage}": numbers for stage, numbers in signals.items()}
        yield {"PYTHONPATH": path, "WSRELAY_VALIDATE": "python:early:validator", **stages}


@interop
@pytest.mark.parametrize("program", ["twistd", "twist"])
def test_reload_during_start(program: str) -> None:
    """SIGHUP and SIGUSR1 during the start end nothing; the relay reloads when it has started."""
    with (
        early(options="SIGHUP", make="SIGHUP SIGUSR1", run="SIGHUP SIGUSR1") as environ,
        relay(program=program, environ=environ) as server,
    ):
        server.output.wait_for("SIGHUP: reloaded 0 certificates, 2 validators")
        server.output.wait_for("SIGUSR1: there is no --log-file to open again")
        with WebsocketsClient(server.url(ATTACKED)) as one, WebsocketsClient(server.url(ATTACKED)) as other:
            one.say(text("here"))
            assert other.hear() == "here"


@interop
@pytest.mark.parametrize("program", ["twistd", "twist"])
@pytest.mark.parametrize("stage", ["make", "run"])
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_stop_during_start(program: str, stage: str, name: str) -> None:
    """A stop signal during the start stops the relay as soon as it has started, with exit status 0."""
    with (
        early(**{stage: name}) as environ,
        tempfile.TemporaryDirectory() as folder,
        Process(command_line(program, "--listen", LOOPBACK), folder, environ) as server,
    ):
        assert server.wait() == 0, server.output.text
        assert f"{name}: closing 0 connections" in re.sub(r"[()]", "", server.output.text)
        assert "Traceback" not in server.output.text


@interop
def test_stop_twice_during_start() -> None:
    """A second stop signal ends a start that hangs."""
    with (
        early(make="SIGTERM SIGTERM") as environ,
        Process(command_line("twistd", "--listen", LOOPBACK), None, environ) as server,
    ):
        assert server.wait() == -signal.SIGTERM


@interop
def test_drain_live() -> None:
    """Pairs work until one of them gets 1012, one pair after the other, beside many stalled and opening clients."""
    with relay("--close-seconds", "2", "--drain-seconds", "2") as server, ExitStack() as stack:
        pairs = [
            [stack.enter_context(WebsocketsClient(server.url(f"/pair/{number}"))) for _ in range(2)]
            for number in range(10)
        ]
        stalled = [stack.enter_context(mute(server, "/pair/0", receive_bytes=4096)) for _ in range(5)]
        for _ in range(20):
            pairs[0][0].say(binary(bytes(60_000)))
            assert pairs[0][1].hear() == bytes(60_000)
        half = stack.enter_context(server.connect())
        half.sendall(handshake("/half")[:-2])
        for _ in range(2):
            pairs[0][0].hears_nothing()  # and the relay has accepted that one, and then read it
        server.signal(signal.SIGTERM)
        assert read_to_end(half).startswith(b"HTTP/1.1 503 ")
        rounds: list[int] = []
        while talking := [pair for pair in pairs if talks(*pair)]:
            rounds.append(len(talking))
            pairs = talking
        # A drain without spread would be one step.
        assert len(set(rounds)) > 2
        assert server.wait() == 0
        for connection in stalled:
            read_to_end(connection)
        assert "Traceback" not in server.output.text


def talks(one: WebsocketsClient, other: WebsocketsClient) -> bool:
    """Send a message within a pair; return whether both are still connected, or else were closed with 1012."""
    try:
        one.say(text("still here"))
        assert other.hear() == "still here"
    except ConnectionClosed as closed:
        row = closed.rcvd
    else:
        return True
    assert row is not None
    assert row.code == closecodes.RESTARTING.code
    return False


@interop
def test_second_signal() -> None:
    """A second SIGTERM ends a drain at once, with stalled, opening and active clients."""
    with relay("--close-seconds", "600", "--drain-seconds", "600") as server, ExitStack() as stack:
        members = [stack.enter_context(WebsocketsClient(server.url(ATTACKED))) for _ in range(4)]
        stalled = stack.enter_context(mute(server, f"/{ATTACKED}", receive_bytes=4096))
        for _ in range(20):
            members[0].say(binary(bytes(60_000)))
        members[0].hears_nothing()
        server.signal(signal.SIGTERM)
        server.output.wait_for("SIGTERM: closing")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert len(read_to_end(stalled)) < 2 * MIB
        assert "Traceback" not in server.output.text


@interop
def test_reload_live(tmp_path: Path) -> None:
    """SIGHUP, with a valid or an invalid file, does not affect open connections; an error is one log line."""
    file = tmp_path / "relay.toml"
    file.write_text('slow-policy = ["disconnect"]\n')
    with relay("--config", str(file), "--close-seconds", "1") as server, attacked(server) as attack:
        with mute(server, f"/{ATTACKED}", receive_bytes=4096), server.connect() as half:
            half.sendall(handshake(f"/{ATTACKED}")[:-2])
            for count, (content, line) in enumerate(
                [
                    ('slow-policy = ["latest"]', "reloaded 0 certificates"),
                    ('slow-policy = ["nonsense"]', "nothing was reloaded: "),
                    ("[[[", "nothing was reloaded: "),
                    ('validate = ["no-such-validator"]', "nothing was reloaded: "),
                    ('slow-policy = ["drop-oldest"]', "reloaded 0 certificates"),
                ],
                1,
            ):
                file.write_text(content + "\n")
                server.signal(signal.SIGHUP)
                lines = server.output.wait_for(r"SIGHUP: (.*)", count)
                assert lines[-1].startswith(line)
                attack.bystanders.exchange()
            half.sendall(b"\r\n")
            assert half.recv(12) == b"HTTP/1.1 101"
        attack.bystanders.welcome()


@interop
def test_no_reset_over_close_frame() -> None:
    """The close frame arrives while the peer is still sending: no TCP reset overtakes it."""
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
def test_log_disk_full(tmp_path: Path) -> None:
    """A relay whose log cannot be written relays on."""
    path = tmp_path / "relay.sock"
    program, *options = command_line("twistd", "--listen", f"unix:{path}", "--drain-seconds", "0")
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
    """Whether a process listens on a socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(str(path)) == 0
