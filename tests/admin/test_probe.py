"""Tests of wsrelay.admin.probe: rounds on a whole relay in memory, and how its clients reach a relay."""

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
        self.probe = Probe(self.harness.factory, lambda: doors, 1.0)
        return self.harness

    def ask(self) -> list[Outcome]:
        """Ask, and return where the answer will be."""
        answers: list[Outcome] = []
        self.probe.ask().addCallback(answers.append)
        return answers

    def connect(self, count: int = 2) -> list[Any]:
        """Let the clients that want to connect do so."""
        made = []
        for _ in range(count):
            client = self.clock.tcpClients.pop(0)[2].buildProtocol(DOOR.address)
            server = self.harness.factory.buildProtocol(DOOR.address)
            ends = Transport(server, isServer=True, peerAddress=DOOR.address), Transport(client, isServer=False)
            pump: IOPump = connect(server, ends[0], client, ends[1], greet=False, clock=self.clock)
            self.harness.pumps.append(pump)
            made.append((client, server, ends))
        return made

    def assert_nothing_left(self) -> None:
        """Nobody is connected any more, and nothing will happen but the sweep."""
        self.harness.settle()
        self.assertEqual((self.harness.factory.connections, list(self.harness.factory.hub)), (set(), []))
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)


class FailingEndpoint:
    """An endpoint to which no connect comes through."""

    def __init__(self, tried: list[object]) -> None:
        self._tried = tried

    def connect(self, factory: object) -> Any:
        self._tried.append(factory)
        return fail(OSError("No such file"))


class WellTests(ProbeTestCase):
    """A relay that relays."""

    def test_well(self) -> None:
        """What one says the other hears; then both go, politely, and leave nothing."""
        self.start()
        answers = self.ask()
        self.assertEqual([client[:2] for client in self.clock.tcpClients], [("127.0.0.1", 8080)] * 2)
        self.connect()
        self.harness.settle()

        self.assertEqual(answers, [Outcome("", 0.0)])
        self.assertEqual(self.harness.stats.connections_closed, {("client", "1000"): 2})
        self.assertEqual(self.logged(), [])
        self.assert_nothing_left()

    def test_settings(self) -> None:
        """It keeps to what the relay takes: echoes, only binary, only the shortest messages, only text."""
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

    def test_shared(self) -> None:
        """Who asks during a round gets what that finds; who asks just after it, too; who asks later, a new one."""
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
        """Of several doors, the cheapest is taken; all addresses are asked on loopback."""
        tls = Door(IPv4Address("TCP", "127.0.0.1", 1), is_tls=True)
        proxied = Door(IPv4Address("TCP", "127.0.0.1", 2), speaks_proxy=True)
        plain = Door(IPv4Address("TCP", "0.0.0.0", 3))
        self.start(doors=[tls, proxied, plain])
        self.ask()

        self.assertEqual(self.clock.tcpClients[0][:2], ("127.0.0.1", 3))


class IllTests(ProbeTestCase):
    """A relay that does not."""

    def problem(self, answers: list[Outcome]) -> str:
        """Return what was found after a second at most."""
        self.clock.advance(1)
        self.harness.settle()
        [answer] = answers
        return answer.problem

    def test_wedged(self) -> None:
        """Where nothing is delivered any more, that is what it says, and in time; its clients are gone soon after."""
        self.start()
        answers = self.ask()
        self.harness.factory.backplane.publish = lambda *message: None  # type: ignore[method-assign]
        self.connect()
        self.harness.settle()
        self.assertEqual(answers, [])

        self.assertEqual(self.problem(answers), "what was published was not delivered within 1 s")
        self.assert_nothing_left()

    def test_no_answers(self) -> None:
        """Where no handshake is answered, nor any close, its clients end themselves."""
        self.start()
        answers = self.ask()
        for _, _, (server_end, _) in self.connect():
            server_end.stalled = True
        self.assertEqual(self.problem(answers), "the handshakes were not answered within 1 s")
        self.assert_nothing_left()

    def test_no_close(self) -> None:
        """A client whose close is not answered aborts."""
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
        """Where nobody accepts, the connects are given up."""
        self.start()
        answers = self.ask()
        self.assertEqual(self.problem(answers), "the connections were not accepted within 1 s")

    def test_refused(self) -> None:
        """Where nobody listens, it says so."""
        self.start()
        answers = self.ask()
        for client in list(self.clock.tcpClients):
            client[2].clientConnectionFailed(None, Failure(Refused("nobody there")))
        self.assertIn("it could not connect: ", self.problem(answers))
        self.assertIn("nobody there", answers[0].problem)

    def test_fails_at_once(self) -> None:
        """Where a connect fails at once, as to a unix socket that is not there, there is no second one."""
        self.start(doors=[Door(UNIXAddress(None))])
        tried: list[object] = []
        self.patch(readiness, "UNIXClientEndpoint", lambda *where, **options: FailingEndpoint(tried))
        self.assertEqual(self.ask()[0].problem, "it could not connect: No such file")
        self.assertEqual(len(tried), 1)

    def test_heard_too_late(self) -> None:
        """What is delivered after all does not make it well, nor does it raise."""
        self.start()
        answers = self.ask()
        [(client, _, _), _] = self.connect()
        self.harness.settle()
        client._wrappedProtocol.onMessage(b"late", isBinary=False)

        self.assertEqual(answers, [Outcome("", 0.0)])

    def test_full(self) -> None:
        """Where there is no room for it, there is none for anybody: it says what it was told."""
        self.start(max_connections=1)
        answers = self.ask()
        self.connect()
        self.harness.settle()

        self.assertEqual(
            answers[0].problem, "it was refused with 503, this relay has as many connections as it may have"
        )

    def test_closed(self) -> None:
        """Where it is closed, it says with what."""
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

    def test_hung_up(self) -> None:
        """Where it is hung up on, it says that."""
        self.start()
        answers = self.ask()
        self.connect()
        for connection in tuple(self.harness.factory.connections):
            connection.transport.abortConnection()
        self.harness.settle()

        self.assertEqual(answers[0].problem, "the relay hung up on it")

    def test_nowhere(self) -> None:
        """A relay that nobody can reach does not relay."""
        self.start(doors=[])
        self.assertEqual(self.ask()[0].problem, "the relay listens nowhere where it can be asked")

    def test_stopped(self) -> None:
        """A round that is under way when all stops is given up; another stop does nothing."""
        self.start()
        answers = self.ask()
        self.connect()
        self.probe.stop()
        self.probe.stop()

        self.assertEqual(answers[0].problem, "the relay has stopped")
        self.assert_nothing_left()

    def test_old_words(self) -> None:
        """What is left of an earlier round does not pass for this one's."""
        self.start()
        answers = self.ask()
        self.harness.factory.backplane.publish = lambda *message: None  # type: ignore[method-assign]
        self.connect()
        self.harness.settle()
        self.harness.factory.backplane.publish = self.harness.factory.hub.publish  # type: ignore[method-assign]
        self.harness.client(headers=dict(probe.FIELDS)).say("another word")
        self.harness.settle()

        self.assertEqual(answers, [])


