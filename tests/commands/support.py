"""What the tests of the commands share: a command in this process, and a relay in memory for clients."""

import io
from collections.abc import Coroutine
from contextlib import redirect_stderr, redirect_stdout
from typing import Any, NamedTuple

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.test.iosim import connect

from tests.harness.support import Relay, RelayTestCase, Transport
from wsrelay.commands.main import main
from wsrelay.commands.target import Target


class Ended(NamedTuple):
    """A command that has run."""

    code: object
    stdout: str
    stderr: str


def command(*words: str) -> Ended:
    """Run one command in this process."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with redirect_stdout(stdout), redirect_stderr(stderr):
        try:
            code: object = main(words)
        except SystemExit as end:
            code = end.code
    return Ended(code, stdout.getvalue(), stderr.getvalue())


class Wires:
    """An endpoint that connects to a relay in memory.

    Set ``failures`` to exceptions for the next connections. ``clients`` has all that were made.
    """

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self.failures: list[Exception] = []
        self.clients: list[Any] = []

    def connect(self, factory: Any) -> "Deferred[Any]":
        if self.failures:
            return fail(self.failures.pop(0))
        client = factory.buildProtocol(None)
        client.resource = factory.resource
        address = IPv4Address("TCP", "192.0.2.9", 50000 + len(self._relay.pumps))
        server = self._relay.factory.buildProtocol(address)
        client.ours = Transport(client, isServer=False)
        client.theirs = Transport(server, isServer=True, peerAddress=address)
        pump = connect(server, client.theirs, client, client.ours, greet=False, clock=self._relay.clock)
        self._relay.pumps.append(pump)
        self.clients.append(client)
        return succeed(client)


class ClientTestCase(RelayTestCase):
    """A test case with a relay in memory, and an endpoint for it."""

    def start(self, validators: Any = (), **settings: Any) -> None:
        """Start the relay."""
        self.server = self.relay(validators, **settings)
        self.wires: Any = Wires(self.server)
        self.room = Target("ws://relay.example:8080/room")
        self.notes: list[str] = []
        for module in ("client", "say", "tail"):
            self.patch(__import__(f"wsrelay.commands.{module}", fromlist=["note"]), "note", self.notes.append)

    def begin(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Begin some work, and let all do what they can now."""
        done = Deferred.fromCoroutine(work)
        self.server.settle()
        return done
