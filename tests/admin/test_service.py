"""Tests of wsrelay.admin.service: the service, in memory. On real sockets it is tests.admin.test_endpoint."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.address import UNIXAddress
from twisted.internet.error import CannotListenError
from twisted.logger import LogLevel

from tests.harness.admin import Connection, head
from tests.harness.live import make_certificate
from tests.harness.support import RelayTestCase
from tests.harness.tls import certificates
from wsrelay.admin.metrics import Metrics
from wsrelay.admin.service import AdminService
from wsrelay.admin.views import Views
from wsrelay.errors import SettingsError
from wsrelay.logs.limiter import LINES_PER_TICK
from wsrelay.net.endpoints import Door, Endpoint

#: What Twisted calls of pyOpenSSL.
pytestmark = pytest.mark.filterwarnings("ignore:.*You should use.*cryptography:DeprecationWarning")


class ServiceTestCase(RelayTestCase):
    """An admin endpoint of a relay in memory."""

    def start(self, description: str = "tcp:9100", *, privileged: bool = False, **options: Any) -> AdminService:
        self.harness = self.relay()
        self.reactor = self.harness.clock
        self.reactor.callWhenRunning = lambda call, *args: call(*args)
        made = AdminService(self.harness.factory, description, **options)
        if privileged:
            made.privilegedStartService()
        made.startService()
        return made

    def status(self, data: bytes) -> int:
        """Return the status of the answer to a request."""
        return Connection(self.reactor.tcpServers[0][1]).send(data).status


class ListenTests(ServiceTestCase):
    """Where it listens."""

    def test_loopback(self) -> None:
        """By default it listens on loopback, and logs the URL."""
        self.patch(Endpoint, "url", lambda endpoint, address, scheme: f"{scheme}://…")
        self.start()

        [(port, _, _, interface)] = self.reactor.tcpServers
        self.assertEqual((port, interface), (9100, "127.0.0.1"))
        self.assertEqual(self.logged(), ["admin endpoint on http://…"])

    def test_once(self) -> None:
        """twistd calls privilegedStartService, twist does not (TRAPS 40): it is the same in the end."""
        self.start(privileged=True)
        self.assertEqual(len(self.reactor.tcpServers), 1)

    def test_beyond_loopback(self) -> None:
        """On another interface it warns, and answers to any name."""
        self.start("tcp:9100:interface=0.0.0.0")

        self.assertEqual(self.reactor.tcpServers[0][3], "0.0.0.0")
        [warning] = self.logged(LogLevel.warn)
        self.assertIn("has no password", warning)
        self.assertEqual(self.status(head("/healthz", Host="admin.example")), 200)

    def test_guarded(self) -> None:
        """On loopback, it answers to names of this machine only."""
        self.patch(Endpoint, "listen_now", local_port(Endpoint.listen_now))
        self.start()

        self.assertEqual(self.status(head("/healthz", Host="admin.example")), 421)
        self.assertEqual(self.status(head("/healthz")), 200)

    def test_failures_rate_limited(self) -> None:
        """Of many failures, in views and in answers, the first per half second have tracebacks."""
        self.patch(Metrics, "text", lambda metrics, accept: 1 // 0)
        self.patch(Views, "health", lambda views, asked: None)
        self.start()
        for _ in range(LINES_PER_TICK):
            for target in ("/metrics", "/healthz"):
                self.assertEqual(self.status(head(target)), 500)

        self.assertEqual(len(self.logged(LogLevel.critical)), LINES_PER_TICK)
        self.assertEqual(len(self.flushLoggedErrors()), LINES_PER_TICK)

    def test_bad_description(self) -> None:
        """A bad endpoint description is a SettingsError."""
        self.assertRaises(SettingsError, self.start, "nowhere:1")

    def test_taken(self) -> None:
        """A port that is taken stops the start."""

        def taken(endpoint: Endpoint, factory: object) -> Any:
            raise CannotListenError("127.0.0.1", 9100, OSError(98, "Address already in use"))

        self.patch(Endpoint, "listen_now", taken)
        self.assertRaises(CannotListenError, self.start)


class StopTests(ServiceTestCase):
    """How it stops."""

    def test_stop(self) -> None:
        """It stops listening, ends the probe and all connections, and leaves no timer."""
        made = self.start(doors=lambda: [Door(UNIXAddress(b"/run/relay"))])
        timers = len(self.reactor.getDelayedCalls())
        silent = Connection(self.reactor.tcpServers[0][1])
        asking = Connection(self.reactor.tcpServers[0][1])
        self.harness.factory.numPorts = 1
        asking.send(head("/readyz"))
        stopped = made.stopService()

        self.successResultOf(stopped)
        self.assertTrue(silent.transport.disconnecting)
        self.assertEqual(asking.response.json["checks"]["canary"], "the relay has stopped")
        for connection in (silent, asking):
            connection.hang_up()
        self.assertEqual(len(self.reactor.getDelayedCalls()), timers)
        self.successResultOf(made.stopService())

    def test_before_it_ran(self) -> None:
        """Stopped before the reactor ran, it logs nothing."""
        self.harness = self.relay()
        waiting: list[Any] = []
        self.harness.clock.callWhenRunning = waiting.append
        made = AdminService(self.harness.factory, "tcp:9100")
        made.startService()
        self.successResultOf(made.stopService())
        waiting[0]()

        self.assertEqual(self.logged(), [])


class RenewTests(ServiceTestCase):
    """Certificates."""

    def test_renew(self) -> None:
        """New connections get certificates that were read again; before it listens, renew does nothing."""
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        description = f"ssl:9100:privateKey={make_certificate(folder)}"
        made = self.start(description)
        before = certificates(self.reactor)[0]
        made.renew(made.fresh_endpoint())
        self.assertIsNot(certificates(self.reactor)[0], before)

        unstarted = AdminService(self.harness.factory, description)
        unstarted.renew(unstarted.fresh_endpoint())
        make_certificate(folder).write_text("nothing")
        self.assertRaises(SettingsError, made.fresh_endpoint)


class Port:
    """A port on loopback: MemoryReactor's are all on 0.0.0.0."""

    def __init__(self, port: Any) -> None:
        self._port = port

    def getHost(self) -> Any:
        from twisted.internet.address import IPv4Address  # noqa: PLC0415

        return IPv4Address("TCP", "127.0.0.1", 9100)


def local_port(listen_now: Any) -> Any:
    """Return ``listen_now``, with ports that say where they listen."""
    return lambda endpoint, factory: Port(listen_now(endpoint, factory))
