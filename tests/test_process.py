"""Tests of wsrelay.process in memory; tests/interop/test_process.py has real processes."""

import signal
import sys
import tempfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.admin import Connection, head
from tests.harness.live import make_certificate
from tests.harness.service import RESTARTING, ServiceTestCase, Taken
from tests.harness.tls import certificates
from wsrelay import __version__, factory, service
from wsrelay.admin import service as admin
from wsrelay.errors import SettingsError
from wsrelay.process import RelayProcess, announcement
from wsrelay.service import RelayService
from wsrelay.settings import Settings

#: Deprecated pyOpenSSL functions that Twisted calls.
pytestmark = pytest.mark.filterwarnings("ignore:.*You should use.*cryptography:DeprecationWarning")


class AnnouncementTests(SynchronousTestCase):
    """Start-up log lines."""

    def test_announcement_lines(self) -> None:
        """One line has the versions, one the limits by option name, in plain numbers."""
        settings = Settings(drain_seconds=0.5, memory_budget=123456789016)
        started, limits = announcement(settings, 18711, MemoryReactorClock())

        self.assertRegex(
            started,
            rf"^started: wsrelay {__version__}, Python 3\.\S+, Twisted \S+ with MemoryReactorClock, "
            r"Autobahn [0-9.]+, wsrelay\._native (not )?in use, deflate by isal [0-9.]+$",
        )
        self.assertEqual(
            limits,
            "limits: max-connections=18711 max-connections-per-address=1024 max-message-bytes=1048576"
            " memory-budget=123456789016 max-unfinished-bytes-per-address=15432098627 room-log-bytes=8388608"
            " drain-seconds=0.5",
        )

    def test_announcement_without_isal(self) -> None:
        """Without isal the line says that zlib deflates, and which one."""
        with mock.patch.dict(sys.modules, {"isal.isal_zlib": None}):
            started, _ = announcement(Settings(), 18711, MemoryReactorClock())
        self.assertTrue(started.endswith(f", deflate by zlib {zlib.ZLIB_RUNTIME_VERSION}"), started)


