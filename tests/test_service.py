"""Tests of wsrelay.service, on a reactor in memory."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.logger import LogLevel

from tests.harness.backplane import BrokerTestCase
from tests.harness.live import make_certificate
from tests.harness.service import RESTARTING, ServiceTestCase, Taken
from tests.harness.support import Answer, Relay, RelayTestCase
from tests.harness.tls import certificates
from wsrelay import service
from wsrelay.errors import SettingsError
from wsrelay.factory import RelayFactory
from wsrelay.logs.limiter import LINES_PER_TICK
from wsrelay.message import Run
from wsrelay.settings import Settings

#: Deprecated pyOpenSSL functions that Twisted calls.
pytestmark = pytest.mark.filterwarnings("ignore:.*You should use.*cryptography:DeprecationWarning")


class ListenTests(ServiceTestCase):
    """Starting."""

    def test_listen(self) -> None:
        """Each endpoint gets a port with a backlog of 1024 (TRAPS 42), and a log line with its URL."""
        made = self.start("tcp:8080:interface=127.0.0.1", "tcp:8081:backlog=7")

        self.assertEqual([server[0] for server in self.reactor.tcpServers], [8080, 8081])
        self.assertEqual([server[2] for server in self.reactor.tcpServers], [1024, 7])
        self.assertEqual(len(made.ports), 2)
        self.assertEqual(
            self.logged(),
            [
                "relaying to everyone else in the room on ws://0.0.0.0:8080/",
                "relaying to everyone else in the room on ws://0.0.0.0:8081/",
            ],
        )

    def test_listen_once(self) -> None:
        """The relay listens once, with privilegedStartService (twistd) and without (twist, TRAPS 40)."""
        self.start(privileged=True, echo=True)

        self.assertEqual(len(self.reactor.tcpServers), 1)
        self.assertIn("everyone in the room", self.logged()[0])

    def test_tcp_keepalive(self) -> None:
        """The kernel ends connections of vanished peers, unless pings are off."""
        told: list[tuple[object, float]] = []
        self.patch(service, "end_when_dead", lambda port, seconds: told.append((port, seconds)))
        made = self.start("tcp:1", "tcp:2", ping_seconds=7)
        self.assertEqual(told, [(port, 14) for port in made.ports])
        self.start("tcp:1", ping_seconds=0)
        self.assertEqual(len(told), 2)

    def test_bounded_ports(self) -> None:
        """The kernel's unsent bytes, and the accepts of a turn, are bounded on all ports, also without pings."""
        unsent: list[object] = []
        accepts: list[object] = []
        self.patch(service, "bound_unsent", unsent.append)
        self.patch(service, "lean_accepts", accepts.append)
        made = self.start("tcp:1", "tcp:2", ping_seconds=0)

        self.assertEqual((unsent, accepts), (made.ports, made.ports))

    def test_address_in_use(self) -> None:
        """An address in use stops the start (TRAPS 39)."""
        self.patch(service, "endpoints", lambda reactor, descriptions: [Taken()])

        self.assertRaises(CannotListenError, self.start)

    def test_proxy_beyond_loopback(self) -> None:
        """A PROXY header from anywhere is trusted: a warning names the endpoints that other machines reach."""
        self.start("tcp:1", "haproxy:tcp:2", "haproxy:unix:/run/relay", trusted_proxies=("192.0.2.1",))
        [warning] = self.logged(LogLevel.warn)

        self.assertIn("to ws://0.0.0.0:2/ can name any client address", warning)

    def test_without_nvx(self) -> None:
        """Without NVX a warning is logged (TRAPS 8)."""
        self.patch(service, "USES_NVX", False)
        self.start()
        self.assertEqual(len(self.logged(LogLevel.warn)), 1)

        self.patch(service, "USES_NVX", True)
        self.start()
        self.assertEqual(len(self.logged(LogLevel.warn)), 1)


#: The close frame of a stopping relay.


