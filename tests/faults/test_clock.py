"""The system clock is set back or forward while a relay runs: only expiry of grants and dates in the log follow."""

import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import pytest

from tests.faults.clocks import WallClock, compiled
from tests.faults.proxies import nginx
from tests.faults.support import ATTACKED, GATES, Attack, attacked, closed_with, masked, port
from tests.harness.clients import WebsocketsClient, binary, handshake, mute, read_to_end, text
from tests.harness.live import SECONDS, Process, Relay, relay
from wsrelay import closecodes

pytestmark = pytest.mark.interop

HERE = Path(__file__).resolve().parent

#: Where the clock is set: an hour and a minute back, an hour forward.
STEPS = (-3600, -60, 3600)

MIB = 2**20

#: Messages and connects per second, and the burst of each.
RATE = 20

OPTIONS = [
    *("--validate", "origin:*", "--validate", "python:gates:expiring", "--validate", "python:gates:pending"),
    *("--ping-seconds", "1", "--handshake-seconds", "1", "--validate-seconds", "1", "--close-seconds", "1"),
    *("--trusted-proxies", "127.0.0.1", "--admin", "tcp:0"),
    *("--max-messages-per-second", str(RATE), "--max-connects-per-second-per-address", str(RATE)),
    *("--burst-seconds", "1"),
]


@dataclass
class Machine:
    """A relay, and an nginx in front of it, with one wall clock.

    Attributes:
        step_seconds: the step of :meth:`step`.
        ports: the ports of the relay and of nginx.
    """

    server: Relay
    clock: WallClock
    step_seconds: int
    ports: tuple[int, int]

    def step(self) -> None:
        """Set the clock."""
        self.clock.step(self.step_seconds)


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shim that shifts a process's wall clock."""
    return compiled(tmp_path_factory.mktemp("shim"))


@contextmanager
def started(shim: Path, folder: Path, *options: str) -> Iterator[list[tuple[Relay, WallClock, int]]]:
    """Run a relay for each step."""
    with ExitStack() as stack:
        clocks = [WallClock(shim, folder / str(step)) for step in STEPS]
        relays = [stack.enter_context(relay(*options, environ={**GATES, **clock.environ})) for clock in clocks]
        yield list(zip(relays, clocks, STEPS, strict=True))


@pytest.fixture(scope="module")
def machines(shim: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Machine]]:
    """A machine for each step."""
    folder = tmp_path_factory.mktemp("machines")
    with started(shim, folder, *OPTIONS) as relays, ExitStack() as stack:
        made = []
        for number, (server, clock, step) in enumerate(relays):
            (folder / f"nginx{number}").mkdir()
            proxied = stack.enter_context(nginx(port(server), folder / f"nginx{number}", environ=clock.environ))
            made.append(Machine(server, clock, step, (port(server), proxied)))
        yield made


def each_way(machines: Sequence[Machine]) -> list[tuple[Machine, int]]:
    """Return each machine with each of its ports."""
    return [(machine, port) for machine in machines for port in machine.ports]


@contextmanager
def all_attacked(machines: Sequence[Machine]) -> Iterator[list[Attack]]:
    """Attack the relays of all machines; see :func:`tests.faults.support.attacked`."""
    with ExitStack() as stack:
        yield [stack.enter_context(attacked(machine.server)) for machine in machines]


def asked(port: int, request: bytes, host: str = "127.0.0.1") -> tuple[socket.socket, bytes]:
    """Connect from an address and send a request; return the connection and the head of the response."""
    connection = socket.create_connection(("127.0.0.1", port), SECONDS, (host, 0))
    head = b""
    with suppress(ConnectionResetError, BrokenPipeError):  # refused without an answer
        connection.sendall(request)
        while not head.endswith(b"\r\n\r\n") and (byte := connection.recv(1)):
            head += byte
    return connection, head


class Member:
    """A member of a room. A context manager; a thread answers its pings.

    Args:
        port: where to connect.
        path: the room.

    Attributes:
        connection: its socket, for sending.
        answers: whether it answers pings.
        pings: all pings.
    """

    def __init__(self, port: int, path: str = "/stepped") -> None:
        self.connection, head = asked(port, handshake(path))
        assert head.startswith(b"HTTP/1.1 101 "), head
        self.answers = True
        self.pings: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._frames = b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # the relay has ended it
            self.connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(SECONDS)
        self.connection.close()

    def close_code(self) -> int:
        """Wait for the end, and return the code of the relay's close frame."""
        self._thread.join(SECONDS)
        return closed_with(self._frames)[0]

    def _read(self) -> None:
        with suppress(OSError):  # a reset, or the relay has ended it
            while frames := self.connection.recv(2**16):
                self._frames += frames
                if frames[0] == 0x89:
                    self.pings.put(frames)
                    if self.answers:
                        self.connection.sendall(masked(0x8A, frames[2 : 2 + frames[1]]))


