"""Tests of wsrelay.connection.reading alone. On connections: tests/connection/test_websocket.py."""

from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from wsrelay.connection.flow import Flow, Hold
from wsrelay.connection.reading import hold, release
from wsrelay.connection.stage import Stage
from wsrelay.limits.rates import Rates
from wsrelay.settings import Settings


class Reader:
    """A connection that records pauses and resumes."""

    def __init__(self, stage: Stage) -> None:
        self.factory: Any = self
        self.transport: Any = self
        self.keepalive: Any = self
        self.reactor = MemoryReactorClock()
        self.stage = stage
        self.flow = Flow(Rates(Settings()), 0.0)
        self.deadline = 0.0
        self.data = b"unread"
        self.noted: list[object] = []

    def seconds(self) -> float:
        return self.reactor.seconds()

    def reject(self, reason: object) -> None:
        self.noted.append(reason)

    def dataReceived(self, data: bytes) -> None:
        self.noted.append(data)

    def pauseProducing(self) -> None:
        self.noted.append("paused")

    def resumeProducing(self) -> None:
        self.noted.append("resumed")

    def read_again(self, seconds: float) -> None:
        self.noted.append(seconds)


class ReadingTests(SynchronousTestCase):
    """Pausing and resuming."""

    def test_resume_open(self) -> None:
        """An open connection resumes in a later turn, with its deadlines moved, at the unparsed bytes."""
        reader = Reader(Stage.OPEN)
        hold(reader, Hold.ROOM)
        reader.reactor.advance(5)
        release(reader, Hold.ROOM)
        self.assertEqual(reader.noted, ["paused"])
        reader.reactor.advance(0)

        self.assertEqual(reader.noted, ["paused", "resumed", 5.0, b""])

    def test_resume_closing(self) -> None:
        """A connection that begins to close while it is held resumes, and its deadline stays; then nothing holds it."""
        reader = Reader(Stage.OPEN)
        hold(reader, Hold.RATE)
        reader.stage = Stage.CLOSING
        release(reader, Hold.RATE)
        reader.reactor.advance(0)
        self.assertEqual(reader.noted, ["paused", "resumed", b""])
        hold(reader, Hold.ROOM)

        self.assertEqual(reader.noted, ["paused", "resumed", b""])

    def test_resume_ended(self) -> None:
        """A connection that has ended meanwhile does not resume."""
        reader = Reader(Stage.OPEN)
        hold(reader, Hold.ROOM)
        release(reader, Hold.ROOM)
        reader.stage = Stage.ENDING
        reader.reactor.advance(0)

        self.assertEqual(reader.noted, ["paused"])
