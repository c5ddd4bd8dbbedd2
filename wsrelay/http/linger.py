"""The last response on a connection: write it, end our half, let the peer read it.

Must not live here: which response (:mod:`wsrelay.http.responses`), deadlines (the connection).
"""

from twisted.internet.interfaces import ISSLTransport, ITransport

__all__ = ["linger"]


def linger(transport: ITransport, response: bytes) -> None:
    """Write the last response and end our half of TCP.

    The caller discards the peer's remaining bytes until the peer ends its half, and aborts at its own deadline. With
    unread bytes, TCP would overtake the response with a reset. TLS has no half-close: both directions end.
    """
    transport.write(response)
    half_close = None if ISSLTransport.providedBy(transport) else getattr(transport, "loseWriteConnection", None)
    (half_close or transport.loseConnection)()
