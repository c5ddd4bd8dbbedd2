"""Endpoints: Twisted's endpoint strings, with a backlog, a URL and renewable certificates.

Must not live here: what is served (:mod:`wsrelay.factory`), start and stop (:mod:`wsrelay.service`).
"""

import ipaddress
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from OpenSSL.SSL import Connection
from twisted.internet.abstract import isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import _parse, serverFromString
from twisted.internet.interfaces import (
    IListeningPort,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IReactorCore,
)
from twisted.internet.ssl import CertificateOptions
from twisted.protocols._sni import SNIConnectionCreator
from twisted.protocols.haproxy._info import ProxyInfo
from twisted.protocols.haproxy._v1parser import V1Parser
from twisted.protocols.haproxy._wrapper import HAProxyProtocolWrapper, HAProxyWrappingFactory
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from wsrelay.errors import SettingsError
from wsrelay.net.advice import problem_of
from wsrelay.net.descriptions import full
from wsrelay.net.sockets import Listener

__all__ = ["Door", "Endpoint", "admin_endpoint", "bound_unsent", "end_when_dead", "endpoints"]

#: Connections waiting to be accepted. Twisted's default of 50 is too few for a reconnect storm (TRAPS 42).
BACKLOG: Final = 1024

#: The highest port of TCP.
MAX_PORT: Final = 2**16 - 1

#: The most bytes of a connection that the kernel keeps unsent, about; it takes up to 64 KiB more in one piece. A second
#: on a link of 256 kbit/s. Bytes on their way do not count, so that it costs no throughput.
UNSENT_BYTES: Final = 32 * 2**10

#: Endpoints that take a backlog; the sockets from systemd have theirs already.
_WITH_BACKLOG: Final = frozenset(["ssl", "tcp", "tcp6", "tls", "unix"])

#: TLS endpoints → the attribute of Twisted's object that makes their connections (canary: test_renew_certificates).
_TLS: Final = {"ssl": "_sslContextFactory", "tls": "connectionCreator"}

#: Endpoints of Twisted that listen with TCP, on an interface and a port.
_ON_PORTS: Final = frozenset(["ssl", "tcp", "tcp6", "tls"])

#: Endpoints allowed for the admin endpoint → the argument that keeps others out, and its default; systemd sets its own.
_ADMIN: Final = {
    "ssl": ("interface", "127.0.0.1"),
    "systemd": None,
    "tcp": ("interface", "127.0.0.1"),
    "tcp6": ("interface", r"\:\:1"),
    "unix": ("mode", "600"),  # Twisted's is 666, whatever the umask (TRAPS 109)
}


#: Twisted's objects that make TLS connections: of ``tls:`` and of ``ssl:`` endpoints.
_Creator = SNIConnectionCreator | CertificateOptions

#: The address of a listening port.
Address = IPv4Address | IPv6Address | UNIXAddress


@dataclass(frozen=True, slots=True)
class Door:
    """A listening port as its clients see it.

    Attributes:
        address: the listening address; the wildcard address means all interfaces.
        is_tls: whether it speaks TLS.
        speaks_proxy: whether a PROXY header comes first.
    """

    address: Address
    is_tls: bool = False
    speaks_proxy: bool = False


