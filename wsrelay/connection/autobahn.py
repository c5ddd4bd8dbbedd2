"""Autobahn's protocol as connections use it: its frames, without what it costs beside them.

What it does with each new connection took some 40 of the 150 µs that one cost from accept to 101, and 5 of its 6.6 KiB.
What its options are is :mod:`wsrelay.connection.autobahn`', and how a connection lives and ends
:mod:`wsrelay.connection.closing`'s.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

from autobahn.twisted.util import peer2str
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept
from autobahn.websocket.protocol import WebSocketProtocol
from twisted.internet.protocol import connectionDone
from twisted.internet.tcp import Connection as TcpTransport
from twisted.internet.tcp import Server as TcpServer
from twisted.python.failure import Failure

from wsrelay.connection import deflate
from wsrelay.interfaces import Send
from wsrelay.settings import Settings

__all__ = ["AutobahnProtocol", "Silence", "autobahn_options", "configured", "initial_attributes", "share_names"]

#: Values that connections may share.
_IMMUTABLE: Final = (int, float, str, bytes, tuple, type(None))

#: What Autobahn's handshake, which is not used, leaves to the frames; and no queue for each, where none is ever used.
_ATTRIBUTES: Final = {"websocket_version": 13, "inside_message": False, "current_frame": None, "send_queue": ()}

#: What every connection sets sooner or later, beside what it sets when it is made: it opens, and it gets a pong. With
#: those, there may be 30 names (CPython's bound on a table that instances share), and 29 are taken.
_NAMES: Final = (
    "number",
    "opened_at",
    "tally",
    "published",
    "allowance",
    "_visit",
    "data",
    "state",
    "current_frame",
    "current_frame_masker",
    "control_frame_data",
    "trafficStats",
)

#: The same for its transport.
_TRANSPORT_NAMES: Final = ("producer", "streamingProducer", "producerPaused", "dataBuffer", "offset")


Made = TypeVar("Made", bound="AutobahnProtocol")


class Silence:
    """Autobahn's logger on our connections: it says nothing.

    Autobahn writes up to two warnings per bad client, and at debug level the raw request with its cookies
    and tokens (TRAPS 33). What an operator needs is in our own lines, one at each end.
    """

    def _ignore(self, *args: object, **kwargs: object) -> None:
        pass

    critical = error = warn = info = debug = trace = _ignore


class AutobahnProtocol(WebSocketServerProtocol):
    """Autobahn's protocol, made of a class that has its :func:`initial_attributes`.

    Attributes:
        send: writes at once what the peer takes, and returns how much that was; see
            :class:`wsrelay.interfaces.Subscriber`.
        forwarded_for: the client's address, where a trusted proxy has told it.
        paused: whether something waits in the transport. As long as it does not, ``send`` may be called.
    """

    log = Silence()
    transport: Any
    tcpNoDelay: bool
    perMessageCompressionAccept: Callable[[list[PerMessageDeflateOffer]], PerMessageDeflateOfferAccept | None]

    forwarded_for = ""
    paused = False

    def __init__(self) -> None:
        """Set nothing: all that Autobahn sets here is on the class."""

    @property
    def peer(self) -> str:  # type: ignore[override]  # Autobahn's connectionMade writes it
        """The client's address. Asked for each time: behind PROXY it is not known at first (TRAPS 56)."""
        text: str = peer2str(self.transport)
        return f"{self.forwarded_for} through {text}" if self.forwarded_for else text

    def connectionMade(self) -> None:
        """A client has connected."""
        # Not hasattr: the wrappers of TLS and PROXY have all that the TCP transport below them has (TRAPS 64).
        direct = isinstance(self.transport, TcpTransport) and not self.transport.TLS
        # The socket's own: transport.write only queues, and two epoll_ctl and a turn of the reactor later it costs
        # 19 µs instead of 6 (TRAPS 2).
        self.send: Send = self.transport.socket.send if direct else self._send_all
        with suppress(AttributeError):  # only sockets have it
            self.transport.setTcpNoDelay(self.tcpNoDelay)

    def _send_all(self, data: bytes) -> int:
        self.transport.write(data)
        return len(data)

    def write(self, data: bytes) -> None:
        """Write at once, if nothing waits to be written; else behind that."""
        if self.paused:
            self.transport.write(data)
            return
        try:
            sent = self.send(data)
        except OSError:  # of which BlockingIOError is one; any other the transport finds again, and ends with it
            sent = 0
        if sent != len(data):
            self.keep(data, sent)

    def keep(self, data: bytes, sent: int) -> None:
        """Write later what ``send`` did not take. See :class:`wsrelay.interfaces.Subscriber`."""
        self.pauseProducing()
        if self.transport.connected:
            # What doWrite itself leaves behind when the socket takes a part; write would copy the rest. Nothing else
            # waits, or this connection would have been paused.
            self.transport.dataBuffer, self.transport.offset = data, sent
            # A transport says that it has written all only to those whom it has asked to pause: at 64 KiB (TRAPS 65).
            self.transport.producerPaused = True
            self.transport.startWriting()

    def pauseProducing(self) -> None:
        """Something waits in the transport: it has asked for a pause, or did not take all."""
        self.paused = True

    def resumeProducing(self) -> None:
        """Nothing waits any more."""
        self.paused = False

    @property
    def unsent(self) -> bytes:
        """What waits to be written, as far as it may be shared. See :class:`wsrelay.limits.memory.Holder`."""
        waiting: bytes = (
            getattr(self.transport, "dataBuffer", b"") if self.paused and self.state == self.STATE_OPEN else b""
        )
        return waiting

    @property
    def incoming_bytes(self) -> int:
        """What is kept of what has come in. See :class:`wsrelay.limits.memory.Holder`."""
        if not self.inside_message:
            return len(self.data)
        # Autobahn keeps the payload of each read and of each frame as an object of its own, which costs 64 bytes more.
        parts = [*(self.message_data or ()), *(self.frame_data or ())]
        return len(self.data) + sum([len(part) + 64 for part in parts])

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        """Write a frame of Autobahn's, without its line for the log (TRAPS 5) and its queue."""
        self.write(data)

    def _dataReceived(self, data: bytes) -> None:
        """Autobahn's, but for the handshake, whose bytes it would count in an object that is made for that."""
        if self.state == self.STATE_CONNECTING:
            self.data += data
            self.processHandshake()
        else:
            super()._dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """TCP has ended."""
        self.state = self.STATE_CLOSED
        self.onClose(self.wasClean, self.remoteCloseCode, self.remoteCloseReason)


