"""Deciding about a handshake: the chain of validators, and the HTTP response to a refused one.

What a request looks like is :mod:`wsrelay.request`'s, what validators check is theirs, and acting on the
outcome is the protocol's. Fail closed: whatever goes wrong here ends in a :class:`~wsrelay.errors.Denied`.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from http import HTTPStatus
from typing import Final

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from wsrelay.errors import Denied
from wsrelay.grant import Grant
from wsrelay.interfaces import IHandshakeValidator
from wsrelay.names import check_room
from wsrelay.request import HandshakeRequest

__all__ = ["ValidatorChain", "refusal"]

_log = Logger(namespace="wsrelay")

#: The most characters of a reason that are sent; more is a validator's mistake.
MAX_REASON_CHARS: Final = 200

#: RFC 9110 section 5.5: what a field of ours may hold; no CR or LF can get in.
_FIELD: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [\t\x20-\x7e]*")


class ValidatorChain:
    """Asks validators one after the other.

    Args:
        validators: in the order in which they are asked.
    """

    def __init__(self, validators: Sequence[IHandshakeValidator]) -> None:
        self._validators = tuple(validators)

    def grant(self, request: HandshakeRequest) -> "Deferred[Grant]":
        """Ask all validators.

        Args:
            request: what the client asks for.

        Returns:
            A Deferred with the last validator's grant, or failing with :class:`~wsrelay.errors.Denied` and nothing
            else. Cancelling it cancels the validator that is being waited for. How long that may be is the
            caller's business: a validator can swallow the cancellation.

        Peer sees:
            A validator's own status; 500 with a fixed text for an exception or nonsense.
        """
        return Deferred.fromCoroutine(self._ask(request)).addErrback(_deny)

    async def _ask(self, request: HandshakeRequest) -> Grant:
        grant = Grant(room=request.room)
        for validator in self._validators:
            answer = validator.validate(request, grant)
            if not isinstance(answer, Grant):
                answer = await answer
            if answer is not grant:  # frozen, so what was right still is: most validators return it as it is
                _check(answer, request)
            grant = answer
        return grant


def _deny(failure: Failure) -> Failure:
    if failure.check(Denied):
        return failure
    if failure.check(CancelledError):
        return Failure(Denied(503, "the handshake was given up"))
    _log.failure("a handshake validator failed", failure)
    return Failure(Denied(500, "the handshake could not be validated"))


def _check(grant: object, request: HandshakeRequest) -> None:
    """Raise unless a validator's answer is a grant that can hold for this request.

    A subprotocol that was not offered would raise inside Autobahn and leave the client hanging (TRAPS 13).
    """
    if not isinstance(grant, Grant):
        raise TypeError(f"a validator answered {type(grant).__name__}, not a Grant")
    msgspec.convert(asdict(grant), Grant)  # raises where a field is of the wrong type
    if grant.expires_at is not None and not math.isfinite(grant.expires_at):
        raise ValueError("a validator granted for a time that is none")
    if grant.subprotocol is not None and grant.subprotocol not in request.subprotocols:
        raise ValueError("a validator chose a subprotocol that was not offered")
    check_room(grant.room)


def refusal(denied: Denied) -> bytes:
    """Return the HTTP response to a refused handshake.

    Text that is no printable ASCII comes from a validator's mistake and is mended here, so that no line break
    ever gets into the response (TRAPS 12).

    Peer sees:
        The status, ``Content-Length``, ``Connection: close``, and the reason as a line of plain text.
    """
    reason = re.sub(r"[^\x20-\x7e]", "?", str(denied.reason))[:MAX_REASON_CHARS]
    fields = [f"{name}: {value}" for name, value in denied.headers]
    body = f"{reason}\n"
    lines = [
        f"HTTP/1.1 {denied.status} {_PHRASES.get(denied.status, 'Refused')}",
        *(field for field in fields if _FIELD.fullmatch(field)),
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Connection: close",
        "",
        body,
    ]
    return "\r\n".join(lines).encode("ascii")


_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}
