"""Tests of wsrelay.service, with a reactor that is none."""

import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.logger import LogLevel

from tests.harness.admin import Connection, head
from tests.harness.live import make_certificate
from tests.harness.support import Answer, RelayTestCase
from wsrelay import service
from wsrelay.admin import service as admin
from wsrelay.errors import SettingsError
from wsrelay.factory import RelayFactory
from wsrelay.service import RelayProcess, RelayService
from wsrelay.settings import Settings

#: What Twisted calls of pyOpenSSL.
pytestmark = pytest.mark.filterwarnings("ignore:.*You should use.*cryptography:DeprecationWarning")


class ServiceTestCase(RelayTestCase):
    """A relay with a service around it."""

    def make(self) -> RelayService:
        """Return the service."""
        return RelayService(self.harness.factory)

    def start(self, *listen: str, privileged: bool = False, **settings: Any) -> RelayService:
        self.harness = self.relay(listen=listen or ("tcp:8080:interface=127.0.0.1",), **settings)
        self.reactor = self.harness.clock
        # MemoryReactor calls back only once it runs; a real one that runs already does so at once.
        self.reactor.callWhenRunning = lambda call, *args: call(*args)
        # The harness has begun for a port of its own; here the service's are the only ones.
        self.harness.factory.doStop()
        made = self.make()
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

    def test_dead_peers(self) -> None:
        """The kernel is told to end connections with peers that have vanished, unless there are no pings, either."""
        told: list[tuple[object, float]] = []
        self.patch(service, "end_when_dead", lambda port, seconds: told.append((port, seconds)))
        made = self.start("tcp:1", "tcp:2", ping_seconds=7)
        self.assertEqual(told, [(port, 14) for port in made.ports])
        self.start("tcp:1", ping_seconds=0)
        self.assertEqual(len(told), 2)

    def test_taken(self) -> None:
        """A port that is taken stops the start (TRAPS 39)."""
        self.patch(service, "endpoints", lambda reactor, descriptions: [Taken()])

        self.assertRaises(CannotListenError, self.start)

    def test_without_nvx(self) -> None:
        """Without Autobahn's C code the operator is warned (TRAPS 8)."""
        self.patch(service, "USES_NVX", False)
        self.start()
        self.assertEqual(len(self.logged(LogLevel.warn)), 1)

        self.patch(service, "USES_NVX", True)
        self.start()
        self.assertEqual(len(self.logged(LogLevel.warn)), 1)


#: What clients see of a relay that stops.
RESTARTING = (1012, "the relay is restarting: reconnect with back-off")


class Taken:
    """An endpoint whose port is taken."""

    def listen_now(self, factory: object) -> Any:
        raise CannotListenError("127.0.0.1", 8080, OSError(98, "Address already in use"))


class StopTests(ServiceTestCase):
    """Stopping."""

    def test_polite(self) -> None:
        """Ports close first, then everybody is told 1012 in turn; it is done when the last one has gone."""
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

    def test_unfinished_handshakes(self) -> None:
        """A client whose handshake is not done is refused at once, with 503 and when to come back."""
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

    def test_nobody_there(self) -> None:
        """With nobody connected it is done at once, and no timer is left."""
        made = self.start(drain_seconds=600)
        stopped = made.stopService()
        self.harness.settle()

        self.successResultOf(stopped)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_all_gone_before_the_time(self) -> None:
        """When all have gone before the time is over, it is done then."""
        made = self.start(drain_seconds=600)
        client = self.harness.client()
        stopped = made.stopService()
        self.harness.wait(1)
        self.assertNoResult(stopped)
        client.sendClose(1000)
        self.harness.settle()

        self.successResultOf(stopped)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_within_close_seconds(self) -> None:
        """A client that does not answer is aborted so early that all is done within drain_seconds + close_seconds."""
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

    def test_twice(self) -> None:
        """Stopping twice is stopping."""
        made = self.start()
        client = self.harness.client()
        stopped = [made.stopService(), made.stopService()]
        self.harness.wait(5)

        self.assertEqual(client.closed, RESTARTING)
        for result in stopped:
            self.successResultOf(result)


