"""The adapter to Autobahn: its frames and options, without its cost per connection.

The only module that touches Autobahn's internals. Autobahn's setup of a connection took some 40 of the 150 µs from
accept to 101, and 5 of its 6.6 KiB. Must not live here: behaviour of connections (protocol, phases), the users'
options (:mod:`wsrelay.settings`).
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from autobahn.twisted.util import peer2str
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.compress import PerMessageDeflate, PerMessageDeflateOffer, PerMessageDeflateOfferAccept
from autobahn.websocket.protocol import WebSocketProtocol
from twisted.internet.address import IPv4Address
from twisted.internet.tcp import Server as TcpServer

from wsrelay import closecodes
from wsrelay.closecodes import CloseReason
from wsrelay.connection import deflate
from wsrelay.connection.phase import Phase
from wsrelay.connection.stage import Stage
from wsrelay.errors import Denied
from wsrelay.net import accepts
from wsrelay.net.sockets import unmapped
from wsrelay.settings import Settings
from wsrelay.wire import frames

__all__ = ["AutobahnProtocol", "Silence", "autobahn_options", "configured", "initial_attributes", "share_names"]

#: Values that connections may share.
_IMMUTABLE: Final = (int, float, str, bytes, tuple, type(None))

#: Attributes that Autobahn's handshake, not used here, would set for the frames; and no send queue per connection.
_ATTRIBUTES: Final = {
    "websocket_version": 13,
    "inside_message": False,
    "current_frame": None,
    "send_queue": (),
    "_isMessageCompressed": False,
}

#: Objects shared by all connections: Autobahn's counters, which nothing reads.
_SHARED: Final = frozenset(["trafficStats"])

#: Autobahn's attributes that every connection sets sooner or later: on opening, and with its first pong.
_NAMES: Final = ("data", "state", "current_frame", "current_frame_masker", "control_frame_data")


#: Stage → Autobahn's own state, for its methods.
_STATES: Final = {
    Stage.REQUEST: WebSocketProtocol.STATE_CONNECTING,
    Stage.GRANT: WebSocketProtocol.STATE_CONNECTING,
    Stage.EXCHANGE: WebSocketProtocol.STATE_CONNECTING,
    Stage.OPEN: WebSocketProtocol.STATE_OPEN,
    Stage.STREAM: WebSocketProtocol.STATE_OPEN,
    Stage.CLOSING: WebSocketProtocol.STATE_CLOSING,
    Stage.ENDING: WebSocketProtocol.STATE_CLOSED,
    Stage.LOST: WebSocketProtocol.STATE_CLOSED,
}

#: Memory of an inflater within a message: zlib's window and state.
_INFLATER_BYTES: Final = 40_960

#: Memory beside the payload of each read and of each frame, which Autobahn keeps as separate objects.
_PART_BYTES: Final = 64

Made = TypeVar("Made", bound="AutobahnProtocol")


class Silence:
    """Autobahn's logger on the relay's connections: it logs nothing.

    Autobahn logs up to two warnings per bad client, and at debug level the raw request with its cookies and tokens
    (TRAPS 33). Operators get the relay's own lines: one when a connection opens, one when it ends.
    """

    def _ignore(self, *args: object, **kwargs: object) -> None:
        pass

    critical = error = warn = info = debug = trace = _ignore


class AutobahnProtocol(WebSocketServerProtocol):
    """Autobahn's frames, made cheap: no logging, no timers, no queue, no handshake.

    It calls ``deny``, ``reject`` and ``write`` of its subclass, and its ``phase`` for each event of a peer's frames.

    Attributes:
        phase: the current phase.
        data: received bytes that are not parsed yet.
        mid_message: whether a message or a frame of the peer is incomplete, as of the last :meth:`parse_next`.
        forwarded_for: the client's address from a trusted proxy; empty without one.
    """

    __slots__ = ("mid_message", "phase")

    log = Silence()
    forwarded_for = ""
    transport: Any  # any of Twisted's transports and its wrappers
    tcpNoDelay: bool
    perMessageCompressionAccept: Callable[[list[PerMessageDeflateOffer]], PerMessageDeflateOfferAccept | None]
    phase: Phase
    write: Callable[[bytes], None]  # this and the next two: methods of the subclass
    deny: Callable[[Denied], None]
    reject: Callable[[CloseReason, str], None]
    _isMessageCompressed: bool
    _perMessageCompress: Any  # Autobahn declares it None

    def __init__(self) -> None:
        """Set no attribute of Autobahn's: they are on the class (:func:`configured`)."""
        self.mid_message = False

    # --- for the connection -------------------------------------------------------------------------

    @property
    def peer(self) -> str:  # type: ignore[override]  # Autobahn's connectionMade writes it
        """The client's address. Not cached: with PROXY it is unknown at first (TRAPS 56)."""
        address = unmapped(self.transport.getPeer())
        ipv4 = address if isinstance(address, IPv4Address) else None
        text = peer2str(self.transport) if ipv4 is None else f"tcp4:{ipv4.host}:{ipv4.port}"
        return f"{self.forwarded_for} through {text}" if self.forwarded_for else text

    @property
    def mid_frame(self) -> bool:
        """Whether a frame of the peer is incomplete, one that waits for its end in ``data`` included."""
        return frames.is_cut(self.data, frames.PARSED_BYTES, frames.COMMON) or self.current_frame is not None

    @property
    def message_bytes(self) -> int:
        """Bytes buffered of an incomplete message.

        Complexity:
            Constant: one address can keep a million parts, which every sweep would add up.
        """
        if not self.inside_message:
            return len(self.data)
        size_bytes: int = len(self.data) + (_INFLATER_BYTES if self._isMessageCompressed else 0)
        parts = len(self.message_data) + len(self.frame_data or ())
        if not parts:  # none yet, or forgotten
            return size_bytes
        # Autobahn adds the length of a whole frame at its begin.
        missing_bytes: int = 0 if self.frame_data is None else self.frame_length - self.current_frame_masker.pointer()
        return size_bytes + self.message_data_total_length - missing_bytes + _PART_BYTES * parts

    def forget_message(self) -> None:
        """Free the parts of an incomplete message; :meth:`onFrameData` discards the rest of it."""
        if self.inside_message:
            self.message_data = []
            self.frame_data = None if self.frame_data is None else []
            if self._isMessageCompressed:
                self._perMessageCompress.forget()
                self._isMessageCompressed = False

    def parse_next(self) -> bool:
        """Let Autobahn parse a header or a payload from the unread data; return whether there may be more."""
        more = self.processData()
        self.mid_message = self.inside_message or self.current_frame is not None
        if not self.mid_message:
            self.current_frame_masker = None  # else an idle connection keeps 0.3 KiB of its last pong
        return more

    def agree_deflate(self, offers: str) -> tuple[str, int] | None:
        """Agree on permessage-deflate with the client, or on nothing.

        Args:
            offers: the ``Sec-WebSocket-Extensions`` field.

        Returns:
            The value of the response's field, and the window for messages to the client, in bits; ``None`` also for
            offers above :data:`~wsrelay.connection.deflate.MAX_OFFERS_CHARS`.
        """
        if len(offers) > deflate.MAX_OFFERS_CHARS:
            return None
        well_formed = deflate.well_formed(self._parseExtensionsHeader(offers))
        parsed = [PerMessageDeflateOffer.parse(parameters) for _, parameters in well_formed]
        accepted = self.perMessageCompressionAccept(parsed) if parsed else None
        if accepted is None:
            return None
        agreed = PerMessageDeflate.create_from_offer_accept(True, accepted)
        self._perMessageCompress = deflate.Inflater()
        return accepted.get_extension_string(), agreed.server_max_window_bits

    def send_close_frame(self, code: int | None, reason: bytes | None, is_reply: bool) -> None:
        """Write a close frame. A reply echoes the peer's code, or its lack of one (RFC 6455 section 5.5.1)."""
        WebSocketServerProtocol.sendCloseFrame(self, self.remoteCloseCode if is_reply else code, reason, is_reply)

    def closed_by_relay(self, code: int | None, reason: bytes | None) -> None:
        """Record a close by the relay without a close frame."""
        vars(self).update(closedByMe=True, localCloseCode=code, localCloseReason=reason)

    def close_cause(self) -> tuple[str, int | None, str] | None:
        """Return the closing side, the code (``None``: none sent) and the reason; ``None`` if TCP ended without one."""
        if self.closedByMe:
            return "relay", self.localCloseCode, (self.localCloseReason or b"").decode()
        if self.wasClean:
            return "client", self.remoteCloseCode, self.remoteCloseReason or ""
        return None

    def take_stage(self, stage: Stage) -> None:
        """Set Autobahn's own state, for its methods."""
        self.state = _STATES[stage]

    def onOpen(self) -> None:
        """For subclasses; without Autobahn's log line."""

    # --- called by Autobahn. Overridden internals; canary: test_canary_signatures ------------------------------------

    def onFrameBegin(self) -> None:
        """Count a frame."""
        self.phase.on_frame()
        super().onFrameBegin()

    def onMessageBegin(self, isBinary: bool) -> None:
        """A message begins."""
        self.phase.on_message_begin()
        super().onMessageBegin(isBinary)

    def onMessageFrameBegin(self, length: int) -> None:
        """A fragment begins."""
        self.phase.on_fragment()
        super().onMessageFrameBegin(length)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """A message is complete; text is valid UTF-8."""
        self.phase.on_message(payload, isBinary)

    def onPing(self, payload: bytes) -> None:
        """A ping."""
        self.phase.on_ping(payload)

    def onPong(self, payload: bytes) -> None:
        """A pong."""
        self.phase.on_pong(payload)

    def onFrameData(self, payload: bytes) -> bool | None:
        """After our close frame, discard everything except the peer's close frame; count what is inflated.

        Autobahn does so after a violation only, and with data frames only: it would collect messages, or an illegal
        ping of 2^40 bytes, inflate further deflate bombs, and never finish a frame that does not inflate.
        """
        frame = self.current_frame
        is_closing = self.failedByMe or self.state != WebSocketProtocol.STATE_OPEN
        if is_closing and not (frame.opcode == frames.CLOSE and frame.length <= frames.MAX_CONTROL_BYTES):
            self._isMessageCompressed = self.utf8validateIncomingCurrentMessage = False
            return None
        before_bytes = self.message_data_total_length if self._isMessageCompressed else 0
        outcome: bool | None = super().onFrameData(payload)
        if self._isMessageCompressed:
            self.phase.on_inflated(self.message_data_total_length - before_bytes)
        return outcome

    def dropConnection(self, abort: bool = False) -> None:
        """End TCP. After a clean close with FIN: Autobahn's reset could overtake the last frames."""
        super().dropConnection(abort and not self.wasClean)
        # A Deferred whose result is this connection: a circle, which only the garbage collector would find.
        vars(self).pop("is_closed", None)

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        """Write a frame made by Autobahn, without its log line (TRAPS 5) and its queue."""
        self.write(data)

    def failHandshake(self, reason: str, code: int = 400, responseHeaders: object = None) -> None:
        """Refuse for Autobahn. Peer sees: 400 and a fixed text, as Autobahn's reason may quote the client."""
        self.deny(Denied(400, "the handshake is malformed", cause="malformed"))

    def _fail_connection(self, code: int = 1001, reason: str = "going away") -> None:
        """Close for a violation with the table's row for it.

        Autobahn ends TCP at the second violation, but invalid UTF-8 counts as two, and the reset would overtake the
        close frame. Here the rest is discarded until the deadline.
        """
        self.reject(closecodes.for_code(code), reason)