def await_pings(members: Sequence[Member]) -> None:
    """Wait for the next ping of each member: the relay has just looked at its deadlines."""
    for member in members:
        while not member.pings.empty():
            member.pings.get()
    for member in members:
        member.pings.get(timeout=SECONDS)


def step_all(machines: Sequence[Machine], attacks: Sequence[Attack]) -> None:
    """Set all clocks; bystanders notice nothing."""
    for machine, attack in zip(machines, attacks, strict=True):
        attack.bystanders.exchange()
        machine.step()
        attack.bystanders.exchange()
        attack.bystanders.welcome()


def test_clock_step_pings(machines: list[Machine]) -> None:
    """Pings go on; a client that answers stays, one that does not gets 3008."""
    with all_attacked(machines) as attacks, ExitStack() as stack:
        healthy, silent = ([stack.enter_context(Member(port)) for _, port in each_way(machines)] for _ in range(2))
        for member in silent:
            member.answers = False
        step_all(machines, attacks)
        assert [member.close_code() for member in silent] == [closecodes.PING_TIMEOUT.code] * len(silent)
        await_pings(healthy)


def test_clock_step_handshake(machines: list[Machine]) -> None:
    """Silent handshakes from before and after the step get 408, pending ones 504."""
    with all_attacked(machines) as attacks, ExitStack() as stack:

        def begun(data: bytes) -> list[socket.socket]:
            connections = [stack.enter_context(machine.server.connect()) for machine in machines]
            for connection in connections:
                connection.sendall(data)
            return connections

        silent, pending = begun(b"GET "), begun(handshake("/hooked"))
        step_all(machines, attacks)
        silent += begun(b"")
        pending += begun(handshake("/hooked"))
        assert [read_to_end(connection)[:13] for connection in silent] == [b"HTTP/1.1 408 "] * len(silent)
        assert [read_to_end(connection)[:13] for connection in pending] == [b"HTTP/1.1 504 "] * len(pending)


def test_clock_step_admin(machines: list[Machine]) -> None:
    """The admin endpoint is ready, and a silent connection to it gets 408."""
    with all_attacked(machines) as attacks, ExitStack() as stack:
        addresses = [("127.0.0.1", urlsplit(machine.server.admin).port or 0) for machine in machines]
        silent = [stack.enter_context(socket.create_connection(address, SECONDS)) for address in addresses]
        step_all(machines, attacks)
        assert [machine.server.ask("/readyz")[0] for machine in machines] == [200] * len(machines)
        assert [read_to_end(connection)[:13] for connection in silent] == [b"HTTP/1.1 408 "] * len(silent)


def test_clock_step_unfinished_message(machines: list[Machine]) -> None:
    """A message that was begun before the step is in time after it."""
    with all_attacked(machines) as attacks, ExitStack() as stack:
        members = [stack.enter_context(Member(port, f"/to/{port}")) for _, port in each_way(machines)]
        listeners = [
            stack.enter_context(WebsocketsClient(machine.server.url(f"/to/{port}")))
            for machine, port in each_way(machines)
        ]
        for member in members:
            member.connection.sendall(masked(0x01, b"begun, "))
        step_all(machines, attacks)
        await_pings(members)
        for member, listener in zip(members, listeners, strict=True):
            member.connection.sendall(masked(0x80, b"and finished"))
            assert listener.hear() == "begun, and finished"


def test_clock_step_message_rate(machines: list[Machine]) -> None:
    """After a burst, the messages of the next seconds are relayed at the rate; no close, no loss."""
    with all_attacked(machines) as attacks, ExitStack() as stack:
        urls = [f"ws://127.0.0.1:{port}/to/{port}" for _, port in each_way(machines)]
        senders, listeners = ([stack.enter_context(WebsocketsClient(url)) for url in urls] for _ in range(2))
        numbers = [str(number) for number in range(2 * RATE)]
        for sender, listener in zip(senders, listeners, strict=True):
            for number in numbers[:RATE]:
                sender.say(text(number))
            assert [listener.hear() for _ in range(RATE)] == numbers[:RATE]
        step_all(machines, attacks)
        for sender in senders:
            for number in numbers[RATE:]:
                sender.say(text(number))
        for listener in listeners:
            assert [listener.hear() for _ in numbers[RATE:]] == numbers[RATE:]


