"""Tests of wsrelay.admin.probe: rounds on a whole relay in memory, and the clients' endpoints."""

import os
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import fail
from twisted.internet.error import ConnectionDone
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.test.iosim import IOPump, connect
from twisted.trial.unittest import SynchronousTestCase

from tests.harness import admin
from tests.harness.support import Relay, RelayTestCase, Transport
from wsrelay import closecodes
from wsrelay.admin import probe as readiness
from wsrelay.admin.probe import END_SECONDS, REUSE_SECONDS, Outcome, Probe
from wsrelay.net.endpoints import Door
from wsrelay.validators import probe

DOOR = Door(IPv4Address("TCP", "127.0.0.1", 8080))


class ProbeTestCase(RelayTestCase):
    """A relay with a readiness probe, whose clients are connected by hand."""

    def start(self, doors: Any = (DOOR,), **settings: Any) -> Relay:
        self.harness = self.relay(**settings)
        self.clock = self.harness.clock
        self.sources: list[IPv4Address] = []
        connect_tcp = self.clock.connectTCP

        def bound(*where: Any) -> Any:
            """Connect as a reactor does: from a socket that is bound."""
            connector = connect_tcp(*where)
            self.sources.append(IPv4Address("TCP", where[4][0], 50000 + len(self.sources)))
            connector.transport = Transport(None, isServer=False, hostAddress=self.sources[-1])
            return connector

        self.clock.connectTCP = bound
        self.probe = Probe(self.harness.factory, lambda: doors, 1.0)
        return self.harness

    def ask(self) -> list[Outcome]:
        """Ask; return the list that will get the outcome."""
        answers: list[Outcome] = []
        self.probe.ask().addCallback(answers.append)
        return answers

    def connect(self, count: int = 2, *, sources: Any = None) -> list[Any]:
        """Connect the waiting clients, from their sockets or from others."""
        made = []
        for source in (sources or self.sources)[-count:]:
            client = self.clock.tcpClients.pop(0)[2].buildProtocol(DOOR.address)
            server = self.harness.factory.buildProtocol(DOOR.address)
            ends = Transport(server, isServer=True, peerAddress=source), Transport(client, isServer=False)
            pump: IOPump = connect(server, ends[0], client, ends[1], greet=False, clock=self.clock)
            self.harness.pumps.append(pump)
            made.append((client, server, ends))
        return made

    def assert_nothing_left(self) -> None:
        """All connections are gone, and only the sweep is scheduled."""
        self.harness.settle()
        self.assertEqual((self.harness.factory.connections, list(self.harness.factory.hub)), (set(), []))
        self.assertEqual(self.harness.factory.admission.expected, [])
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)


class FailingEndpoint:
    """An endpoint whose connects fail."""

    def __init__(self, tried: list[object]) -> None:
        self._tried = tried

    def connect(self, factory: object) -> Any:
        self._tried.append(factory)
        return fail(OSError("No such file"))


