"""Bystanders: clients that exchange numbered messages during a fault, and the invariants at its end.

:class:`FaultTestCase` is in memory, :func:`attacked` on a real process. Both begin with two pairs of bystanders, one in
the attacked room and one in another, and end with the same invariants: the bystanders got every message once and in
order, no state is left, and nothing unexpected was logged.
"""

import os
import re
import socket
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from twisted.logger import LogLevel

from tests.harness import clients, live
from tests.harness.support import Client, Relay, RelayTestCase, Wire, request_bytes
from wsrelay.closecodes import CloseReason
from wsrelay.limits.rates import MOST_DEBT_SECONDS

#: The attacked room, and another one.
ATTACKED, ELSEWHERE = "attacked", "elsewhere"

#: The environment with which relay processes find gates.py, beside what the tests' own environment lets them find.
GATES = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).resolve().parent), os.environ.get("PYTHONPATH", "")])}

#: The prefix of the bystanders' messages; the attacked room has others, too.
_MARK = "bystander "


class End(Protocol):
    """The client of a bystander, in memory or on a socket."""

    def say(self, message: str) -> None:
        """Send a message."""

    def heard(self, *, wait: bool) -> str | None:
        """Return the next message from any publisher; without one ``None``, with ``wait`` after a timeout."""


class Pair:
    """Two bystanders in one room."""

    def __init__(self, first: End, second: End) -> None:
        self._ends = first, second
        self._count = 0

    def exchange(self) -> None:
        """Send a message in each direction and expect it as the next one: nothing lost, nothing twice."""
        for speaker, listener in (self._ends, self._ends[::-1]):
            self._count += 1
            speaker.say(f"{_MARK}{self._count}")
            assert self._next(listener, wait=True) == f"{_MARK}{self._count}"

    def finish(self) -> None:
        """Fail if any message is pending."""
        for end in self._ends:
            assert self._next(end, wait=False) is None

    def _next(self, end: End, *, wait: bool) -> str | None:
        message = end.heard(wait=wait)
        while message is not None and not message.startswith(_MARK):
            message = end.heard(wait=wait)
        return message


class Bystanders:
    """Pairs of bystanders in rooms.

    Args:
        connect: makes a client in a room.
        rooms: one pair per room.
    """

    def __init__(self, connect: Callable[[str], End], rooms: Collection[str]) -> None:
        self._connect = connect
        self._pairs = [Pair(connect(room), connect(room)) for room in rooms]

    def __len__(self) -> int:
        """Return the number of bystanders."""
        return 2 * len(self._pairs)

    def exchange(self) -> None:
        """Let each pair exchange messages."""
        for pair in self._pairs:
            pair.exchange()

    def welcome(self) -> None:
        """Add a pair: newcomers during a fault are served, too."""
        room = f"{ELSEWHERE}/late/{len(self._pairs)}"
        self._pairs.append(Pair(self._connect(room), self._connect(room)))
        self._pairs[-1].exchange()

    def finish(self) -> None:
        """Exchange for the last time, and fail if any message is pending."""
        self.exchange()
        for pair in self._pairs:
            pair.finish()


def masked(first: int, payload: bytes = b"", length: int | None = None, form: int | None = None) -> bytes:
    """Return a client's frame, masked with zeros.

    Args:
        first: the first byte: FIN, RSV and opcode.
        payload: the payload, or a part of it.
        length: the declared length; by default the payload's.
        form: the size of the length field in bits (7, 16 or 64); by default the smallest.
    """
    length = len(payload) if length is None else length
    form = form or (7 if length < 126 else 16 if length < 2**16 else 64)
    second, extended = {7: (length, b""), 16: (126, length.to_bytes(2 if form == 16 else 8)), 64: (127, b"")}[form]
    if form == 64:
        extended = length.to_bytes(8)
    return bytes([first, 0x80 | second]) + extended + bytes(4) + payload


# --- in memory ------------------------------------------------------------------------------------


