"""A validator that selects the value of the connection's TCP_NODELAY as the subprotocol."""

import socket

from twisted.internet.tcp import Server


def validate(request, grant):
    """Select the subprotocol "1" or "0"."""
    from twisted.internet import reactor  # noqa: PLC0415 - not while options are parsed

    (accepted,) = (
        reader
        for reader in reactor.getReaders()
        if isinstance(reader, Server) and reader.socket.getpeername()[1] == request.peer.port
    )
    no_delay = accepted.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    return grant.narrowed(subprotocol="1" if no_delay else "0")