class WellTests(ProbeTestCase):
    """A working relay."""

    def test_well(self) -> None:
        """One client receives the message of the other; both close and leave nothing behind."""
        self.start()
        answers = self.ask()
        self.assertEqual([client[:2] for client in self.clock.tcpClients], [("127.0.0.1", 8080)] * 2)
        self.connect()
        self.harness.settle()

        self.assertEqual(answers, [Outcome("", 0.0)])
        self.assertEqual(self.harness.stats.connections_closed, {("client", "1000"): 2})
        self.assertEqual(self.logged(), [])
        self.assert_nothing_left()

    def test_limits(self) -> None:
        """No limit on clients holds for the probe, asked once a second; it takes nothing from them."""
        self.start(
            max_connections=2,
            max_connections_per_address=2,
            max_handshakes=1,
            max_handshakes_per_address=1,
            max_connects_per_second=1,
            max_connects_per_second_per_address=1,
            burst_seconds=2,
            max_rooms=1,
            max_room_members=1,
            handshake_seconds=60,
            memory_budget=1000,
            max_message_bytes=1,
        )
        relay = self.harness
        relay.client("/taken")
        relay.wire()
        before = relay.factory.admission.connections, len(relay.factory.admission)
        for _ in range(10):
            relay.wait(1)
            answers = self.ask()
            self.connect()
            relay.settle()
            self.assertEqual([answer.problem for answer in answers], [""])
            relay.settle()
            self.assertEqual(relay.factory.admission.expected, [])
        self.assertEqual((relay.factory.admission.connections, len(relay.factory.admission)), before)
        self.assertEqual(relay.stats.handshakes_denied, {})

    def test_settings(self) -> None:
        """The probe works with echo, one message type, the shortest messages, and no compression."""
        for settings in (
            {"echo": True},
            {"message_type": ("binary",)},
            {"message_type": ("text",)},
            {"max_message_bytes": 1},
            {"no_compress": True},
        ):
            self.start(**settings)
            answers = self.ask()
            self.connect()
            self.harness.settle()
            self.assertEqual([answer.problem for answer in answers], [""], settings)
            self.assert_nothing_left()

    def test_reuse(self) -> None:
        """Requests during a round, or up to 0.25 s after it, share its outcome."""
        self.start()
        answers = [self.ask(), self.ask()]
        self.connect()
        self.harness.settle()
        self.clock.advance(REUSE_SECONDS)
        answers.append(self.ask())
        self.assertEqual([len(answer) for answer in answers], [1, 1, 1])
        self.assertEqual(self.clock.tcpClients, [])
        self.clock.advance(0.01)

        self.assertEqual(self.ask(), [])
        self.assertEqual(len(self.clock.tcpClients), 2)

    def test_doors(self) -> None:
        """The cheapest endpoint is probed; a wildcard address on loopback."""
        tls = Door(IPv4Address("TCP", "127.0.0.1", 1), is_tls=True)
        proxied = Door(IPv4Address("TCP", "127.0.0.1", 2), speaks_proxy=True)
        plain = Door(IPv4Address("TCP", "0.0.0.0", 3))
        self.start(doors=[tls, proxied, plain])
        self.ask()

        self.assertEqual(self.clock.tcpClients[0][:2], ("127.0.0.1", 3))


