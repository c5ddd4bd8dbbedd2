"""Tests of wsrelay.lines."""

from collections.abc import Callable

from tests.support import RelayTestCase
from wsrelay.lines import MAX_LINES, MAX_REFUSALS, Lines


class LinesTests(RelayTestCase):
    """Lines of one reactor turn."""

    def setUp(self) -> None:
        super().setUp()
        self.calls: list[Callable[[], None]] = []
        self.lines = Lines(self.calls.append)

    def test_one_event_per_turn(self) -> None:
        """All lines of a turn are one event, in order; the next turn has its own."""
        for turn in ("first", "second"):
            self.lines.add(f"{turn} {{a}}")
            self.lines.add(f"{turn} b")
            [call] = self.calls
            self.calls.clear()
            call()

        self.assertEqual(self.logged(), ["first {a}", "first b", "second {a}", "second b"])
        self.assertEqual(len(self.events), 2)

    def test_flush(self) -> None:
        """What waits can be logged at once; the end of the turn finds nothing left."""
        self.lines.add("a")
        self.lines.flush()
        self.calls[0]()

        self.assertEqual(len(self.events), 1)

    def test_no_line_in_a_line(self) -> None:
        """An address that somebody made up, with a line break in it, is still one line."""
        self.lines.add("1.2.3.4\n\tforged é")
        self.lines.flush()

        self.assertEqual(self.logged(), ["1.2.3.4\\n\\tforged é"])

    def test_refusals(self) -> None:
        """The first few refusals between two ticks are logged; of the others, how many there were."""
        for _ in range(2):
            for number in range(MAX_REFUSALS + 3):
                self.lines.add_refusal(str(number))
            self.lines.tick()
        self.lines.add_refusal("last")
        self.lines.tick()
        self.lines.tick()
        self.lines.flush()

        shown = [*map(str, range(MAX_REFUSALS)), "... and 3 more were denied"]
        self.assertEqual(self.logged(), [*shown, *shown, "last"])

    def test_a_great_crowd(self) -> None:
        """An event has a bound, and none is lost."""
        for number in range(2 * MAX_LINES + 1):
            self.lines.add(str(number))
        self.calls[-1]()

        self.assertEqual(self.logged(), [str(number) for number in range(2 * MAX_LINES + 1)])
        self.assertEqual(len(self.events), 3)
