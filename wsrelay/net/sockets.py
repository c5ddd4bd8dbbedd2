"""Sockets: IPv6 listening sockets on all addresses, dual-stack or IPv6 only, and where a connection comes from.

``tcp6:80`` alone serves IPv4, too; beside ``tcp:80`` it must not, or the kernel refuses the second of the two with
EADDRINUSE (RFC 3493 section 5.3; TRAPS 99). Must not live here: endpoint strings (:mod:`wsrelay.net.endpoints`).
"""

import errno
import ipaddress
import os
import socket
import struct
from typing import Final, Protocol, cast

from twisted.internet.abstract import isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IListeningPort,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IReactorTime,
    ITransport,
)
from twisted.protocols.haproxy._wrapper import HAProxyProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOFactory

from wsrelay.net.tls import TlsConnection

__all__ = ["Listener", "is_every_ipv6", "source", "speaks_proxy", "unmapped"]

#: ``struct ucred`` of Linux: process, user, group.
_CREDENTIALS: Final = struct.Struct("iII")


class _Reactor(Protocol):
    """The used part of IReactorTCP and IReactorSocket, whose own types exclude wrapping factories."""

    def listenTCP(self, port: int, factory: IProtocolFactory, backlog: int, interface: str) -> IListeningPort: ...

    def adoptStreamPort(self, fileno: int, addressFamily: int, factory: IProtocolFactory) -> IListeningPort: ...


class Listener:
    """The part of a reactor that Twisted's TCP and TLS endpoints listen with.

    Args:
        reactor: the reactor; ``None`` for only checking descriptions.

    Attributes:
        ipv6_only: whether a socket on all IPv6 addresses refuses IPv4. Set explicitly on each, so that the sysctl
            ``net.ipv6.bindv6only`` has no effect.
    """

    def __init__(self, reactor: object) -> None:
        self._reactor = cast("_Reactor", reactor)
        self.ipv6_only = False

    def listenTCP(self, port: int, factory: IProtocolFactory, backlog: int, interface: str) -> IListeningPort:
        """Listen for TCP. See :class:`twisted.internet.interfaces.IReactorTCP`.

        A factory of TLS connections, as ``tls:`` endpoints pass it, makes :class:`wsrelay.net.tls.TlsConnection`.

        Raises:
            CannotListenError: the address is in use, or the machine has no IPv6.
        """
        if isinstance(factory, TLSMemoryBIOFactory):
            factory.protocol = TlsConnection
        if is_every_ipv6(interface):
            return self._listen_on_all(port, factory, backlog, interface)
        return self._reactor.listenTCP(port, factory, backlog, interface)

    def listenSSL(
        self,
        port: int,
        factory: IProtocolFactory,
        contextFactory: IOpenSSLServerConnectionCreator,
        backlog: int,
        interface: str,
    ) -> IListeningPort:
        """Listen for TLS. See :class:`twisted.internet.interfaces.IReactorSSL`, and :meth:`listenTCP`."""
        clock = cast("IReactorTime", self._reactor)
        return self.listenTCP(port, TLSMemoryBIOFactory(contextFactory, False, factory, clock), backlog, interface)

    def _listen_on_all(self, port: int, factory: IProtocolFactory, backlog: int, interface: str) -> IListeningPort:
        dual = not self.ipv6_only and socket.has_dualstack_ipv6()
        try:
            listening = socket.create_server(
                (interface, port), family=socket.AF_INET6, backlog=backlog, dualstack_ipv6=dual
            )
        except OSError as error:  # its text would name the address again
            number = error.errno or errno.EADDRNOTAVAIL
            raise CannotListenError(f"[{interface}]", port, OSError(number, os.strerror(number))) from None
        with listening:  # the reactor has a copy
            listening.setblocking(False)
            return self._reactor.adoptStreamPort(listening.fileno(), socket.AF_INET6, factory)


def is_every_ipv6(interface: str) -> bool:
    """Return whether an interface is the IPv6 wildcard in any spelling."""
    return isIPv6Address(interface) and ipaddress.IPv6Address(interface).is_unspecified


def unmapped(address: object) -> object:
    """Return the IPv4 address of a client at a dual-stack socket; any other address unchanged."""
    if isinstance(address, IPv6Address) and address.host.startswith("::ffff:"):
        mapped = ipaddress.IPv6Address(address.host).ipv4_mapped
        if mapped is not None:
            return IPv4Address(address.type, str(mapped), address.port)
    return address


def speaks_proxy(transport: object) -> bool:
    """Return whether the client's address comes in a PROXY header; until then the transport has the proxy's."""
    while transport is not None and not isinstance(transport, HAProxyProtocolWrapper):
        transport = getattr(transport, "transport", None)
    return transport is not None


def source(transport: ITransport) -> object:
    """Return the client's end of an accepted connection, as the kernel knows it, not as a PROXY header names it.

    Returns:
        Its TCP address. On a unix socket, where clients have no address, the id of the process that has connected, by
        SO_PEERCRED of Linux; ``None`` elsewhere.
    """
    peer = transport.getPeer()
    if not isinstance(peer, UNIXAddress):
        return peer
    accepted = getattr(transport, "socket", None)
    if not isinstance(accepted, socket.SocketType) or not hasattr(socket, "SO_PEERCRED"):
        return None
    credentials = accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    process: int = _CREDENTIALS.unpack(credentials)[0]
    return process