#: What Twisted calls of pyOpenSSL.
pytestmark = pytest.mark.filterwarnings("ignore:.*You should use.*cryptography:DeprecationWarning")


class Listener:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

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
        """Return what a client says when it has connected to a door."""
        self.connect(door)
        client = self.reactor.tcpClients[-1][2].buildProtocol(None)
        transport = admin.Transport()
        client.makeConnection(transport)
        return transport.value()

    def test_tcp(self) -> None:
        """What listens on all addresses is asked on loopback, what listens on one, there."""
        for address, where in (
            (IPv4Address("TCP", "127.0.0.1", 1), ("127.0.0.1", 1)),
            (IPv4Address("TCP", "0.0.0.0", 2), ("127.0.0.1", 2)),
            (IPv4Address("TCP", "192.0.2.1", 3), ("192.0.2.1", 3)),
            (IPv6Address("TCP", "::", 4), ("::1", 4)),
            (IPv6Address("TCP", "2001:db8::1", 5), ("2001:db8::1", 5)),
        ):
            self.connect(Door(address))
            self.assertEqual(self.reactor.tcpClients[-1][:2], where)

    def test_unix(self) -> None:
        """A unix socket is asked by its path."""
        self.connect(Door(UNIXAddress(b"/run/relay")))
        self.assertEqual(self.reactor.unixClients[0][0], b"/run/relay")

    def test_handshake(self) -> None:
        """It shows the secret, and says no more than it must."""
        said = self.first_bytes(Door(IPv4Address("TCP", "127.0.0.1", 1)))

        self.assertTrue(said.startswith(b"GET / HTTP/1.1\r\n"))
        self.assertIn(f"\r\nwsrelay-canary: {probe.FIELDS['wsrelay-canary']}\r\n".encode(), said)
        self.assertNotIn(b"user-agent", said.lower())
        self.assertEqual(self.listener.told, ["made"])

    def test_proxy(self) -> None:
        """Behind PROXY, it says first that this is no client of the proxy's."""
        said = self.first_bytes(Door(IPv4Address("TCP", "127.0.0.1", 1), speaks_proxy=True))
        self.assertTrue(said.startswith(b"PROXY UNKNOWN\r\nGET / HTTP/1.1\r\n"))

    def test_tls(self) -> None:
        """With TLS, it begins with that."""
        said = self.first_bytes(Door(IPv4Address("TCP", "127.0.0.1", 1), is_tls=True))
        self.assertTrue(said.startswith(b"\x16\x03"))

    def test_nonsense(self) -> None:
        """What answers nonsense, which may be somebody else's program, is told apart from a refusal."""
        self.connect(Door(IPv4Address("TCP", "127.0.0.1", 1)))
        client = self.reactor.tcpClients[-1][2].buildProtocol(None)
        transport = admin.Transport()
        client.makeConnection(transport)
        client.dataReceived(b"HTTP/1.1\r\n\r\n")
        client.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.listener.told, ["made", 'it was refused with Bad HTTP response status line "HTTP/1.1"'])
