"""The last response on a connection: write it, end our half, let the peer read it.

Must not live here: which response (:mod:`wsrelay.http.responses`), deadlines (the connection).
"""

from twisted.internet.interfaces import ISSLTransport, ITransport

__all__ = ["linger"]


def linger(transport: ITransport, response: bytes) -> None:
    """Write the last response and end our half of TCP.

    The caller reads the peer's remaining bytes away until it ends its half, and aborts at a deadline of its own. Unread
    bytes would make TCP overtake the response with a reset. TLS has no halves: both are ended.
    """
    transport.write(response)
    half_close = None if ISSLTransport.providedBy(transport) else getattr(transport, "loseWriteConnection", None)
    (half_close or transport.loseConnection)()