class ProcessTests(ServiceTestCase):
    """The standalone relay."""

    def setUp(self) -> None:
        super().setUp()
        self.handlers: dict[int, Any] = {}
        self.patch(signal, "signal", self.handlers.__setitem__)
        self.stops = 0
        #: The result of reading the settings: settings, or an exception.
        self.now: Any = Settings()
        self.log_file: Any = None

    def make(self) -> RelayService:
        self.reactor.stop = self.stop
        self.reactor.callFromThread = lambda call, *args: call(*args)
        # The harness' reactor does not start: its trigger is called as soon as it is added.
        self.reactor.addSystemEventTrigger = lambda phase, event, call: call()
        return RelayProcess(self.harness.factory, self.read, self.log_file)

    def read(self) -> Any:
        if isinstance(self.now, Exception):
            raise self.now
        return self.now, []

    def stop(self) -> None:
        self.stops += 1

    def signal(self, number: signal.Signals) -> None:
        """Receive a signal."""
        self.handlers[number](number, None)

    def test_address_in_use(self) -> None:
        """An address in use ends the process with one line."""
        self.patch(service, "endpoints", lambda reactor, descriptions: [Taken()])
        error = self.assertRaises(SystemExit, self.start)

        self.assertEqual(
            error.code,
            "wsrelay: cannot listen: Couldn't listen on 127.0.0.1:8080: [Errno 98] Address already in use."
            " Another process has this port (`ss -ltnp` names it), or two of our endpoints have the same.",
        )

    def test_unix_socket_in_use(self) -> None:
        """A unix socket in use ends the process with one line, without advice on ports; Twisted's reason is a text."""
        for reason, advice in (
            ("Cannot acquire lock", " Another relay listens on this socket."),
            (OSError(13, "Permission denied"), " The relay's user may not write to the folder of the socket."),
            (OSError(5, "Input/output error"), ""),
        ):
            self.patch(Taken, "error", CannotListenError(None, b"/run/relay.sock", reason))
            self.patch(service, "endpoints", lambda reactor, descriptions: [Taken()])
            error = self.assertRaises(SystemExit, self.start)
            self.assertEqual(
                error.code, f"wsrelay: cannot listen: Couldn't listen on any:b'/run/relay.sock': {reason}.{advice}"
            )
        for failure, end in (
            (OSError(2, "No such folder"), " The socket needs a folder that exists."),
            (ValueError("x"), ": x"),
        ):
            self.patch(Taken, "error", failure)
            self.assertTrue(str(self.assertRaises(SystemExit, self.start).code).endswith(end))

    def test_announcement(self) -> None:
        """At start versions, limits and URLs are logged once."""
        self.start(max_connections=7)
        started, limits, where = self.logged()

        self.assertTrue(started.startswith("started: wsrelay "))
        self.assertTrue(limits.startswith("limits: max-connections=7 "))
        self.assertTrue(where.startswith("relaying to everyone else "))

    def test_few_descriptors(self) -> None:
        """A low limit on open files is logged at start, unless the operator has set a limit."""
        low = "the limit on open files leaves room for 20 connections; raise it (ulimit -Hn, LimitNOFILE=)"
        for settings, count, expected in (({}, 20, True), ({}, 500, False), ({"max_connections": 20}, 20, False)):
            self.setUp()
            self.patch(factory, "most_connections", lambda reserved, count=count: count)
            self.start(**settings)
            self.assertEqual(low in self.logged(LogLevel.warn), expected)

    def test_admin_life(self) -> None:
        """The admin endpoint lives as long as the relay, the drain included."""
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

    def test_admin_address_in_use(self) -> None:
        """An admin endpoint in use ends the process with one line."""
        taken = Taken()
        self.patch(admin, "admin_endpoint", lambda reactor, description: taken)
        error = self.assertRaises(SystemExit, self.start, admin="tcp:9100")

        self.assertIn("wsrelay: cannot listen: ", str(error.code))

    def test_reopen_log(self) -> None:
        """SIGUSR1 and SIGHUP open the log file again; a failure is one line, and the reload goes on."""
        self.log_file = FakeLogFile()
        self.start()
        self.events.clear()
        self.signal(signal.SIGUSR1)
        self.signal(signal.SIGHUP)
        self.assertEqual(self.log_file.count, 2)
        self.log_file.error = OSError(13, "Permission denied")
        self.signal(signal.SIGUSR1)
        self.signal(signal.SIGHUP)
        self.assertEqual(
            [line.partition(" 0 cert")[0] for line in self.logged()],
            [
                "SIGUSR1: opened the log file again",
                "SIGHUP: opened the log file again",
                "SIGHUP: reloaded",
                "SIGHUP: reloaded",
            ],
        )
        self.assertEqual(
            self.logged(LogLevel.error),
            [f"{name}: the log file stays as it was: [Errno 13] Permission denied" for name in ("SIGUSR1", "SIGHUP")],
        )

    def test_no_log_file(self) -> None:
        """Without a log file SIGUSR1 ends nothing, and is left to twistd where it rotates twistd's own file."""
        self.start()
        self.events.clear()
        self.signal(signal.SIGUSR1)
        self.assertEqual(self.logged(), ["SIGUSR1: there is no --log-file to open again"])
        self.handlers.clear()
        self.patch(signal, "getsignal", lambda number: self.signal)
        self.start()
        self.assertNotIn(signal.SIGUSR1, self.handlers)
        self.log_file = FakeLogFile()
        self.start()
        self.assertIn(signal.SIGUSR1, self.handlers)

    def test_doors(self) -> None:
        """Doors are listed while the relay accepts connections."""
        made = self.start("tcp:1", "haproxy:tcp:2")
        self.assertEqual([(door.address.port, door.speaks_proxy) for door in made.doors()], [(1, False), (2, True)])
        self.successResultOf(made.stopService())
        self.assertEqual(made.doors(), [])

    def test_post_drain(self) -> None:
        """POST /drain acts as SIGTERM; repeating it does not shorten the drain."""
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

    def test_reload_admin_certificates(self) -> None:
        """SIGHUP reads the admin endpoint's certificates again; if they are unusable, nothing is reloaded."""
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.start(admin=f"ssl:9100:privateKey={make_certificate(folder)}")
        before = certificates(self.reactor)[0]
        self.signal(signal.SIGHUP)
        renewed = certificates(self.reactor)[0]
        self.assertIsNot(renewed, before)
        (folder / "relay.pem").write_text("nothing")
        self.signal(signal.SIGHUP)

        self.assertIs(certificates(self.reactor)[0], renewed)
        self.assertIn("SIGHUP: nothing was reloaded: admin: ssl:", self.logged(LogLevel.error)[0])

    def test_sigterm(self) -> None:
        """SIGTERM stops the reactor and the service, spread over drain_seconds."""
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
        """SIGINT does the same, with all closes at once."""
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
        """A second signal aborts all connections, before and during the stop of the service."""
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

    def test_reload(self) -> None:
        """SIGHUP reloads, logs a summary, and stops nothing."""
        self.start()
        client = self.harness.client()
        self.signal(signal.SIGHUP)

        self.assertIn("SIGHUP: reloaded 0 certificates, 0 validators and the slow policies", self.logged())
        self.assertEqual((self.stops, client.open), (0, True))

    def test_reload_needs_restart(self) -> None:
        """Changed settings that are not reloadable are named, each time."""
        self.start(max_rooms=7)
        self.now = Settings(listen=("tcp:8080:interface=127.0.0.1",), validate=("rooms:a",), max_rooms=8, echo=True)
        for _ in range(2):
            self.signal(signal.SIGHUP)

        line = "SIGHUP: reloaded 0 certificates, 0 validators and the slow policies"
        line += "; changed, but it needs a restart: echo, max-rooms"
        self.assertEqual(self.logged().count(line), 2)
        self.assertEqual(self.harness.factory.settings.max_rooms, 7)

    def test_reload_changed(self) -> None:
        """Another setting that was reloaded is named, once; one that follows another is not."""
        self.start(max_rooms=7)
        self.now = replace(
            self.harness.factory.settings, explain_refusals=True, max_message_bytes=2**24, room_log_bytes=0
        )
        for _ in range(2):
            self.signal(signal.SIGHUP)

        line = "SIGHUP: reloaded 0 certificates, 0 validators and the slow policies"
        rest = "; changed, but it needs a restart: max-message-bytes"
        self.assertEqual(self.logged().count(f"{line}; changed: explain-refusals{rest}"), 1)
        self.assertEqual(self.logged().count(line + rest), 1)

    def test_reload_wrong_settings(self) -> None:
        """With wrong settings nothing is reloaded; one line names all problems."""
        self.start()
        chain = self.harness.factory.chain
        self.now = SettingsError(["max-rooms: nonsense", "validate: nosuch"])
        self.signal(signal.SIGHUP)

        self.assertEqual(
            self.logged(LogLevel.error), ["SIGHUP: nothing was reloaded: max-rooms: nonsense; validate: nosuch"]
        )
        self.assertIs(self.harness.factory.chain, chain)

    def test_reload_validator_bug(self) -> None:
        """An unexpected exception of a validator plugin is logged with its traceback; the relay goes on."""
        self.start()
        self.now = ZeroDivisionError()
        self.signal(signal.SIGHUP)

        self.assertEqual(self.logged(LogLevel.critical), ["SIGHUP: nothing was reloaded"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class FakeLogFile:
    """A log file that counts how often it is opened again."""

    def __init__(self) -> None:
        self.count = 0
        self.error: OSError | None = None

    def reopen(self) -> None:
        if self.error is not None:
            raise self.error
        self.count += 1