class Endpoint:
    """One place to listen.

    Args:
        reactor: the reactor to listen with; ``None`` for only checking the description.
        description: any Twisted server endpoint string.

    Raises:
        ValueError: not an endpoint string, or an unusable certificate. Reading a certificate raises its own errors.

    Attributes:
        description: the string.
        certificates: the certificates for new connections; ``None`` without TLS, or with a plugin's own TLS.
    """

    def __init__(self, reactor: IReactorCore | None, description: str) -> None:
        self.description = description
        self._kind = description.removeprefix("haproxy:").partition(":")[0]
        if self._kind in _TLS:
            _refuse_encrypted_keys(description)
        if self._kind in _WITH_BACKLOG and ":backlog=" not in description:
            description = f"{description}:backlog={BACKLOG}"
        self._listener = Listener(reactor)
        try:
            self._endpoint = serverFromString(self._listener if self._kind in _ON_PORTS else reactor, description)
        except LookupError:
            raise ValueError("the service manager has passed no such socket") from None
        if description.startswith("haproxy:"):
            self._endpoint._wrapperFactory = _ProxiedFactory
        if not 0 <= self._place()[1] <= MAX_PORT:
            raise ValueError(f"a port is a whole number from 0, for one that the kernel chooses, to {MAX_PORT}")
        self.certificates = self._take_certificates() if self._kind in _TLS else None

    def leave_ipv4_to(self, others: "Iterable[Endpoint]") -> None:
        """Refuse IPv4 on all IPv6 addresses if another endpoint has the port there; else serve both (TRAPS 99)."""
        taken = {port for interface, port in (other._place() for other in others) if not isIPv6Address(interface)}
        self._listener.ipv6_only = self._place()[1] in taken - {0}

    def listen(self, factory: IProtocolFactory) -> "Deferred[IListeningPort]":
        """Listen. See :class:`twisted.internet.interfaces.IStreamServerEndpoint`."""
        listening: Deferred[IListeningPort] = self._endpoint.listen(factory)
        return listening

    def listen_now(self, factory: IProtocolFactory) -> IListeningPort:
        """Listen and return the port; Twisted's endpoints listen, or fail, at once.

        Raises:
            CannotListenError: the address is in use.
        """
        ports: list[IListeningPort] = []
        failures: list[Failure] = []
        self.listen(factory).addCallbacks(ports.append, failures.append)
        for failure in failures:
            failure.raiseException()
        return ports[0]

    def door(self, port: IListeningPort) -> Door:
        """Return the address of a port of this endpoint, with its protocols."""
        address = cast("Address", port.getHost())
        return Door(address, self._kind in _TLS, self.description.startswith("haproxy:"))

    def url(self, address: object, scheme: str = "ws") -> str:
        """Return the URL of "/" at the address of a port of this endpoint."""
        scheme += "s" if self._kind in _TLS else ""
        if isinstance(address, (IPv4Address, IPv6Address)):
            host = f"[{address.host}]" if ":" in address.host else address.host
            return f"{scheme}://{host}:{address.port}/"
        name: bytes = getattr(address, "name", None) or b"?"
        return f"{scheme}+unix:{name.decode(errors='replace')}"

    def renew(self, fresh: "Endpoint") -> None:
        """Take over the certificates of a fresh endpoint for new connections; open ones keep theirs."""
        if self.certificates is not None and fresh.certificates is not None:
            self.certificates.creator = fresh.certificates.creator

    def _place(self) -> tuple[str, int]:
        """Return the interface and port in the description; port 0: the kernel chooses, or not TCP."""
        unwrapped = getattr(self._endpoint, "_wrappedEndpoint", self._endpoint)  # haproxy:
        innermost = getattr(unwrapped, "endpoint", unwrapped)  # tls: (canary: test_ipv6_beside_ipv4)
        return getattr(innermost, "_interface", ""), getattr(innermost, "_port", 0)

    def _take_certificates(self) -> "_Certificates":
        """Wrap the endpoint's creator of TLS connections."""
        holder = getattr(self._endpoint, "_wrappedEndpoint", self._endpoint)  # haproxy:
        certificates = _Certificates(getattr(holder, _TLS[self._kind]))
        setattr(holder, _TLS[self._kind], certificates)
        return certificates


class _V1Parser(V1Parser):
    """Parses PROXY headers in text. Twisted's takes any word for an address (TRAPS 72)."""

    @classmethod
    def parse(cls, line: bytes) -> ProxyInfo:
        """Parse a header.

        Raises:
            ValueError: the client's address is no IP address.
        """
        info = super().parse(line)
        if info.source is not None:
            ipaddress.ip_address(getattr(info.source, "host", ""))
        return info


class _Proxied(HAProxyProtocolWrapper):
    """A connection with a PROXY header first; an invalid header closes it without a log line.

    If nothing follows the header yet, the wrapped protocol gets an empty string, so that it can count the client
    (TRAPS 117).
    """

    _head = b""

    def dataReceived(self, data: bytes) -> None:
        if self._proxyInfo is None:
            self._take_header(data)
        else:
            self.wrappedProtocol.dataReceived(data)

    def _take_header(self, data: bytes) -> None:
        """Take bytes of the header, and of what follows it."""
        if data.startswith(b"PROXY UNKNOWN\r\n"):
            data = data.replace(b"\r\n", b" \r\n", 1)  # Twisted's parser refuses the short form (TRAPS 56)
        if self._parser is None and data.startswith(V1Parser.PROXYSTR):
            self._parser = _V1Parser()
        self._head += data
        try:
            super().dataReceived(data)
        except ValueError:  # also raised by Twisted's parser, from int() and decode() (TRAPS 72)
            self.loseConnection()
        if self._proxyInfo is not None:
            head, self._head = self._head, b""
            if len(head) == _proxy_header_bytes(head):
                self.wrappedProtocol.dataReceived(b"")


def _proxy_header_bytes(head: bytes) -> int:
    """Return the length of a valid PROXY header: a line, or 16 bytes and as many as the last two of these say."""
    return head.index(b"\r\n") + 2 if head.startswith(b"PROXY") else 16 + int.from_bytes(head[14:16], "big")


class _ProxiedFactory(HAProxyWrappingFactory):
    """Makes connections with a PROXY header."""

    protocol = _Proxied  # type: ignore[assignment]  # annotated by Twisted as exactly HAProxyProtocolWrapper
    noisy = False


