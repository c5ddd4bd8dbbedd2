"""Tests of wsrelay.backplane.state."""

from twisted.logger import LogLevel

from tests.harness.support import RelayTestCase
from wsrelay.admin import metrics
from wsrelay.backplane.state import State, announce


class StateTests(RelayTestCase):
    """The states."""

    def test_announce(self) -> None:
        """Each state but the first has a log line: where, why, and what clients see."""
        for state in State:
            if state is not State.CONNECTING:
                announce(state, "broker:6379", "wsrelay:{0}:log", "it is gone", 15.0)
        self.assertEqual(self.logged(), ["backplane: up on broker:6379, wsrelay:{0}:log", "backplane: closed"])
        [interrupted] = self.logged(LogLevel.warn)
        self.assertRegex(interrupted, "^backplane: interrupted: it is gone; .* closed with 1013 after 15 s$")
        [down] = self.logged(LogLevel.error)
        self.assertRegex(down, "^backplane: down: it is gone; .* 1013, new ones refused with 503, until ")

    def test_metric(self) -> None:
        """The metric has the values of the enum."""
        self.assertEqual(metrics._STATES, tuple(state.value for state in State))
