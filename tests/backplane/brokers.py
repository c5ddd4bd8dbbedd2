"""Brokers and Sentinels in memory: a network without sockets, with scripted replies, for the client's opening."""

from collections.abc import Callable
from typing import Any, TypeVar

import hiredis
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from wsrelay.backplane.redis_link import Pair, open_pair
from wsrelay.backplane.url import Password, parse

Value = TypeVar("Value")

#: After so many seconds, HostnameEndpoint finds that the name has no further address.
NEXT_ADDRESS_SECONDS = 0.3

#: A reply as bytes; ``None``: no reply; an exception: the connection ends with it.
Answer = bytes | Exception | None


def bulk(text: str) -> bytes:
    """Return a bulk string."""
    return f"${len(text)}\r\n{text}\r\n".encode("latin-1")


def info(**changes: str) -> bytes:
    """Return a reply to INFO, with changes."""
    fields = {"redis_version": "7.0.15", "run_id": "r", "role": "master", "master_replid": "m", "loading": "0"}
    return bulk("# Server\r\n" + "".join(f"{name}:{value}\r\n" for name, value in {**fields, **changes}.items()))


class Transport(StringTransport):
    """A TCP transport in memory."""

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Do nothing."""

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Do nothing."""


class Server:
    """A peer.

    Args:
        answers: first word of a command → its reply, or a function that makes it from the command's words.

    Attributes:
        received: the commands, as lists of words.
        transports: of its connections, in order.
    """

    def __init__(self, **answers: "Answer | Callable[[list[bytes]], Answer]") -> None:
        self.answers = {"PING": b"+PONG\r\n", "INFO": info(), "XRANGE": b"*0\r\n", **answers}
        self.received: list[list[bytes]] = []
        self.transports: list[StringTransport] = []

    def answer(self, words: list[bytes]) -> Answer:
        """Return the reply to a command."""
        self.received.append(words)
        found = self.answers.get(words[0].decode(), b"+OK\r\n")
        return found(words) if callable(found) else found


class Network:
    """Peers by port or path; all names have the address 127.0.0.1.

    Attributes:
        reactor: for the client.
        peers: a server; an exception: connecting fails with it; missing: connecting takes for ever.
        talks: whether servers read and reply.
    """

    def __init__(self, **peers: "Server | Exception") -> None:
        self.reactor = MemoryReactorClock()
        self.peers: dict[str, Server | Exception] = {name.removeprefix("at_"): peer for name, peer in peers.items()}
        self.talks = True
        self._connections: list[tuple[Any, StringTransport, Any, Server]] = []

    def open(self, url: str, password: bytes | None = None, name: str = "me", shard: int = 0) -> "Deferred[Pair]":
        """Begin to open a pair, and run until nothing happens."""
        secret = None if password is None else Password(password)
        opening = open_pair(self.reactor, parse(url), secret, name, shard)
        self.run()
        return opening

    def run(self) -> None:
        """Connect and reply until nothing happens."""
        while self._connect() or (self.talks and self._reply()):
            pass

    @property
    def transports(self) -> list[StringTransport]:
        """The clients' transports."""
        return [transport for _, transport, *_ in self._connections]

    def _connect(self) -> bool:
        clients = [(str(port), factory) for _, port, factory, *_ in self.reactor.tcpClients]
        clients += [(path, factory) for path, factory, *_ in self.reactor.unixClients]
        self.reactor.tcpClients.clear()
        self.reactor.unixClients.clear()
        for place, factory in clients:
            peer = self.peers.get(place)
            if isinstance(peer, Exception):
                factory.clientConnectionFailed(None, Failure(peer))
                self.reactor.advance(NEXT_ADDRESS_SECONDS)
            elif peer is not None:
                self._accept(factory, peer)
        return bool(clients)

    def _accept(self, factory: Any, peer: Server) -> None:
        transport = Transport()
        peer.transports.append(transport)
        protocol = factory.buildProtocol(None)
        self._connections.append((protocol, transport, hiredis.Reader(), peer))
        protocol.makeConnection(transport)

    def _reply(self) -> bool:
        happened = False
        for protocol, transport, reader, peer in list(self._connections):
            reader.feed(transport.value())
            transport.clear()
            while (words := reader.gets()) is not False:
                happened = True
                answer = peer.answer(words)
                if isinstance(answer, Exception):
                    transport.loseConnection()
                    protocol.connectionLost(Failure(answer))
                elif answer is not None:
                    protocol.dataReceived(answer)
        return happened

    def end_connections(self, most: int | None = None) -> None:
        """End connections, the oldest ones first."""
        for protocol, transport, *_ in self._connections[:most]:
            transport.loseConnection()
            protocol.connectionLost(Failure(ConnectionDone()))

    def deliver(self, data: bytes) -> None:
        """Send bytes on the newest connection; the client may end it."""
        protocol, transport, *_ = self._connections[-1]
        protocol.dataReceived(data)
        if transport.disconnecting:
            protocol.connectionLost(Failure(ConnectionDone()))
