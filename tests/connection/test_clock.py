"""Tests of wsrelay.connection.clock. A real process with a clock that is set: tests/faults/test_clock.py."""

import asyncio
import time
from collections.abc import Callable

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.base import DelayedCall, ReactorBase
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.pollreactor import PollReactor
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import Clock
from twisted.logger import LogLevel
from twisted.web.http import HTTPFactory

from tests.harness.support import Answer, Relay, RelayTestCase
from wsrelay.closecodes import EXPIRED
from wsrelay.connection import clock
from wsrelay.connection.clock import STEP_SECONDS, make_steady
from wsrelay.connection.context import SWEEP_SECONDS
from wsrelay.factory import RelayFactory
from wsrelay.settings import Settings

#: An hour.
HOUR = 3600.0


class Times:
    """Both clocks of the process, for the patched module ``time``."""

    def __init__(self) -> None:
        self.wall, self.steady = 1_800_000_000.0, 50.0

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.steady

    def run(self, seconds: float, step: float = 0.0) -> None:
        """Let both go on; set the wall clock as well."""
        self.wall += seconds + step
        self.steady += seconds


class SteadyTests(RelayTestCase):
    """A reactor's clock."""

    def setUp(self) -> None:
        super().setUp()
        self.times = Times()
        self.patch(clock, "time", self.times)
        self.called: list[str] = []

    def reactor(self, make: Callable[[], ReactorBase] = EPollReactor) -> ReactorBase:
        reactor = make()
        self.addCleanup(reactor.fireSystemEvent, "shutdown")
        for descriptor in reactor.removeAll():
            self.addCleanup(descriptor.connectionLost, None)
        return reactor

    def test_reactor_clock_is_the_wall_clock(self) -> None:
        """Canary of TRAPS 91: where Twisted has a monotonic clock, make_steady has nothing to do."""
        self.assertIs(self.reactor().seconds, time.time)

    def test_steady_clock(self) -> None:
        """It continues the wall clock, at the pace of the monotonic one, whatever is set."""
        reactor = self.reactor()
        make_steady(reactor)
        self.assertEqual(reactor.seconds(), 1_800_000_000.0)
        for step in (-HOUR, -60.0, 0.0, HOUR):
            before = reactor.seconds()
            self.times.run(1, step)
            self.assertEqual(reactor.seconds(), before + 1)

    def test_steady_timers(self) -> None:
        """On each reactor, new and pending calls come at their time after a step, not earlier, in order."""
        loop = asyncio.new_event_loop()
        self.addCleanup(loop.close)
        for make in (EPollReactor, PollReactor, SelectReactor, lambda: AsyncioSelectorReactor(loop)):
            for step in (-HOUR, HOUR):
                reactor, self.called = self.reactor(make), []
                pending = self.pending(reactor, "pending", 3)
                reset = self.pending(reactor, "reset", 1000)
                make_steady(reactor)
                self.times.run(1, step)
                reset.reset(1)
                reactor.callLater(0, self.called.append, "at once")
                for expected in (["at once"], ["at once", "reset"], ["at once", "reset", "pending"]):
                    reactor.runUntilCurrent()
                    self.assertEqual(self.called, expected)
                    self.times.run(1)
                self.assertFalse(pending.active())

    def pending(self, reactor: ReactorBase, name: str, seconds: float) -> DelayedCall:
        """Return a call from before, when the reactor read the wall clock."""
        self.patch(ReactorBase, "seconds", staticmethod(self.times.time))
        call = reactor.callLater(seconds, self.called.append, name)
        self.patch(ReactorBase, "seconds", staticmethod(time.time))
        return call

    def test_steady_twice(self) -> None:
        """Done again, after a step, it changes nothing."""
        reactor = self.reactor()
        make_steady(reactor)
        seconds = reactor.seconds
        self.times.run(1, -HOUR)
        make_steady(reactor)
        self.assertIs(reactor.seconds, seconds)

    def test_other_clocks(self) -> None:
        """A Clock, and a reactor whose clock somebody has set, are left unchanged."""
        reactor, memory = self.reactor(), Clock()
        reactor.seconds = self.times.time
        make_steady(reactor)
        make_steady(memory)
        self.assertEqual((reactor.seconds(), memory.seconds()), (self.times.wall, 0.0))

    def test_steady_clock_as_a_date(self) -> None:
        """Canary of TRAPS 92: the access log of a site beside the relay takes its dates from the reactor."""
        reactor = self.reactor()
        make_steady(reactor)
        site = HTTPFactory(reactor=reactor)
        site._updateLogDateTime()
        self.assertEqual(site._logDateTime, "[15/Jan/2027:08:00:00 +0000]")

    def test_factory_reactor(self) -> None:
        """A factory makes its reactor steady, also in a program that embeds a relay."""
        reactor = self.reactor()
        factory = RelayFactory(Settings(), [], reactor)
        self.times.run(1, HOUR)
        self.assertEqual(factory.now + 1, reactor.seconds())


