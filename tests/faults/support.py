"""Bystanders: clients that exchange numbered messages while others do their worst, and what must be left at the end.

In memory it is :class:`FaultTestCase`, on a real process :func:`attacked`. Both begin with two pairs of bystanders, one
in a room of its own and one in the room that is attacked; both end with the same invariants: the bystanders have
heard everything once and in order, nobody is left behind, and nothing was logged that should not be.
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

#: The room that is attacked, and the one beside it.
ATTACKED, ELSEWHERE = "attacked", "elsewhere"

#: Where validators for relays in processes of their own are found.
GATES = {"PYTHONPATH": str(Path(__file__).resolve().parent)}

#: How the bystanders' messages begin; in the attacked room there are others.
_MARK = "bystander "


class End(Protocol):
    """A bystander, in memory or on a socket."""

    def say(self, message: str) -> None:
        """Send a message."""

    def heard(self, *, wait: bool) -> str | None:
        """Return the next message of whoever; ``None`` if there is none, with ``wait`` only after some time."""


class Pair:
    """Two bystanders in one room."""

    def __init__(self, first: End, second: End) -> None:
        self._ends = first, second
        self._count = 0

    def exchange(self) -> None:
        """Say something in both directions, and hear it: the next message, so that none was lost or came twice."""
        for speaker, listener in (self._ends, self._ends[::-1]):
            self._count += 1
            speaker.say(f"{_MARK}{self._count}")
            assert self._next(listener, wait=True) == f"{_MARK}{self._count}"

    def finish(self) -> None:
        """Fail if anything has come twice."""
        for end in self._ends:
            assert self._next(end, wait=False) is None

    def _next(self, end: End, *, wait: bool) -> str | None:
        message = end.heard(wait=wait)
        while message is not None and not message.startswith(_MARK):
            message = end.heard(wait=wait)
        return message


class Bystanders:
    """Pairs in rooms.

    Args:
        connect: makes a client in a room.
        rooms: a pair for each.
    """

    def __init__(self, connect: Callable[[str], End], rooms: Collection[str]) -> None:
        self._connect = connect
        self._pairs = [Pair(connect(room), connect(room)) for room in rooms]

    def __len__(self) -> int:
        """Return the number of bystanders."""
        return 2 * len(self._pairs)

    def exchange(self) -> None:
        """Let each pair say something and hear it."""
        for pair in self._pairs:
            pair.exchange()

    def welcome(self) -> None:
        """Let two more come: who comes during an attack is served like those who were there."""
        room = f"{ELSEWHERE}/late/{len(self._pairs)}"
        self._pairs.append(Pair(self._connect(room), self._connect(room)))
        self._pairs[-1].exchange()

    def finish(self) -> None:
        """Exchange for the last time, and fail if anything has come twice."""
        self.exchange()
        for pair in self._pairs:
            pair.finish()


def masked(first: int, payload: bytes = b"", length: int | None = None, form: int | None = None) -> bytes:
    """Return a frame as clients send it, masked with zeros.

    Args:
        first: the first byte: FIN, RSV and opcode.
        payload: what is sent of the payload.
        length: how long the frame says that it is; by default as long as the payload.
        form: in how many bits it says so (7, 16 or 64); by default in the fewest.
    """
    length = len(payload) if length is None else length
    form = form or (7 if length < 126 else 16 if length < 2**16 else 64)
    second, extended = {7: (length, b""), 16: (126, length.to_bytes(2 if form == 16 else 8)), 64: (127, b"")}[form]
    if form == 64:
        extended = length.to_bytes(8)
    return bytes([first, 0x80 | second]) + extended + bytes(4) + payload


# --- in memory ------------------------------------------------------------------------------------


class AttackedRelay(Relay):
    """A relay in memory with bystanders in it.

    Args:
        options: of the bystanders' :meth:`tests.harness.support.Relay.client`.
        shared: whether two of the bystanders are in the attacked room.

    Attributes:
        bystanders: those who must not notice.
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
        """Connect an attacker, without saying anything yet."""
        self._wires.append(super().wire(peer))
        return self._wires[-1]

    def open_wire(self, fields: dict[str, str | None] | None = None) -> Wire:
        """Connect an attacker to the attacked room."""
        wire = self.wire()
        wire.send(request_bytes(f"/{ATTACKED}", fields))
        assert wire.status == 101, wire.received
        return wire

    def client(self, path: str = f"/{ATTACKED}", **options: Any) -> Client:
        """Connect a client that keeps to the rules."""
        self._clients.append(super().client(path, **options))
        return self._clients[-1]

    def finish(self) -> None:
        """Let everybody go and check that nothing is left."""
        self.bystanders.finish()
        for client in self._clients:
            if client.open:
                client.sendClose(1000)
        self.settle()
        # Who has been sent away by now goes, whether the peer lets go of TCP or not.
        self.wait(self.factory.settings.close_seconds + 1)
        for wire in self._wires:
            if wire.transport.protocol in self.factory.connections:
                assert wire.transport.aborted or not wire.ended, "the relay waits for a peer to end TCP"
                wire.hang_up()
        assert (self.factory.connections, self.factory.slowed_down, self.factory._refused) == (set(), set(), set())
        assert (list(self.factory.hub), self.factory.hub._room_of) == ([], {})
        self._forget()
        assert len(self.clock.getDelayedCalls()) == self._timers, "a timer is left"

    def _forget(self) -> None:
        """Check that nothing is kept of anybody, and that addresses are forgotten as soon as they owe no time."""
        admission = self.factory.admission
        assert (admission.connections, admission.handshakes) == (0, 0), "somebody is still counted"
        self.wait(self.factory.settings.burst_seconds + 1)
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
    """A test of faults in memory."""

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
        """Run a relay with bystanders; check at the end that they noticed nothing, and that nothing is left.

        Args:
            validators: of the handshake.
            options: of the bystanders' :meth:`tests.harness.support.Relay.client`.
            shared: whether two of the bystanders are in the attacked room.
            tracebacks: how often a bug is to be logged.
            settings: fields of :class:`wsrelay.settings.Settings`.
        """
        relay = AttackedRelay(self, validators, options or {}, shared, **settings)
        yield relay
        relay.finish()
        self.assertEqual(len(self.logged(LogLevel.critical)), tracebacks)
        self.assertEqual(len(self.flushLoggedErrors()), tracebacks)


