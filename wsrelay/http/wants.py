"""What a request wants of its room's history: ``since``, ``last`` and ``Last-Event-ID``. Pure.

Read only for rooms with history; elsewhere these parameters mean nothing. Must not live here: whether the history is
still known (:mod:`wsrelay.rooms.history`).
"""

import re
from typing import Final

from wsrelay.errors import Denied
from wsrelay.grant import Grant
from wsrelay.message_id import MessageId
from wsrelay.policies import MAX_COUNT
from wsrelay.request import HandshakeRequest
from wsrelay.wanted import ALL_NEW, Wanted

__all__ = ["wanted"]

#: Of a client that may not get old messages unasked.
_NO_GREETING: Final = Wanted(may_greet=False)

#: At most as many digits as :data:`MAX_COUNT` has.
_COUNT: Final = re.compile("[0-9]{1,7}")


def wanted(request: HandshakeRequest, grant: Grant) -> Wanted:
    """Return what a request wants of its room's history, as far as it may get it.

    An event stream's ``Last-Event-ID`` wins over ``since``: browsers send it when they reconnect, to the same URL. An
    empty id counts as none. With ``Grant.history`` ``resume``, ``last`` has no effect. With ``none``, ``Last-Event-ID``
    has none: a browser sends it from a time when it had more rights.

    Args:
        request: a WebSocket handshake, or GET or HEAD.
        grant: its rights.

    Raises:
        Denied: 400 for a parameter that is malformed or given twice; 403 if it may not read the history.
    """
    since, last = _only(request, "since"), _only(request, "last")
    may_read = grant.history != "none" and grant.can_subscribe
    if may_read and not request.wants_websocket and request.accepts("text/event-stream"):
        since = request.headers.get("last-event-id") or since
    if not since and last is None:
        return ALL_NEW if grant.history == "all" else _NO_GREETING
    count = None if last is None else _count(last)
    if not may_read:
        raise Denied(403, "you may not read old messages here: leave out since and last", cause="history")
    is_all = grant.history == "all"
    return Wanted(since or None, _parsed(since), count if is_all else None, may_greet=is_all)


def _only(request: HandshakeRequest, name: str) -> str | None:
    """Return the value of a parameter; ``None`` without it."""
    values = request.query.get(name)
    if values is None:
        return None
    if len(values) > 1:
        raise Denied(400, f"write {name} once in the query", cause="malformed")
    return values[0]


def _count(text: str) -> int:
    if not _COUNT.fullmatch(text) or int(text) > MAX_COUNT:
        raise Denied(400, f"last must be a whole number from 0 to {MAX_COUNT}, such as last=50", cause="malformed")
    return int(text)


def _parsed(since: str | None) -> MessageId | None:
    """Return an id; ``None`` for one that this version cannot read: its history is gone, which is no mistake."""
    try:
        return MessageId.parse(since or "")
    except ValueError:
        return None
