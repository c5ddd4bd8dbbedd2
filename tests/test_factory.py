"""Tests of wsrelay.factory."""

import gc
import socket
import weakref
from collections.abc import Callable
from types import FunctionType, ModuleType

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolNegotiationFactory
from twisted.internet.task import Clock
from twisted.protocols.policies import WrappingFactory
from zope.interface.verify import verifyObject

from tests.harness.backplane import BrokerTestCase
from tests.harness.support import Answer, RelayTestCase, Transport, request_bytes
from tests.wire.test_frames import parse
from wsrelay import __version__, closecodes, factory
from wsrelay.backplane.local import LocalBackplane
from wsrelay.connection.opening import Opening
from wsrelay.errors import Denied, SettingsError
from wsrelay.factory import RelayFactory
from wsrelay.grant import Grant
from wsrelay.settings import Settings
from wsrelay.validators import probe
from wsrelay.wire import frames


def settings_of(root: object) -> set[int]:
    """Return the ids of all Settings that an object holds, directly or through other objects."""
    found: set[int] = set()
    seen: set[int] = set()
    todo = [root]
    while todo:
        item = todo.pop()
        if isinstance(item, Settings):
            found.add(id(item))
        # Not txaio's timers, which lead to a reactor of other tests.
        is_ours = not isinstance(item, type | ModuleType) and not type(item).__module__.startswith("txaio")
        if id(item) not in seen and is_ours:
            seen.add(id(item))
            # Not the globals of functions, which lead everywhere.
            todo += (item.__closure__ or ()) if isinstance(item, FunctionType) else gc.get_referents(item)
    return found


class ValidatorsTests(RelayTestCase):
    """The validators of a relay."""

    def test_validators_from_settings(self) -> None:
        """Without a validators argument the settings name them; the default is same-host."""
        relay = self.relay(None)
        for origin, status in ((None, b"101"), ("http://relay.example", b"101"), ("https://evil.example", b"403")):
            wire = relay.wire()
            wire.send(request_bytes(fields={"Origin": origin}))
            self.assertEqual(wire.received.split()[1], status)
        self.assertRaises(SettingsError, RelayFactory, Settings(validate=("nosuch",)), reactor=relay.clock)

    def test_validators_descriptors(self) -> None:
        """Descriptors that validators use are taken off those for clients."""
        self.patch(factory, "most_connections", lambda reserved: 1000 - reserved)
        relay = self.relay(None, validate=("http:http://127.0.0.1:1,connections=4", "host:relay.example"))

        self.assertEqual(relay.factory.max_connections, 1000 - 8)
        self.assertEqual(self.relay(max_connections=7).factory.max_connections, 7)


class EndingClock(Clock):
    """A clock that is a reactor with an end of the turn."""

    def __init__(self) -> None:
        super().__init__()
        self.at_end: list[Callable[[], object]] = []

    def callAtEndOfTurn(self, function: Callable[[], object]) -> None:
        self.at_end.append(function)


class EndOfTurnTests(RelayTestCase):
    """When rooms are flushed, waiting reads served, and lines logged."""

    def test_end_of_turn(self) -> None:
        """At the end of the turn where the reactor has that, else by a timed call of 0 s."""
        for clock in (EndingClock(), Clock()):
            relay = RelayFactory(Settings(), [], clock)
            for part in (relay.hub._scheduler, relay.turns, relay.lines):
                part._call_soon(list)  # type: ignore[attr-defined]  # of three classes
            at_end = clock.at_end if isinstance(clock, EndingClock) else clock.getDelayedCalls()
            self.assertEqual(len(at_end), 3)
            self.assertEqual(clock.getDelayedCalls() == [], isinstance(clock, EndingClock))


class TLSTests(RelayTestCase):
    """Protocol negotiation."""

    def test_alpn(self) -> None:
        """TLS negotiates HTTP/1.1 (TRAPS 34)."""
        factory = self.relay().factory

        self.assertTrue(verifyObject(IProtocolNegotiationFactory, factory))
        self.assertEqual(factory.acceptableProtocols(), [b"http/1.1"])


