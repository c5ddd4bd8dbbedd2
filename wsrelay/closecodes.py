"""Every close code and reason that wsrelay sends, in one table.

A new reason is one row here. Nothing else in wsrelay writes a close code as a number.
Codes: RFC 6455 section 7.4 and the IANA registry; 4000-4999 are private use and mirror
an HTTP status (4401 is 401). Must not live here: HTTP statuses (:mod:`wsrelay.errors`).
"""

from dataclasses import dataclass
from typing import Final

__all__ = [
    "LOST",
    "NORMAL",
    "NO_CODE",
    "TABLE",
    "TLS_FAILED",
    "CloseReason",
    "counted_as",
    "for_code",
    "for_status",
    "status_of",
]

#: A close frame without a code, an end without a close frame, and a TLS handshake that has failed (RFC 6455 section
#: 7.4.1); never on the wire.
NO_CODE: Final = 1005
LOST: Final = 1006
TLS_FAILED: Final = 1015

#: A client's own close, and the first of all codes.
NORMAL: Final = 1000

#: A control frame carries at most 125 bytes, 2 of them the close code (RFC 6455 section 5.5).
MAX_REASON_BYTES: Final = 123


@dataclass(frozen=True, slots=True)
class CloseReason:
    """One row of the table.

    Attributes:
        code: the close code on the wire.
        text: the reason on the wire; a detail may follow it.
        reconnect: whether reconnecting with back-off, without other changes, can succeed.
        when: the event, for docs/closecodes.md.
    """

    code: int
    text: str
    reconnect: bool
    when: str

    def reason_bytes(self, detail: str = "") -> bytes:
        """Return the reason as UTF-8, cut between characters to at most 123 bytes.

        Autobahn does not cut: 200 bytes would make an illegal frame (TRAPS 23).
        """
        reason = f"{self.text}: {detail}" if detail else self.text
        return reason.encode("utf-8", "replace")[:MAX_REASON_BYTES].decode("utf-8", "ignore").encode()


PROTOCOL_ERROR = CloseReason(1002, "protocol error", False, "The client broke RFC 6455.")
WRONG_TYPE = CloseReason(
    1003,
    "unsupported data: this room accepts only the other message type",
    False,
    "Text in a binary-only room, or binary in a text-only room (--message-type).",
)
INVALID_PAYLOAD = CloseReason(
    1007, "invalid payload", False, "Text that is not UTF-8, or deflate data that does not inflate."
)
READ_ONLY = CloseReason(
    1008, "this connection may not publish", False, "A read-only connection (can_publish is false) sent a message."
)
TOO_MANY_FRAGMENTS = CloseReason(
    1008, "too many fragments in one message", False, "A message had more frames than --max-fragments."
)
MESSAGE_TOO_SLOW = CloseReason(
    1008, "the message took too long", True, "A message was not complete after --message-seconds."
)
TOO_FAST = CloseReason(
    1008,
    "too fast: send less per second",
    True,
    "The client exceeded a rate limit (messages, frames or bytes per second) for longer than --rate-grace-seconds.",
)
TOO_BIG = CloseReason(
    1009, "message too big", False, "A message was larger than --max-message-bytes, before or after inflating."
)
INTERNAL_ERROR = CloseReason(
    1011, "internal error", True, "A bug in the relay or in an extension; the log has the traceback."
)
RESTARTING = CloseReason(
    1012, "the relay is restarting: reconnect with back-off", True, "The relay is stopping or restarting."
)
TOO_SLOW = CloseReason(
    1013,
    "too slow: read faster or ask for less",
    True,
    "The client fell behind its room's log (--room-log-bytes), or was behind for --slow-seconds.",
)
OVERLOADED = CloseReason(
    1013,
    "overloaded: try again later",
    True,
    "The memory budget was exceeded, and the client's address held most of it: it reads slowly, or its messages are"
    " unfinished. A client that does not read sees 1006.",
)
NO_BROKER = CloseReason(
    1013,
    "no broker: try again later",
    True,
    "The relay has had no connection to its broker (--backplane) for longer than --backplane-grace-seconds.",
)
MESSAGES_LOST = CloseReason(
    1013,
    "messages were lost: reconnect and fetch the state again",
    True,
    "Messages were lost on the way through the broker (--backplane), so that this relay could not deliver them.",
)
TOO_MUCH_UNFINISHED = CloseReason(
    1013,
    "too many unfinished bytes from your address",
    True,
    "The unfinished messages of the client's address exceeded --max-unfinished-bytes-per-address, and this was the"
    " largest.",
)
PING_TIMEOUT = CloseReason(
    3008,
    "no pong in time",
    True,
    "The client did not answer a ping within --ping-seconds, and took no bytes that waited for it.",
)
EXPIRED = CloseReason(4401, "the grant has expired", True, "The token's exp or the grant's expires_at has passed.")
CLOSED_BY_OPERATOR = CloseReason(
    4403, "closed by the operator", False, "The operator closed this connection (DELETE on the admin endpoint)."
)
HISTORY_GONE = CloseReason(
    4410,
    "the history is gone: fetch the state anew",
    False,
    "The messages after the client's since are no longer kept (--history), or the id is of another epoch. The same id"
    " fails again: fetch the state, and connect without it.",
)

#: What a status from 400 to 599 is added to, for the close of a refused handshake: the first code for private use.
_REFUSED: Final = 4000

#: Statuses below 500 after which the same request can succeed later.
_PASSING: Final = frozenset([408, 429])


def for_status(status: int, text: str) -> CloseReason:
    """Return the close that stands for a refused handshake, with ``--explain-refusals``: 4401 for 401.

    It is not counted as a close, so that statuses of back ends make no labels.

    Args:
        status: the HTTP status, from 400 to 599.
        text: its reason.
    """
    reconnect = status in _PASSING or status >= 500
    return CloseReason(_REFUSED + status, text, reconnect, f"The handshake was refused with {status}.")


def status_of(code: int) -> int | None:
    """Return the HTTP status of a handshake that a close code says was refused; ``None``: it says nothing like that.

    Rows of the table come first: 4401 with the reason of :data:`EXPIRED` is a close.
    """
    status = code - _REFUSED
    return status if 400 <= status < 600 else None


#: All rows, as they stand above: by code. The reference page and its test read this.
TABLE: Final = tuple(row for row in tuple(globals().values()) if isinstance(row, CloseReason))

#: The codes that a connection may end with, RFC 6455 section 7.4.1 and the IANA registry; NO_CODE and LOST included.
_REGISTERED: Final = frozenset([*range(1000, 1004), *range(1005, 1015)])


def counted_as(code: int) -> str:
    """Return the label that a close code is counted under: registered codes and ours as they are, others as "4xxx".

    So the number of labels is bounded.
    """
    known = code in _REGISTERED or any(row.code == code for row in TABLE)
    return str(code) if known else f"{code // 1000}xxx"


#: Rows for the codes with which Autobahn itself fails a connection.
_FAILURES: Final = {row.code: row for row in (PROTOCOL_ERROR, INVALID_PAYLOAD, TOO_BIG)}


def for_code(code: int) -> CloseReason:
    """Return the row for a code with which Autobahn fails a connection; 1011 for any other."""
    return _FAILURES.get(code, INTERNAL_ERROR)
