"""Every close code and reason that wsrelay sends, in one table.

A new reason is one row here. Nothing else in wsrelay writes a close code as a number.
Codes: RFC 6455 section 7.4 and the IANA registry; 4000-4999 are private use and mirror
an HTTP status (4401 is 401). ``reconnect`` tells client authors whether trying again can help.
"""

from dataclasses import dataclass
from typing import Final

__all__ = ["LOST", "NO_CODE", "TABLE", "CloseReason", "counted_as", "for_code"]

#: What stands for a close frame without a code, and for none at all (RFC 6455 section 7.4.1); never on the wire.
NO_CODE: Final = 1005
LOST: Final = 1006

#: RFC 6455 section 5.5: a control frame carries at most 125 bytes; two of them are the code.
MAX_REASON_BYTES: Final = 123


@dataclass(frozen=True, slots=True)
class CloseReason:
    """One row of the table.

    Attributes:
        code: the close code on the wire.
        text: the reason on the wire; a detail may follow it.
        reconnect: whether the client may connect again as it is (with back-off).
        when: what happened, for the reference page.
    """

    code: int
    text: str
    reconnect: bool
    when: str

    def reason_bytes(self, detail: str = "") -> bytes:
        """Return the reason as UTF-8, cut at a character to the 123 bytes a close frame holds.

        Autobahn does not cut: 200 bytes went out as an illegal frame (TRAPS 23).
        """
        reason = f"{self.text}: {detail}" if detail else self.text
        return reason.encode("utf-8", "replace")[:MAX_REASON_BYTES].decode("utf-8", "ignore").encode()


PROTOCOL_ERROR = CloseReason(1002, "protocol error", False, "The client broke RFC 6455.")
WRONG_TYPE = CloseReason(
    1003,
    "messages of this type are not taken here",
    False,
    "Text in a room that is for binary, or binary in one for text (--message-type).",
)
INVALID_PAYLOAD = CloseReason(
    1007, "invalid payload", False, "Text that is not UTF-8, or deflate data that does not inflate."
)
READ_ONLY = CloseReason(1008, "this connection may not publish", False, "A read-only connection published.")
TOO_MANY_FRAGMENTS = CloseReason(
    1008, "too many fragments in one message", False, "A message had more frames than --max-fragments."
)
MESSAGE_TOO_SLOW = CloseReason(
    1008, "the message took too long", True, "A message had not come to its end after --message-seconds."
)
TOO_FAST = CloseReason(
    1008,
    "too fast: send less per second",
    True,
    "The client sent more messages, frames or bytes per second than it may, for longer than --rate-grace-seconds.",
)
TOO_BIG = CloseReason(1009, "message too big", False, "A message was larger than --max-message-bytes, inflated or not.")
INTERNAL_ERROR = CloseReason(
    1011, "internal error", True, "A bug in the relay or in an extension; the log has the traceback."
)
RESTARTING = CloseReason(
    1012, "the relay is restarting: reconnect with back-off", True, "The relay is stopping, or is restarted."
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
    "Memory was short, and much of it kept for this client: it reads slowly, or its messages do not end.",
)
PING_TIMEOUT = CloseReason(3008, "no pong in time", True, "The client did not answer a ping within --ping-seconds.")
EXPIRED = CloseReason(4401, "the grant has expired", True, "The token's exp, or the grant's expires_at, has passed.")
CLOSED_BY_OPERATOR = CloseReason(
    4403, "closed by the operator", False, "The operator has closed this connection (the admin endpoint's DELETE)."
)

#: All rows, by code. The reference page and its test read this.
TABLE: Final = (
    PROTOCOL_ERROR,
    WRONG_TYPE,
    INVALID_PAYLOAD,
    READ_ONLY,
    TOO_MANY_FRAGMENTS,
    MESSAGE_TOO_SLOW,
    TOO_FAST,
    TOO_BIG,
    INTERNAL_ERROR,
    RESTARTING,
    TOO_SLOW,
    OVERLOADED,
    PING_TIMEOUT,
    EXPIRED,
    CLOSED_BY_OPERATOR,
)

#: The codes of RFC 6455 section 7.4.1 and the IANA registry that an end may have: the peer's, or none at all.
_REGISTERED: Final = frozenset([*range(1000, 1004), *range(1005, 1015)])


def counted_as(code: int) -> str:
    """Return what a code is counted as: itself, or its range where it is one that clients made up.

    So that no client can add as many counters as there are codes.
    """
    known = code in _REGISTERED or any(row.code == code for row in TABLE)
    return str(code) if known else f"{code // 1000}xxx"


#: The codes with which Autobahn itself fails a connection, as rows of the table.
_FAILURES: Final = {row.code: row for row in (PROTOCOL_ERROR, INVALID_PAYLOAD, TOO_BIG)}


def for_code(code: int) -> CloseReason:
    """Return the row for a code with which Autobahn fails a connection; 1011 for any other."""
    return _FAILURES.get(code, INTERNAL_ERROR)