class AdmissionTests(RelayTestCase):
    """Over-limit connections."""

    def test_max_connections(self) -> None:
        """An over-limit connection gets 503; after an end, the next is admitted."""
        relay = self.relay(max_connections=2)
        a, _ = relay.client(), relay.client()
        self.assertEqual(relay.client().status, 503)
        a.sendClose(1000)
        relay.settle()

        self.assertTrue(relay.client().open)

    def test_refusal_slots(self) -> None:
        """Without a free refusal slot, connections are aborted unread, and counted apart."""
        for most, told in ((1, 1), (40, 5), (600, 64)):
            relay = self.relay(max_connections=most, max_handshakes_per_address=0)
            for _ in range(most + told):
                self.assertFalse(relay.wire().transport.aborted)
            dropped = [relay.wire() for _ in range(3)]
            self.assertEqual([wire.transport.aborted for wire in dropped], [True] * 3)
            for wire in dropped:
                wire.hang_up()

            self.assertEqual(relay.stats.connections_dropped, 3)
            self.assertEqual(len(relay.factory.connections), most + told)

    def test_refusal_slots_behind_tls(self) -> None:
        """The same on endpoints that wrap connections, such as TLS: nothing raises, no socket stays open."""
        relay = self.relay(max_connections=1)
        for _ in range(2):
            relay.wire()
        wrapper = WrappingFactory(relay.factory)
        protocol = wrapper.buildProtocol(None)
        transport = Transport(protocol, isServer=True)
        protocol.makeConnection(transport)

        self.assertTrue(transport.aborted)

    def test_disconnected(self) -> None:
        """After any end, a connection is removed everywhere, once."""
        relay = self.relay()
        for end in (b"", request_bytes(), request_bytes("//"), request_bytes() + b"x"):
            wire = relay.wire()
            wire.send(end)
            wire.hang_up()
        client = relay.client()
        gone = weakref.ref(client.server)
        client.sendClose(1000)
        relay.settle()
        relay.pumps.clear()
        del client
        gc.collect()

        self.assertEqual((relay.factory.connections, len(relay.factory.hub)), (set(), 0))
        self.assertIsNone(gone())


class SweepTests(RelayTestCase):
    """The sweep over deadlines."""

    def test_sweep_step_raises(self) -> None:
        """A raising step is logged and counted; deadlines are kept, this time and the next."""
        relay = self.relay(handshake_seconds=2)
        self.patch(relay.factory.sweep, "steps", [lambda now: 1 / 0, *relay.factory.sweep.steps])
        wire = relay.wire()
        relay.wait(3)
        wire.send(b"")

        self.assertEqual(wire.status, 408)
        failures = self.flushLoggedErrors(ZeroDivisionError)
        self.assertEqual(len(failures), relay.stats.failures)
        self.assertGreater(len(failures), 3)

    def test_listen_after_drain(self) -> None:
        """A drained factory that listens again admits clients."""
        relay = self.relay()
        self.successResultOf(relay.factory.close_all(closecodes.RESTARTING, 5))
        self.assertEqual(relay.client().status, 503)
        relay.factory.startFactory()

        self.assertTrue(relay.client().open)

    def test_stall_forgiven(self) -> None:
        """After a blocked reactor, buffered answers are read before any deadline counts."""
        relay = self.relay(ping_seconds=4)
        client = relay.client()
        relay.wait(3.75)
        client.server_transport.stalled = True
        relay.wait(1)
        self.assertIsNotNone(client.server.keepalive._awaited)
        client.server_transport.stalled = False
        # The pong is buffered while the reactor is blocked; then a sweep comes first.
        relay.clock.advance(60)
        relay.settle()
        self.assertIsNone(client.server.keepalive._awaited)
        relay.wait(20)

        self.assertTrue(client.open)

    def test_always_late(self) -> None:
        """On a reactor that is always late, deadlines still end connections."""
        relay = self.relay(handshake_seconds=4)
        relay.wait(1)
        wire = relay.wire()
        relay.clock.advance(5)
        self.assertFalse(wire.ended)
        relay.clock.advance(5)

        self.assertTrue(wire.ended)

    def test_deadline_raises(self) -> None:
        """A raising deadline ends its own connection; the others are still checked."""
        relay = self.relay(handshake_seconds=1)
        wires = [relay.wire() for _ in range(3)]
        bad, on_deadline = [one.phase for one in relay.factory.connections][:2], Opening.on_deadline
        self.patch(Opening, "on_deadline", lambda phase: 1 / 0 if phase in bad else on_deadline(phase))
        relay.wait(2)

        self.assertEqual([wire.ended for wire in wires], [True] * 3)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), relay.stats.failures)
        self.assertGreaterEqual(relay.stats.failures, 2)

    def test_sweep_ends(self) -> None:
        """After the last port has closed, the sweep runs until the last connection has ended."""
        relay = self.relay(close_seconds=1)
        wire = relay.wire()
        wire.send(request_bytes())
        relay.factory.doStop()
        self.assertNotEqual(relay.clock.getDelayedCalls(), [])
        wire.send(b"\x88\x80\0\0\0\0")
        relay.wait(2)
        self.assertTrue(wire.transport.aborted)
        wire.hang_up()

        self.assertEqual(relay.clock.getDelayedCalls(), [])

    def test_listen_again(self) -> None:
        """A factory may stop and start listening while connections are open; deadlines go on."""
        relay = self.relay(handshake_seconds=2)
        wire = relay.wire()
        relay.factory.doStop()
        relay.factory.doStart()
        relay.wait(3)

        self.assertTrue(wire.ended)

    def test_stop_without_connections(self) -> None:
        """A factory without connections stops its sweep at once."""
        relay = self.relay()
        relay.factory.doStop()

        self.assertEqual(relay.clock.getDelayedCalls(), [])


