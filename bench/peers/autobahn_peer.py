"""A relay on Autobahn, after its example of a broadcast: a list of clients, and messages prepared once for all."""

import argparse
from collections import defaultdict
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept
from twisted.internet import epollreactor

epollreactor.install()

from twisted.internet import reactor  # noqa: E402 - only after its choice


class Protocol(WebSocketServerProtocol):
    """A connection."""

    def onOpen(self) -> None:
        """Join."""
        self.factory.rooms[self.http_request_path].append(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Have it sent to everyone else in the room."""
        self.factory.broadcast(self, payload, isBinary)

    def connectionLost(self, reason: Any) -> None:
        """Leave."""
        super().connectionLost(reason)
        room = self.factory.rooms[self.http_request_path]
        if self in room:
            room.remove(self)


class BroadcastServerFactory(WebSocketServerFactory):
    """The clients of all rooms."""

    protocol = Protocol

    def __init__(self, deflate: bool) -> None:
        super().__init__()
        self.rooms: defaultdict[str, list[Protocol]] = defaultdict(list)
        if deflate:
            self.setProtocolOptions(perMessageCompressionAccept=accept)

    def broadcast(self, publisher: Protocol, payload: bytes, is_binary: bool) -> None:
        """Send a message, which is made into a frame once, to everyone else in the room of its publisher."""
        prepared = self.prepareMessage(payload, isBinary=is_binary)
        for client in self.rooms[publisher.http_request_path]:
            if client is not publisher:
                client.sendPreparedMessage(prepared)


def accept(offers: list[Any]) -> Any:
    """Accept the first offer of permessage-deflate, as in Autobahn's example of compression."""
    return next((PerMessageDeflateOfferAccept(o) for o in offers if isinstance(o, PerMessageDeflateOffer)), None)


def main() -> None:
    """Listen on a port of the kernel's choice, say so, and serve for ever."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--deflate", action="store_true")
    factory = BroadcastServerFactory(parser.parse_args().deflate)
    port = reactor.listenTCP(0, factory, backlog=1024, interface="127.0.0.1")
    print("listening on", port.getHost().port, flush=True)
    reactor.run()


main()
