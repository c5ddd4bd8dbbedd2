"""Speaking HTTP to an admin endpoint in memory: the bytes of one connection, and what was answered."""

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from wsrelay.admin.gate import GatedChannel, GatedSite


class Transport(StringTransport):
    """StringTransport with the ends that it lacks."""

    half_closed = False

    def unregisterProducer(self) -> None:
        self.producer = None  # twice, too, as all of Twisted's (TRAPS 45)

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def loseWriteConnection(self) -> None:
        self.half_closed = True


class Response:
    """An answer, taken apart.

    Attributes:
        status: its status; 0 if nothing was answered.
        fields: lower-case name → value.
        body: the rest.
    """

    def __init__(self, data: bytes) -> None:
        head, _, self.body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("ascii").split("\r\n")
        self.status = int(first.split()[1]) if first else 0
        self.fields = {name.lower(): value for name, value in [line.split(": ", 1) for line in lines]}

    @property
    def json(self) -> Any:
        """The body as JSON."""
        assert self.fields["content-type"] == "application/json", self.fields
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """The body as text, without its line end."""
        return self.body.decode().rstrip("\n")


def head(target: str = "/", method: str = "GET", **fields: str) -> bytes:
    """Return the head of a request; ``fields`` add to it or replace, with ``_`` for ``-``."""
    merged = {"Host": "localhost", **{name.replace("_", "-"): value for name, value in fields.items()}}
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in merged.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


class Connection:
    """A client's end of one connection to a site."""

    def __init__(self, site: GatedSite, transport: Any = None) -> None:
        self.transport = transport or Transport(peerAddress=IPv4Address("TCP", "127.0.0.1", 50000))
        self.channel: GatedChannel = site.buildProtocol(None)  # type: ignore[assignment]
        self.channel.makeConnection(self.transport)

    def send(self, data: bytes) -> Response:
        """Send bytes, and return all that was answered so far."""
        self.channel.dataReceived(data)
        return self.response

    @property
    def response(self) -> Response:
        return Response(self.transport.value())

    @property
    def ended(self) -> bool:
        """Whether the end has been begun from the other side."""
        return bool(self.transport.disconnecting or self.transport.half_closed)

    def hang_up(self) -> None:
        """End it from this side."""
        self.channel.connectionLost(Failure(ConnectionDone()))


def site(resource: Any, check: Callable[[Any], None] = lambda request: None) -> tuple[GatedSite, MemoryReactorClock]:
    """Return a site, and the clock by which it lives."""
    clock = MemoryReactorClock()
    return GatedSite(resource, clock, 10, check), clock
