"""A whole relay in memory: the real factory and protocol, real Autobahn clients, no reactor, no real time.

:class:`Relay` is the harness, :class:`Client` a WebSocket client, :class:`Wire` the bytes of one connection for tests
that speak to the relay by hand. :class:`RecordingSubscriber` stands in for a connection in tests of the core.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import txaio
from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateResponseAccept
from twisted.internet.address import IPv4Address
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogLevel, globalLogPublisher
from twisted.test.iosim import FakeTransport, connect
from twisted.trial.unittest import SynchronousTestCase

from wsrelay.closecodes import CloseReason
from wsrelay.factory import RelayFactory
from wsrelay.interfaces import Hold
from wsrelay.message import Run
from wsrelay.message_id import MessageId, epoch_of
from wsrelay.rooms.frame_cache import FrameCache
from wsrelay.rooms.history import History
from wsrelay.rooms.room import Room
from wsrelay.rooms.timeline import Timeline
from wsrelay.settings import Settings
from wsrelay.stats import Stats
from wsrelay.wire import frames
from wsrelay.wire.frames import Encoding

#: An epoch of messages' ids.
EPOCH = epoch_of(1)

#: The default for the longest request, in bytes.
MAX_REQUEST_BYTES = Settings().max_request_bytes

#: A valid request; tests change one part of it.
REQUEST_FIELDS = {
    "Host": "relay.example",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def request_bytes(
    target: str = "/room", fields: Mapping[str, str | None] | None = None, line: str | None = None
) -> bytes:
    """Return the bytes of a handshake; ``fields`` replace or (``None``) remove the usual ones."""
    merged = {**REQUEST_FIELDS, **(fields or {})}
    lines = [
        line or f"GET {target} HTTP/1.1",
        *(f"{name}: {value}" for name, value in merged.items() if value is not None),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def joined(messages: Sequence[Run]) -> Run:
    """Return a run of messages, all of the publisher of the first one."""
    return Run(b"".join(message.plain for message in messages), len(messages), messages[0].publisher)


class Historical(Room):
    """A room with a history of a minute, and its time."""

    def __init__(
        self, settings: Settings, stats: Stats, *, most: int = 100, greeting: int = 0, timeline: Timeline | None = None
    ) -> None:
        self.now = 1.0
        settings = replace(settings, history_seconds=60, history_bytes=settings.room_log_bytes // 2)
        log = History(
            stats,
            FrameCache(settings),
            timeline=timeline or Timeline(EPOCH),
            settings=settings,
            seconds=lambda: self.now,
            most_messages=most,
            greeting=greeting,
        )
        super().__init__(settings, stats, log=log)


class RecordingSubscriber:
    """A :class:`wsrelay.interfaces.Subscriber` that records its calls.

    Set ``on_send`` to pause, fail or leave in a write, and ``takes`` to the number of bytes taken per write.
    """

    def __init__(self, name: str = "", encoding: Encoding = frames.plain) -> None:
        self.name = name
        self.encoding = encoding
        self.takes: int | None = None
        self.writes: list[bytes] = []
        self.kept = b""
        self.evicted: list[CloseReason] = []
        self.skips: list[tuple[MessageId, str]] = []
        self.failures = 0
        self.held = False
        self.holds: set[Hold] = set()
        self.on_send: Callable[[], None] = lambda: None

    def send(self, data: bytes) -> int:
        if self.takes == 0:
            raise BlockingIOError
        taken = data[: self.takes]
        self.writes.append(taken)
        self.on_send()
        return len(taken)

    def write_later(self, data: bytes, sent: int) -> None:
        self.kept += data[sent:]

    def skipped(self, at: MessageId, why: str) -> None:
        self.skips.append((at, why))

    def evict(self, reason: CloseReason) -> None:
        self.evicted.append(reason)

    def hold(self, why: Hold = Hold.ROOM) -> None:
        self.holds.add(why)
        self.held = True

    def release(self, why: Hold = Hold.ROOM) -> None:
        self.holds.discard(why)
        self.held = bool(self.holds)

    def fail(self, error: Exception) -> None:
        self.failures += 1

    @property
    def data(self) -> bytes:
        """All bytes given so far."""
        return b"".join(self.writes) + self.kept

    def __repr__(self) -> str:
        return f"<subscriber {self.name}>"


class Transport(FakeTransport):
    """iosim's transport, with backpressure: producers are paused at 64 KiB, as in Twisted, and aborts are recorded.

    Set ``stalled`` for a peer that does not read: nothing leaves the transport.
    """

    stalled = False
    aborted = False

    def write(self, data: bytes) -> None:
        super().write(data)
        if self.producer is not None and sum(map(len, self.stream)) > 65536:
            self.producer.pauseProducing()

    def getOutBuffer(self) -> Any:
        if self.stalled and not self.aborted:
            return None
        out = super().getOutBuffer()
        if out and self.producer is not None:
            self.producer.resumeProducing()
        return out

    def abortConnection(self) -> None:
        self.aborted = True
        self.stream = []
        super().abortConnection()


class Client(WebSocketClientProtocol):
    """A real Autobahn client that records events.

    Attributes:
        messages: payloads in order, ``str`` for text and ``bytes`` for binary.
        status: the HTTP status of a refused handshake, or ``None``.
        closed: (code, reason) of the relay's close frame after the end of the connection; ``None`` before.
    """

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str | bytes] = []
        self.open = False
        self.status: int | None = None
        self.closed: tuple[int | None, str | None] | None = None

    def onOpen(self) -> None:
        self.open = True

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.messages.append(payload if isBinary else payload.decode())

    def failHandshake(self, reason: str) -> None:
        self.status = int(self.http_status_line.split()[1])
        super().failHandshake(reason)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self.open = False
        self.closed = (self.remoteCloseCode, self.remoteCloseReason)

    def say(self, payload: str | bytes) -> None:
        """Send one message."""
        self.sendMessage(payload.encode() if isinstance(payload, str) else payload, isinstance(payload, bytes))


class Wire:
    """The client's end of one connection as bytes."""

    def __init__(self, relay: Relay, transport: Transport) -> None:
        self._relay = relay
        self.transport = transport
        self.received = b""

    def send(self, data: bytes) -> bytes:
        """Send bytes, let the relay work, and return its new output."""
        if not self.transport.disconnecting:
            self.transport.bufferReceived(data)
        self._relay.settle()
        self.received = self.transport.getOutBuffer() or b""
        return self.received

    @property
    def status(self) -> int:
        """The status of the response just received."""
        return int(self.received.split()[1])

    @property
    def ended(self) -> bool:
        """Whether the relay has ended the connection, or begun to."""
        return bool(self.transport.disconnecting)

    def hang_up(self) -> None:
        """End the connection from the client's side."""
        self.transport.disconnecting = True
        self.transport.reportDisconnect()
        self._relay.settle()