@implementer(IOpenSSLServerConnectionCreator)
class _Certificates:
    """The certificates of an endpoint, with their keys; renewed by replacing ``creator``.

    Args:
        creator: Twisted's object; it reads the files once and never again (TRAPS 43).

    Raises:
        ValueError: no certificate with its key, as in a folder without a matching pair (TRAPS 74).
    """

    def __init__(self, creator: _Creator) -> None:
        self.creator = creator
        context = creator.defaultContext if isinstance(creator, SNIConnectionCreator) else creator.getContext()
        if Connection(context).get_certificate() is None:
            raise ValueError("there is no certificate with its key")

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> Connection:
        """Make the TLS connection of a new client."""
        return self.creator.serverConnectionForTLS(protocol)


def end_when_dead(port: IListeningPort, silent_seconds: float) -> None:
    """Let the kernel end TCP with a vanished peer to which nothing is sent, also while the connection is held.

    Without TCP_USER_TIMEOUT (RFC 5482): it would end peers that read steadily, but slowly, as well (TRAPS 78).

    Args:
        port: the listening port.
        silent_seconds: the maximum time without an answer to keepalive probes. These start after half of it.
    """
    half_seconds = max(1, round(silent_seconds / 2))
    _set_tcp_options(
        port,
        SO_KEEPALIVE=1,
        TCP_KEEPIDLE=half_seconds,
        TCP_KEEPINTVL=max(1, half_seconds // 3),
        TCP_KEEPCNT=3,
    )


def bound_unsent(port: IListeningPort) -> None:
    """Bound what the kernel keeps of a connection before it sends: more waits in the room's log, where policies apply.

    Without it, Linux keeps up to 4 MiB (``net.ipv4.tcp_wmem``): minutes on a slow link, before which stand pings and
    close frames (TRAPS 102).

    Args:
        port: the listening port.
    """
    _set_tcp_options(port, TCP_NOTSENT_LOWAT=UNSENT_BYTES)


def _set_tcp_options(port: IListeningPort, **options: int) -> None:
    """Set options on a listening socket: connections inherit them on Linux (TRAPS 78), without a call for each.

    Anything but a TCP socket is left unchanged; so are options that the platform does not have.
    """
    listening = getattr(port, "socket", None)
    if listening is None or listening.family not in (socket.AF_INET, socket.AF_INET6):
        return
    for name, value in options.items():
        if hasattr(socket, name):
            level = socket.SOL_SOCKET if name.startswith("SO_") else socket.IPPROTO_TCP
            listening.setsockopt(level, getattr(socket, name), value)


def _refuse_encrypted_keys(description: str) -> None:
    """Raise ``ValueError`` for an encrypted key: OpenSSL would block on a passphrase from the terminal (TRAPS 74)."""
    arguments, keywords = _parse(description.removeprefix("haproxy:"))
    for path in map(Path, filter(None, (*arguments[1:], *keywords.values()))):
        for file in path.rglob("*.pem") if path.is_dir() else [path]:
            # In both forms: PKCS 8 (RFC 7468 section 11) and the older one (RFC 1421 section 4.6.1.1).
            if file.is_file() and b"ENCRYPTED" in file.read_bytes():
                raise ValueError(f"the key in {file} is encrypted: a reload could not ask for the passphrase")


def endpoints(
    reactor: IReactorCore | None,
    descriptions: Iterable[str],
    option: str = "listen",
    complete: Callable[[str], str] = str,
) -> list[Endpoint]:
    """Return the endpoints of all descriptions. See :class:`Endpoint`.

    Args:
        reactor: the reactor to listen with; ``None`` for only checking the descriptions.
        descriptions: Twisted server endpoint strings, or short forms (:mod:`wsrelay.net.descriptions`).
        option: the option that has them.
        complete: returns a description with its defaults.

    Raises:
        SettingsError: names the option and every wrong description.
    """
    made: list[Endpoint] = []
    problems: list[str] = []
    for description in descriptions:
        try:
            made.append(Endpoint(reactor, complete(full(description))))
        except Exception as error:  # noqa: BLE001 - endpoint plugins and certificates may raise anything
            problems.append(f"{option}: {description}: {problem_of(error)}")
    if problems:
        raise SettingsError(problems)
    for endpoint in made:
        endpoint.leave_ipv4_to(made)
    return made


def admin_endpoint(reactor: IReactorCore | None, description: str) -> Endpoint:
    """Return the admin endpoint; on loopback, or for the relay's own user, unless the description says otherwise.

    Raises:
        SettingsError: not an endpoint string, or a kind of endpoint that is not allowed here.
    """
    return endpoints(reactor, [description], "admin", _guarded)[0]


def _guarded(description: str) -> str:
    """Return the description of an admin endpoint with the default of :data:`_ADMIN`, if it does not set another."""
    arguments, keywords = _parse(description)
    if arguments[0] not in _ADMIN:
        raise ValueError(f"must be a port, ADDRESS:PORT, or one of {', '.join(sorted(_ADMIN))}")
    default = _ADMIN[arguments[0]]
    if default is None or default[0] in keywords or (default[0] == "mode" and len(arguments) > 2):  # unix:PATH:MODE
        return description
    return f"{description}:{default[0]}={default[1]}"
