"""Tests of wsrelay.logs.failures."""

from twisted.logger import LogLevel
from twisted.python.failure import Failure

from tests.harness.support import RelayTestCase
from wsrelay.errors import OperatorError
from wsrelay.logs.failures import SAID_CHARS, log_failure


class FailureTests(RelayTestCase):
    """Logged exceptions."""

    def test_incident_id(self) -> None:
        """Each failure is one event with its operation, a traceback, and the returned incident id."""
        failure = Failure(RuntimeError("boom {}"))
        first, second = log_failure("a thing {failed}", failure), log_failure("another\x1b", failure)

        self.assertRegex(first, "^[0-9a-f]{8}$")
        self.assertNotEqual(first, second)
        self.assertEqual(self.logged(LogLevel.critical), [f"a thing {{failed}} [{first}]", f"another\\x1b [{second}]"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)

    def test_operator_error(self) -> None:
        """What the operator can correct is one escaped line with the incident id, without a traceback."""
        incident = log_failure("a thing failed", Failure(OperatorError("do {this}\nnow")))

        self.assertEqual(self.logged(LogLevel.critical), [f"a thing failed [{incident}]: do {{this}}\\nnow"])
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_failure_text_escaped(self) -> None:
        """An exception's text from a client is escaped, and cut if long."""
        for said, shown in (
            ("a\n2026 [-] forged \x1b[2J\u2028é", "a\\n2026 [-] forged \\x1b[2J\\u2028é"),
            ("x" * 2000, "x" * SAID_CHARS),
        ):
            failure = Failure(ValueError(said))
            log_failure("a thing failed", failure)
            [logged] = self.flushLoggedErrors(ValueError)
            self.assertTrue(logged.getTraceback().endswith(f"ValueError: {shown}\n"), logged.getTraceback())
            self.assertEqual(str(failure.value), said)