def initial_attributes(factory: WebSocketServerFactory) -> dict[str, Any]:
    """Return what Autobahn sets on each new connection, as attributes of a class.

    Each connection would copy 29 options and pretty-print them for the log (TRAPS 7), set 40 other attributes, most
    of them to ``None``, ``False`` or 0, and make objects that few connections use: two Deferreds, a queue, counters,
    a validator.

    Args:
        factory: has had its options set.
    """
    fresh = WebSocketServerProtocol()
    fresh.factory = factory
    WebSocketProtocol._connectionMade(fresh)  # not the server's, which counts
    attributes = vars(fresh) | _ATTRIBUTES
    del attributes["factory"]
    for name, value in attributes.items():
        if callable(value):
            attributes[name] = staticmethod(value)  # a plain function would become a method
        elif name not in WebSocketServerProtocol.CONFIG_ATTRS and not isinstance(value, _IMMUTABLE):
            attributes[name] = _OnFirstUse(name, type(value))
    return attributes


class _OnFirstUse:
    """An attribute of which a connection gets one of its own when it is first asked for."""

    def __init__(self, name: str, make: Callable[[], Any]) -> None:
        self._name = name
        self._make = make

    def __get__(self, connection: object, owner: type) -> Any:
        value = self._make()
        setattr(connection, self._name, value)
        return value


def share_names(protocol: type[AutobahnProtocol]) -> None:
    """Let CPython know which attributes connections set, and their transports, while there are none of them.

    The instances of a class share one table of their attributes' names, but only of names that are set before some 15
    of them exist. One that comes later costs each instance 0.6 KB, for a table of its own; and when a crowd comes, all
    connect before the first one opens (TRAPS 61).
    """
    for instance, names in (protocol(), _NAMES), (TcpServer.__new__(TcpServer), _TRANSPORT_NAMES):
        for name in names:
            setattr(instance, name, None)


def autobahn_options(settings: Settings) -> dict[str, Any]:
    """Return every protocol option of Autobahn, for one single call (a second one resets some: TRAPS 17)."""
    return {
        "versions": [13],  # 8 takes the origin from another field (TRAPS 15)
        "webStatus": False,  # it is an open redirect (TRAPS 14)
        "utf8validateIncoming": True,
        "requireMaskedClientFrames": True,
        "maskServerFrames": False,
        "applyMask": True,
        # Unlimited by default (TRAPS 21). Nothing goes out through Autobahn that these could apply to.
        "maxFramePayloadSize": _autobahn_limit_bytes(settings),
        "maxMessagePayloadSize": _autobahn_limit_bytes(settings),
        "autoFragmentSize": 0,
        "failByDrop": False,  # peers should see 1002, 1007 and 1009, not 1006 (TRAPS 22)
        "echoCloseCodeReason": False,  # Connection.sendCloseFrame echoes the code
        "tcpNoDelay": True,
        "perMessageCompressionAccept": deflate.accept_nothing if settings.no_compress else deflate.accept,
        # Timers: the sweep's (TRAPS 29).
        "openHandshakeTimeout": 0,
        "closeHandshakeTimeout": 0,
        "autoPingInterval": 0,
        "autoPingTimeout": 0,
        "autoPingSize": 12,
        "autoPingRestartOnAnyTraffic": False,
        "serveFlashSocketPolicy": False,
        "flashSocketPolicy": "",
        # Origins are the origin validator's: Autobahn's patterns match suffixes (TRAPS 16).
        "allowedOrigins": ["*"],
        "allowNullOrigin": True,
        "maxConnections": 0,  # ours: wsrelay.limits.admission (TRAPS 18)
        "trustXForwardedFor": 0,  # it would not ask whether the peer is a proxy (TRAPS 19)
    }


def _autobahn_limit_bytes(settings: Settings) -> int:
    """Return where Autobahn stops reading a message; ``RelayProtocol.onMessage`` has the exact limit.

    Autobahn counts deflated bytes, too, and noise gets longer by being deflated (5 bytes for each stored block, of at
    most 64 KiB); and what inflates to just its limit is over it.
    """
    limit = settings.max_message_bytes
    return limit if settings.no_compress else limit + limit // 256 + 1024


def configured(protocol: type[Made], factory: WebSocketServerFactory) -> type[Made]:
    """Return a protocol class with Autobahn's options, and the rest of what it sets, as class attributes.

    Args:
        protocol: the class.
        factory: has had its :func:`autobahn_options` set.

    Otherwise each connection would copy them (TRAPS 7), and ``setTcpNoDelay`` come before that, so that it would
    never be called (TRAPS 1).
    """
    configured = type(protocol.__name__, (protocol,), {"CONFIG_ATTRS": (), **initial_attributes(factory)})
    share_names(configured)
    return configured
