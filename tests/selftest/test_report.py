"""Results as text and as JSON."""

import json

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.selftest.cases import CASES
from wsrelay.selftest.outcome import Verdict
from wsrelay.selftest.report import COLUMNS, Table, as_json, bad, listed
from wsrelay.selftest.runner import Result

_RESULTS = [
    Result(CASES[0], Verdict.PASS, "101", "", 0.5),
    Result(CASES[1], Verdict.DIFFERS, "a long text " * 20, "what it means " * 10, 1),
    Result(CASES[5], Verdict.FAILS, "lost", "no chat", 1),
    Result(CASES[6], Verdict.SKIPPED, "why", "", 0),
]


class TableTests(SynchronousTestCase):
    """The table."""

    def table(self, results: list[Result] = _RESULTS, *, is_coloured: bool = False) -> str:
        """Return the whole table."""
        parts: list[str] = []
        table = Table(parts.append, [CASES[1].name], is_coloured=is_coloured)
        table.begin("ws://relay.example/", "/selftest-…")
        for result in results:
            table.add(result)
        table.end(results)
        return "".join(parts)

    def test_rows(self) -> None:
        """A row for each result, under the heading of its group, in 100 columns; more where it is not a pass."""
        text = self.table()
        self.assertLessEqual(max(map(len, text.splitlines())), COLUMNS)
        self.assertEqual((text.count("\nOpening\n"), text.count("\nDelivery\n")), (1, 1))
        self.assertEqual((text.count("expected: "), text.count("means: ")), (2, 2))
        self.assertIn("  fails    others-only", text)
        self.assertEqual(text.count("(allowed)"), 1)
        self.assertIn("4 cases in 2.5 s: 1 pass, 1 differs, 1 fails, 1 skipped\n", text)

    def test_legend(self) -> None:
        """The words are explained where they are used."""
        self.assertIn("differs: otherwise", self.table())
        self.assertNotIn("differs: otherwise", self.table(_RESULTS[:1]))

    def test_colours(self) -> None:
        """Colours only where they are asked for."""
        self.assertNotIn("\x1b", self.table())
        self.assertIn("\x1b[31mfails    \x1b[0m", self.table(is_coloured=True))

    def test_bad(self) -> None:
        """Those that differ or fail, without the allowed ones."""
        self.assertEqual(bad(_RESULTS), _RESULTS[1:3])
        self.assertEqual(bad(_RESULTS, [CASES[1].name]), _RESULTS[2:3])

    def test_list(self) -> None:
        """All cases, under their groups, in 100 columns."""
        text = listed(CASES)
        self.assertLessEqual(max(map(len, text.splitlines())), COLUMNS)
        for case in CASES:
            self.assertIn(f"  {case.name} ", text)

    def test_json(self) -> None:
        """An object for each result."""
        found = json.loads(as_json("ws://relay.example/", _RESULTS))
        self.assertEqual((found["url"], len(found["results"])), ("ws://relay.example/", 4))
        first = found["results"][0]
        self.assertEqual((first["name"], first["verdict"], first["seconds"]), ("handshake", "pass", 0.5))
