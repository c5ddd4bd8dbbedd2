"""Tests of wsrelay.announcement."""

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from wsrelay import __version__
from wsrelay.announcement import announcement
from wsrelay.settings import Settings


class AnnouncementTests(SynchronousTestCase):
    """What is said at start."""

    def test_lines(self) -> None:
        """One line has the versions, one the limits, under the names of their options and in plain numbers."""
        settings = Settings(drain_seconds=0.5, memory_budget=123456789012)
        started, limits = announcement(settings, 18711, MemoryReactorClock())

        self.assertRegex(
            started,
            rf"^started: wsrelay {__version__}, Python 3\.\S+, Twisted \S+ with MemoryReactorClock, Autobahn [0-9.]+$",
        )
        self.assertEqual(
            limits,
            "limits: max-connections=18711 max-connections-per-address=1024 max-message-bytes=1048576"
            " memory-budget=123456789012 room-log-bytes=4194304 drain-seconds=0.5",
        )