def test_clock_step_connect_rate(machines: list[Machine]) -> None:
    """An address that has used up its connects gets new ones at the rate."""
    hosts = "127.0.0.2", "127.0.0.3"
    with all_attacked(machines) as attacks, ExitStack() as stack:

        def connect(port: int, host: str) -> bool:
            connection, head = asked(port, handshake("/stepped"), host)
            stack.enter_context(connection)
            return head.startswith(b"HTTP/1.1 101 ")

        ways = [(port, host) for machine in machines for port, host in zip(machine.ports, hosts, strict=True)]
        for port, host in ways:
            while connect(port, host):
                pass
        step_all(machines, attacks)
        deadline = time.monotonic() + SECONDS
        for port, host in ways:
            for _ in range(RATE // 4):
                while not connect(port, host):
                    assert time.monotonic() < deadline, "no connects are left"


def test_clock_step_slow_seconds(shim: Path, tmp_path: Path) -> None:
    """A subscriber that stops reading gets 1013 at its time."""
    options = ["--slow-seconds", "1", "--room-log-bytes", str(64 * MIB), "--close-seconds", "0.3"]
    with started(shim, tmp_path, *options) as relays, ExitStack() as stack:
        for server, clock, step in relays:
            stack.enter_context(mute(server, f"/{ATTACKED}", receive_bytes=4096))
            publisher = stack.enter_context(WebsocketsClient(server.url(ATTACKED)))
            for _ in range(12):  # more than the kernel's buffers hold, less than the log
                publisher.say(binary(bytes(MIB)))
            clock.step(step)
        for server, _, _ in relays:
            server.output.wait_for(f"left '{ATTACKED}' .* relay closed with {closecodes.TOO_SLOW.code}")


def test_clock_step_expiry(machines: list[Machine]) -> None:
    """A token expires at its date on the wall clock: set back, its connection lives longer; set forward, it ends."""
    with all_attacked(machines) as attacks, ExitStack() as stack:
        paths = [f"/stepped?expires={machine.clock.now() + abs(machine.step_seconds) / 2}" for machine in machines]
        members = [
            stack.enter_context(Member(machine.ports[1], path)) for machine, path in zip(machines, paths, strict=True)
        ]
        step_all(machines, attacks)
        back = [index for index, machine in enumerate(machines) if machine.step_seconds < 0]
        await_pings([members[index] for index in back])
        for index in back:
            machines[index].clock.step(-2 * machines[index].step_seconds)
        for machine, member, path in zip(machines, members, paths, strict=True):
            assert member.close_code() == closecodes.EXPIRED.code
            late, head = asked(machine.ports[0], handshake(path))
            late.close()
            assert head.startswith(b"HTTP/1.1 401 "), head


def test_clock_step_log(machines: list[Machine]) -> None:
    """The step has one log line, and the dates of the log follow the wall clock; durations do not."""
    with all_attacked(machines) as attacks:
        before = [len(machine.server.output.wait_for("system clock was set", 0)) for machine in machines]
        members = [Member(machine.ports[0], "/logged") for machine in machines]
        step_all(machines, attacks)
        for machine, count, member in zip(machines, before, members, strict=True):
            steps = machine.server.output.wait_for(r"system clock was set by ([-+]\d+)", count + 1)
            assert steps[count:] == [f"{machine.step_seconds:+d}"]
            member.__exit__()
            [(date, seconds)] = machine.server.output.wait_for(r"(?m)^(\S+) .* left 'logged' .* after ([\d.]+) s")
            assert abs(datetime.fromisoformat(date).timestamp() - machine.clock.now()) < SECONDS
            assert 0 <= float(seconds) < SECONDS


def test_clock_step_drain(shim: Path, tmp_path: Path) -> None:
    """A drain goes on and ends, with 1012 for every client and exit status 0."""
    with started(shim, tmp_path, "--drain-seconds", "2") as relays, ExitStack() as stack:
        clients = [
            [stack.enter_context(WebsocketsClient(server.url(ATTACKED))) for _ in range(4)] for server, _, _ in relays
        ]
        for server, clock, step in relays:
            server.signal(signal.SIGTERM)
            server.output.wait_for("SIGTERM: closing 4 connections over 2 s")
            clock.step(step)
        codes = [[client.closed()[0] for client in group] for group in clients]
        assert codes == [[closecodes.RESTARTING.code] * 4] * len(relays)
        assert [server.wait() for server, _, _ in relays] == [0] * len(relays)


@pytest.mark.parametrize("reactor", ["epoll", "poll", "select", "asyncio"])
def test_clock_step_reactors(shim: Path, tmp_path: Path, reactor: str) -> None:
    """The timers of a program with a relay are called on every reactor, also those from before the relay was made."""
    with ExitStack() as stack:
        programs = []
        for step in (-3600, 3600):
            environ = {**WallClock(shim, tmp_path / str(step)).environ, "PYTHONPATH": str(HERE.parents[1])}
            command = [sys.executable, str(HERE / "timers.py"), reactor, str(step)]
            programs.append(stack.enter_context(Process(command, environ=environ)))
        for program in programs:
            program.output.wait_for(r"(?i)" + reactor + r"\w* has called all timers")
            assert program.wait() == 0, program.output.text
