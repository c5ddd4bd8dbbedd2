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
    for_status,
    status_of,
)


class TableTests(SynchronousTestCase):
    """The table of close reasons."""

    def test_table_complete(self) -> None:
        """Every defined reason is in TABLE, once."""
        rows = [value for value in vars(closecodes).values() if isinstance(value, CloseReason)]

        self.assertEqual(sorted(TABLE, key=id), sorted(rows, key=id))

    def test_codes_allowed_on_the_wire(self) -> None:
        """Every code may be sent in a close frame (RFC 6455 section 7.4)."""
        for row in TABLE:
            legal = row.code in (1000, 1001, 1002, 1003, *range(1007, 1014)) or 3000 <= row.code <= 4999
            self.assertTrue(legal, row)

    def test_reason_length(self) -> None:
        """Every reason fits a close frame, and every event is a sentence."""
        for row in TABLE:
            self.assertTrue(0 < len(row.text.encode()) <= MAX_REASON_BYTES, row)
            self.assertTrue(row.when.endswith("."), row)

    def test_no_close_code_elsewhere(self) -> None:
        """No other module of the package contains a close code as a number."""
        numbers = {row.code for row in TABLE} | {1000, 1001, 1003}
        root = Path(wsrelay.__file__).parent
        for path in root.rglob("*.py"):
            if path.name == "closecodes.py":
                continue
            nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
            milliseconds = {
                id(node.right) for node in nodes if isinstance(node, ast.BinOp) and ast.unparse(node.right) == "1000"
            }
            found = {
                node.value
                for node in nodes
                if isinstance(node, ast.Constant) and type(node.value) is int and id(node) not in milliseconds
            }
            # 1001 is the default of an Autobahn method that we override.
            self.assertEqual(found & numbers - ({1001} if path.name == "autobahn.py" else set()), set(), path)


class ReasonTests(SynchronousTestCase):
    """The reason on the wire."""

    def test_detail(self) -> None:
        """A detail follows the row's text."""
        self.assertEqual(PROTOCOL_ERROR.reason_bytes("bad opcode"), b"protocol error: bad opcode")
        self.assertEqual(PROTOCOL_ERROR.reason_bytes(), b"protocol error")

    def test_cut_at_123_bytes(self) -> None:
        """A long reason is cut to 123 bytes and stays UTF-8 (TRAPS 23)."""
        for letters in ("é", "€", "😀"):
            reason = PROTOCOL_ERROR.reason_bytes(letters * 200)
            self.assertLessEqual(len(reason), MAX_REASON_BYTES)
            self.assertGreater(len(reason), MAX_REASON_BYTES - 4)
            self.assertTrue(re.fullmatch(f"protocol error: {letters}+", reason.decode("utf-8")))

    def test_lone_surrogates(self) -> None:
        """Lone surrogates are replaced."""
        self.assertEqual(PROTOCOL_ERROR.reason_bytes("\ud800"), b"protocol error: ?")

    def test_for_code(self) -> None:
        """Autobahn's three failure codes have rows; any other code is an internal error."""
        self.assertEqual([for_code(code).code for code in (1002, 1007, 1009)], [1002, 1007, 1009])
        self.assertIs(for_code(1001), INTERNAL_ERROR)


class ForStatusTests(SynchronousTestCase):
    """The closes of refused handshakes."""

    def test_code(self) -> None:
        """Every status of a refusal has a code for private use of its own, and its reason fits a close frame."""
        codes = [for_status(status, "no").code for status in range(400, 600)]
        self.assertEqual(codes, [*range(4400, 4600)])
        self.assertEqual(for_status(429, "é" * 100).reason_bytes(), b"\xc3\xa9" * 61)

    def test_reconnect(self) -> None:
        """Trying again can help after a late request, too many requests, and failures of the relay or a back end."""
        passing = {status for status in range(400, 600) if for_status(status, "no").reconnect}
        self.assertEqual(passing, {408, 429, *range(500, 600)})

    def test_status_of(self) -> None:
        """The status is in the code; other codes have none."""
        self.assertEqual({status_of(for_status(status, "").code) for status in range(400, 600)}, {*range(400, 600)})
        self.assertEqual([status_of(code) for code in (1000, 1008, 4399, 4600)], [None] * 4)

    def test_same_advice(self) -> None:
        """Where an open connection may end with the same code, the advice is the same; 4401 needs a new token."""
        for row in TABLE:
            if row.code > 4000 and row.code != 4401:
                self.assertEqual(for_status(row.code - 4000, "").reconnect, row.reconnect, row)


class CountedAsTests(SynchronousTestCase):
    """Labels of the close counters."""

    def test_counted_as(self) -> None:
        """Registered codes and ours are labels of their own; all others share two."""
        self.assertEqual([counted_as(code) for code in (1000, 1006, 1014, 4401)], ["1000", "1006", "1014", "4401"])
        expected = {"3xxx", "4xxx", "3008", "4401", "4403", "4410"}
        self.assertLessEqual({counted_as(code) for code in range(3000, 5000)}, expected)


class ReferenceTests(SynchronousTestCase):
    """docs/closecodes.md."""

    def test_reference_page(self) -> None:
        """The page has exactly the table's rows, in order."""
        page = (Path(__file__).parent.parent / "docs" / "closecodes.md").read_text("utf-8")
        rows = [line for line in page.splitlines() if re.match(r"\| \d{4} ", line)]

        self.assertEqual(
            rows, [f"| {row.code} | {row.text} | {'yes' if row.reconnect else 'no'} | {row.when} |" for row in TABLE]
        )

    def test_refused_handshakes(self) -> None:
        """The page, the other page's table and its client say of each refusal whether trying again can help."""
        docs = Path(__file__).parent.parent / "docs"
        clients = (docs / "clients.md").read_text("utf-8")
        rows = re.findall(
            r"\n\| (4408, 4429, 45xx) \| (?:yes, )?(with back-off) \|", (docs / "closecodes.md").read_text("utf-8")
        )
        rows += re.findall(r"\n\| (4408, 4429, 45xx) \| (with back-off) \|", clients)
        self.assertEqual(rows, [("4408, 4429, 45xx", "with back-off")] * 2)
        final = re.search(r"REFUSED = /(.+)/;", clients)
        assert final is not None
        for status in range(400, 600):
            row = for_status(status, "no")
            passes = re.fullmatch("4408|4429|45..", str(row.code)) is not None
            self.assertEqual(row.reconnect, passes, row)
            # Not 4401: the client fetches a new token.
            self.assertEqual(re.match(final[1], str(row.code)) is None, passes or status == 401, row)
