"""Tests of wsrelay.logs.lines."""

from collections.abc import Callable
from typing import Any

from twisted.logger import LogLevel
from twisted.python.failure import Failure

from tests.harness.support import RelayTestCase
from wsrelay.logs.limiter import LINES_PER_TICK
from wsrelay.logs.lines import ASKED, BURST, BURST_PER_ADDRESS, MAX_LINES, Lines
from wsrelay.names import PROBE_ROOM


def joined(peer: str = "tcp4:1.2.3.4:5", connection: object = 1) -> dict[str, Any]:
    """Return the fields of a line about an opened connection."""
    return {"peer": peer, "room": "r", "identity": None, "connection": connection}


def text(peer: str = "tcp4:1.2.3.4:5", connection: object = 1) -> str:
    """Return the line of these fields."""
    return f"{peer} joined 'r' as None (connection {connection})"


class LinesTestCase(RelayTestCase):
    """A test case with lines."""

    def setUp(self) -> None:
        super().setUp()
        self.calls: list[Callable[[], None]] = []
        self.lines = Lines(self.calls.append)

    def refuse(self, peer: object) -> None:
        self.lines.add_refusal(peer=peer, status=403, reason="no", cause="token")


class LinesTests(LinesTestCase):
    """Log lines about connections."""

    def test_records(self) -> None:
        """The event has its lines as records too, with the raw fields."""
        self.refuse("1.2.3.4\n")
        self.lines.add("opened", "1.2.3.4", **joined())
        self.lines.flush()

        [event] = self.events
        denied = {"event": "denied", "peer": "1.2.3.4\n", "status": 403, "reason": "no", "cause": "token"}
        self.assertEqual(event["records"], [denied, {"event": "opened", **joined()}])

    def test_subprotocol_unchosen(self) -> None:
        """Offered subprotocols of which none was chosen follow on the line of the opening."""
        self.lines.add("opened", "1.2.3.4", **joined())
        self.lines.add("opened", "1.2.3.4", **joined(), subprotocol_none_of="a, b")
        self.lines.flush()

        self.assertEqual(self.logged(), [text(), f"{text()}; subprotocol: none of a, b"])

    def test_asked(self) -> None:
        """What is known of a refused request follows on its line; in the record, the rest is None."""
        known = dict(zip(ASKED, ("chat/é", None, "curl/8\n"), strict=True))
        self.lines.add_refusal(peer="1.2.3.4", status=403, reason="no", cause="token", **known)
        self.lines.flush()

        self.assertEqual(
            self.logged(), [r"1.2.3.4 denied with 403: 'no' (token); room 'chat/é'; user agent 'curl/8\n'"]
        )
        self.assertEqual(self.events[0]["records"][0]["origin"], None)

    def test_lines_coalesced(self) -> None:
        """All lines of a turn are one event, in order; the next turn has its own."""
        for turn in ("first", "second"):
            self.lines.add("opened", "1.2.3.4", **joined(connection=f"{turn} {{a}}"))
            self.lines.add("opened", "1.2.3.4", **joined(connection=f"{turn} b"))
            [call] = self.calls
            self.calls.clear()
            call()

        said = [text(connection=f"{turn} {name}") for turn in ("first", "second") for name in ("{a}", "b")]
        self.assertEqual(self.logged(), said)
        self.assertEqual(len(self.events), 2)

    def test_flush(self) -> None:
        """Pending lines can be flushed at once; the end of the turn then writes nothing."""
        self.lines.add("opened", "1.2.3.4", **joined())
        self.lines.flush()
        self.calls[0]()

        self.assertEqual(len(self.events), 1)

    def test_lines_escaped(self) -> None:
        """A line break in a forged address does not start another line."""
        self.lines.add("opened", "1.2.3.4", **joined("1.2.3.4\n\tforged é"))
        self.lines.flush()

        self.assertEqual(self.logged(), [text("1.2.3.4\\n\\tforged é")])

    def test_max_lines(self) -> None:
        """An event has at most MAX_LINES lines, and none is lost."""
        for number in range(2 * MAX_LINES + 1):
            self.lines.add("opened", "1.2.3.4", **joined(connection=number))
        self.calls[-1]()

        self.assertEqual(self.logged(), [text(connection=number) for number in range(2 * MAX_LINES + 1)])
        self.assertEqual(len(self.events), 3)

    def test_probe(self) -> None:
        """The readiness probe has no lines."""
        self.lines.add("opened", "1.2.3.4", **{**joined(), "room": PROBE_ROOM})

        self.assertEqual(self.calls, [])


