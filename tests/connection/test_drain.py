"""Tests of wsrelay.connection.drain."""

from collections import Counter
from itertools import cycle
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.support import RelayTestCase, request_bytes
from wsrelay import closecodes
from wsrelay.connection.drain import Drain, abort_all, each
from wsrelay.connection.stage import Stage
from wsrelay.message import Run
from wsrelay.rooms.hub import Hub
from wsrelay.settings import Settings
from wsrelay.stats import Stats


class FakeConnection:
    """A connection that records its closes."""

    def __init__(self, clock: Clock, stage: Stage = Stage.OPEN) -> None:
        self._clock = clock
        self.stage = stage
        self.member = None
        self.paused = False
        self.aborted = False
        self.closed: list[float] = []
        self.failures: list[Exception] = []
        self.transport = self

    def close(self, reason: closecodes.CloseReason) -> None:
        self.closed.append(self._clock.seconds())

    def fail(self, error: Exception) -> None:
        self.failures.append(error)

    def abortConnection(self) -> None:
        self.aborted = True


class DrainTests(SynchronousTestCase):
    """The time of each connection's close."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.connections: set[Any] = set()

    def connect(self, count: int = 1, stage: Stage = Stage.OPEN) -> list[FakeConnection]:
        made = [FakeConnection(self.clock, stage) for _ in range(count)]
        self.connections.update(made)
        return made

    def drain(self, spread_seconds: float, *random: float) -> Drain:
        numbers = cycle(random or (0.5,))
        hub = Hub(Settings(), Stats(), lambda call: self.clock.callLater(0, call))
        drain = Drain(self.connections, hub, closecodes.RESTARTING, self.clock, lambda: next(numbers))
        drain.start(spread_seconds, spread_seconds + 3)
        return drain

    def wait(self, seconds: float) -> None:
        # Steps without rounding errors.
        self.clock.pump([1 / 32] * int(seconds * 32))

    def closes(self) -> list[float]:
        """Return the times of each connection's first close."""
        return sorted(connection.closed[0] for connection in self.connections if connection.closed)

    def test_drain_spread(self) -> None:
        """Closes are spread evenly over the seconds, and within each second."""
        self.connect(1000)
        self.drain(10)
        self.wait(10)
        per_second = Counter(min(int(when), 9) for when in self.closes())

        # A turn waits for the next step: some closes of a second are in the next one.
        self.assertTrue(all(90 <= per_second[second] <= 110 for second in range(10)), per_second)
        self.assertEqual(per_second.total(), 1000)
        self.assertGreater(len(set(self.closes())), 180)

    def test_drain_jitter(self) -> None:
        """Within its share of the time, a connection's close is at random."""
        self.connect(4)
        self.drain(8, 0.1, 0.9, 0.5, 0.0)
        self.wait(7)

        for closed, turn in zip(self.closes(), (0.2, 3.8, 5.0, 6.0), strict=True):
            self.assertTrue(turn <= closed < turn + 0.1, (turn, closed))

    def test_drain_zero_seconds(self) -> None:
        """With 0 seconds all are closed before the call returns, slow ones too."""
        behind, *_ = self.connect(3)
        behind.paused = True
        self.drain(0)

        self.assertEqual(self.closes(), [0, 0, 0])

    def test_drain_one_turn(self) -> None:
        """Each connection has one turn; the close of all at the end does nothing to closed ones."""
        [connection] = self.connect()
        self.drain(2, 0.0)
        self.wait(1.5)
        self.assertEqual(connection.closed, [0])
        self.wait(1)

        self.assertEqual(connection.closed, [0, 2])

    def test_drain_handshakes(self) -> None:
        """Handshakes are closed at once: they would lose no message."""
        self.connect(5)
        self.connect(3, Stage.REQUEST)
        self.drain(10)

        self.assertEqual(self.closes(), [0, 0, 0])

    def test_drain_postpones_slow(self) -> None:
        """A connection that is behind at its turn is closed as soon as it is not, within the time."""
        [connection] = self.connect()
        connection.paused = True
        self.drain(10, 0.1)
        self.wait(5)
        self.assertEqual(connection.closed, [])
        connection.paused = False
        self.wait(0.125)

        self.assertEqual(len(connection.closed), 1)

    def test_drain_end_closes_rest(self) -> None:
        """At the end, connections that are still behind, or new, are closed."""
        [behind] = self.connect()
        behind.paused = True
        self.drain(2, 0.1)
        self.wait(1)
        [late] = self.connect()
        self.wait(1)

        self.assertEqual((behind.closed, late.closed), ([2], [2]))

    def test_drain_late_step(self) -> None:
        """After a blocked reactor, exactly the connections whose turns have passed are closed."""
        self.connect(10)
        self.drain(10)
        self.clock.advance(4)

        self.assertEqual(self.closes(), [4.0] * 4)

    def test_drain_abort(self) -> None:
        """Connections that are left at the deadline are aborted."""
        [connection] = self.connect()
        self.drain(1)
        self.wait(3.75)
        self.assertFalse(connection.aborted)
        self.wait(0.25)

        self.assertTrue(connection.aborted)

    def test_drain_done(self) -> None:
        """When the drain ends, early or late, its Deferred fires and no timer is left."""
        for seconds in (0, 0.5, 2, 4):
            self.connect()
            drain = self.drain(1)
            self.wait(seconds)
            self.assertNoResult(drain.done)
            drain.end()
            self.successResultOf(drain.done)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_drain_close_fails(self) -> None:
        """A connection whose close raises delays no other, at its turn and at the end."""
        broken, other = FakeConnection(self.clock), FakeConnection(self.clock)
        broken.close = lambda reason: 1 / 0  # type: ignore[assignment,method-assign]
        self.connections = {broken, other}
        self.drain(2, 0.0)
        self.wait(2)

        self.assertEqual([type(error) for error in broken.failures], [ZeroDivisionError] * 2)
        self.assertEqual(len(other.closed), 2)