class CloseAllTests(RelayTestCase):
    """Draining."""

    def test_close_all(self) -> None:
        """Each connection gets the messages published before, then 1012; the Deferred fires after the last end."""
        relay = self.relay()
        clients = [relay.client("/x"), relay.client("/x"), relay.client("/y")]
        handshaking = relay.wire()
        handshaking.send(b"G")
        clients[0].say("last words")
        relay.pumps[0].pump(advanceClock=False)
        closed = relay.factory.close_all(closecodes.RESTARTING, 5)
        self.assertNoResult(closed)
        relay.settle()

        self.assertEqual([client.closed[0] for client in clients], [1012] * 3)
        self.assertEqual(clients[1].messages, ["last words"])
        self.assertEqual((handshaking.send(b"")[:12], handshaking.ended), (b"HTTP/1.1 503", True))
        handshaking.hang_up()
        self.successResultOf(closed)

    def test_close_all_aborts(self) -> None:
        """After the given time the remaining connections are aborted."""
        relay = self.relay(close_seconds=60)
        wire = relay.wire()
        wire.send(request_bytes())
        closed = relay.factory.close_all(closecodes.RESTARTING, 5)
        [frame] = parse(wire.send(b""))
        self.assertEqual(frame.data[:2], (1012).to_bytes(2, "big"))
        relay.wait(4.5)
        self.assertFalse(wire.transport.aborted)
        relay.wait(1)
        self.assertTrue(wire.transport.aborted)
        wire.hang_up()

        self.successResultOf(closed)

    def test_close_all_with_a_failure(self) -> None:
        """A connection that fails to close does not stop the other closes."""
        relay = self.relay()
        clients = [relay.client() for _ in range(3)]
        clients[1].server.close = lambda reason: 1 / 0
        relay.factory.close_all(closecodes.RESTARTING, 5)
        relay.settle()

        self.assertEqual([client.closed[0] for client in clients], [1012, None, 1012])
        self.assertTrue(clients[1].server_transport.aborted)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_close_all_without_connections(self) -> None:
        """Without connections it is done at once, and leaves no timer."""
        relay = self.relay()
        before = len(relay.clock.getDelayedCalls())

        self.successResultOf(relay.factory.close_all(closecodes.RESTARTING, 5))
        self.assertEqual(len(relay.clock.getDelayedCalls()), before)

    def test_draining(self) -> None:
        """The factory is draining as long as closes are pending."""
        relay = self.relay()
        client = relay.client()
        closed = relay.factory.close_all(closecodes.RESTARTING, 5, 2)
        self.assertTrue(relay.factory.draining)
        relay.wait(1)
        self.assertEqual((client.open, relay.factory.draining), (True, True))
        relay.wait(1)

        self.assertEqual((client.open, relay.factory.draining), (False, False))
        self.successResultOf(closed)

    def test_close_all_pending_validators(self) -> None:
        """A client with pending validators is refused with 503."""
        relay = self.relay([Answer(Deferred())])
        client = relay.client()
        relay.factory.close_all(closecodes.RESTARTING, 5)
        relay.settle()

        self.assertEqual(client.status, 503)