class ReloadTests(ServiceTestCase):
    """Reloading, in somebody else's process."""

    def test_certificates_and_validators(self) -> None:
        """The endpoints' certificates are read again, and handshakes from now on meet the new validators."""
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        made = self.start("tcp:1", f"ssl:2:privateKey={make_certificate(folder)}")
        before = self.reactor.sslServers[0][2].creator
        client = self.harness.client()
        made.reload(Settings(), [Answer(ValueError("a new validator"))])

        self.assertIsNot(self.reactor.sslServers[0][2].creator, before)
        self.assertEqual(self.harness.client().status, 500)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertTrue(client.open)

    def test_all_or_nothing(self) -> None:
        """A certificate that cannot be read keeps everything as it is, the other endpoints' included."""
        good, bad = (Path(self.enterContext(tempfile.TemporaryDirectory())) for _ in range(2))
        made = self.start(*(f"ssl:2:privateKey={make_certificate(folder)}" for folder in (good, bad)))
        before = [server[2].creator for server in self.reactor.sslServers]
        chain = self.harness.factory.chain
        (bad / "relay.pem").write_text("garbage")
        error = self.assertRaises(SettingsError, made.reload, Settings(), [])

        self.assertIn(str(bad), str(error))
        self.assertEqual(len(error.problems), 1)
        self.assertEqual([server[2].creator for server in self.reactor.sslServers], before)
        self.assertIs(self.harness.factory.chain, chain)


