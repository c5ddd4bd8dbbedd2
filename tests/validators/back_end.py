"""Shared by the back end's tests: an HTTP server in memory, below twisted.web's real client."""

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from .support import ValidatorTestCase

URL = "http://backend.example:8000/ask?key=backendsecret"


def answer(status: str, body: bytes = b"", *headers: str) -> bytes:
    """Return an HTTP response as bytes, with its length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


class Connection:
    """The back end's side of one connection: the real client above, bytes below."""

    def __init__(self, factory: Any) -> None:
        self.transport = StringTransport()
        self.protocol = factory.buildProtocol(None)
        self.protocol.makeConnection(self.transport)

    def take(self) -> tuple[str, dict[str, str], Any]:
        """Return the request: request line, headers, JSON body."""
        head, _, body = self.transport.value().partition(b"\r\n\r\n")
        self.transport.clear()
        line, *fields = head.decode("ascii").split("\r\n")
        headers = dict(field.lower().split(": ", 1) for field in fields)
        assert headers["content-length"] == str(len(body))
        return line, headers, json.loads(body)

    def send(self, data: bytes) -> None:
        """Send an answer."""
        self.protocol.dataReceived(data)

    def close(self) -> None:
        """Close the connection."""
        self.protocol.connectionLost(Failure(ConnectionDone()))


class BackendTestCase(ValidatorTestCase):
    """A test case with a back end on a reactor in memory."""

    def setUp(self) -> None:
        """Make the reactor."""
        self.reactor = MemoryReactorClock()

    def to_end(self, asked: Deferred[Any]) -> None:
        """Cancel a question at the end of the test: one that is collected instead would begin those that wait."""

        def end() -> None:
            if not asked.called:
                asked.addErrback(lambda _: None).cancel()

        self.addCleanup(end)

    def accept(self) -> Connection:
        """Accept the last connection."""
        return Connection(self.reactor.tcpClients[-1][2])
