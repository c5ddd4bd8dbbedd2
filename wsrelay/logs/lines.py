"""Log lines about connections, rate-limited and coalesced: the lines of one reactor turn are one log event.

A log event costs 17 µs in Twisted, a quarter of the cost of a connection, mostly timestamp and write (TRAPS 63). In an
accept burst or a drain, the timestamp is formatted once for dozens of lines, and they share one write. Each line is a
*record*: an event name and fields; :data:`TEXTS` has its text form. Must not live here: where the log goes
(:mod:`wsrelay.logs.observers`).
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from twisted.logger import LogLevel, globalLogPublisher
from twisted.python.failure import Failure

from wsrelay.logs.failures import log_failure, printable
from wsrelay.logs.limiter import Limiter
from wsrelay.names import PROBE_ROOM

__all__ = [
    "ASKED",
    "BURST",
    "BURST_PER_ADDRESS",
    "MAX_LINES",
    "OPTIONAL",
    "TEXTS",
    "UNCHOSEN",
    "Lines",
    "Record",
    "texts",
]

#: The namespace of the events.
NAMESPACE: Final = "wsrelay"

#: A line as fields. Any: "event" is a str, the others are of any type.
Record = Mapping[str, Any]

#: The maximum number of lines per log event.
MAX_LINES: Final = 256

#: Lines "opened" at once, in all and of one address, and as many "closed": a crowd that joins is logged whole.
BURST: Final = 8192
BURST_PER_ADDRESS: Final = 2048

#: The same per tick (half a second), in the long run: of some 250 bytes each, 180 MB an hour in all, 36 MB of one
#: address, for both kinds together.
_PER_TICK: Final = 50
_PER_TICK_AND_ADDRESS: Final = 10

#: Event name → text form. docs/logs.md explains the fields. :data:`OPTIONAL` follow where their fields are present.
TEXTS: Final[Mapping[str, str]] = {
    "opened": "{peer} joined {room!r} as {identity!r} (connection {connection})",
    "closed": "{peer} left {room!r} as {identity!r} (connection {connection}) after {seconds:.1f} s: {by} closed with"
    " {code} {reason!r}; messages in {messages_in} ({bytes_in} bytes), out {messages_out} ({bytes_out} bytes)",
    "denied": "{peer} denied with {status}: {reason!r} ({cause})",
    "left_out": "... and {count} more lines: {of}, {peer}",
}

#: The field of subprotocols that were offered and not chosen.
UNCHOSEN: Final = "subprotocol_none_of"

#: The fields of a refused request, as far as it is known: ``None`` where it is not.
ASKED: Final = ("room", "origin", "user_agent")

#: Event name → fields that not every line has, with their text forms.
OPTIONAL: Final[Mapping[str, Sequence[tuple[str, str]]]] = {
    "opened": ((UNCHOSEN, "; subprotocol: none of {subprotocol_none_of}"),),
    "closed": (),
    "denied": tuple((name, f"; {name.replace('_', ' ')} {{{name}!r}}") for name in ASKED),
    "left_out": (),
}


class Lines:
    """The log lines of the current reactor turn.

    Each kind of line is limited; the rest is counted. Kinds are "denied", each sort of failure, and "opened" and
    "closed" for each address and in all.

    Args:
        call_soon: calls a function at the end of this reactor turn.
    """

    def __init__(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._call_soon = call_soon
        self._records: list[dict[str, object]] = []
        self._few = Limiter[str]()
        self._of_all = Limiter[str](BURST, _PER_TICK)
        self._of_address = Limiter[tuple[str, str]](BURST_PER_ADDRESS, _PER_TICK_AND_ADDRESS)
        self._incidents: dict[str, str] = {}

    def add(self, event: str, address: str, **fields: object) -> None:
        """Log a line at the end of this turn, rate-limited: :data:`BURST`, :data:`BURST_PER_ADDRESS`.

        None for the readiness probe, which connects every few seconds.

        Args:
            event: "opened" or "closed".
            address: the client's IPv4 address or IPv6 /64, or "unix": all of which one host has.
            fields: the fields in its text.
        """
        if fields["room"] == PROBE_ROOM:
            return
        if self._of_address.admit((event, address)) and self._of_all.admit(event):
            self._append({"event": event, **fields})

    def add_refusal(self, **fields: object) -> None:
        """Log a refused client, rate-limited: :data:`~wsrelay.logs.limiter.LINES_PER_TICK`."""
        if self._few.admit("denied"):
            self._append({"event": "denied", **fields})

    def failure(self, what: str, failure: Failure, of: str = "") -> str:
        """Log a failure now, with its traceback, rate-limited: :data:`~wsrelay.logs.limiter.LINES_PER_TICK`.

        Args:
            what: the failed operation, the kind of the line.
            failure: the exception.
            of: the peer; in the line, not in its kind.

        Returns:
            The incident id of the line; without one, that of the last line of this kind, which is seldom another bug.
        """
        if self._few.admit(what):
            self._incidents[what] = log_failure(f"{what} {of}".rstrip(), failure)
        return self._incidents[what]

    def tick(self) -> None:
        """Log the numbers of lines that were left out since the last tick, every half second."""
        for of, count in (*self._few.tick().items(), *self._of_all.tick().items()):
            self._append({"event": "left_out", "of": of, "peer": "all addresses", "count": count})
        for (of, address), count in self._of_address.tick().items():
            self._append({"event": "left_out", "of": of, "peer": address, "count": count})

    def _append(self, record: dict[str, object]) -> None:
        if not self._records:
            self._call_soon(self.flush)
        self._records.append(record)
        if len(self._records) >= MAX_LINES:
            self.flush()

    def flush(self) -> None:
        """Write the pending lines now: one log event, with the lines as ``records``; as text one per line."""
        if self._records:
            records, self._records = self._records, []
            # Not by a Logger: it looks for the level in a list that it sorts each time.
            globalLogPublisher(
                {
                    "log_level": LogLevel.info,
                    "log_namespace": NAMESPACE,
                    "log_source": None,
                    "log_format": "{lines}",
                    "log_time": time.time(),
                    "lines": _Text(records),
                    "records": records,
                }
            )


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
    event = record["event"]
    form = TEXTS[event]
    for name, more in OPTIONAL[event]:
        if record.get(name) is not None:
            form += more
    return form
