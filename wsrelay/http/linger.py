"""The last response on a connection: write it, end our half, let the peer read it.

Must not live here: which response (:mod:`wsrelay.http.responses`), deadlines (the connection).
"""

from typing import Protocol, cast

from OpenSSL.SSL import Connection
from twisted.internet.interfaces import ISSLTransport, ITCPTransport

__all__ = ["half_close", "is_in_handshake", "linger"]


class _Encrypted(Protocol):
    """Twisted's transport with TLS."""

    def getHandle(self) -> Connection:
        """Return OpenSSL's connection."""


def is_in_handshake(transport: ITCPTransport) -> bool:
    """Return whether the TLS handshake is unfinished: nothing can be sent, and a polite end would wait for the peer."""
    return ISSLTransport.providedBy(transport) and cast("_Encrypted", transport).getHandle().get_peer_finished() is None


def linger(transport: ITCPTransport, response: bytes, *, until_reply: bool = False) -> None:
    """Write the last response and end our half of TCP.

    The caller discards the peer's remaining bytes until the peer ends its half, and aborts at its own deadline. With
    unread bytes, TCP would overtake the response with a reset. Within TLS' handshake TCP is aborted, without the
    response.

    Args:
        transport: of the connection.
        response: the response.
        until_reply: whether the caller ends our half, once the peer sends something: :func:`half_close`.
    """
    if is_in_handshake(transport):
        transport.abortConnection()
        return
    transport.write(response)
    if not until_reply:
        half_close(transport)


def half_close(transport: ITCPTransport) -> None:
    """End our half of TCP. TLS has no half-close: both directions end."""
    lose = None if ISSLTransport.providedBy(transport) else getattr(transport, "loseWriteConnection", None)
    (lose or transport.loseConnection)()
