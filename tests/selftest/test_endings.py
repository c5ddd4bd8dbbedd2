"""The case of close reasons."""

from tests.harness.selftest import SelftestCase, finish
from wsrelay.closecodes import NORMAL
from wsrelay.selftest.cases import chosen
from wsrelay.selftest.frames import Close
from wsrelay.selftest.outcome import Verdict
from wsrelay.selftest.runner import try_all


class EndingsTests(SelftestCase):
    """It sums up what the cases before it have seen."""

    def test_verdicts(self) -> None:
        """All with a code and a reason pass; any other one differs and is shown; none is nothing to judge."""
        whole, mute = Close(NORMAL, "why"), Close(NORMAL)
        for ends, verdict, seen in (
            ([], Verdict.SKIPPED, "has closed no connection"),
            ([whole, whole], Verdict.PASS, "2 of 2 had both"),
            ([whole, mute], Verdict.DIFFERS, "1 of 2 had no code or no reason: closed with 1000, no reason"),
            ([None, Close()], Verdict.DIFFERS, "2 of 2 had no code or no reason: closed without a code; cut without"),
        ):
            relay = self.relay()
            lab = self.lab(relay)
            lab.ends.extend(("client", end) for end in ends)
            (result,) = finish(relay, try_all(lab, chosen(["close-reasons"]), lambda _result: None))
            self.assertEqual(result.verdict, verdict)
            self.assertIn(seen, result.seen)
