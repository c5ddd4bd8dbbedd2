"""All cases, against a right relay in memory."""

from tests.harness.selftest import BOUNDS, LOG_BYTES, SelftestCase, finish
from wsrelay.selftest.cases import CASES, chosen
from wsrelay.selftest.runner import try_all
from wsrelay.selftest.target import Target


class CasesTests(SelftestCase):
    """The list."""

    def test_a_relay_with_default_options_passes(self) -> None:
        """Every case passes, but the one that needs a token."""
        relay = self.relay(None, max_message_bytes=BOUNDS.max_message_bytes, room_log_bytes=LOG_BYTES)
        lab = self.lab(relay)
        results = finish(relay, try_all(lab, CASES, lambda _result: None))
        others = {result.case.name: (result.verdict.value, result.seen) for result in results if result.means}
        self.assertEqual(others, {})
        self.assertEqual([each.case.name for each in results if each.verdict.value == "skipped"], ["no-token"])

    def test_one_room_that_greets(self) -> None:
        """With --room, in a room that greets new members with what former cases have said, the same."""
        limits = {"max_message_bytes": BOUNDS.max_message_bytes, "room_log_bytes": LOG_BYTES}
        relay = self.relay(None, history=("**=100",), greet=("**=10",), history_bytes=2**19, **limits)
        lab = self.lab(relay, Target.from_url("ws://relay.example:8080/", room="one"))
        results = finish(relay, try_all(lab, CASES, lambda _result: None))
        others = {result.case.name: (result.verdict.value, result.seen) for result in results if result.means}
        self.assertEqual(others, {})

    def test_names(self) -> None:
        """Names are unique; every row says all that a reader needs."""
        self.assertEqual(len({case.name for case in CASES}), len(CASES))
        for case in CASES:
            self.assertTrue(case.expects and case.source and case.means and case.group, case.name)

    def test_chosen(self) -> None:
        """Cases are chosen by name or group, in the order of the list; a wrong name is an error."""
        self.assertEqual(chosen([]), CASES)
        self.assertEqual([case.name for case in chosen(["rooms", "everyone-else"])], ["everyone-else", "rooms"])
        self.assertEqual({case.group for case in chosen(["sizes"])}, {"Sizes"})
        with self.assertRaisesRegex(ValueError, "no case or group has the name a, b; --list"):
            chosen(["b", "a", "rooms"])