class AttackedRelay(Relay):
    """A relay in memory with bystanders.

    Args:
        options: for the bystanders' :meth:`tests.harness.support.Relay.client`.
        shared: whether two of the bystanders are in the attacked room.

    Attributes:
        bystanders: clients that must not be affected.
        guests: their connections.
    """

    def __init__(
        self,
        case: RelayTestCase,
        validators: Sequence[Any] | None,
        options: dict[str, Any],
        shared: bool,
        **settings: Any,
    ) -> None:
        super().__init__(case, validators, **settings)
        self._wires: list[Wire] = []
        self._clients: list[Client] = []
        self._timers = len(self.clock.getDelayedCalls())
        self.bystanders = Bystanders(
            lambda room: _MemoryEnd(self, self.client(f"/{room}", **options)), [ATTACKED, ELSEWHERE][not shared :]
        )
        self.guests = frozenset(self.factory.connections)
        self.bystanders.exchange()

    def wire(self, peer: object = None) -> Wire:
        """Connect an attacker, without sending anything."""
        self._wires.append(super().wire(peer))
        return self._wires[-1]

    def open_wire(self, fields: dict[str, str | None] | None = None) -> Wire:
        """Connect an attacker to the attacked room."""
        wire = self.wire()
        wire.send(request_bytes(f"/{ATTACKED}", fields))
        assert wire.status == 101, wire.received
        return wire

    def client(self, path: str = f"/{ATTACKED}", **options: Any) -> Client:
        """Connect a well-behaved client."""
        self._clients.append(super().client(path, **options))
        return self._clients[-1]

    def finish(self) -> None:
        """Disconnect all clients, and check that nothing is left."""
        self.bystanders.finish()
        for client in self._clients:
            if client.open:
                client.sendClose(1000)
        self.settle()
        # Closed connections end by now, with or without the peer.
        self.wait(self.factory.settings.close_seconds + 1)
        for wire in self._wires:
            if wire.transport.protocol in self.factory.connections:
                assert wire.transport.aborted or not wire.ended, "the relay waits for a peer to end TCP"
                wire.hang_up()
        assert (self.factory.connections, self.factory.slowed_down, self.factory._refused) == (set(), set(), set())
        settings = self.factory.settings
        if settings.history:  # rooms stay as long
            self.wait(settings.history_seconds + 2)
        assert (list(self.factory.hub), self.factory.hub._room_of) == ([], {})
        assert self.factory.web is None or self.factory.web.handles == {}, "a handle is left"
        self._forget()
        assert len(self.clock.getDelayedCalls()) == self._timers, "a timer is left"

    def _forget(self) -> None:
        """Check that no state of any client is left, and that addresses are forgotten once their rates allow it."""
        admission = self.factory.admission
        assert (admission.connections, admission.handshakes) == (0, 0), "a connection is still counted"
        self.wait(self.factory.settings.burst_seconds + MOST_DEBT_SECONDS + 1)
        assert (len(admission), len(admission._deserted)) == (0, 0), "an address is left"
        assert (self.factory.hub.log_bytes, self.factory.memory.used_bytes) == (0, 0), "memory is left"


class _MemoryEnd:
    def __init__(self, relay: Relay, client: Client) -> None:
        self._relay = relay
        self._client = client
        self._check_open()

    def say(self, message: str) -> None:
        self._check_open()
        self._client.say(message)

    def heard(self, *, wait: bool) -> str | None:
        self._relay.settle()
        self._check_open()
        return str(self._client.messages.pop(0)) if self._client.messages else None

    def _check_open(self) -> None:
        assert self._client.open, f"a bystander was refused with {self._client.status} or closed: {self._client.closed}"


class FaultTestCase(RelayTestCase):
    """A test case for faults in memory."""

    @contextmanager
    def attacked(
        self,
        validators: Sequence[Any] | None = (),
        *,
        options: dict[str, Any] | None = None,
        shared: bool = True,
        tracebacks: int = 0,
        **settings: Any,
    ) -> Iterator[AttackedRelay]:
        """Run a relay with bystanders; at the end check them, and that nothing is left.

        Args:
            validators: the handshake validators.
            options: for the bystanders' :meth:`tests.harness.support.Relay.client`.
            shared: whether two of the bystanders are in the attacked room.
            tracebacks: the expected number of logged failures.
            settings: fields of :class:`wsrelay.settings.Settings`.
        """
        relay = AttackedRelay(self, validators, options or {}, shared, **settings)
        yield relay
        relay.finish()
        self.assertEqual(len(self.logged(LogLevel.critical)), tracebacks)
        self.assertEqual(len(self.flushLoggedErrors()), tracebacks)


class Hook:
    """A validator that answers handshakes for the attacked rooms, and allows all others.

    Args:
        answer: the answer, or a callable that takes request and grant; an exception is raised.
    """

    def __init__(self, answer: Any) -> None:
        self._answer = answer
        self.requests: list[Any] = []

    def validate(self, request: Any, grant: Any) -> Any:
        """Answer."""
        if not request.room.startswith("hooked"):
            return grant
        self.requests.append(request)
        answer = self._answer(request, grant) if callable(self._answer) else self._answer
        if isinstance(answer, Exception):
            raise answer
        return answer


# --- on a process of its own ----------------------------------------------------------------------


class _LiveEnd:
    def __init__(self, client: clients.WebsocketsClient) -> None:
        self._client = client

    def say(self, message: str) -> None:
        self._client.say(clients.text(message))

    def heard(self, *, wait: bool) -> str | None:
        if wait:
            return str(self._client.hear())
        assert self._client.ws.ping().wait(live.SECONDS), "no pong came"
        with suppress(TimeoutError):
            return str(self._client.ws.recv(0))
        return None


