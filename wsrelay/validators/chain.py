"""The chain of handshake validators.

Fail closed: every error here ends in a :class:`~wsrelay.errors.Denied`. Must not live here: parsing a request
(:mod:`wsrelay.http.head`), responses (:mod:`wsrelay.http.responses`), acting on the outcome
(:mod:`wsrelay.connection.closing.opening`).
"""

import math
from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import NoReturn

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from wsrelay.errors import Denied
from wsrelay.grant import Grant
from wsrelay.interfaces import IHandshakeValidator
from wsrelay.logs.failures import log_failure
from wsrelay.names import SHARED, check_room
from wsrelay.request import HandshakeRequest

__all__ = ["ValidatorChain"]


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
            granted = _ask(request, _whole(request.room), iter(self._validators))
        except Denied:
            raise
        except Exception:  # noqa: BLE001 - fail closed
            _deny(Failure())
        return granted if isinstance(granted, Grant) else granted.addErrback(_deny)


@lru_cache(SHARED)
def _whole(room: str) -> Grant:
    """Return the grant that validators narrow; the clients of a room share it."""
    return Grant(room=room)


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
