"""Tests of wsrelay.closecodes."""

import ast
import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import wsrelay
from wsrelay import closecodes
from wsrelay.closecodes import (
    INTERNAL_ERROR,
    MAX_REASON_BYTES,
    PROTOCOL_ERROR,
    TABLE,
    CloseReason,
    counted_as,
    for_code,
)


class TableTests(SynchronousTestCase):
    """The one table of close reasons."""

    def test_every_row_is_in_the_table(self) -> None:
        """A reason that is defined is also listed, once."""
        rows = [value for value in vars(closecodes).values() if isinstance(value, CloseReason)]

        self.assertEqual(sorted(TABLE, key=id), sorted(rows, key=id))

    def test_codes_may_go_on_the_wire(self) -> None:
        """No row has a code that RFC 6455 section 7.4 keeps off the wire or leaves undefined."""
        for row in TABLE:
            legal = row.code in (1000, 1001, 1002, 1003, *range(1007, 1014)) or 3000 <= row.code <= 4999
            self.assertTrue(legal, row)

    def test_reasons_fit_and_say_something(self) -> None:
        """Every row has a reason that fits a close frame, and a sentence on when it is sent."""
        for row in TABLE:
            self.assertTrue(0 < len(row.text.encode()) <= MAX_REASON_BYTES, row)
            self.assertTrue(row.when.endswith("."), row)

    def test_no_close_code_is_written_elsewhere(self) -> None:
        """Close codes stand in the table and nowhere else in the package's code."""
        numbers = {row.code for row in TABLE} | {1000, 1001, 1003}
        root = Path(wsrelay.__file__).parent
        for path in root.rglob("*.py"):
            if path.name == "closecodes.py":
                continue
            found = {
                node.value
                for node in ast.walk(ast.parse(path.read_text("utf-8")))
                if isinstance(node, ast.Constant) and type(node.value) is int
            }
            # 1001 is the default of an Autobahn method that we override.
            self.assertEqual(found & numbers - ({1001} if path.name == "autobahn.py" else set()), set(), path)


class ReasonTests(SynchronousTestCase):
    """What goes on the wire."""

    def test_detail_follows_the_text(self) -> None:
        """A detail is added behind the row's text."""
        self.assertEqual(PROTOCOL_ERROR.reason_bytes("bad opcode"), b"protocol error: bad opcode")
        self.assertEqual(PROTOCOL_ERROR.reason_bytes(), b"protocol error")

    def test_cut_at_a_character(self) -> None:
        """A long reason is cut to 123 bytes and stays UTF-8 (TRAPS 23)."""
        for letters in ("é", "€", "😀"):
            reason = PROTOCOL_ERROR.reason_bytes(letters * 200)
            self.assertLessEqual(len(reason), MAX_REASON_BYTES)
            self.assertGreater(len(reason), MAX_REASON_BYTES - 4)
            self.assertTrue(re.fullmatch(f"protocol error: {letters}+", reason.decode("utf-8")))

    def test_lone_surrogates_do_not_raise(self) -> None:
        """Text that is no Unicode is replaced, not raised."""
        self.assertEqual(PROTOCOL_ERROR.reason_bytes("\ud800"), b"protocol error: ?")

    def test_autobahns_codes(self) -> None:
        """Autobahn's three failures have their rows; anything else is our bug."""
        self.assertEqual([for_code(code).code for code in (1002, 1007, 1009)], [1002, 1007, 1009])
        self.assertIs(for_code(1001), INTERNAL_ERROR)


class CountedAsTests(SynchronousTestCase):
    """What codes are counted as."""

    def test_few_counters(self) -> None:
        """Registered codes and ours are themselves; all others, of which there are thousands, are two."""
        self.assertEqual([counted_as(code) for code in (1000, 1006, 1014, 4401)], ["1000", "1006", "1014", "4401"])
        self.assertLessEqual({counted_as(code) for code in range(3000, 5000)}, {"3xxx", "4xxx", "3008", "4401", "4403"})


class ReferenceTests(SynchronousTestCase):
    """The reference page."""

    def test_page_is_the_table(self) -> None:
        """docs/closecodes.md has the table's rows, in its order, and no others."""
        page = (Path(__file__).parent.parent / "docs" / "closecodes.md").read_text("utf-8")
        rows = [line for line in page.splitlines() if re.match(r"\| \d{4} ", line)]

        self.assertEqual(
            rows, [f"| {row.code} | {row.text} | {'yes' if row.reconnect else 'no'} | {row.when} |" for row in TABLE]
        )
