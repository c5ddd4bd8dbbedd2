"""Tests of wsrelay.logs.lines."""

from collections.abc import Callable

from tests.harness.support import RelayTestCase
from wsrelay.logs.lines import MAX_LINES, MAX_REFUSALS, TEXTS, Lines

MORE = TEXTS["left_out"]


class LinesTests(RelayTestCase):
    """Log lines about connections."""

    def setUp(self) -> None:
        super().setUp()
        self.calls: list[Callable[[], None]] = []
        self.lines = Lines(self.calls.append)

    def refuse(self, peer: object) -> None:
        self.lines.add_refusal(peer=peer, status=403, reason="no", cause="token")

    def test_records(self) -> None:
        """The event has its lines as records too, with the raw fields."""
        self.refuse("1.2.3.4\n")
        self.lines.add("left_out", count=7)
        self.lines.flush()

        [event] = self.events
        denied = {"event": "denied", "peer": "1.2.3.4\n", "status": 403, "reason": "no", "cause": "token"}
        self.assertEqual(event["records"], [denied, {"event": "left_out", "count": 7}])

    def test_subprotocol_unchosen(self) -> None:
        """Offered subprotocols of which none was chosen follow on the line of the opening."""
        fields = {"peer": "p", "room": "r", "identity": None, "connection": 1}
        self.lines.add("opened", **fields)
        self.lines.add("opened", **fields, subprotocol_none_of="a, b")
        self.lines.flush()

        line = "p joined 'r' as None (connection 1)"
        self.assertEqual(self.logged(), [line, f"{line}; subprotocol: none of a, b"])

    def test_lines_coalesced(self) -> None:
        """All lines of a turn are one event, in order; the next turn has its own."""
        for turn in ("first", "second"):
            self.lines.add("left_out", count=f"{turn} {{a}}")
            self.lines.add("left_out", count=f"{turn} b")
            [call] = self.calls
            self.calls.clear()
            call()

        self.assertEqual(
            self.logged(),
            [MORE.format(count=f"{turn} {name}") for turn in ("first", "second") for name in ("{a}", "b")],
        )
        self.assertEqual(len(self.events), 2)

    def test_flush(self) -> None:
        """Pending lines can be flushed at once; the end of the turn then writes nothing."""
        self.lines.add("left_out", count=1)
        self.lines.flush()
        self.calls[0]()

        self.assertEqual(len(self.events), 1)

    def test_lines_escaped(self) -> None:
        """A line break in a forged address does not start another line."""
        self.lines.add("left_out", count="1.2.3.4\n\tforged é")
        self.lines.flush()

        self.assertEqual(self.logged(), ["... and 1.2.3.4\\n\\tforged é more were denied"])

    def test_refusals_rate_limited(self) -> None:
        """The first refusals between two ticks are logged, the rest is counted."""
        for _ in range(2):
            for number in range(MAX_REFUSALS + 3):
                self.refuse(number)
            self.lines.tick()
        self.refuse("last")
        self.lines.tick()
        self.lines.tick()
        self.lines.flush()

        shown = [*(f"{number} denied with 403: 'no' (token)" for number in range(MAX_REFUSALS)), MORE.format(count=3)]
        self.assertEqual(self.logged(), [*shown, *shown, "last denied with 403: 'no' (token)"])

    def test_max_lines(self) -> None:
        """An event has at most MAX_LINES lines, and none is lost."""
        for number in range(2 * MAX_LINES + 1):
            self.lines.add("left_out", count=number)
        self.calls[-1]()

        self.assertEqual(self.logged(), [MORE.format(count=number) for number in range(2 * MAX_LINES + 1)])
        self.assertEqual(len(self.events), 3)
