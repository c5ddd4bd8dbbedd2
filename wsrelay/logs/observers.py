"""Log observers: the format (text or JSON) and the minimum level of a standalone relay's log.

twistd and twist make them, after the relay is made, and decide where the log goes unless there is a ``--log-file``;
:func:`shape` replaces them when logging begins, so that all lines have the format, the buffered ones too (TRAPS 82).
Must not live here: the log of a program that embeds a relay; it is left alone.
"""

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LegacyLogObserverWrapper,
    LogBeginner,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
    formatEventAsClassicLogText,
    formatTime,
    globalLogBeginner,
)
from zope.interface import implementer

from wsrelay.logs.failures import printable
from wsrelay.logs.files import LogFile
from wsrelay.logs.lines import Record, texts
from wsrelay.logs.writer import Writer

__all__ = ["as_json", "as_text", "shape"]

#: Characters that could forge a line, control a terminal, or not be written: control characters but TAB and LF, line
#: separators, directions, surrogates.
_UNSAFE: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def shape(form: str, least: str, beginner: LogBeginner = globalLogBeginner, *, log_file: LogFile | None = None) -> None:
    """Set the format and the minimum level of the log; takes effect when logging begins.

    Args:
        form: one of :data:`wsrelay.settings.LOG_FORMATS`; observers without a file, such as that of
            ``twistd --syslog``, keep their own format.
        least: the minimum level, one of :data:`wsrelay.settings.LOG_LEVELS`.
        beginner: Twisted's object that begins logging.
        log_file: where to log, instead of where twistd and twist would.
    """
    begin = beginner.beginLoggingTo

    def begin_shaped(observers: Iterable[ILogObserver], *arguments: bool, **options: bool) -> None:
        beginner.beginLoggingTo = begin  # type: ignore[method-assign]
        if log_file is not None:
            observers = [Writer(log_file, _FORMS[form])]
        begin([_shaped(observer, form, least) for observer in observers], *arguments, **options)

    beginner.beginLoggingTo = begin_shaped  # type: ignore[method-assign]


def as_text(event: LogEvent) -> str | None:
    """Return an event as text, ``None`` for an empty one; an event with records is one line per record.

    Each line begins with the time, but for the further lines of an event without records, such as a traceback: they
    begin with a TAB.
    """
    if records := _records(event):
        level, namespace = event["log_level"].name, event["log_namespace"]
        head = f"{_to_the_second(int(event['log_time']))} [{namespace}#{level}] "
        return "".join([f"{head}{text}\n" for text in texts(records)])
    text = formatEventAsClassicLogText(event)
    return None if text is None else _safe(text)


def as_json(event: LogEvent) -> str | None:
    """Return an event as one JSON object per line, in ASCII; ``None`` for an empty event.

    An event with records is one object per record.
    """
    head = {
        "time": _rfc3339(event.get("log_time") or time.time()),
        "level": event.get("log_level", LogLevel.info).name,
        "logger": event.get("log_namespace", ""),
    }
    if records := _records(event):
        return "".join(_line({**head, **record, **head}) for record in records)
    said = {"message": formatEvent(event)}
    if event.get("log_failure"):
        said["traceback"] = event["log_failure"].getTraceback()
    if "incident" in event:
        said["incident"] = event["incident"]
    return _line(head | said) if any(said.values()) else None


#: Log format → formatter: the lines of an event.
_FORMS: Final[Mapping[str, Callable[[LogEvent], str | None]]] = {"text": as_text, "json": as_json}


def _shaped(observer: ILogObserver, form: str, least: str) -> ILogObserver:
    if isinstance(observer, FilteringLogObserver):
        observer = observer._observer  # without twist's own --log-level: ours counts
    if isinstance(observer, FileLogObserver):
        observer = Writer(observer._outFile, _FORMS[form])
    elif isinstance(observer, LegacyLogObserverWrapper):
        observer = _OneByOne(observer)
    level = LogLevel.levelWithName(least)
    return FilteringLogObserver(observer, [LogLevelFilterPredicate(defaultLogLevel=level)])


@implementer(ILogObserver)
class _OneByOne:
    """Gives a legacy observer, such as that of ``twistd --syslog``, one line per event, without unsafe characters."""

    def __init__(self, observer: ILogObserver) -> None:
        self._observer = observer

    def __call__(self, event: LogEvent) -> None:
        if records := _records(event):
            for line in texts(records):
                self._observer({**event, "message": (line,)})
            return
        text = formatEvent(event)
        if _UNSAFE.search(text) and "log_failure" not in event:
            event = {**event, "message": (_safe(text),)}
        self._observer(event)


def _records(event: LogEvent) -> Sequence[Record]:
    """Return the lines about connections in an event; another program's field of this name is none of them."""
    return event.get("records", ()) if event.get("log_namespace") == "wsrelay" else ()


@lru_cache(1)
def _to_the_second(seconds: int) -> str:
    """Return the local time; a busy relay logs many events in one second, and it costs as much as their lines."""
    return formatTime(seconds)


def _safe(text: str) -> str:
    return _UNSAFE.sub(lambda found: printable(found[0]), text)


#: Made once: json.dumps would make an encoder for each line.
_encode: Final = json.JSONEncoder(default=str).encode


def _line(fields: Mapping[str, object]) -> str:
    # The only control character that json leaves unescaped.
    return _encode(fields).replace("\x7f", "\\u007f") + "\n"


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
