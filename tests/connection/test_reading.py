"""Tests of wsrelay.connection.reading alone. On connections: tests/connection/test_websocket.py."""

from typing import Any
from unittest.mock import Mock

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from wsrelay.closecodes import TOO_FAST
from wsrelay.connection.flow import Flow
from wsrelay.connection.reading import charge_records, hold, limit_rate, release
from wsrelay.connection.stage import Stage
from wsrelay.interfaces import Hold
from wsrelay.limits.admission import UNCOUNTED
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
        self.visit = UNCOUNTED
        self.flow = Flow(Rates(Settings()), 0.0)
        self.deadline = 0.0
        self.data = b"unread"
        self.noted: list[object] = []
        self.now = 0.0
        self.settings = Settings()
        self.stats: Any = Mock(slowdowns=0)
        self.slowed_down: set[object] = set()

    def seconds(self) -> float:
        return self.reactor.seconds()

    def reject(self, reason: object) -> None:
        self.noted.append(reason)

    def abort(self) -> None:
        self.noted.append("aborted")

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


class RateTests(SynchronousTestCase):
    """Rate limits."""

    def test_within_rate(self) -> None:
        """A debt that the time since the last refill pays holds no peer: the reactor's time counts, not the sweep's."""
        for seconds, noted in ((0.4, []), (0.0, ["paused"])):
            reader = Reader(Stage.OPEN)
            reader.flow.bytes = -0.1 * reader.settings.max_bytes_per_second
            reader.reactor.advance(seconds)
            limit_rate(reader)
            self.assertEqual((reader.noted, reader.stats.slowdowns), (noted, len(noted)))


class RecordsTests(SynchronousTestCase):
    """TLS records."""

    def test_charge_open(self) -> None:
        """Records count as frames, empty ones as control frames; beyond the rate reading is held, then 1008."""
        for stage in (Stage.OPEN, Stage.STREAM):
            reader = Reader(stage)
            _, frames, _, controls = reader.flow.tokens
            charge_records(reader, 3, 2)
            self.assertEqual((frames - reader.flow.frames, controls - reader.flow.controls, reader.noted), (3, 2, []))
            charge_records(reader, 0, int(controls))
            self.assertEqual((reader.noted, reader.slowed_down), (["paused"], {reader}))
            charge_records(reader, int(40 * reader.settings.max_frames_per_second), 0)
            self.assertEqual(reader.noted, ["paused", TOO_FAST])

    def test_charge_not_open(self) -> None:
        """Empty records end a connection that is not open; records with data do not, and nothing ends twice."""
        for stage, noted in (
            (Stage.REQUEST, ["aborted"]),
            (Stage.GRANT, ["aborted"]),
            (Stage.EXCHANGE, ["aborted"]),
            (Stage.CLOSING, ["aborted"]),
            (Stage.ENDING, ["aborted"]),
            (Stage.LOST, []),
        ):
            reader = Reader(stage)
            charge_records(reader, 5, 0)
            self.assertEqual(reader.noted, [])
            charge_records(reader, 5, 1)
            self.assertEqual(reader.noted, noted, stage)