class IllTests(ProbeTestCase):
    """A broken relay."""

    def problem(self, answers: list[Outcome]) -> str:
        """Return the problem, after one second."""
        self.clock.advance(1)
        self.harness.settle()
        [answer] = answers
        return answer.problem

    def test_wedged(self) -> None:
        """A relay that delivers nothing fails the round at its deadline; the clients close."""
        self.start()
        answers = self.ask()
        self.harness.factory.backplane.publish = lambda *message: None  # type: ignore[method-assign]
        self.connect()
        self.harness.settle()
        self.assertEqual(answers, [])

        self.assertEqual(self.problem(answers), "what was published was not delivered within 1 s")
        self.assert_nothing_left()

    def test_no_answers(self) -> None:
        """Unanswered handshakes fail the round; the clients abort."""
        self.start()
        answers = self.ask()
        for _, _, (server_end, _) in self.connect():
            server_end.stalled = True
        self.assertEqual(self.problem(answers), "the handshakes were not answered within 1 s")
        self.assert_nothing_left()

    def test_no_close(self) -> None:
        """A client without an answer to its close aborts after END_SECONDS."""
        self.start()
        self.harness.factory.backplane.publish = lambda *message: None  # type: ignore[method-assign]
        answers = self.ask()
        ends = [ends for _, _, ends in self.connect()]
        self.harness.settle()
        for _, client_end in ends:
            client_end.stalled = True
        self.assertEqual(self.problem(answers), "what was published was not delivered within 1 s")
        self.clock.advance(END_SECONDS - 0.1)
        self.assertFalse(any(client_end.aborted for _, client_end in ends))
        self.clock.advance(0.1)
        self.assertTrue(all(client_end.aborted for _, client_end in ends))
        self.assert_nothing_left()

    def test_not_accepted(self) -> None:
        """Connections that are not accepted fail the round."""
        self.start()
        answers = self.ask()
        self.assertEqual(self.problem(answers), "the connections were not accepted within 1 s")

    def test_refused(self) -> None:
        """A refused TCP connection fails the round."""
        self.start()
        answers = self.ask()
        for client in list(self.clock.tcpClients):
            client[2].clientConnectionFailed(None, Failure(Refused("nobody there")))
        self.assertIn("it could not connect: ", self.problem(answers))
        self.assertIn("nobody there", answers[0].problem)

    def test_fails_at_once(self) -> None:
        """A connect that fails at once, as to a missing unix socket, ends the round before the second."""
        self.start(doors=[Door(UNIXAddress(None))])
        tried: list[object] = []
        self.patch(readiness, "UNIXClientEndpoint", lambda *where, **options: FailingEndpoint(tried))
        self.assertEqual(self.ask()[0].problem, "it could not connect: No such file")
        self.assertEqual(len(tried), 1)

    def test_late_message(self) -> None:
        """A message after the end of a round is ignored."""
        self.start()
        answers = self.ask()
        [(client, _, _), _] = self.connect()
        self.harness.settle()
        client._wrappedProtocol.onMessage(b"late", isBinary=False)

        self.assertEqual(answers, [Outcome("", 0.0)])

    def test_refused_by_relay(self) -> None:
        """The outcome has the reason of a refusal, as of a client's from another socket than the announced one."""
        self.start(max_connections=1)
        answers = self.ask()
        self.connect(sources=[DOOR.address, IPv4Address("TCP", "127.0.0.1", 49999)])
        self.harness.settle()

        self.assertEqual(
            answers[0].problem, "it was refused with 503, this relay has as many connections as it may have"
        )
        self.assert_nothing_left()

    def test_closed(self) -> None:
        """A close by the relay fails the round, with code and reason."""
        self.start()
        answers = self.ask()
        self.harness.factory.backplane.publish = lambda *message: None  # type: ignore[method-assign]
        self.connect()
        self.harness.settle()
        for connection in tuple(self.harness.factory.connections):
            connection.close(closecodes.OVERLOADED)
        self.harness.settle()

        self.assertEqual(answers[0].problem, "it was closed with 1013, overloaded: try again later")
        self.assert_nothing_left()

    def test_lost(self) -> None:
        """A lost connection fails the round."""
        self.start()
        answers = self.ask()
        self.connect()
        for connection in tuple(self.harness.factory.connections):
            connection.transport.abortConnection()
        self.harness.settle()

        self.assertEqual(answers[0].problem, "the relay hung up on it")

    def test_late_source(self) -> None:
        """A connection that begins behind the end of its round is a client's."""
        self.start()
        self.ask()
        round_ = self.probe._round
        assert round_ is not None
        self.probe.stop()
        round_.connecting(DOOR.address)
        self.assertEqual(self.harness.factory.admission.expected, [])

    def test_nowhere(self) -> None:
        """A relay without an endpoint fails the round."""
        self.start(doors=[])
        self.assertEqual(self.ask()[0].problem, "the relay listens nowhere where it can be asked")

    def test_stopped(self) -> None:
        """stop() ends the current round; a second one does nothing."""
        self.start()
        answers = self.ask()
        self.connect()
        self.probe.stop()
        self.probe.stop()

        self.assertEqual(answers[0].problem, "the relay has stopped")
        self.assert_nothing_left()

    def test_late_message_of_an_earlier_round(self) -> None:
        """A message of an earlier round does not count."""
        self.start()
        answers = self.ask()
        self.harness.factory.backplane.publish = lambda *message: None  # type: ignore[method-assign]
        self.connect()
        self.harness.settle()
        self.harness.factory.backplane.publish = self.harness.factory.hub.publish  # type: ignore[method-assign]
        self.harness.client(headers=dict(probe.FIELDS)).say("another word")
        self.harness.settle()

        self.assertEqual(answers, [])