class ReloadTests(RelayTestCase):
    """Settings that change while connections are open."""

    def test_reload_validators(self) -> None:
        """New handshakes get the new validators, pending ones finish with the old."""
        old: Deferred[Grant] = Deferred()
        relay = self.relay([Answer(old)])
        pending = relay.client()
        relay.factory.reload(Settings(), [Answer(Denied(403, "not any more"))])
        self.assertEqual(relay.client().status, 403)
        old.callback(Grant(room="room"))
        relay.settle()

        self.assertTrue(pending.open)

    def test_one_settings_object(self) -> None:
        """Every part holds the factory's own copy of the settings, and sees a reload; the original stays."""
        given = Settings(slow_policy=("disconnect",))
        factory = RelayFactory(given, [], Clock())
        parts: list[object] = [factory, factory.hub, factory.admission, factory.memory, factory.rates]
        for part in parts:
            self.assertEqual(settings_of(part), {id(factory.settings)}, part)
        factory.reload(Settings(slow_policy=("latest",)), [])

        for part in parts:
            self.assertEqual(settings_of(part), {id(factory.settings)}, part)
        self.assertEqual((factory.settings.slow_policy, given.slow_policy), (("latest",), ("disconnect",)))

    def test_contradiction(self) -> None:
        """New settings that contradict settings that stay are refused, and nothing changes."""
        relay = self.relay(slow_seconds=0)
        chain = relay.factory.chain
        self.assertRaises(SettingsError, relay.factory.reload, Settings(slow_policy=("pause-publishers",)), [])

        self.assertIs(relay.factory.chain, chain)
        self.assertEqual(relay.factory.settings.slow_policy, ())

    def test_refreshed(self) -> None:
        """Objects derived from the settings are refreshed by a reload."""
        factory = self.relay().factory
        for name, value in (("max_messages_per_second", 7.0), ("message_type", ("text",))):
            object.__setattr__(factory.settings, name, value)
        factory.reload(Settings(), [])

        self.assertEqual((factory.rates.per_second[0], factory.message_types.of("room")), (7, frames.TEXT))

    def test_reload_settings(self) -> None:
        """Only the reloadable settings change."""
        relay = self.relay(max_rooms=7, max_bytes_per_second=0)
        client = relay.client()
        policies = ("latest",)
        relay.factory.reload(Settings(validate=("rooms:a",), slow_policy=policies, max_rooms=8), [])

        expected = Settings(validate=("rooms:a",), slow_policy=policies, max_rooms=7, max_bytes_per_second=0)
        self.assertEqual(relay.factory.settings, expected)
        client.server.pauseProducing()
        other = relay.client()
        for _ in range(10):
            other.say(bytes(2**20))
            relay.settle()
        self.assertEqual((client.open, relay.stats.evictions), (True, {"latest": 1}))


class BackplaneTests(BrokerTestCase):
    """Rooms shared with other nodes."""

    def test_local(self) -> None:
        """Without a broker nothing but the local backplane is imported, and its publish is the hub's."""
        relay = self.relay()
        self.assertIs(type(relay.factory.backplane), LocalBackplane)
        self.assertEqual(relay.factory.backplane.publish, relay.factory.hub.publish)
        self.assertIs(relay.factory.crowded, relay.factory.hub.crowded)

    def test_describe(self) -> None:
        """A relay describes itself; the room of the readiness probe is not counted."""
        relay = self.relay(node_name="me")
        relay.client("/a")
        relay.client(headers=dict(probe.FIELDS))
        described = relay.factory.describe()
        self.assertEqual((described.name, described.id, described.version), ("me", relay.factory.node_id, __version__))
        self.assertEqual((described.rooms, described.since), (1, 1_000_000.0))
        self.patch(socket, "gethostname", lambda: "host-7")
        self.assertEqual(self.relay().factory.describe().name, "host-7")

    def test_node_id(self) -> None:
        """Each relay of a process has an id of its own."""
        self.assertNotEqual(RelayFactory(Settings(), ()).node_id, RelayFactory(Settings(), ()).node_id)

    def test_lose(self) -> None:
        """Members of the rooms are closed with 1013, spread; others, later ones and handshakes are not."""
        relay = self.relay(drain_seconds=4.0)
        clients = [relay.client("/a"), relay.client("/b"), relay.client("/a")]
        silent = relay.wire()
        relay.factory.lose(lambda room: room == "a")
        relay.wait(2.5)
        self.assertEqual([client.open for client in clients], [False, True, True])
        late = relay.client("/a")
        relay.wait(3)
        no_broker = (1013, "no broker: try again later")
        self.assertEqual([client.closed for client in clients], [no_broker, None, no_broker])
        self.assertEqual((late.open, silent.ended, relay.factory.draining), (True, False, False))

    def test_lose_stalled(self) -> None:
        """A member that does not read is aborted in time."""
        relay = self.relay(drain_seconds=0.0, close_seconds=2.0)
        client = relay.client("/a")
        client.server_transport.stalled = True
        relay.factory.lose(lambda room: True)
        relay.wait(1.5)
        self.assertFalse(client.server_transport.aborted)
        relay.wait(1)
        self.assertTrue(client.server_transport.aborted)

    def test_lose_nobody(self) -> None:
        """Without members nothing is left but timers that end."""
        relay = self.relay(drain_seconds=1.0, close_seconds=1.0)
        before = len(relay.clock.getDelayedCalls())
        relay.factory.lose(lambda room: True)
        relay.wait(3)
        self.assertEqual(len(relay.clock.getDelayedCalls()), before)

    def test_wrong_url(self) -> None:
        """A wrong URL fails at once."""
        self.assertRaises(SettingsError, RelayFactory, Settings(backplane="redis://a:b:c"), ())