class Attack:
    """An attack on a relay process.

    Attributes:
        server: the relay.
        bystanders: clients that must not be affected.
    """

    def __init__(self, server: live.Relay, bystanders: Bystanders) -> None:
        self.server = server
        self.bystanders = bystanders

    def cpu_seconds(self) -> float:
        """Return the processor time of the relay, all sent bytes processed."""
        self.bystanders.exchange()
        # The clock of a process (clock_getcpuclockid) counts nanoseconds; /proc/PID/stat only hundredths of a second.
        return time.clock_gettime(~self.server.pid << 3 | 2)

    def grown_bytes(self) -> int:
        """Return the growth of the relay's maximum memory since the attack began."""
        self.bystanders.exchange()
        return self.server.memory_bytes("VmHWM") - self._resident

    def begin(self) -> None:
        """Record the baseline of memory and descriptors."""
        Path(f"/proc/{self.server.pid}/clear_refs").write_text("5", "ascii")  # resets VmHWM to the current size
        self._resident = self.server.memory_bytes("VmRSS")
        self._descriptors = self._count_descriptors()
        self._tracebacks = self.server.output.text.count("Traceback")

    def finish(self, tracebacks: int) -> None:
        """Check the bystanders, and that nothing is left."""
        self.bystanders.finish()
        self.settle()
        assert self.server.output.text.count("Traceback") - self._tracebacks == tracebacks, self.server.output.text

    def settle(self) -> None:
        """Wait until the relay has no more descriptors than at the baseline, late bystanders aside."""
        deadline = time.monotonic() + live.SECONDS
        while (left := self._count_descriptors() - self._descriptors) > 0:
            assert time.monotonic() < deadline, f"{left} descriptors are left"
            self.bystanders.exchange()

    def _count_descriptors(self) -> int:
        """Return the number of the relay's descriptors, without its bystanders'."""
        return len(os.listdir(f"/proc/{self.server.pid}/fd")) - len(self.bystanders)


@contextmanager
def attacked(server: live.Relay, *, shared: bool = True, tracebacks: int = 0, **options: Any) -> Iterator[Attack]:
    """Attack a relay process while the block runs; at the end check the bystanders, and that nothing is left.

    Args:
        server: a running relay; may be attacked several times, one after the other.
        shared: whether two of the bystanders are in the attacked room.
        tracebacks: the expected number of logged failures.
        options: for the bystanders' :class:`tests.harness.clients.WebsocketsClient`.
    """
    with ExitStack() as stack:

        def connect(room: str) -> _LiveEnd:
            return _LiveEnd(stack.enter_context(clients.WebsocketsClient(server.url(room), **options)))

        attack = Attack(server, Bystanders(connect, [ATTACKED, ELSEWHERE][not shared :]))
        attack.bystanders.exchange()
        attack.begin()
        yield attack
        attack.finish(tracebacks)


def remarks(server: live.Relay) -> list[str]:
    """Return a relay's log without the lines about joins and leaves."""
    return [line for line in server.output.text.split("\n") if not re.search(r"\d (joined|left) '", line)]


def port(server: live.Relay, endpoint: int = 0) -> int:
    """Return the port of one of the relay's endpoints."""
    return int(server.addresses[endpoint].rstrip("/").rpartition(":")[2])


def connect(server: live.Relay, endpoint: int = 0, host: str = "127.0.0.1") -> socket.socket:
    """Return a socket connected to one of the relay's endpoints, from an address."""
    return socket.create_connection(("127.0.0.1", port(server, endpoint)), live.SECONDS, (host, 0))


def pour(connection: socket.socket, chunk: bytes, times: int = 1) -> None:
    """Send until the relay ends the connection, or all is sent."""
    with suppress(BrokenPipeError, ConnectionResetError):
        for _ in range(times):
            connection.sendall(chunk)


def closed_with(data: bytes) -> tuple[int, str]:
    """Return code and reason of the close frame at the end of a server's frames; data frames are skipped."""
    at = 0
    while at < len(data):
        opcode, length, header = data[at] & 15, data[at + 1], 2
        if length > 125:
            header = {126: 4, 127: 10}[length]
            length = int.from_bytes(data[at + 2 : at + header])
        payload = data[at + header : at + header + length]
        if opcode == 8:
            return int.from_bytes(payload[:2]), payload[2:].decode()
        at += header + length
    raise AssertionError(f"there is no close frame in {len(data)} bytes")


def closes_with(row: CloseReason, data: bytes) -> bool:
    """Whether a server's frames end with a close frame of this row, with or without a detail."""
    code, reason = closed_with(data)
    return code == row.code and re.match(re.escape(row.text) + r"(: .+)?\Z", reason) is not None
