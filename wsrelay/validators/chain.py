"""The chain of handshake validators.

Fail closed: every error ends in a :class:`~wsrelay.errors.Denied`. Must not live here: parsing a request
(:mod:`wsrelay.http.head`), responses (:mod:`wsrelay.http.responses`), acting on the outcome
(:mod:`wsrelay.connection.opening`).
"""

import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Final, NoReturn

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from wsrelay.errors import Denied, OperatorError
from wsrelay.grant import Grant, check_identity
from wsrelay.interfaces import IHandshakeValidator
from wsrelay.logs.failures import log_failure
from wsrelay.names import ROOT, SHARED, check_room
from wsrelay.request import HandshakeRequest
from wsrelay.validators.awaitables import deferred_of, explained
from wsrelay.validators.origin import OriginValidator

__all__ = ["ValidatorChain"]

#: In the log, before an incident id.
_FAILED: Final = "a handshake validator failed"

#: A request from an origin that no rule can name: it is allowed only where every origin is.
_UNNAMED: Final = HandshakeRequest(
    path="/",
    room=ROOT,
    query={},
    headers={},
    host="host.invalid",
    origin="unnamed://origin.invalid",
    subprotocols=(),
    bearers=(),
    peer=None,
)


class ValidatorChain:
    """Asks validators one after the other.

    Args:
        validators: in the order of asking.
        log: logs an unexpected exception, and returns its incident id.
    """

    def __init__(
        self, validators: Sequence[IHandshakeValidator], log: Callable[[str, Failure], str] = log_failure
    ) -> None:
        self._log_failure = log
        self._known_incident = ""
        self._validators = tuple(validators)
        self._origins = tuple(each for each in self._validators if isinstance(each, OriginValidator))
        self._allows_every_origin = self._allows_origin(_UNNAMED)

    def grant(self, request: HandshakeRequest) -> "Grant | Deferred[Grant]":
        """Ask all validators.

        Args:
            request: the client's request.

        Returns:
            The last validator's grant; a Deferred with it if any validator is asynchronous. The Deferred fails with
            :class:`~wsrelay.errors.Denied` only, and cancelling it cancels the pending validator. It has no timeout:
            the caller sets one, because a validator can swallow the cancellation (TRAPS 54).

        Raises:
            Denied: refused by a synchronous validator.

        Peer sees:
            A validator's own status; 500 with a fixed text and an incident id for an exception or an invalid answer.
        """
        try:
            granted = _ask(request, _whole(request.room), iter(self._validators))
        except Denied:
            raise
        except Exception:  # noqa: BLE001 - fail closed
            self._deny(Failure())
        return granted if isinstance(granted, Grant) else granted.addErrback(self._deny)

    def check_origin(self, request: HandshakeRequest) -> None:
        """Ask the ``origin`` validators alone about a browser; no effect for other clients.

        For what a page reads before, or instead of, the answer of all validators: that of an origin that is not allowed
        may read nothing of what the others say. A CORS preflight has no credentials for them.

        Raises:
            Denied: its origin is not allowed. Every page may read that: it quotes nothing but the origin.
        """
        if request.origin is None and "sec-fetch-site" not in request.headers:
            return
        _ask(request, _whole(request.room), iter(self._origins))

    def shared_with(self, request: HandshakeRequest) -> str | None:
        """Return the origin whose pages may read the answer to a request, as ``Access-Control-Allow-Origin`` names it.

        Returns:
            The request's origin where an ``origin`` validator names it; ``"*"`` where every origin is allowed;
            ``None`` where it is not, or is missing.
        """
        if request.origin is None or not self._allows_origin(request):
            return None
        return "*" if self._allows_every_origin else request.origin

    def _deny(self, failure: Failure) -> NoReturn:
        """Raise the client's refusal for a failure."""
        if failure.check(Denied):
            failure.raiseException()
        if failure.check(CancelledError):
            raise Denied(503, "the handshake was cancelled", cause="gone")
        incident = self._incident(explained(failure))
        raise Denied(500, f"the handshake could not be validated: {incident}", cause="failure")

    def _incident(self, failure: Failure) -> str:
        """Log a failure, and return its incident id. What only the operator can correct is logged once."""
        if not failure.check(OperatorError):
            return self._log_failure(_FAILED, failure)
        self._known_incident = self._known_incident or self._log_failure(_FAILED, failure)
        return self._known_incident

    def _allows_origin(self, request: HandshakeRequest) -> bool:
        try:
            self.check_origin(request)
        except Denied:
            return False
        return True


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
        return await deferred_of(answer)
    except Denied as denied:
        raise _by(validator, denied) from None


def _by(validator: IHandshakeValidator, denied: Denied) -> Denied:
    """Return the refusal with the validator's name as its default cause.

    Without its traceback: to one that is raised again and again, each time would add frames, and so old requests.
    """
    denied.cause = denied.cause or type(validator).__name__.removesuffix("Validator").lower()
    return denied.with_traceback(None)


async def _wait(
    request: HandshakeRequest, grant: Grant, answer: Awaitable[Grant], validators: Iterator[IHandshakeValidator]
) -> Grant:
    """Wait for one validator, then ask the rest."""
    granted = _ask(request, _checked(await answer, grant, request), validators)
    return granted if isinstance(granted, Grant) else await granted


def _checked(answer: Grant, grant: Grant, request: HandshakeRequest) -> Grant:
    if answer is not grant:  # unchanged in most cases, and already checked: grants are frozen
        _check(answer, request)
    return answer


def _check(grant: object, request: HandshakeRequest) -> None:
    """Raise unless a validator's answer is a valid grant for this request.

    Autobahn would raise for a subprotocol that was not offered, and leave the client hanging (TRAPS 13).
    """
    if not isinstance(grant, Grant):
        raise TypeError(f"a validator answered {type(grant).__name__}, not a Grant")
    msgspec.convert(asdict(grant), Grant)  # raises for a field of the wrong type
    if grant.expires_at is not None and not math.isfinite(grant.expires_at):
        raise ValueError("a validator's expires_at is not a finite number")
    if grant.subprotocol is not None and grant.subprotocol not in request.subprotocols:
        raise ValueError("a validator chose a subprotocol that was not offered")
    check_identity(grant.identity)
    check_room(grant.room)