class LimitTests(LinesTestCase):
    """Rate limits of lines."""

    def ticked(self) -> list[str]:
        """Return the lines since the last call, after a tick."""
        self.lines.tick()
        self.lines.flush()
        lines = self.logged()
        self.events.clear()
        return lines

    def test_refusals_rate_limited(self) -> None:
        """The first refusals between two ticks are logged, the rest is counted."""
        shown = [f"{number} denied with 403: 'no' (token)" for number in range(LINES_PER_TICK)]
        for _ in range(2):
            for number in range(LINES_PER_TICK + 3):
                self.refuse(number)
            self.assertEqual(self.ticked(), [*shown, "... and 3 more lines: denied, all addresses"])
        self.refuse("last")
        self.assertEqual(self.ticked(), ["last denied with 403: 'no' (token)"])
        self.assertEqual(self.ticked(), [])

    def test_opened_rate_limited_per_address(self) -> None:
        """A crowd of one address is logged whole; a flood of it is counted, and hides no other address or event."""
        for port in range(BURST_PER_ADDRESS):
            self.lines.add("opened", "1.2.3.4", **joined(f"tcp4:1.2.3.4:{port}"))
        self.assertEqual(len(self.ticked()), BURST_PER_ADDRESS)

        for port in range(200):
            self.lines.add("opened", "1.2.3.4", **joined(f"tcp4:1.2.3.4:{port}"))
        self.lines.add("opened", "5.6.7.8", **joined("tcp4:5.6.7.8:1"))
        shown = [*(text(f"tcp4:1.2.3.4:{port}") for port in range(10)), text("tcp4:5.6.7.8:1")]
        self.assertEqual(self.ticked(), [*shown, "... and 190 more lines: opened, 1.2.3.4"])

    def test_opened_rate_limited(self) -> None:
        """A flood from many addresses is counted, too."""
        for number in range(BURST + 7):
            self.lines.add("opened", f"2001:db8:{number}::/64", **joined())
        lines = self.ticked()

        self.assertEqual(len(lines), BURST + 1)
        self.assertEqual(lines[-1], "... and 7 more lines: opened, all addresses")

        for number in range(60):
            self.lines.add("opened", f"2001:db8:{number}::/64", **joined())
        self.assertEqual(self.ticked()[50:], ["... and 10 more lines: opened, all addresses"])

    def test_failures_rate_limited(self) -> None:
        """The first failures of a kind have tracebacks; the rest is counted, and gets the last one's incident id."""
        failure = Failure(RuntimeError("boom"))
        ids = [self.lines.failure("a thing failed", failure) for _ in range(LINES_PER_TICK + 2)]
        other = self.lines.failure("another failed for", failure, "1.2.3.4:5")

        self.assertEqual(len(set(ids)), LINES_PER_TICK)
        self.assertEqual(ids[-3:], [ids[-1]] * 3)
        said = [*(f"a thing failed [{incident}]" for incident in ids[:-2]), f"another failed for 1.2.3.4:5 [{other}]"]
        self.assertEqual(self.logged(LogLevel.critical), said)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), LINES_PER_TICK + 1)
        self.assertEqual(self.ticked(), ["... and 2 more lines: a thing failed, all addresses"])
