"""Log lines about connections: those of one reactor turn are one event.

A line costs 17 µs in Twisted's log, a quarter of what a connection does, most of it for the time in front of it and the
write to the file (TRAPS 63). When a crowd comes, or goes, some dozens have one time and one write.
"""

from collections.abc import Callable
from typing import Any, Final

from twisted.logger import Logger

from wsrelay.failures import printable

__all__ = ["MAX_LINES", "MAX_REFUSALS", "Lines"]

_log = Logger(namespace="wsrelay")

#: The most lines of one event.
MAX_LINES: Final = 256

#: The most lines about refusals from one tick to the next.
MAX_REFUSALS: Final = 10


class Lines:
    """The lines of the current turn.

    Args:
        call_soon: calls a function at the end of this reactor turn.
    """

    def __init__(self, call_soon: Callable[[Callable[[], None]], Any]) -> None:
        self._call_soon = call_soon
        self._lines: list[str] = []
        self._refusals = 0

    def add(self, line: str) -> None:
        """Log a line, at the end of this turn. What would look like the next line is escaped."""
        if not self._lines:
            self._call_soon(self.flush)
        self._lines.append(printable(line))
        if len(self._lines) >= MAX_LINES:
            self.flush()

    def add_refusal(self, line: str) -> None:
        """Log a line about a client that got nothing; a flood of those makes no flood of lines.

        The first :data:`MAX_REFUSALS` between two ticks are logged, the others counted.
        """
        self._refusals += 1
        if self._refusals <= MAX_REFUSALS:
            self.add(line)

    def tick(self) -> None:
        """Log how many refusals were left out since the last tick, and begin anew."""
        left_out, self._refusals = self._refusals - MAX_REFUSALS, 0
        if left_out > 0:
            self.add(f"... and {left_out} more were denied")

    def flush(self) -> None:
        """Log what is waiting, now: one event, with a line break between two of them."""
        if self._lines:
            lines, self._lines = self._lines, []
            _log.info("{lines}", lines="\n".join(lines))
