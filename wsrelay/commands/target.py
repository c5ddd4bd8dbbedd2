"""Where a client of the commands connects: options, URL of the room, and TLS.

Must not live here: the connection (:mod:`wsrelay.commands.client`).
"""

import argparse
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, quote, urlsplit

from OpenSSL.crypto import Error as CryptoError
from OpenSSL.SSL import Connection
from twisted.internet._sslverify import IOpenSSLTrustRoot
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IStreamClientEndpoint
from twisted.internet.ssl import Certificate, CertificateOptions, optionsForClientTLS, trustRootFromCertificates
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

__all__ = ["Target", "add_arguments", "field", "target", "utf8"]

#: Schemes of a room's URL → those of its WebSocket.
_SCHEMES: Final = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}

#: The default of ``--url``: where a relay without options is.
_LOCAL: Final = "ws://127.0.0.1:8080"


@dataclass(frozen=True, slots=True)
class Target:
    """A room at a relay, and what a handshake needs.

    Attributes:
        url: of the room: ``ws://`` or ``wss://``.
        token: for ``Authorization: Bearer``; empty: none.
        origin: for ``Origin``; ``None``: none, as programs have it.
        ca: PEM file with the certificate to trust; ``None``: those of the system.
        insecure: whether any certificate will do.
    """

    url: str
    token: str = ""
    origin: str | None = None
    ca: str | None = None
    insecure: bool = False

    @property
    def shown(self) -> str:
        """The URL without its query, which may hold a secret."""
        return self.url.partition("?")[0]

    @property
    def headers(self) -> dict[str, str]:
        """Header fields of the handshake."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def endpoint(self, reactor: Any) -> IStreamClientEndpoint:  # Any: several interfaces at once
        """Return where to connect.

        Raises:
            OSError: the ``ca`` file cannot be read.
            ValueError: it is no certificate.
        """
        parts = urlsplit(self.url)
        host, is_tls = parts.hostname or "", parts.scheme == "wss"
        plain = HostnameEndpoint(reactor, host, parts.port or (443 if is_tls else 80), timeout=10)
        return wrapClientTLS(self._creator(host), plain) if is_tls else plain

    def _creator(self, host: str) -> IOpenSSLClientConnectionCreator:
        if self.insecure:
            return _Unverified(host)
        creator: IOpenSSLClientConnectionCreator = optionsForClientTLS(host, _trusted(self.ca) if self.ca else None)
        return creator


@implementer(IOpenSSLClientConnectionCreator)
class _Unverified:
    """Makes TLS connections with any certificate."""

    def __init__(self, host: str) -> None:
        self._host = host

    def clientConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> Any:
        """Make a connection."""
        connection = Connection(CertificateOptions().getContext(), None)
        connection.set_tlsext_host_name(self._host.encode("idna"))
        return connection


def _trusted(path: str) -> IOpenSSLTrustRoot:
    content = Path(path).read_bytes()
    try:
        certificate = Certificate.loadPEM(content)
    except CryptoError:
        raise ValueError(f"{path} is no certificate (PEM)") from None
    trusted: IOpenSSLTrustRoot = trustRootFromCertificates([certificate])
    return trusted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the room, and the options of a client."""
    parser.add_argument(
        "room", type=utf8, metavar="ROOM", help="name of the room, or its URL: ws://HOST/ROOM, wss://, http(s)://"
    )
    parser.add_argument(
        "--url", type=utf8, default=_LOCAL, help=f"of the relay, where ROOM is a name [default: {_LOCAL}]"
    )
    parser.add_argument(
        "--token",
        type=field,
        default=os.environ.get("WSRELAY_TOKEN", ""),
        help="token for the relay [default: WSRELAY_TOKEN of the environment, which other users cannot see]",
    )
    parser.add_argument("--origin", type=field, help="Origin to send, as a browser does [default: none]")
    parser.add_argument("--ca", metavar="FILE", help="PEM certificate to trust, such as that of wsrelay init")
    parser.add_argument("--insecure", action="store_true", help="accept any certificate: for tests only")


def target(arguments: argparse.Namespace, query: str = "") -> Target:
    """Return the target of parsed arguments; ends the process (2) if they are wrong.

    Args:
        arguments: parsed.
        query: to append to the URL.
    """
    url = arguments.room
    if not re.match("[A-Za-z]+://", url):
        url = f"{arguments.url.rstrip('/')}/{quote(url.removeprefix('/'))}"
    parts = _parts(url) or arguments.parser.error(
        f"{url.partition('?')[0]} is no URL of a room: write ws://HOST:PORT/ROOM, or wss:// for TLS"
    )
    query = "&".join(filter(None, (parts.query, query)))
    whole = parts._replace(scheme=_SCHEMES[parts.scheme], path=parts.path or "/", query=query, fragment="").geturl()
    return Target(whole, arguments.token, arguments.origin, arguments.ca, arguments.insecure)


def _parts(url: str) -> SplitResult | None:
    """Return the parts of a URL; ``None`` if it is none of a room."""
    try:
        parts = urlsplit(url)
        is_usable = parts.port != 0 and parts.hostname and parts.scheme in _SCHEMES and parts.username is None
    except ValueError:  # brackets, or the port
        return None
    return parts if is_usable else None


def utf8(text: str) -> str:
    """Return an argument that goes over the network.

    Raises:
        argparse.ArgumentTypeError: it was not UTF-8 on the command line.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"{text!a} is not UTF-8") from None
    return text


def field(text: str) -> str:
    """Return an argument for a header field.

    Raises:
        argparse.ArgumentTypeError: it would break the field.
    """
    if not (text.isascii() and text.isprintable()):
        raise argparse.ArgumentTypeError("not printable ASCII")  # without the text: a token
    return text
