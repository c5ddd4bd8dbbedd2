"""Log lines about connections, coalesced: the lines of one reactor turn are one log event.

A log event costs 17 µs in Twisted, a quarter of the cost of a connection, mostly timestamp and write (TRAPS 63). In an
accept burst or a drain, the timestamp is formatted once for dozens of lines, and they share one write. Each line is a
*record*: an event name and fields; :data:`TEXTS` has its text form. Must not live here: where the log goes
(:mod:`wsrelay.logs.observers`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from twisted.logger import Logger

from wsrelay.logs.failures import printable
from wsrelay.names import PROBE_ROOM

__all__ = ["MAX_LINES", "MAX_REFUSALS", "TEXTS", "UNCHOSEN", "Lines", "Record", "texts"]

_log = Logger(namespace="wsrelay")

#: A line as fields. Any: "event" is a str, the others are of any type.
Record = Mapping[str, Any]

#: The maximum number of lines per log event.
MAX_LINES: Final = 256

#: The maximum number of lines about refusals per tick (half a second).
MAX_REFUSALS: Final = 10

#: Event name → text form. docs/logs.md explains the fields. :data:`UNCHOSEN` follows where its field is present.
TEXTS: Final[Mapping[str, str]] = {
    "opened": "{peer} joined {room!r} as {identity!r} (connection {connection})",
    "closed": "{peer} left {room!r} as {identity!r} (connection {connection}) after {seconds:.1f} s: {by} closed with"
    " {code} {reason!r}; messages in {messages_in} ({bytes_in} bytes), out {messages_out} ({bytes_out} bytes)",
    "denied": "{peer} denied with {status}: {reason!r} ({cause})",
    "left_out": "... and {count} more were denied",
}

#: The field of subprotocols that were offered and not chosen, and its text form.
UNCHOSEN: Final = "subprotocol_none_of"
UNCHOSEN_TEXT: Final = "; subprotocol: none of {subprotocol_none_of}"


class Lines:
    """The log lines of the current reactor turn.

    Args:
        call_soon: calls a function at the end of this reactor turn.
    """

    def __init__(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._call_soon = call_soon
        self._records: list[dict[str, object]] = []
        self._refusals = 0

    def add(self, event: str, **fields: object) -> None:
        """Log a line at the end of this turn; none for the readiness probe, which connects every few seconds.

        Args:
            event: a key of :data:`TEXTS`.
            fields: the fields in its text.
        """
        if fields.get("room") == PROBE_ROOM:
            return
        if not self._records:
            self._call_soon(self.flush)
        self._records.append({"event": event, **fields})
        if len(self._records) >= MAX_LINES:
            self.flush()

    def add_refusal(self, **fields: object) -> None:
        """Log a refused client, rate-limited: :data:`MAX_REFUSALS` lines per tick, the rest is counted."""
        self._refusals += 1
        if self._refusals <= MAX_REFUSALS:
            self.add("denied", **fields)

    def tick(self) -> None:
        """Log the number of refusals without a line since the last tick, and reset it."""
        left_out, self._refusals = self._refusals - MAX_REFUSALS, 0
        if left_out > 0:
            self.add("left_out", count=left_out)

    def flush(self) -> None:
        """Write the pending lines now: one log event, with the lines as ``records``; as text one per line."""
        if self._records:
            records, self._records = self._records, []
            _log.info("{lines}", lines=_Text(records), records=records)


class _Text:
    """Records as text, formatted on demand."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records

    def __str__(self) -> str:
        return "\n".join(texts(self._records))


def texts(records: Iterable[Record]) -> list[str]:
    """Return the text line of each record; escaped, so that no field can start another line."""
    return [printable(_form(record).format_map(record)) for record in records]


def _form(record: Record) -> str:
    form = TEXTS[record["event"]]
    return form + UNCHOSEN_TEXT if UNCHOSEN in record else form
