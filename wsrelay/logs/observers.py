"""Log observers: the format (text or JSON) and the minimum level of a standalone relay's log.

The only module that touches log observers. twistd and twist decide where the log goes and make the observers, after
the relay is made; :func:`shape` sets the format when they begin logging, so that all lines have it, the buffered ones
too (TRAPS 82). Must not live here: the log of a program that embeds a relay; it is left alone.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LogBeginner,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
    formatEventAsClassicLogText,
    globalLogBeginner,
)

__all__ = ["as_json", "shape"]


def shape(form: str, least: str, beginner: LogBeginner = globalLogBeginner) -> None:
    """Set the format and the minimum level of the log; takes effect when logging begins.

    Args:
        form: one of :data:`wsrelay.settings.LOG_FORMATS`; observers without a file, such as that of
            ``twistd --syslog``, keep their own format.
        least: the minimum level, one of :data:`wsrelay.settings.LOG_LEVELS`.
        beginner: Twisted's object that begins logging.
    """
    begin = beginner.beginLoggingTo

    def begin_shaped(observers: Iterable[ILogObserver], *arguments: bool, **options: bool) -> None:
        beginner.beginLoggingTo = begin  # type: ignore[method-assign]
        begin([_shaped(observer, form, least) for observer in observers], *arguments, **options)

    beginner.beginLoggingTo = begin_shaped  # type: ignore[method-assign]


def as_json(event: LogEvent) -> str | None:
    """Return an event as one JSON object per line, in ASCII; ``None`` for an empty event.

    An event with records is one object per record.
    """
    head = {
        "time": _rfc3339(event.get("log_time") or time.time()),
        "level": event.get("log_level", LogLevel.info).name,
        "logger": event.get("log_namespace", ""),
    }
    if event.get("records"):
        return "".join(_line({**head, **record, **head}) for record in event["records"])
    said = {"message": formatEvent(event)}
    if event.get("log_failure"):
        said["traceback"] = event["log_failure"].getTraceback()
    if "incident" in event:
        said["incident"] = event["incident"]
    return _line(head | said) if any(said.values()) else None


#: Log format → formatter: the lines of an event.
_FORMS: Final[Mapping[str, Callable[[LogEvent], str | None]]] = {"text": formatEventAsClassicLogText, "json": as_json}


def _shaped(observer: ILogObserver, form: str, least: str) -> ILogObserver:
    if isinstance(observer, FilteringLogObserver):
        observer = observer._observer  # without twist's own --log-level: ours counts
    if isinstance(observer, FileLogObserver):
        observer.formatEvent = _FORMS[form]
    level = LogLevel.levelWithName(least)
    return FilteringLogObserver(observer, [LogLevelFilterPredicate(defaultLogLevel=level)])


#: Made once: json.dumps would make an encoder for each line.
_encode: Final = json.JSONEncoder(default=str).encode


def _line(fields: Mapping[str, object]) -> str:
    # The only control character that json leaves unescaped.
    return _encode(fields).replace("\x7f", "\\u007f") + "\n"


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