class StopTests(ServiceTestCase):
    """Stopping."""

    def test_drain(self) -> None:
        """Ports close first, then each connection with 1012, spread; the Deferred fires after the last one."""
        made = self.start(drain_seconds=8)
        self.assertFalse(self.harness.factory.draining)
        clients = [self.harness.client() for _ in range(4)]
        stopped = made.stopService()
        self.assertEqual((made.ports, made.running, self.harness.factory.draining), ([], 0, True))
        for left in (3, 2, 1):
            self.harness.wait(2)
            self.assertEqual(sum(client.open for client in clients), left)
        self.assertNoResult(stopped)
        self.harness.wait(2)

        self.successResultOf(stopped)
        self.assertFalse(self.harness.factory.draining)
        self.assertEqual([client.closed for client in clients], [RESTARTING] * 4)

    def test_stop_during_handshakes(self) -> None:
        """Unfinished handshakes are refused at once with 503 and Retry-After."""
        pending: Deferred[Any] = Deferred()
        made = self.start(validators=[Answer(pending)])
        client, silent = self.harness.client(), self.harness.wire()
        silent.send(b"G")
        stopped = made.stopService()
        self.harness.settle()
        silent.send(b"")

        self.assertEqual((client.status, silent.status), (503, 503))
        self.assertIn(b"\r\nRetry-After: 10\r\n", silent.received)
        silent.hang_up()
        self.successResultOf(stopped)

    def test_stop_without_connections(self) -> None:
        """Without connections the stop is done at once, and leaves no timer."""
        made = self.start(drain_seconds=600)
        stopped = made.stopService()
        self.harness.settle()

        self.successResultOf(stopped)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_stop_logs_counts(self) -> None:
        """The number of lines that were left out since the last tick is logged at a stop."""
        made = self.start()
        for _ in range(LINES_PER_TICK + 2):
            self.harness.factory.lines.add_refusal(peer="p", status=403, reason="no", cause="token")
        self.successResultOf(made.stopService())

        self.assertEqual(self.logged()[-1], "... and 2 more lines: denied, all addresses")

    def test_stop_done_early(self) -> None:
        """The stop is done when the last connection has ended, before the time is over."""
        made = self.start(drain_seconds=600)
        client = self.harness.client()
        stopped = made.stopService()
        self.harness.wait(1)
        self.assertNoResult(stopped)
        client.sendClose(1000)
        self.harness.settle()

        self.successResultOf(stopped)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_stop_within_close_seconds(self) -> None:
        """Unresponsive clients are aborted in time: all is done within drain_seconds + close_seconds."""
        made = self.start(close_seconds=2, drain_seconds=3)
        client = self.harness.client()
        client.server_transport.stalled = True
        stopped = made.stopService()
        for _ in range(46):
            self.reactor.advance(0.1)
            self.harness.settle()
        self.assertFalse(client.server_transport.aborted)
        for _ in range(3):
            self.reactor.advance(0.1)
            self.harness.settle()

        self.successResultOf(stopped)
        self.assertTrue(client.server_transport.aborted)

    def test_stop_twice(self) -> None:
        """A second stop has no effect."""
        made = self.start()
        client = self.harness.client()
        stopped = [made.stopService(), made.stopService()]
        self.harness.wait(5)

        self.assertEqual(client.closed, RESTARTING)
        for result in stopped:
            self.successResultOf(result)


class StopBackplaneTests(BrokerTestCase):
    """Stopping with a broker."""

    def stop(self, node: Relay) -> "Deferred[Any]":
        """Begin to stop a node's service."""
        self.clock.callWhenRunning = lambda call, *args: call(*args)
        made = service.RelayService(node.factory)
        node.factory.doStop()
        made.startService()
        node.settle()
        return maybeDeferred(made.stopService)

    def test_stop(self) -> None:
        """The backplane is stopped last: what clients publish until their close reaches the other node."""
        one, two = self.nodes(2, drain_seconds=1.0)
        publisher, other = one.client(), two.client()
        stopped = self.stop(one)
        publisher.say("last words")
        one.settle()
        self.assertNoResult(stopped)
        one.wait(1.5)
        self.successResultOf(stopped)
        self.assertEqual((other.messages, publisher.closed[0]), (["last words"], 1012))
        self.assertEqual((self.state(one).value, self.state(two).value), ("closed", "up"))

    def test_stop_without_broker(self) -> None:
        """A broker that does not answer holds up the stop for a second."""
        node = self.node()
        self.broker.pause()
        node.factory.backplane.publish("room", Run.text("hi"))
        node.settle()
        stopped = self.stop(node)
        node.wait(0.5)
        self.assertNoResult(stopped)
        node.wait(1)
        self.successResultOf(stopped)


class ReloadTests(ServiceTestCase):
    """Reloading an embedded relay."""

    def test_reload(self) -> None:
        """Certificates are read again, and new handshakes get the new validators."""
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        made = self.start("tcp:1", f"ssl:2:privateKey={make_certificate(folder)}")
        before = certificates(self.reactor)[0]
        client = self.harness.client()
        made.reload(Settings(), [Answer(ValueError("a new validator"))])

        self.assertIsNot(certificates(self.reactor)[0], before)
        self.assertEqual(self.harness.client().status, 500)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertTrue(client.open)

    def test_reload_all_or_nothing(self) -> None:
        """One unreadable certificate keeps everything unchanged, all endpoints included."""
        good, bad = (Path(self.enterContext(tempfile.TemporaryDirectory())) for _ in range(2))
        made = self.start(*(f"ssl:2:privateKey={make_certificate(folder)}" for folder in (good, bad)))
        before = certificates(self.reactor)
        chain = self.harness.factory.chain
        (bad / "relay.pem").write_text("garbage")
        error = self.assertRaises(SettingsError, made.reload, Settings(), [])

        self.assertIn(str(bad), str(error))
        self.assertEqual(len(error.problems), 1)
        self.assertEqual(certificates(self.reactor), before)
        self.assertIs(self.harness.factory.chain, chain)


class EmbeddingTests(RelayTestCase):
    """A factory without RelayService."""

    def test_embedded_factory(self) -> None:
        """A factory with any other listener starts and stops its sweep itself."""
        harness = self.relay()
        harness.factory.doStop()
        factory = RelayFactory(Settings(), (), harness.clock)
        factory.doStart()
        self.assertEqual(len(harness.clock.getDelayedCalls()), 1)
        factory.doStop()

        self.assertEqual(harness.clock.getDelayedCalls(), [])