class Relay:
    """A relay and its clients in memory.

    Args:
        case: the test, for patching; it flushes logged errors itself.
        validators: by default none: every handshake is admitted.
        clock: shared with other relays.
        pumps: moves bytes; shared with other relays, and with brokers in memory.
        settings: fields of :class:`wsrelay.settings.Settings`.
    """

    def __init__(
        self,
        case: SynchronousTestCase,
        validators: Sequence[Any] | None = (),
        *,
        clock: MemoryReactorClock | None = None,
        pumps: list[Any] | None = None,
        **settings: Any,
    ) -> None:
        self.clock = clock or MemoryReactorClock()
        self.pumps: list[Any] = [] if pumps is None else pumps
        # Autobahn's timers ignore the factory's reactor (TRAPS 30), also in clients.
        case.patch(txaio.config, "loop", self.clock)
        self.now = 1_000_000.0
        #: The fine clock that measures reads and flushes: stands still unless a test moves it.
        self.busy = 0.0
        self.factory = RelayFactory(
            Settings(**settings),
            validators,
            self.clock,
            wall_clock=lambda: self.now + self.clock.seconds(),
            random=lambda: 1.0,
            busy_clock=lambda: self.busy,
        )
        self.factory.doStart()

    @property
    def stats(self) -> Any:
        return self.factory.stats

    def wire(self, peer: object = None) -> Wire:
        """Connect, without sending anything."""
        address = peer or IPv4Address("TCP", "192.0.2.1", 40000 + len(self.factory.connections))
        protocol = self.factory.buildProtocol(address)
        transport = Transport(protocol, isServer=True, peerAddress=address)
        protocol.makeConnection(transport)
        return Wire(self, transport)

    def client(self, path: str = "/room", **options: Any) -> Client:
        """Connect a client and finish its handshake.

        Args:
            path: the raw request target.
            options: ``origin``, ``protocols`` and ``headers`` of Autobahn's factory; ``deflate`` offers compression.
        """
        deflate = options.pop("deflate", False)
        factory = WebSocketClientFactory("ws://relay.example:8080" + path, reactor=self.clock, **options)
        factory.protocol = Client
        if deflate:
            factory.setProtocolOptions(
                perMessageCompressionOffers=[PerMessageDeflateOffer()],
                perMessageCompressionAccept=PerMessageDeflateResponseAccept,
            )
        client = factory.buildProtocol(None)
        address = IPv4Address("TCP", "192.0.2.1", 50000 + len(self.pumps))
        server = self.factory.buildProtocol(address)
        server_transport = Transport(server, isServer=True, peerAddress=address)
        client.server_transport, client.server = server_transport, server
        client_transport = Transport(client, isServer=False)
        self.pumps.append(connect(server, server_transport, client, client_transport, greet=False, clock=self.clock))
        self.settle()
        return client

    def settle(self) -> None:
        """Move bytes and run scheduled calls until nothing happens."""
        moved = True
        while moved:
            self.clock.advance(0)
            moved = any([pump.pump(advanceClock=False) for pump in self.pumps])  # noqa: C419 - all of them
        self.clock.advance(0)

    def wait(self, seconds: float) -> None:
        """Advance time in steps short enough for the sweep to be in time."""
        while seconds > 0:
            self.clock.advance(min(seconds, 0.25))
            self.settle()
            seconds -= 0.25


class RelayTestCase(SynchronousTestCase):
    """A test case with relays in memory and their log."""

    def setUp(self) -> None:
        self.events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def relay(self, validators: Sequence[Any] | None = (), **settings: Any) -> Relay:
        """Return a running relay."""
        return Relay(self, validators, **settings)

    def logged(self, level: LogLevel = LogLevel.info) -> list[str]:
        """Return the lines of one log level."""
        from twisted.logger import formatEvent  # noqa: PLC0415

        events = [formatEvent(event) for event in self.events if event.get("log_level") is level]
        return [line for event in events for line in event.split("\n")]


class Answer:
    """A validator that answers with its argument: a grant, an exception, a Deferred, or an invalid answer."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.requests: list[Any] = []

    def validate(self, request: Any, grant: Any) -> Any:
        self.requests.append(request)
        answer = self.answer(request, grant) if callable(self.answer) else self.answer
        if isinstance(answer, Exception):
            raise answer
        return answer


narrowing = partial(lambda changes, request, grant: grant.narrowed(**changes))