def initial_attributes(factory: WebSocketServerFactory) -> dict[str, object]:
    """Return Autobahn's attributes of a new connection, as class attributes.

    Otherwise each connection would copy 29 options and pretty-print them for the log (TRAPS 7), set 40 other
    attributes, most of them to ``None``, ``False`` or 0, and make objects that few connections use: two Deferreds, a
    queue, counters, a validator.

    Args:
        factory: a factory with its options set.
    """
    fresh = WebSocketServerProtocol()
    fresh.factory = factory
    WebSocketProtocol._connectionMade(fresh)  # the server's override would count it
    attributes = vars(fresh) | _ATTRIBUTES
    del attributes["factory"]
    for name, value in attributes.items():
        if callable(value):
            attributes[name] = staticmethod(value)  # a plain function would become a method
        elif name in _SHARED:
            continue
        elif name not in WebSocketServerProtocol.CONFIG_ATTRS and not isinstance(value, _IMMUTABLE):
            attributes[name] = _OnFirstUse(name, type(value))
    return attributes


class _OnFirstUse:
    """An attribute that is made at first use, one per connection."""

    def __init__(self, name: str, make: Callable[[], object]) -> None:
        self._name = name
        self._make = make

    def __get__(self, connection: object, owner: type) -> object:
        value = self._make()
        setattr(connection, self._name, value)
        return value