class ProcessTests(ServiceTestCase):
    """A relay that is the process."""

    def setUp(self) -> None:
        super().setUp()
        self.handlers: dict[int, Any] = {}
        self.patch(signal, "signal", self.handlers.__setitem__)
        self.stops = 0
        #: What there is to read: settings, or what is raised.
        self.now: Any = Settings()

    def make(self) -> RelayService:
        self.reactor.stop = self.stop
        self.reactor.callFromThread = lambda call, *args: call(*args)
        return RelayProcess(self.harness.factory, self.read)

    def read(self) -> Any:
        if isinstance(self.now, Exception):
            raise self.now
        return self.now, []

    def stop(self) -> None:
        self.stops += 1

    def signal(self, number: signal.Signals) -> None:
        """Receive a signal."""
        self.handlers[number](number, None)

    def test_taken(self) -> None:
        """A port that is taken ends the process with one line."""
        self.patch(service, "endpoints", lambda reactor, descriptions: [Taken()])
        error = self.assertRaises(SystemExit, self.start)

        self.assertEqual(
            error.code, "wsrelay: cannot listen: Couldn't listen on 127.0.0.1:8080: [Errno 98] Address already in use."
        )

    def test_announcement(self) -> None:
        """At start it says once what it is, with which limits, and where it listens."""
        self.start(max_connections=7)
        started, limits, where = self.logged()

        self.assertTrue(started.startswith("started: wsrelay "))
        self.assertTrue(limits.startswith("limits: max-connections=7 "))
        self.assertTrue(where.startswith("relaying to everyone else "))

    def test_admin(self) -> None:
        """The admin endpoint is there as long as the relay, its drain included, and not longer."""
        made = self.start(admin="tcp:9100", drain_seconds=2)
        site = self.reactor.tcpServers[1][1]
        client = self.harness.client()
        self.assertEqual(Connection(site).send(head("/healthz")).status, 200)
        self.assertIn("admin endpoint on http://0.0.0.0:9100/", self.logged())
        stopped = made.stopService()
        asked = Connection(site).send(head("/readyz"))
        self.assertEqual((asked.status, asked.json["checks"]["listening"]), (503, "the relay does not listen"))
        silent = Connection(site)
        self.harness.wait(1)
        self.assertFalse(silent.ended)
        self.harness.wait(1)

        self.assertEqual((client.closed, silent.ended), (RESTARTING, True))
        self.successResultOf(stopped)

    def test_admin_taken(self) -> None:
        """An admin endpoint that is taken ends the process with one line, too."""
        taken = Taken()
        self.patch(admin, "admin_endpoint", lambda reactor, description: taken)
        error = self.assertRaises(SystemExit, self.start, admin="tcp:9100")

        self.assertIn("wsrelay: cannot listen: ", str(error.code))

    def test_doors(self) -> None:
        """It says where it can be reached, as long as it can be."""
        made = self.start("tcp:1", "haproxy:tcp:2")
        self.assertEqual([(door.address.port, door.speaks_proxy) for door in made.doors()], [(1, False), (2, True)])
        self.successResultOf(made.stopService())
        self.assertEqual(made.doors(), [])

    def test_drain(self) -> None:
        """POST /drain is SIGTERM, but however often it comes, it stops nobody sooner."""
        made = self.start(admin="tcp:9100", drain_seconds=2.5)
        site = self.reactor.tcpServers[1][1]
        client = self.harness.client()
        self.assertEqual([Connection(site).send(head("/drain", "POST")).status for _ in range(2)], [202, 202])
        self.assertEqual(self.stops, 0)
        self.harness.settle()
        self.assertEqual(self.stops, 1)
        self.assertIn("POST /drain: closing 1 connections over 2.5 s", self.logged())
        stopped = made.stopService()
        self.assertEqual(Connection(site).send(head("/drain", "POST")).status, 202)
        self.harness.wait(2.5)

        self.assertEqual((self.stops, client.closed), (1, RESTARTING))
        self.successResultOf(stopped)

    def test_admin_certificates(self) -> None:
        """SIGHUP reads the admin endpoint's certificates again; where they are wrong, nothing is reloaded."""
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.start(admin=f"ssl:9100:privateKey={make_certificate(folder)}")
        before = self.reactor.sslServers[0][2].creator
        self.signal(signal.SIGHUP)
        renewed = self.reactor.sslServers[0][2].creator
        self.assertIsNot(renewed, before)
        (folder / "relay.pem").write_text("nothing")
        self.signal(signal.SIGHUP)

        self.assertIs(self.reactor.sslServers[0][2].creator, renewed)
        self.assertIn("SIGHUP: nothing was reloaded: admin: ssl:", self.logged(LogLevel.error)[0])

    def test_sigterm(self) -> None:
        """SIGTERM stops the reactor, which stops the service, spread over drain_seconds."""
        made = self.start(drain_seconds=2.5)
        client = self.harness.client()
        self.signal(signal.SIGTERM)
        self.assertEqual(self.stops, 1)
        self.assertIn("SIGTERM: closing 1 connections over 2.5 s", self.logged())
        stopped = made.stopService()
        self.harness.wait(2)
        self.assertTrue(client.open)
        self.harness.wait(0.5)

        self.assertEqual(client.closed, RESTARTING)
        self.successResultOf(stopped)

    def test_sigint(self) -> None:
        """Ctrl-C does the same with all closes at once."""
        made = self.start()
        client = self.harness.client()
        self.signal(signal.SIGINT)
        self.assertEqual(self.stops, 1)
        self.assertIn("SIGINT: closing 1 connections over 0 s", self.logged())
        stopped = made.stopService()
        self.harness.settle()

        self.assertEqual(client.closed, RESTARTING)
        self.successResultOf(stopped)

    def test_second_signal(self) -> None:
        """A second signal waits for nobody, whether the service is being stopped already or not."""
        for early in (True, False):
            made = self.start()
            client = self.harness.client()
            client.server_transport.stalled = True
            self.signal(signal.SIGTERM)
            if early:
                self.signal(signal.SIGINT)
            stopped = made.stopService()
            if not early:
                self.signal(signal.SIGTERM)
            self.harness.settle()

            self.assertTrue(client.server_transport.aborted)
            self.successResultOf(stopped)
        self.assertEqual(self.stops, 2)

    def test_sighup(self) -> None:
        """SIGHUP reloads, says what, and stops nothing."""
        self.start()
        client = self.harness.client()
        self.signal(signal.SIGHUP)

        self.assertIn("SIGHUP: reloaded 0 certificates, 0 validators and the slow policies", self.logged())
        self.assertEqual((self.stops, client.open), (0, True))

    def test_what_needs_a_restart(self) -> None:
        """What has changed but is not reloaded is named, each time."""
        self.start(max_rooms=7)
        self.now = Settings(listen=("tcp:8080:interface=127.0.0.1",), validate=("rooms:a",), max_rooms=8, echo=True)
        for _ in range(2):
            self.signal(signal.SIGHUP)

        line = "SIGHUP: reloaded 0 certificates, 0 validators and the slow policies"
        line += "; changed, but it needs a restart: echo, max-rooms"
        self.assertEqual(self.logged().count(line), 2)
        self.assertEqual(self.harness.factory.settings.max_rooms, 7)

    def test_what_is_wrong(self) -> None:
        """With anything wrong nothing is reloaded; one line says all that is."""
        self.start()
        chain = self.harness.factory.chain
        self.now = SettingsError(["max-rooms: nonsense", "validate: nosuch"])
        self.signal(signal.SIGHUP)

        self.assertEqual(
            self.logged(LogLevel.error), ["SIGHUP: nothing was reloaded: max-rooms: nonsense; validate: nosuch"]
        )
        self.assertIs(self.harness.factory.chain, chain)

    def test_what_raises(self) -> None:
        """What a validator's plugin raises beside that ends nothing; the log has the traceback."""
        self.start()
        self.now = ZeroDivisionError()
        self.signal(signal.SIGHUP)

        self.assertEqual(self.logged(LogLevel.critical), ["SIGHUP: nothing was reloaded"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


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
