"""Tests of wsrelay.service, with a reactor that is none."""

import signal
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import CannotListenError
from twisted.logger import LogLevel

from tests.support import RelayTestCase
from wsrelay import service
from wsrelay.factory import RelayFactory
from wsrelay.service import RelayProcess, RelayService, endpoint, url
from wsrelay.settings import Settings


class ServiceTestCase(RelayTestCase):
    """A relay with a service around it."""

    service_class: type[RelayService] = RelayService

    def start(self, *listen: str, privileged: bool = False, **settings: Any) -> RelayService:
        self.harness = self.relay(listen=listen or ("tcp:8080:interface=127.0.0.1",), **settings)
        self.reactor = self.harness.clock
        # MemoryReactor calls back only once it runs; a real one that runs already does so at once.
        self.reactor.callWhenRunning = lambda call, *args: call(*args)
        # The harness has begun for a port of its own; here the service's are the only ones.
        self.harness.factory.doStop()
        made = self.service_class(self.harness.factory)
        if privileged:
            made.privilegedStartService()
        made.startService()
        return made


class ListenTests(ServiceTestCase):
    """Starting."""

    def test_listens_on_every_endpoint(self) -> None:
        """Each endpoint gets a port, with a backlog for reconnect storms (TRAPS 42), and a line that says where."""
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

    def test_listens_once(self) -> None:
        """twistd calls privilegedStartService, twist does not (TRAPS 40): it is the same in the end."""
        self.start(privileged=True, echo=True)

        self.assertEqual(len(self.reactor.tcpServers), 1)
        self.assertIn("everyone in the room", self.logged()[0])

    def test_taken(self) -> None:
        """A port that is taken stops the start (TRAPS 39)."""
        self.patch(service, "endpoint", lambda reactor, description: Taken())

        self.assertRaises(CannotListenError, self.start)

    def test_without_nvx(self) -> None:
        """Without Autobahn's C code the operator is warned (TRAPS 8)."""
        self.patch(service, "USES_NVX", False)
        self.start()
        self.assertEqual(len(self.logged(LogLevel.warn)), 1)

        self.patch(service, "USES_NVX", True)
        self.start()
        self.assertEqual(len(self.logged(LogLevel.warn)), 1)


class Taken:
    """An endpoint whose port is taken."""

    def listen(self, factory: object) -> Any:
        from twisted.internet.defer import fail  # noqa: PLC0415

        return fail(CannotListenError("127.0.0.1", 8080, OSError(98, "Address already in use")))


class StopTests(ServiceTestCase):
    """Stopping."""

    def test_polite(self) -> None:
        """Ports close first, then everybody is told 1001; it is done when the last one has gone."""
        made = self.start()
        client = self.harness.client()
        stopped = made.stopService()
        self.assertEqual((made.ports, made.running), ([], 0))
        self.assertNoResult(stopped)
        self.harness.settle()

        self.successResultOf(stopped)
        self.assertEqual(client.closed, (1001, "the relay is shutting down"))

    def test_within_close_seconds(self) -> None:
        """A client that does not answer is aborted so early that all is done within close_seconds."""
        made = self.start(close_seconds=2)
        client = self.harness.client()
        client.server_transport.stalled = True
        stopped = made.stopService()
        for _ in range(19):
            self.reactor.advance(0.1)
            self.harness.settle()

        self.successResultOf(stopped)
        self.assertTrue(client.server_transport.aborted)