def share_names(protocol: type[AutobahnProtocol]) -> None:
    """Set the attributes of connections once, before any exists, so that CPython shares their names.

    The instances of a class share one table of attribute names, but only names that are set before some 15 instances
    exist. A later name costs each instance 0.6 KB, for its own table; and a crowd connects before its first connection
    opens (TRAPS 61).
    """
    first = protocol()
    for name in _NAMES:
        setattr(first, name, None)
    accepts.share_names(TcpServer)  # of a factory that listens without the service


def autobahn_options(settings: Settings) -> dict[str, object]:
    """Return every protocol option of Autobahn, for one single call (a second one resets some: TRAPS 17)."""
    return {
        "versions": [13],  # 8 takes the origin from another field (TRAPS 15)
        "webStatus": False,  # an open redirect (TRAPS 14)
        "utf8validateIncoming": True,
        "requireMaskedClientFrames": True,
        "maskServerFrames": False,
        "applyMask": True,
        # Unlimited by default (TRAPS 21). For input only: messages are not sent through Autobahn.
        "maxFramePayloadSize": _autobahn_limit_bytes(settings),
        "maxMessagePayloadSize": _autobahn_limit_bytes(settings),
        "autoFragmentSize": 0,
        "failByDrop": False,  # peers should see 1002, 1007 and 1009, not 1006 (TRAPS 22)
        "echoCloseCodeReason": False,  # send_close_frame echoes the code
        "tcpNoDelay": True,
        "perMessageCompressionAccept": deflate.accept_nothing if settings.no_compress else deflate.accept,
        # No timers: see the sweep (TRAPS 29).
        "openHandshakeTimeout": 0,
        "closeHandshakeTimeout": 0,
        "autoPingInterval": 0,
        "autoPingTimeout": 0,
        "autoPingSize": 12,
        "autoPingRestartOnAnyTraffic": False,
        "serveFlashSocketPolicy": False,
        "flashSocketPolicy": "",
        # See the origin validator: Autobahn's patterns match suffixes (TRAPS 16).
        "allowedOrigins": ["*"],
        "allowNullOrigin": True,
        "maxConnections": 0,  # see wsrelay.limits.admission (TRAPS 18)
        "trustXForwardedFor": 0,  # Autobahn does not check the proxy's address (TRAPS 19)
    }


def _autobahn_limit_bytes(settings: Settings) -> int:
    """Return Autobahn's limit on a message, in bytes; the phase enforces the exact one.

    Autobahn also counts deflated bytes, and noise grows when deflated (5 bytes for each stored block of at most
    64 KiB); and a message that inflates to exactly its limit is over it.
    """
    limit = settings.max_message_bytes
    return limit if settings.no_compress else limit + limit // 256 + 1024


def configured(protocol: type[Made], factory: WebSocketServerFactory) -> type[Made]:
    """Return a protocol class with Autobahn's options and other attributes as class attributes.

    Otherwise each connection would copy them (TRAPS 7), after Autobahn's only look at ``tcpNoDelay`` (TRAPS 1).

    Args:
        protocol: the class.
        factory: a factory with its :func:`autobahn_options` set.
    """
    configured = type(protocol.__name__, (protocol,), {"CONFIG_ATTRS": (), **initial_attributes(factory)})
    share_names(configured)
    return configured
