"""How a case can end: the verdicts, and the exceptions that carry one.

Must not live here: what is expected (:mod:`wsrelay.selftest.case`), texts for people (:mod:`wsrelay.selftest.report`).
"""

from enum import Enum
from typing import ClassVar, Final

from wsrelay.closecodes import TOO_BIG, TOO_FAST, WRONG_TYPE
from wsrelay.selftest.frames import Close

__all__ = [
    "BrokenRule",
    "Differs",
    "Ended",
    "Fails",
    "Outcome",
    "Refused",
    "Silence",
    "Skipped",
    "TooMuch",
    "Verdict",
    "shown",
]

#: Statuses of a server or proxy whose limit is reached (RFC 6585 section 4, RFC 9110 section 15.6.4).
_BUSY: Final = frozenset([429, 503])

#: What it means that a limit was reached.
_LIMIT: Final = "this case was not tried to its end: try again later, or from an address with higher limits"

#: Close code of a limit or a rule of the server → what it means.
_RULES: Final = {
    TOO_FAST.code: _LIMIT,
    WRONG_TYPE.code: "this case was not tried to its end: the server takes one type of messages only, as it may",
    TOO_BIG.code: "this case was not tried to its end: the server's limit on a message is lower (--max-message-bytes)",
}


class Verdict(Enum):
    """The result of a case."""

    #: As expected.
    PASS = "pass"  # noqa: S105 - not a password
    #: Otherwise, in a way that RFC 6455 leaves open and that some application may want.
    DIFFERS = "differs"
    #: Against RFC 6455; or messages lost, reordered or changed, or a client disturbed by another one.
    FAILS = "fails"
    #: Not tried.
    SKIPPED = "skipped"


class Outcome(Exception):
    """A case has ended otherwise than expected.

    Args:
        seen: what was seen, one line.
        means: what that means to an application; ``None``: what the case says.
    """

    verdict: ClassVar[Verdict] = Verdict.FAILS

    def __init__(self, seen: str, means: str | None = None) -> None:
        super().__init__(seen)
        self.seen = seen
        self.means = means


class Fails(Outcome):
    """Against RFC 6455, or against a promise that any relay of rooms must keep."""


class Differs(Outcome):
    """Otherwise than expected, and allowed."""

    verdict = Verdict.DIFFERS


class Skipped(Outcome):
    """Not tried."""

    verdict = Verdict.SKIPPED


class BrokenRule(Fails):
    """The server has broken a rule of RFC 6455, RFC 7692 or HTTP in what it sent."""


class TooMuch(Fails):
    """The server has sent a message that is larger than any that this client reads."""


class Silence(Fails):
    """Nothing came for too long."""


class Ended(Outcome):
    """A connection has ended that should be open.

    Args:
        who: the client's name.
        close: the server's close frame, if there was one.
    """

    def __init__(self, who: str, close: Close | None) -> None:
        means = _RULES.get(close.code or 0) if close else None
        super().__init__(f"the {who} was {shown(close)}", means)
        self.who = who
        self.close = close
        self.verdict = Verdict.DIFFERS if means else Verdict.FAILS  # type: ignore[misc]  # of this one


class Refused(Outcome):
    """A handshake was refused that should be accepted.

    Args:
        who: the client's name.
        status: of the HTTP response; ``None`` if there was none.
        text: its reason and the beginning of its content.
    """

    def __init__(self, who: str, status: int | None, text: str) -> None:
        is_limit = status in _BUSY
        said = f"no HTTP response: {text}" if status is None else f"{status} {text}"
        super().__init__(f"the handshake of the {who} got {said}".rstrip(": "), _LIMIT if is_limit else None)
        self.status = status
        self.verdict = Verdict.DIFFERS if is_limit else Verdict.FAILS  # type: ignore[misc]  # of this one


def shown(close: Close | None) -> str:
    """Return in words how a server has ended a connection."""
    if close is None:
        return "cut without a close frame"
    if close.code is None:
        return "closed without a code"
    return f"closed with {close.code} “{close.reason}”" if close.reason else f"closed with {close.code}, no reason"
