"""Log lines about connections: those of one reactor turn are one event.

A line costs 17 µs in Twisted's log, a quarter of what a connection does, most of it for the time in front of it and the
write to the file (TRAPS 63). When a crowd comes, or goes, some dozens have one time and one write.

Each line is a *record*: what happened, and fields. As text it is what :data:`TEXTS` says; machines get the fields.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from twisted.logger import Logger

from wsrelay.logs.failures import printable
from wsrelay.names import PROBE_ROOM

__all__ = ["MAX_LINES", "MAX_REFUSALS", "TEXTS", "Lines"]

_log = Logger(namespace="wsrelay")

#: The most lines of one event.
MAX_LINES: Final = 256

#: The most lines about refusals from one tick to the next.
MAX_REFUSALS: Final = 10

#: What can happen → how it reads. docs/logs.md explains the fields.
TEXTS: Final[Mapping[str, str]] = {
    "opened": "{peer} joined {room!r} as {identity!r} (connection {connection})",
    "closed": "{peer} left {room!r} as {identity!r} (connection {connection}) after {seconds:.1f} s: {by} closed with"
    " {code} {reason!r}; messages in {messages_in} ({bytes_in} bytes), out {messages_out} ({bytes_out} bytes)",
    "denied": "{peer} denied with {status}: {reason!r} ({cause})",
    "left_out": "... and {count} more were denied",
}


class Lines:
    """The lines of the current turn.

    Args:
        call_soon: calls a function at the end of this reactor turn.
    """

    def __init__(self, call_soon: Callable[[Callable[[], None]], Any]) -> None:
        self._call_soon = call_soon
        self._records: list[dict[str, object]] = []
        self._refusals = 0

    def add(self, event: str, **fields: object) -> None:
        """Log a line, at the end of this turn. The canary, which comes every few seconds, has none.

        Args:
            event: a key of :data:`TEXTS`.
            fields: those that its text names.
        """
        if fields.get("room") == PROBE_ROOM:
            return
        if not self._records:
            self._call_soon(self.flush)
        self._records.append({"event": event, **fields})
        if len(self._records) >= MAX_LINES:
            self.flush()

    def add_refusal(self, **fields: object) -> None:
        """Log a line about a client that got nothing; a flood of those makes no flood of lines.

        The first :data:`MAX_REFUSALS` between two ticks are logged, the others counted.
        """
        self._refusals += 1
        if self._refusals <= MAX_REFUSALS:
            self.add("denied", **fields)

    def tick(self) -> None:
        """Log how many refusals were left out since the last tick, and begin anew."""
        left_out, self._refusals = self._refusals - MAX_REFUSALS, 0
        if left_out > 0:
            self.add("left_out", count=left_out)

    def flush(self) -> None:
        """Log what is waiting, now: one event, whose ``records`` are the lines; as text with a break between two."""
        if self._records:
            records, self._records = self._records, []
            _log.info("{lines}", lines=_Text(records), records=records)


class _Text:
    """Records as text, once anybody wants to read it."""

    def __init__(self, records: Sequence[Mapping[str, Any]]) -> None:
        self._records = records

    def __str__(self) -> str:
        # What would look like the next line is escaped.
        return "\n".join([printable(TEXTS[record["event"]].format_map(record)) for record in self._records])