class ExpiryTests(RelayTestCase):
    """Grants that expire at a date, and a wall clock that is set."""

    def relay_with_grant(self, seconds: float = 100, **settings: object) -> Relay:
        validator = Answer(lambda _, grant: grant.narrowed(expires_at=1_000_000.0 + seconds))
        return self.relay([validator], ping_seconds=7, **settings)

    def test_expiry_clock_set_forward(self) -> None:
        """Set forward over the date, an open connection is closed with 4401 at the next sweep, a stream as well."""
        relay = self.relay_with_grant(http=True)
        client, wire = relay.client(), relay.wire()
        wire.send(b"GET /room HTTP/1.1\r\nHost: relay.example\r\nAccept: text/event-stream\r\n\r\n")
        relay.now += HOUR
        relay.wait(SWEEP_SECONDS)

        self.assertEqual(client.closed, (EXPIRED.code, EXPIRED.text))
        self.assertIn(b"4401", wire.send(b""))

    def test_expiry_clock_set_forward_a_little(self) -> None:
        """Set forward to before the date, it is closed at the date."""
        relay = self.relay_with_grant()
        client = relay.client()
        relay.now += 60
        relay.wait(39.5)
        self.assertTrue(client.open)
        relay.wait(1)
        self.assertEqual(client.closed[0], EXPIRED.code)

    def test_expiry_clock_set_back(self) -> None:
        """Set back, it stays open until the date comes again."""
        relay = self.relay_with_grant()
        client = relay.client()
        relay.wait(90)
        relay.now -= 60
        relay.wait(69)
        self.assertTrue(client.open)
        relay.wait(2)
        self.assertEqual(client.closed[0], EXPIRED.code)

    def test_expiry_clock_drifts(self) -> None:
        """Changes that are too small for a step add up to one."""
        relay = self.relay_with_grant()
        client = relay.client()
        for _ in range(20):
            relay.now += STEP_SECONDS / 2
            relay.wait(SWEEP_SECONDS)
        self.assertLess(len(self.logged(LogLevel.warn)), 20)
        self.assertAlmostEqual(client.server.keepalive.expires, 95, delta=STEP_SECONDS)

    def test_expiry_logged(self) -> None:
        """One line for each step; none without."""
        relay = self.relay_with_grant()
        for step in (-HOUR, 60.0, 0.0):
            relay.now += step
            relay.wait(5)
        texts = [
            f"the system clock was set by {step} s: only the expiry of grants follows" for step in ("-3600.0", "+60.0")
        ]
        self.assertEqual(self.logged(LogLevel.warn), texts)

    def test_expiry_other_connections(self) -> None:
        """Unfinished handshakes, closing connections, and grants without a date keep their deadlines."""
        relay = self.relay(close_seconds=3, handshake_seconds=10)
        client, opening, closing = relay.client(), relay.wire(), relay.client("/closing")
        closing.server_transport.stalled = True
        closing.server.close(EXPIRED)
        before = [one.deadline for one in relay.factory.connections]
        relay.now += HOUR
        relay.wait(SWEEP_SECONDS)

        self.assertEqual([one.deadline for one in relay.factory.connections], before)
        self.assertTrue(client.open)
        self.assertFalse(opening.ended)

    def test_expiry_closing(self) -> None:
        """A closing connection whose grant has a date keeps the deadline of its close."""
        relay = self.relay_with_grant(close_seconds=3)
        client = relay.client()
        client.server_transport.stalled = True
        client.server.close(EXPIRED)
        before = client.server.deadline
        relay.now += HOUR
        relay.wait(SWEEP_SECONDS)

        self.assertEqual(client.server.deadline, before)