class EachTests(SynchronousTestCase):
    """Closing and aborting many connections."""

    def test_each_guarded(self) -> None:
        """An exception of one connection does not affect the others."""
        connections = [FakeConnection(Clock()) for _ in range(3)]
        acted: list[FakeConnection] = []
        each(connections, lambda connection: 1 / 0 if connection is connections[0] else acted.append(connection))

        self.assertEqual(acted, connections[1:])
        self.assertEqual([len(connection.failures) for connection in connections], [1, 0, 0])

    def test_abort_all(self) -> None:
        """All are aborted, even if the set changes meanwhile."""
        connections = {FakeConnection(Clock()) for _ in range(3)}
        everyone = list(connections)
        for connection in everyone:
            connection.abortConnection = connections.clear  # type: ignore[method-assign]
        abort_all(connections)

        self.assertEqual([connection.failures for connection in everyone], [[], [], []])

    def test_abort_all_ended(self) -> None:
        """A connection whose TCP has ended is not aborted: with TLS, its transport would raise."""
        connections = [FakeConnection(Clock(), stage) for stage in (Stage.OPEN, Stage.LOST)]
        abort_all(connections)  # type: ignore[arg-type]

        self.assertEqual([connection.aborted for connection in connections], [True, False])


class RelayTests(RelayTestCase):
    """A draining relay."""

    def test_drain_goes_on_relaying(self) -> None:
        """Until its turn a member gets all messages; then it is closed with 1012."""
        relay = self.relay()
        clients = [relay.client() for _ in range(4)]
        relay.factory.close_all(closecodes.RESTARTING, 13, 10)
        said: list[str] = []
        heard_by_all: dict[Any, list[str]] = {client: [] for client in clients}
        for number in range(40):
            speaker = next((client for client in clients if client.open), None)
            if speaker is not None:
                said.append(f"message {number}")
                speaker.say(said[-1])
                relay.settle()
                for client in clients:
                    if client.open and client is not speaker:
                        heard_by_all[client].append(said[-1])
            relay.wait(0.25)

        for client in clients:
            self.assertEqual(client.messages, heard_by_all[client])
            self.assertEqual(client.closed, (1012, "the relay is restarting: reconnect with back-off"))
        self.assertEqual((len(said), relay.stats.messages_missed), (40, 0))

    def test_drain_postpones_full_buffer(self) -> None:
        """A member that cannot take all pending messages at its turn is postponed, and loses none."""
        relay = self.relay(room_log_bytes=2**20 + 256)
        relay.factory.random = lambda: 0.0
        client = relay.client()
        client.server_transport.stalled = True
        for number in range(4):
            relay.factory.backplane.publish("room", Run.binary(bytes([number]) * 90_000))
        relay.factory.close_all(closecodes.RESTARTING, 13, 10)
        relay.wait(5)
        self.assertTrue(client.open)
        client.server_transport.stalled = False
        relay.wait(1)

        self.assertEqual([message[:1] for message in client.messages], [b"\0", b"\1", b"\2", b"\3"])
        self.assertEqual((client.closed[0], relay.stats.messages_missed), (1012, 0))

    def test_drain_never_reads(self) -> None:
        """A member that never reads is closed at the end, behind its messages, and aborted at the deadline."""
        relay = self.relay(close_seconds=60)
        relay.factory.random = lambda: 0.0
        wire = relay.wire()
        wire.send(request_bytes())
        wire.transport.stalled = True
        relay.factory.backplane.publish("room", Run.binary(bytes(90_000)))
        done = relay.factory.close_all(closecodes.RESTARTING, 5, 2)
        relay.wait(1.75)
        self.assertEqual(relay.stats.closes_sent, {})
        relay.wait(0.5)
        self.assertEqual(relay.stats.closes_sent, {1012: 1})
        self.assertFalse(wire.transport.aborted)
        relay.wait(3)
        self.assertTrue(wire.transport.aborted)
        wire.hang_up()

        self.successResultOf(done)
