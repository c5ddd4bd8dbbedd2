"""Cases of ``wsrelay selftest`` against relays in memory, right ones and, by changed bytes, wrong ones.

:class:`MemoryEndpoint` connects the clients of a case to a relay's factory. A client that does not read holds the
relay, as TCP does. What passes between the two can be changed, so that a right relay looks like a wrong server.
"""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed

from tests.harness.support import Relay, RelayTestCase, Transport
from wsrelay.selftest.cases import CASES
from wsrelay.selftest.lab import Bounds, Lab
from wsrelay.selftest.runner import Result, try_all
from wsrelay.selftest.target import Target

#: Changes what one ``write`` has, or takes it away.
Change = Callable[[bytes], bytes]

#: Small enough for tests in memory.
BOUNDS = Bounds(seconds=30, max_message_bytes=2**17, batches=2, stalled_bytes=3 * 2**20)

#: A log that the case of a member that does not read overruns.
LOG_BYTES = 2**20


def same(data: bytes) -> bytes:
    """Change nothing."""
    return data


def replacing(old: bytes, new: bytes) -> Change:
    """Return a change of every occurrence."""
    return lambda data: data.replace(old, new)


class _ClientTransport(Transport):
    """The transport of a client, which may be paused, and whose writes may be changed."""

    is_paused = False
    change: Change = staticmethod(same)

    def write(self, data: bytes) -> None:
        super().write(self.change(data))

    def pauseProducing(self) -> None:
        self.is_paused = True

    def resumeProducing(self) -> None:
        self.is_paused = False


class _Link:
    """Moves the bytes of one connection, see ``Relay.pumps``."""

    def __init__(self, server: Transport, client: _ClientTransport, change: Change) -> None:
        self._server = server
        self._client = client
        self._change = change

    def pump(self, advanceClock: bool = True) -> bool:
        up = self._client.getOutBuffer()
        if up and not self._server.disconnected:
            self._server.bufferReceived(up)
        self._server.stalled = self._client.is_paused
        down = self._server.getOutBuffer()
        if down and (changed := self._change(down)):
            self._client.bufferReceived(changed)
        return bool(up or down) or self._end()

    def _end(self) -> bool:
        """Report an end: to the server at once, to a client when it reads."""
        server, client = self._server, self._client
        if client.disconnecting and not client.disconnected:
            client.disconnected = server.disconnecting = True
            server.stream = []
            client.reportDisconnect()
            return True
        if server.disconnecting and not server.disconnected and not server.stream:
            server.disconnected = True
            server.reportDisconnect()
            return True
        if server.disconnected and not client.disconnected and not client.is_paused:
            client.disconnected = True
            client.reportDisconnect()
            return True
        return False


class MemoryEndpoint:
    """Where a relay in memory is.

    Args:
        relay: the relay.
        up: changes what clients write.
        down: changes what the relay writes.
        downs: the same for single connections, by their numbers from 1.
        error: instead of connections, after the first ``good`` ones.
        good: that many.
    """

    def __init__(
        self,
        relay: Relay,
        up: Change = same,
        down: Change = same,
        downs: Mapping[int, Change] | None = None,
        error: Exception | None = None,
        good: int = 0,
    ) -> None:
        self._relay = relay
        self._up = up
        self._down = down
        self._downs = downs or {}
        self._error = error
        self._good = good
        self.count = 0

    def connect(self, factory: Any) -> "Deferred[Any]":
        """Connect a client. See :class:`twisted.internet.interfaces.IStreamClientEndpoint`."""
        self.count += 1
        if self._error is not None and self.count > self._good:
            raise self._error
        address = IPv4Address("TCP", "192.0.2.1", 40000 + self.count)
        server = self._relay.factory.buildProtocol(address)
        client = factory.buildProtocol(None)
        there = Transport(server, isServer=True, peerAddress=address)
        here = _ClientTransport(client, isServer=False)
        here.change = self._up
        self._relay.pumps.append(_Link(there, here, self._downs.get(self.count, self._down)))
        server.makeConnection(there)
        client.makeConnection(here)
        return succeed(client)


def finish(relay: Relay, work: Coroutine[Any, Any, Any]) -> Any:
    """Return what a coroutine returns, while bytes move and time passes, at most two minutes."""
    results: list[Any] = []
    Deferred.fromCoroutine(work).addBoth(results.append)
    relay.settle()
    for _ in range(4 * 120):
        if results:
            break
        relay.wait(0.25)
    (result,) = results
    if hasattr(result, "raiseException"):
        result.raiseException()
    return result


class SelftestCase(RelayTestCase):
    """A test case with cases of the command."""

    def lab(self, relay: Relay, target: Target | None = None, bounds: Bounds = BOUNDS, **changes: Any) -> Lab:
        """Return a lab; ``changes`` are arguments of :class:`MemoryEndpoint`."""
        where: Any = MemoryEndpoint(relay, **changes)
        return Lab(where, target or Target.from_url("ws://relay.example:8080/"), bounds, relay.clock)

    def attempt(
        self,
        name: str,
        *,
        validators: Any = None,
        target: Target | None = None,
        bounds: Bounds = BOUNDS,
        up: Change = same,
        down: Change = same,
        downs: Mapping[int, Change] | None = None,
        **settings: Any,
    ) -> Result:
        """Try one case and return its result.

        Args:
            name: of the case.
            validators: of the relay; by default those of a relay without options.
            target: with which options.
            bounds: limits.
            up: changes what clients write.
            down: changes what the relay writes.
            downs: the same for single connections.
            settings: of the relay.
        """
        usual = {"max_message_bytes": bounds.max_message_bytes, "room_log_bytes": LOG_BYTES}
        relay = self.relay(validators, **{**usual, **settings})
        lab = self.lab(relay, target, bounds, up=up, down=down, downs=downs)
        (result,) = finish(relay, try_all(lab, [case for case in CASES if case.name == name], lambda _result: None))
        return result

    def assert_result(self, result: Result, verdict: str, seen: str) -> None:
        """Compare verdict and what was seen, a part of it."""
        self.assertEqual((result.verdict.value, seen in result.seen), (verdict, True), result.seen)
