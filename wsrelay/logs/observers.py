"""How the log is written, text or JSON, and from which level on: of a relay that is the process.

The only module that touches log observers. Where the log goes is for twistd and twist to say. They make their observers
on their own, and begin with all that was logged until then, when the relay is made but not started: so it is as they
begin that their observers are given our form, and no line has another (TRAPS 82). Where somebody else's process has a
relay in it, its log is its own.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

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
    """Give the log its form, when it begins.

    Args:
        form: how it is written, one of :data:`wsrelay.settings.LOG_FORMATS`; an observer that writes to no file, such
            as that of ``twistd --syslog``, keeps its own.
        least: the least level that is logged, one of :data:`wsrelay.settings.LOG_LEVELS`.
        beginner: what begins it.
    """
    begin = beginner.beginLoggingTo

    def begin_shaped(observers: Iterable[ILogObserver], *arguments: Any, **options: Any) -> None:
        beginner.beginLoggingTo = begin  # type: ignore[method-assign]
        begin([_shaped(observer, form, least) for observer in observers], *arguments, **options)

    beginner.beginLoggingTo = begin_shaped  # type: ignore[method-assign]


def as_json(event: LogEvent) -> str | None:
    """Return an event as lines that are one JSON object each, in ASCII; ``None`` for one that says nothing.

    An event that has records is one object for each of them.
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


#: How the log may be written → what makes a line, or several, of an event.
_FORMS: Final[Mapping[str, Callable[[LogEvent], str | None]]] = {"text": formatEventAsClassicLogText, "json": as_json}


def _shaped(observer: ILogObserver, form: str, least: str) -> ILogObserver:
    if isinstance(observer, FilteringLogObserver):
        observer = observer._observer  # twist's --log-level; ours counts
    if isinstance(observer, FileLogObserver):
        observer.formatEvent = _FORMS[form]
    level = LogLevel.levelWithName(least)
    return FilteringLogObserver(observer, [LogLevelFilterPredicate(defaultLogLevel=level)])


#: Made once: json.dumps would make one for each line.
_encode: Final = json.JSONEncoder(default=str).encode


def _line(fields: Mapping[str, Any]) -> str:
    # json escapes all but this of what terminals and readers of lines take for more than text.
    return _encode(fields).replace("\x7f", "\\u007f") + "\n"


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
