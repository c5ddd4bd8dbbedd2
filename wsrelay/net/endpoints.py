"""Where a relay listens: Twisted's endpoint strings, with a backlog, a URL, and certificates that can be renewed.

What is served there is the factory's; when, the service's.
"""

import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from OpenSSL.SSL import Connection, Context
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import _parse, serverFromString
from twisted.internet.interfaces import IListeningPort, IOpenSSLServerConnectionCreator, IProtocolFactory
from twisted.protocols.haproxy._wrapper import HAProxyProtocolWrapper, HAProxyWrappingFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from wsrelay.errors import SettingsError

__all__ = ["Door", "Endpoint", "admin_endpoint", "end_when_dead", "endpoints"]

#: Connections that wait to be accepted. Twisted's default of 50 is too few for a reconnect storm (TRAPS 42).
BACKLOG: Final = 1024

#: Endpoints that have a backlog of their own making; systemd's comes with its socket.
_WITH_BACKLOG: Final = frozenset(["ssl", "tcp", "tcp6", "tls", "unix"])

#: Endpoints with TLS, and where Twisted's keep what makes their connections; tests/net/test_endpoints.py has a canary.
_TLS: Final = {"ssl": "_sslContextFactory", "tls": "connectionCreator"}

#: Endpoints on which the admin endpoint may be, and what is loopback there; the others' owner says who may come.
_ADMIN: Final = {"ssl": "127.0.0.1", "tcp": "127.0.0.1", "tcp6": r"\:\:1", "systemd": None, "unix": None}


@dataclass(frozen=True, slots=True)
class Door:
    """Where a relay can be reached.

    Attributes:
        address: of Twisted's: where it listens, which may be all of this machine's addresses.
        is_tls: whether it speaks TLS.
        speaks_proxy: whether a PROXY header comes first.
    """

    address: Any
    is_tls: bool = False
    speaks_proxy: bool = False


class Endpoint:
    """One place to listen.

    Args:
        reactor: to listen with; ``None`` where the description is only to be checked.
        description: any Twisted server endpoint string.

    Raises:
        ValueError: it is none. A certificate that cannot be read raises what reading it raises.

    Attributes:
        description: the string.
        certificates: what new connections are shown; ``None`` where that is not ours to renew.
    """

    def __init__(self, reactor: Any, description: str) -> None:
        self.description = description
        self._kind = description.removeprefix("haproxy:").partition(":")[0]
        if self._kind in _TLS:
            _refuse_encrypted_keys(description)
        if self._kind in _WITH_BACKLOG and ":backlog=" not in description:
            description = f"{description}:backlog={BACKLOG}"
        try:
            self._endpoint: Any = serverFromString(reactor, description)
        except LookupError:
            raise ValueError("the service manager has passed no such socket") from None
        if description.startswith("haproxy:"):
            self._endpoint._wrapperFactory = _ProxiedFactory
        self.certificates = self._take_certificates() if self._kind in _TLS else None

    def listen(self, factory: IProtocolFactory) -> "Deferred[IListeningPort]":
        """Listen. See :class:`twisted.internet.interfaces.IStreamServerEndpoint`."""
        listening: Deferred[IListeningPort] = self._endpoint.listen(factory)
        return listening

    def listen_now(self, factory: IProtocolFactory) -> IListeningPort:
        """Listen; all of Twisted's endpoints do at once, or fail at once.

        Raises:
            CannotListenError: it is taken.
        """
        ports: list[IListeningPort] = []
        failures: list[Failure] = []
        self.listen(factory).addCallbacks(ports.append, failures.append)
        for failure in failures:
            failure.raiseException()
        return ports[0]

    def door(self, port: IListeningPort) -> Door:
        """Return how a port of this endpoint can be reached."""
        return Door(port.getHost(), self._kind in _TLS, self.description.startswith("haproxy:"))

    def url(self, address: Any, scheme: str = "ws") -> str:
        """Return the URL of "/" on a port of this endpoint, as one would type it."""
        scheme += "s" if self._kind in _TLS else ""
        if hasattr(address, "port"):
            host = f"[{address.host}]" if ":" in address.host else address.host
            return f"{scheme}://{host}:{address.port}/"
        name: bytes = getattr(address, "name", None) or b"?"
        return f"{scheme}+unix:{name.decode(errors='replace')}"

    def renew(self, fresh: "Endpoint") -> None:
        """Show new connections what another endpoint of this description has read; old ones live on."""
        if self.certificates is not None and fresh.certificates is not None:
            self.certificates.creator = fresh.certificates.creator

    def _take_certificates(self) -> "_Certificates":
        """Put ourselves between the endpoint and what makes its TLS connections."""
        holder = getattr(self._endpoint, "_wrappedEndpoint", self._endpoint)  # haproxy:
        certificates = _Certificates(getattr(holder, _TLS[self._kind]))
        setattr(holder, _TLS[self._kind], certificates)
        return certificates