class ProcessTests(ServiceTestCase):
    """A relay that is the process."""

    service_class = RelayProcess

    def setUp(self) -> None:
        super().setUp()
        self.handlers: dict[int, Any] = {}
        self.patch(signal, "signal", self.handlers.__setitem__)

    def test_taken(self) -> None:
        """A port that is taken ends the process with one line."""
        self.patch(service, "endpoint", lambda reactor, description: Taken())
        error = self.assertRaises(SystemExit, self.start)

        self.assertEqual(
            error.code, "wsrelay: cannot listen: Couldn't listen on 127.0.0.1:8080: [Errno 98] Address already in use."
        )

    def test_signals(self) -> None:
        """SIGTERM, SIGINT and SIGHUP stop the reactor, which stops the service; the exit code stays 0."""
        made = self.start()
        self.assertEqual(set(self.handlers), {signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
        stops: list[bool] = []
        self.reactor.stop = lambda: stops.append(True)
        self.reactor.callFromThread = lambda call, *args: call(*args)
        self.handlers[signal.SIGTERM](signal.SIGTERM, None)

        self.assertEqual(stops, [True])
        self.handlers[signal.SIGHUP](signal.SIGHUP, None)
        self.assertEqual(stops, [True])
        self.assertIn("SIGTERM: closing 0 connections", self.logged())
        made.stopService()

    def test_second_signal(self) -> None:
        """A second signal waits for nobody."""
        made = self.start()
        client = self.harness.client()
        client.server_transport.stalled = True
        self.reactor.stop = lambda: None
        self.reactor.callFromThread = lambda call, *args: call(*args)
        self.handlers[signal.SIGTERM](signal.SIGTERM, None)
        stopped = made.stopService()
        self.handlers[signal.SIGINT](signal.SIGINT, None)
        self.harness.settle()

        self.assertTrue(client.server_transport.aborted)
        self.successResultOf(stopped)


class EndpointTests(RelayTestCase):
    """Endpoint strings."""

    def test_backlog(self) -> None:
        """Our backlog goes to the endpoints that have one and name none."""
        self.assertEqual(endpoint(None, "tcp:80")._backlog, 1024)
        self.assertEqual(endpoint(None, "tcp:80:backlog=9")._backlog, 9)
        self.assertEqual(endpoint(None, "unix:/run/relay")._backlog, 1024)
        self.assertEqual(endpoint(None, "tcp6:80")._backlog, 1024)
        self.assertEqual(endpoint(None, "haproxy:tcp:80")._wrappedEndpoint._backlog, 1024)

    def test_wrong(self) -> None:
        """What is no endpoint raises."""
        for description in ("nosuch:1", "tcp", "tcp:x", "tcp:1:what=2", ""):
            with self.assertRaises((ValueError, TypeError)):
                endpoint(None, description)

    def test_sockets_that_were_not_passed(self) -> None:
        """A socket that systemd has not passed is named as that."""
        for which in ("index=5", "name=relay"):
            error = self.assertRaises(ValueError, endpoint, None, f"systemd:domain=INET:{which}")
            self.assertEqual(str(error), "the service manager has passed no such socket")


class URLTests(RelayTestCase):
    """What to type into a client."""

    def test_urls(self) -> None:
        """The scheme is the endpoint's, host and port are the port's own."""
        for description, address, expected in [
            ("tcp:0", IPv4Address("TCP", "127.0.0.1", 8080), "ws://127.0.0.1:8080/"),
            ("tcp6:0", IPv6Address("TCP", "::1", 8080), "ws://[::1]:8080/"),
            ("ssl:443:privateKey=k", IPv4Address("TCP", "0.0.0.0", 443), "wss://0.0.0.0:443/"),
            ("haproxy:tls:443", IPv4Address("TCP", "0.0.0.0", 443), "wss://0.0.0.0:443/"),
            ("unix:/run/relay", UNIXAddress(b"/run/relay"), "ws+unix:/run/relay"),
            ("unix:x", UNIXAddress(None), "ws+unix:?"),
        ]:
            self.assertEqual(url(description, address), expected)


class EmbeddingTests(RelayTestCase):
    """A factory without our service."""

    def test_a_factory_is_enough(self) -> None:
        """A factory that somebody else listens with starts and ends its own timer."""
        harness = self.relay()
        harness.factory.doStop()
        factory = RelayFactory(Settings(), (), harness.clock)
        factory.doStart()
        self.assertEqual(len(harness.clock.getDelayedCalls()), 1)
        factory.doStop()

        self.assertEqual(harness.clock.getDelayedCalls(), [])
