"""Tests of wsrelay.failures."""

from twisted.logger import LogLevel
from twisted.python.failure import Failure

from tests.support import RelayTestCase
from wsrelay.failures import log_failure


class FailureTests(RelayTestCase):
    """What is logged of a bug."""

    def test_logged_once_under_an_id(self) -> None:
        """Each failure is one event, with what failed, a traceback, and an id of its own that is returned."""
        failure = Failure(RuntimeError("boom {}"))
        first, second = log_failure("a thing {failed}", failure), log_failure("another", failure)

        self.assertRegex(first, "^[0-9a-f]{8}$")
        self.assertNotEqual(first, second)
        self.assertEqual(self.logged(LogLevel.critical), [f"a thing {{failed}} [{first}]", f"another [{second}]"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)