class _Proxied(HAProxyProtocolWrapper):
    """A connection that begins with a PROXY header; one that cannot be read ends it without a word."""

    def dataReceived(self, data: bytes) -> None:
        if self._proxyInfo is None and data.startswith(b"PROXY UNKNOWN\r\n"):
            data = data.replace(b"\r\n", b" \r\n", 1)  # the short form, which Twisted's parser refuses (TRAPS 56)
        try:
            super().dataReceived(data)
        except ValueError:  # Twisted's parser lets those of int() and decode() through
            self.loseConnection()


class _ProxiedFactory(HAProxyWrappingFactory):
    """Makes them."""

    protocol = _Proxied  # type: ignore[assignment]  # Twisted annotates it as that very class
    noisy = False


@implementer(IOpenSSLServerConnectionCreator)
class _Certificates:
    """The certificates of an endpoint, with their keys.

    Args:
        creator: Twisted's, which has read them once and does not look again (TRAPS 43).

    Raises:
        ValueError: there are none, as in a folder where no key fits.
    """

    def __init__(self, creator: Any) -> None:
        self.creator = creator
        context: Context = creator.getContext() if hasattr(creator, "getContext") else creator.defaultContext
        if Connection(context).get_certificate() is None:
            raise ValueError("there is no certificate with its key")

    def serverConnectionForTLS(self, protocol: Any) -> Connection:
        """Make the TLS connection of a new client."""
        connection: Connection = self.creator.serverConnectionForTLS(protocol)
        return connection


def end_when_dead(port: IListeningPort, silent_seconds: float) -> None:
    """Let the kernel end TCP with a peer that has vanished, also where nothing can be read or written.

    Set on the listening socket, because connections inherit it (Linux): on each of them it would be five calls.

    Args:
        port: what listens; one that is no TCP socket is left alone.
        silent_seconds: how long what was sent may stay without an acknowledgement (RFC 5482), or the peer, asked after
            half of that time whether it is there, without an answer.
    """
    listening = getattr(port, "socket", None)
    if listening is None or listening.family not in (socket.AF_INET, socket.AF_INET6):
        return
    half_seconds = max(1, round(silent_seconds / 2))
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in {
        "TCP_KEEPIDLE": half_seconds,
        "TCP_KEEPINTVL": max(1, half_seconds // 3),
        "TCP_KEEPCNT": 3,
        "TCP_USER_TIMEOUT": round(silent_seconds * 1e3),
    }.items():
        if hasattr(socket, name):  # not everywhere
            listening.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _refuse_encrypted_keys(description: str) -> None:
    """Raise ``ValueError`` where OpenSSL would ask the terminal for a passphrase, and hold everybody until it comes."""
    arguments, keywords = _parse(description.removeprefix("haproxy:"))
    for path in map(Path, filter(None, (*arguments[1:], *keywords.values()))):
        for file in path.rglob("*.pem") if path.is_dir() else [path]:
            # Both forms have the word: PKCS 8 (RFC 7468 section 11), and the older one (RFC 1421 section 4.6.1.1).
            if file.is_file() and b"ENCRYPTED" in file.read_bytes():
                raise ValueError(f"the key in {file} is encrypted, which nobody could unlock when it is reloaded")


def endpoints(reactor: Any, descriptions: Iterable[str], option: str = "listen") -> list[Endpoint]:
    """Return the endpoints of all descriptions. See :class:`Endpoint`.

    Raises:
        SettingsError: names every wrong one, and the option that they come from.
    """
    made: list[Endpoint] = []
    problems: list[str] = []
    for description in descriptions:
        try:
            made.append(Endpoint(reactor, description))
        except Exception as error:  # noqa: BLE001 - endpoint plugins and certificates raise what they like
            problems.append(f"{option}: {description}: {error}")
    if problems:
        raise SettingsError(problems)
    return made


def admin_endpoint(reactor: Any, description: str) -> Endpoint:
    """Return the admin endpoint; on loopback, unless the description names an interface.

    Raises:
        SettingsError: it is none.
    """
    kind = description.partition(":")[0]
    if kind not in _ADMIN:
        raise SettingsError([f"admin: {description}: must be one of {', '.join(sorted(_ADMIN))}"])
    if _ADMIN[kind] is not None and ":interface=" not in description:
        description = f"{description}:interface={_ADMIN[kind]}"
    return endpoints(reactor, [description], "admin")[0]
