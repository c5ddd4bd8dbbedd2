"""Accepts: how a listening port accepts connections, and their transport: Twisted's, without what is unused here.

Twisted makes eleven objects and thirty calls for each accepted connection, most of them for its log, and two strings
and a list that stay; and it may accept the whole backlog in one turn (TRAPS 75). Must not live here: listening
(:mod:`wsrelay.net.endpoints`), limits on connections (:mod:`wsrelay.limits.admission`).
"""

import socket
import sys
from functools import lru_cache, partial
from typing import Final, cast
from typing import Protocol as TypingProtocol

from twisted.internet.address import IPv6Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IListeningPort, IProtocol, IProtocolFactory, IReactorFDSet
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.tcp import Port, Server
from twisted.logger import Logger

__all__ = ["ACCEPTS", "Accepted", "lean_accepts", "share_names"]

_log = Logger(namespace="wsrelay")

#: The most connections that a port accepts in one turn: some 5 ms, and as much for their handshakes in the next turn.
#: More are a stall for open connections; with 32, a storm of 5000 handshakes costs 8 % more CPU time.
ACCEPTS: Final = 64

#: Shared by all transports, for log lines and reprs of Twisted's that nothing writes.
_NAME: Final = "wsrelay"

#: Host → one string for all equal ones, of the last hosts. sys.intern would keep each forever on 3.12 (TRAPS 146).
_one_string: Final = lru_cache(maxsize=1024)(str)

#: Whether connections inherit TCP_NODELAY of the listening socket (TRAPS 78).
_INHERITS: Final = sys.platform == "linux"

#: Attributes of transports that are set late: on opening, and by the first write that has to wait.
_LATE: Final = ("producer", "streamingProducer", "producerPaused", "dataBuffer", "offset")


#: An address as the kernel has it; of IPv6 with flow and scope; on a unix socket a string.
_Address = tuple[str, int] | tuple[str, int, int, int]
_WITH_SCOPE: Final = 4


class _Listening(TypingProtocol):
    """A listening socket."""

    def _accept(self) -> tuple[int, _Address]:
        """Return a descriptor, and its peer. What socket.accept calls; without its object (canary)."""


class _Pieces:
    """Twisted's list of pieces to write: made at first use, as most transports never have one."""

    def __get__(self, transport: "Accepted", owner: type) -> list[bytes]:
        pieces: list[bytes] = []
        transport._tempDataBuffer = pieces
        return pieces


class Accepted(Server):
    """The transport of an accepted TCP connection. Its options are inherited from the listening socket.

    Arguments: see :class:`twisted.internet.tcp.Server`; the port and the session number are not kept.
    """

    connected = 1
    logstr = repstr = _NAME
    _tempDataLen = 0
    _tempDataBuffer: list[bytes]

    def __init__(
        self,
        sock: socket.socket,
        protocol: IProtocol,
        client: tuple[object, ...],
        server: Port | None,
        sessionno: int,
        reactor: IReactorFDSet,
    ) -> None:
        sock.setblocking(False)
        self.reactor = reactor
        self.socket = sock
        self.fileno = sock.fileno
        self.protocol = protocol
        self.client = client
        if len(client) != 2:
            self._addressType = IPv6Address
        reactor.addReader(self)

    def doRead(self) -> ConnectionDone | ConnectionLost | None:  # type: ignore[override]  # as one of Twisted's two
        """As Twisted's, without the calls in between: 1 % of a message in a room of two."""
        try:
            data = self.socket.recv(self.bufferSize)
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        if not data:
            return CONNECTION_DONE
        self.protocol.dataReceived(data)
        return None

    def setTcpNoDelay(self, enabled: bool) -> None:
        """See :class:`twisted.internet.interfaces.ITCPTransport`; without a system call for what is inherited."""
        if not (enabled and _INHERITS):
            super().setTcpNoDelay(enabled)


Accepted._tempDataBuffer = cast("list[bytes]", _Pieces())  # here, because a type checker takes it for a list


def share_names(transport: type[Server], *names: str) -> None:
    """Set the attributes of transports once, before any exists, so that CPython shares their names (TRAPS 61).

    Args:
        transport: the class.
        names: the attributes that are set first.
    """
    first = transport.__new__(transport)
    for name in (*names, *_LATE):
        setattr(first, name, None)


share_names(Accepted, "reactor", "socket", "fileno", "protocol", "client")


def lean_accepts(port: IListeningPort) -> None:
    """Let a port accept at most :data:`ACCEPTS` connections per turn, those of TCP as :class:`Accepted`.

    The kernel keeps the others of a burst waiting; a turn later they are next.

    Args:
        port: the listening port; anything but a socket of Twisted is left unchanged.
    """
    if not isinstance(port, Port):
        return
    if port.transport is Server:
        port.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        port.transport = Accepted
    vars(port)["doRead"] = partial(_accept, port)


def _accept(port: Port) -> None:
    """Accept connections; called by the reactor."""
    accept, most, count = cast("_Listening", port.socket)._accept, min(port.numberAccepts, ACCEPTS), 0
    while count < most:
        try:
            descriptor, address = accept()
        except BlockingIOError:
            break
        except OSError:  # Twisted knows which ones end nothing, and has a descriptor in reserve
            port.numberAccepts = 1
            Port.doRead(port)
            return
        count += 1
        # The base class of socket.socket: smaller, and made without a call of Python.
        client = socket.SocketType(port.addressFamily, socket.SOCK_STREAM, 0, descriptor)
        _begin(port, cast("socket.socket", client), address)
    port.numberAccepts = 2 * most if count == most else max(1, count)


def _shared(address: _Address) -> _Address:
    """Return an address as Twisted has it; connections of one host share its string, also with its limits."""
    host = address[0]
    if len(address) == _WITH_SCOPE and address[3]:  # a link-local address names its interface
        host, _ = socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
    return (_one_string(host), *address[1:])


def _begin(port: Port, client: socket.socket, address: _Address) -> None:
    """Begin an accepted connection. An exception of a plugin's factory does not end the port."""
    protocol = None
    try:
        if isinstance(address, tuple):
            address = _shared(address)
        protocol = cast("IProtocolFactory", port.factory).buildProtocol(port._buildAddr(address))
        if protocol is not None:
            protocol.makeConnection(port.transport(client, protocol, address, port, 0, port.reactor))
    except Exception:  # noqa: BLE001 - as Twisted does
        _log.failure("an accepted connection failed")
    if protocol is None:
        client.close()
