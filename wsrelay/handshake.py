"""Deciding about a handshake: the chain of validators, and the HTTP responses.

What a request looks like is :mod:`wsrelay.request`'s, what validators check is theirs, and acting on the
outcome is the protocol's. Fail closed: whatever goes wrong here ends in a :class:`~wsrelay.errors.Denied`.
"""

import math
import re
from base64 import b64encode
from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import asdict
from hashlib import sha1
from http import HTTPStatus
from typing import Final, NoReturn

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from wsrelay.errors import Denied
from wsrelay.grant import Grant
from wsrelay.interfaces import IHandshakeValidator
from wsrelay.logs.failures import log_failure
from wsrelay.names import check_room
from wsrelay.request import HandshakeRequest

__all__ = ["ValidatorChain", "acceptance", "refusal"]

#: The most characters of a reason that are sent; more is a validator's mistake.
MAX_REASON_CHARS: Final = 200

#: RFC 9110 section 5.5: what a field of ours may hold; no CR or LF can get in.
_FIELD: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [\t\x20-\x7e]*")


#: RFC 6455 section 1.3: what the key is hashed with.
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class ValidatorChain:
    """Asks validators one after the other.

    Args:
        validators: in the order in which they are asked.
    """

    def __init__(self, validators: Sequence[IHandshakeValidator]) -> None:
        self._validators = tuple(validators)

    def grant(self, request: HandshakeRequest) -> "Grant | Deferred[Grant]":
        """Ask all validators.

        Args:
            request: what the client asks for.

        Returns:
            The last validator's grant. Where one has to be waited for, a Deferred with it, which fails with
            :class:`~wsrelay.errors.Denied` and nothing else. Cancelling it cancels that validator. How long it
            may take is the caller's business: a validator can swallow the cancellation.

        Raises:
            Denied: as the Deferred fails.

        Peer sees:
            A validator's own status; 500 with a fixed text and an id for an exception or nonsense.
        """
        try:
            granted = _ask(request, Grant(room=request.room), iter(self._validators))
        except Denied:
            raise
        except Exception:  # noqa: BLE001 - fail closed
            _deny(Failure())
        return granted if isinstance(granted, Grant) else granted.addErrback(_deny)


def _ask(
    request: HandshakeRequest, grant: Grant, validators: Iterator[IHandshakeValidator]
) -> "Grant | Deferred[Grant]":
    for validator in validators:
        try:
            answer = validator.validate(request, grant)
        except Denied as denied:
            raise _by(validator, denied) from None
        if not isinstance(answer, Grant):
            return Deferred.fromCoroutine(_wait(request, grant, _named(validator, answer), validators))
        grant = _checked(answer, grant, request)
    return grant


async def _named(validator: IHandshakeValidator, answer: Awaitable[Grant]) -> Grant:
    try:
        return await answer
    except Denied as denied:
        raise _by(validator, denied) from None


def _by(validator: IHandshakeValidator, denied: Denied) -> Denied:
    """Return a refusal that is counted under the name of the validator, which is one of few."""
    denied.cause = denied.cause or type(validator).__name__.removesuffix("Validator").lower()
    return denied


async def _wait(
    request: HandshakeRequest, grant: Grant, answer: Awaitable[Grant], validators: Iterator[IHandshakeValidator]
) -> Grant:
    """Wait for one validator, then ask those behind it."""
    granted = _ask(request, _checked(await answer, grant, request), validators)
    return granted if isinstance(granted, Grant) else await granted


def _deny(failure: Failure) -> NoReturn:
    """Raise what the client is told of a failure."""
    if failure.check(Denied):
        failure.raiseException()
    if failure.check(CancelledError):
        raise Denied(503, "the handshake was given up", cause="gone")
    incident = log_failure("a handshake validator failed", failure)
    raise Denied(500, f"the handshake could not be validated: {incident}", cause="failure")


def _checked(answer: Grant, grant: Grant, request: HandshakeRequest) -> Grant:
    if answer is not grant:  # frozen, so what was right still is: most validators return it as it is
        _check(answer, request)
    return answer


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


def acceptance(
    key: str, subprotocol: str | None = None, extension: str | None = None, number: int | None = None
) -> bytes:
    """Return the HTTP response to a granted handshake.

    Args:
        key: the ``Sec-WebSocket-Key`` field.
        subprotocol: one of those offered, or ``None``.
        extension: what the response's ``Sec-WebSocket-Extensions`` says, or ``None``.
        number: the connection's, where its client can use it: for :data:`wsrelay.web.public.EXCEPT`.

    Source: RFC 6455 section 4.2.2.
    """
    accept = b64encode(sha1(key.encode("ascii") + _GUID, usedforsecurity=False).digest()).decode("ascii")
    chosen = "" if subprotocol is None else f"Sec-WebSocket-Protocol: {subprotocol}\r\n"
    agreed = "" if extension is None else f"Sec-WebSocket-Extensions: {extension}\r\n"
    numbered = "" if number is None else f"Wsrelay-Connection: {number}\r\n"
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n{chosen}{agreed}{numbered}\r\n"
    ).encode("ascii")


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