class Hook:
    """A validator that answers handshakes for the attacked rooms, and lets everybody else in.

    Args:
        answer: what it returns, or a callable that takes request and grant; an exception is raised.
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
    """An attack on a relay in a process of its own.

    Attributes:
        server: the relay.
        bystanders: those who must not notice.
    """

    def __init__(self, server: live.Relay, bystanders: Bystanders) -> None:
        self.server = server
        self.bystanders = bystanders

    def cpu_seconds(self) -> float:
        """Return the processor time that the relay has used, with all that has been sent to it so far."""
        self.bystanders.exchange()
        # The clock of a process (clock_getcpuclockid): in nanoseconds, where /proc/PID/stat has hundredths.
        return time.clock_gettime(~self.server.pid << 3 | 2)

    def grown_bytes(self) -> int:
        """Return by how much the most memory that the relay has had since the attack began exceeds what it had then."""
        self.bystanders.exchange()
        return self.server.memory_bytes("VmHWM") - self._resident

    def begin(self) -> None:
        """Take the measures from which growth and descriptors are counted."""
        Path(f"/proc/{self.server.pid}/clear_refs").write_text("5", "ascii")  # the most it had is what it has now
        self._resident = self.server.memory_bytes("VmRSS")
        self._descriptors = self._count_descriptors()
        self._tracebacks = self.server.output.text.count("Traceback")

    def finish(self, tracebacks: int) -> None:
        """Check that the bystanders noticed nothing, and that nothing is left."""
        self.bystanders.finish()
        self.settle()
        assert self.server.output.text.count("Traceback") - self._tracebacks == tracebacks, self.server.output.text

    def settle(self) -> None:
        """Wait until the relay has no more descriptors than before; bystanders that came late are counted."""
        deadline = time.monotonic() + live.SECONDS
        while (left := self._count_descriptors() - self._descriptors) > 0:
            assert time.monotonic() < deadline, f"{left} descriptors are left"
            self.bystanders.exchange()

    def _count_descriptors(self) -> int:
        """Return how many descriptors the relay has, but for its bystanders'."""
        return len(os.listdir(f"/proc/{self.server.pid}/fd")) - len(self.bystanders)


@contextmanager
def attacked(server: live.Relay, *, shared: bool = True, tracebacks: int = 0, **options: Any) -> Iterator[Attack]:
    """Attack a relay while the block runs; check at the end that the bystanders noticed nothing, and nothing is left.

    Args:
        server: a running relay; several attacks may follow each other on one.
        shared: whether two of the bystanders are in the attacked room.
        tracebacks: how often a bug is to be logged.
        options: of the bystanders' :class:`tests.harness.clients.WebsocketsClient`.
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
    """Return what is in a relay's log beside those who joined and left."""
    return [line for line in server.output.text.split("\n") if not re.search(r"\d (joined|left) '", line)]


def port(server: live.Relay, endpoint: int = 0) -> int:
    """Return the port of one of the relay's endpoints."""
    return int(server.addresses[endpoint].rstrip("/").rpartition(":")[2])


def connect(server: live.Relay, endpoint: int = 0, host: str = "127.0.0.1") -> socket.socket:
    """Return a socket that is connected to one of the relay's endpoints, from an address."""
    return socket.create_connection(("127.0.0.1", port(server, endpoint)), live.SECONDS, (host, 0))


def pour(connection: socket.socket, chunk: bytes, times: int = 1) -> None:
    """Send as much as the relay takes before it ends the connection."""
    with suppress(BrokenPipeError, ConnectionResetError):
        for _ in range(times):
            connection.sendall(chunk)


def closed_with(data: bytes) -> tuple[int, str]:
    """Return code and reason of the close frame that a server's frames end with; data frames before it are skipped."""
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
    """Whether a server's frames end with a close of this row, with or without a detail."""
    code, reason = closed_with(data)
    return code == row.code and re.match(re.escape(row.text) + r"(: .+)?\Z", reason) is not None
