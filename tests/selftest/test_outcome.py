"""Verdicts, and texts of ends."""

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.closecodes import NORMAL, TOO_BIG, TOO_FAST, TOO_SLOW, WRONG_TYPE
from wsrelay.selftest.frames import Close
from wsrelay.selftest.outcome import Ended, Fails, Refused, Verdict, shown


class OutcomeTests(SynchronousTestCase):
    """Exceptions that carry a verdict."""

    def test_ended(self) -> None:
        """An end fails the case, unless a limit is the reason, which is said."""
        ended = Ended("listener", Close(TOO_SLOW.code, "too slow"))
        self.assertEqual(
            (ended.verdict, str(ended), ended.means),
            (Verdict.FAILS, "the listener was closed with 1013 “too slow”", None),
        )
        for row in (TOO_FAST, TOO_BIG, WRONG_TYPE):
            limit = Ended("listener", Close(row.code, row.text))
            self.assertEqual(limit.verdict, Verdict.DIFFERS)
            self.assertIn("not tried to its end", limit.means or "")
        self.assertEqual(Ended("listener", Close()).verdict, Verdict.FAILS)

    def test_refused(self) -> None:
        """A refusal fails the case, unless the server is busy."""
        self.assertEqual(str(Refused("client", None, "")), "the handshake of the client got no HTTP response")
        self.assertEqual(
            str(Refused("client", None, "reset")), "the handshake of the client got no HTTP response: reset"
        )
        self.assertEqual(str(Refused("client", 404, "no")), "the handshake of the client got 404 no")
        self.assertEqual(
            [Refused("client", status, "").verdict for status in (404, 429, 503)],
            [Verdict.FAILS, Verdict.DIFFERS, Verdict.DIFFERS],
        )

    def test_means(self) -> None:
        """The meaning of an outcome is the case's, unless it has its own."""
        self.assertEqual((Fails("a").means, Fails("a", "b").means), (None, "b"))

    def test_shown(self) -> None:
        """Ends in words."""
        ends = (None, Close(), Close(NORMAL), Close(NORMAL, "bye"))
        self.assertEqual(
            [shown(end) for end in ends],
            [
                "cut without a close frame",
                "closed without a code",
                "closed with 1000, no reason",
                "closed with 1000 “bye”",
            ],
        )