#: pyOpenSSL methods that Twisted calls.
pytestmark = pytest.mark.filterwarnings("ignore:.*You should use.*cryptography:DeprecationWarning")


class Listener:
    """Records its calls."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.sources: list[object] = []

    def connecting(self, source: object) -> None:
        self.sources.append(source)

    def made(self, client: Any) -> None:
        self.told.append("made")

    def opened(self) -> None:
        self.told.append("opened")

    def heard(self, client: Any, payload: bytes) -> None:
        self.told.append(payload.decode())

    def lost(self, client: Any, problem: str) -> None:
        self.told.append(problem)


class ConnectTests(SynchronousTestCase):
    """Doors."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.listener = Listener()

    def connect(self, door: Door) -> None:
        readiness.connect(self.listener, self.reactor, door, 1.0)

    def first_bytes(self, door: Door) -> bytes:
        """Return the first bytes of a client."""
        self.connect(door)
        client = self.reactor.tcpClients[-1][2].buildProtocol(None)
        transport = admin.Transport()
        client.makeConnection(transport)
        return transport.value()

    def test_tcp(self) -> None:
        """A wildcard address is reached on loopback, any other address directly."""
        for address, where in (
            (IPv4Address("TCP", "127.0.0.1", 1), ("127.0.0.1", 1)),
            (IPv4Address("TCP", "0.0.0.0", 2), ("127.0.0.1", 2)),
            (IPv4Address("TCP", "192.0.2.1", 3), ("192.0.2.1", 3)),
            (IPv6Address("TCP", "::", 4), ("::1", 4)),
            (IPv6Address("TCP", "2001:db8::1", 5), ("2001:db8::1", 5)),
        ):
            self.connect(Door(address))
            self.assertEqual(self.reactor.tcpClients[-1][:2], where)
            self.assertEqual(self.reactor.tcpClients[-1][4], (where[0], 0))  # where it is bound
        self.assertEqual(self.listener.sources, [])  # no socket, no source

    def test_unix(self) -> None:
        """A unix socket is reached by its path."""
        self.connect(Door(UNIXAddress(b"/run/relay")))
        self.assertEqual(self.reactor.unixClients[0][0], b"/run/relay")
        self.assertEqual(self.listener.sources, [os.getpid()])

    def test_handshake(self) -> None:
        """The handshake has the credentials, and no User-Agent."""
        said = self.first_bytes(Door(IPv4Address("TCP", "127.0.0.1", 1)))

        self.assertTrue(said.startswith(b"GET / HTTP/1.1\r\n"))
        self.assertIn(f"\r\nwsrelay-canary: {probe.FIELDS['wsrelay-canary']}\r\n".encode(), said)
        self.assertNotIn(b"user-agent", said.lower())
        self.assertEqual(self.listener.told, ["made"])

    def test_proxy(self) -> None:
        """On a PROXY endpoint, the client begins with PROXY UNKNOWN."""
        said = self.first_bytes(Door(IPv4Address("TCP", "127.0.0.1", 1), speaks_proxy=True))
        self.assertTrue(said.startswith(b"PROXY UNKNOWN\r\nGET / HTTP/1.1\r\n"))

    def test_tls(self) -> None:
        """On a TLS endpoint, the client begins with TLS."""
        said = self.first_bytes(Door(IPv4Address("TCP", "127.0.0.1", 1), is_tls=True))
        self.assertTrue(said.startswith(b"\x16\x03"))

    def test_malformed_response(self) -> None:
        """A malformed response, as of another program, is reported as one."""
        self.connect(Door(IPv4Address("TCP", "127.0.0.1", 1)))
        client = self.reactor.tcpClients[-1][2].buildProtocol(None)
        transport = admin.Transport()
        client.makeConnection(transport)
        client.dataReceived(b"HTTP/1.1\r\n\r\n")
        client.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.listener.told, ["made", 'it was refused with Bad HTTP response status line "HTTP/1.1"'])
