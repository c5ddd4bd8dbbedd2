"""Signed tokens: the ``token:`` validator. Tokens are JWTs (RFC 7519), verified by PyJWT.

The places of a token in a handshake, and the rights from its claims. No token, key or text of an exception gets into
a reason, a log or a repr. Must not live here: key files (:mod:`wsrelay.validators.keys`), making tokens. Calls::

    _key_reader, then its result     once, when the validator is made
    _given → _verified → _granted    per handshake
"""

import base64
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final, Self

import jwt
import msgspec
from msgspec import UNSET, UnsetType
from zope.interface import implementer

from wsrelay.errors import Denied
from wsrelay.grant import Grant, HistoryRight, check_identity
from wsrelay.interfaces import IHandshakeValidator
from wsrelay.names import RoomPattern
from wsrelay.request import HandshakeRequest
from wsrelay.validators.arguments import Arguments, parse
from wsrelay.validators.keys import ALGORITHMS, Keys, read_key, read_key_set

__all__ = ["TokenValidator"]

#: The maximum of ``leeway=``; a larger clock difference is a fault to repair.
MAX_LEEWAY_SECONDS: Final = 300


class _Claims(msgspec.Struct):
    # null is a wrong type, not a missing claim: an issuer that found no rooms must not allow all rooms.
    exp: float
    sub: str | UnsetType = UNSET
    room: str | UnsetType = UNSET
    rooms: list[str] | UnsetType = UNSET
    can_publish: bool = True
    can_subscribe: bool = True
    history: HistoryRight = "all"


@implementer(IHandshakeValidator)
class TokenValidator:
    """Require a signed token, and grant the rights of its claims.

    ``exp``, ``aud`` and ``iss`` are required and checked; ``nbf`` and ``iat`` are optional and checked. The connection
    is closed at ``exp``. ``sub`` (a string) is the identity. ``room`` (the name of one) and ``rooms`` (a list of
    patterns) are the allowed rooms, all if both are absent; a ``*`` in ``room`` is no wildcard. ``can_publish`` and
    ``can_subscribe`` (booleans) remove rights when false, ``history`` ("none" or "resume") the right to old messages.

    A token is read from ``Authorization: Bearer``, from the offered subprotocols, and, if enabled, from a cookie
    (which browsers send for every page: add the ``origin`` validator) and from the query (which proxies log). The
    subprotocol is ``base64url.bearer.…`` with the base64url-encoded token behind the last dot. The client must offer
    another subprotocol too: browsers require that one is chosen, and the token is never echoed.

    Args:
        read_keys: reads the keys, like :func:`~wsrelay.validators.keys.read_key`; called once, here.
        audience: the required ``aud``, or one of its entries.
        issuer: the required ``iss``.
        leeway_seconds: the allowed clock difference; connections are closed this long after ``exp``.
        cookie: the name of the cookie; ``None`` is off.
        query: the name of the query parameter; ``None`` is off.

    Peer sees:
        400 for different tokens in one handshake, or if only tokens are offered as subprotocols; 401 with
        ``WWW-Authenticate`` without a valid token; 403 for malformed claims or a room that the token does not allow.

    Source: RFC 6750 sections 2.1 and 3, RFC 8725 sections 2.1 and 3.1; CVE-2026-48523, CVE-2026-102268 (PyJWT).
    """

    def __init__(
        self,
        read_keys: Callable[[], Keys],
        *,
        audience: str,
        issuer: str,
        leeway_seconds: int = 0,
        cookie: str | None = None,
        query: str | None = None,
    ) -> None:
        self._keys = read_keys()
        self._audience = audience
        self._issuer = issuer
        self._leeway_seconds = leeway_seconds
        self._cookie = cookie
        self._query = query

    @classmethod
    def from_arguments(cls, text: str) -> Self:
        """Make a validator from ``key=FILE|jwks=FILE,algorithm=ALG,audience=AUD,issuer=ISS``, and more: see the plugin.

        Raises:
            ValueError: a missing, invalid or unknown argument, or unusable content of the file.
            OSError: the file cannot be read.
        """
        arguments = parse(text, ("key", "jwks", "algorithm", "audience", "issuer", "leeway", "cookie", "query"))
        if arguments.values:
            raise ValueError(f"{arguments.values[0]!r} is not an argument of this validator")
        return cls(
            _key_reader(arguments),
            audience=arguments.required("audience"),
            issuer=arguments.required("issuer"),
            leeway_seconds=_leeway_seconds(arguments.one("leeway") or "0"),
            cookie=arguments.one("cookie"),
            query=arguments.one("query"),
        )

    def validate(self, request: HandshakeRequest, grant: Grant) -> Grant:
        """Return the grant, narrowed by the token. See :class:`~wsrelay.interfaces.IHandshakeValidator`."""
        tokens = {*self._given(request)}
        subprotocol = _subprotocol(request, grant)
        if len(tokens) > 1:
            raise Denied(400, "there is more than one token")
        if not tokens:
            raise Denied(401, "a token is needed", [("WWW-Authenticate", "Bearer")])
        return self._granted(self._verified(tokens.pop()), grant).narrowed(subprotocol=subprotocol)

    def _given(self, request: HandshakeRequest) -> Iterator[str]:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            yield token.strip(" ")
        for name in request.bearers:
            yield _decoded(name.rpartition(".")[2])
        if self._cookie is not None:
            yield from _cookies(request.headers.get("cookie", ""), self._cookie)
        if self._query is not None:
            yield from request.query.get(self._query, ())

    def _verified(self, token: str) -> dict[str, object]:
        try:
            return self._decode(token)
        except Exception as error:  # noqa: BLE001 - fail closed: the parser may raise anything
            expired = isinstance(error, jwt.ExpiredSignatureError)
        # Raised outside of the handler, so that the denial has no __context__ that quotes the token.
        reason = "the token has expired" if expired else "the token is not valid"
        raise Denied(401, reason, [("WWW-Authenticate", 'Bearer error="invalid_token"')])

    def _decode(self, token: str) -> dict[str, object]:
        header = jwt.get_unverified_header(token)
        # RFC 8725 section 3.1: the token's alg only selects one of our keys; each key is for one allowed algorithm.
        algorithm = header["alg"]
        key = self._keys.get((None, algorithm)) or self._keys[header["kid"], algorithm]
        return jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=self._audience,
            issuer=self._issuer,
            leeway=self._leeway_seconds,
            options={"require": ["exp", "aud", "iss"], "verify_sub": False},  # sub is checked with our claims
        )

    def _granted(self, payload: dict[str, object], grant: Grant) -> Grant:
        try:
            claims = msgspec.convert(payload, _Claims)
            # Parse every pattern, also behind a match: a malformed one denies.
            rooms = [RoomPattern(pattern) for pattern in _patterns(claims)]
            identity = None if claims.sub is UNSET else claims.sub
            check_identity(identity)
        except ValueError:  # msgspec's own, too
            raise Denied(403, "the token's claims are malformed") from None
        if grant.room != claims.room and not any(grant.room in pattern for pattern in rooms):
            raise Denied(403, "the token does not allow this room")
        return grant.narrowed(
            identity=identity,
            can_publish=claims.can_publish,
            can_subscribe=claims.can_subscribe,
            history=claims.history,
            expires_at=claims.exp + self._leeway_seconds,
        )


def _patterns(claims: _Claims) -> list[str]:
    if claims.rooms is not UNSET:
        return claims.rooms
    return ["**"] if claims.room is UNSET else []


def _key_reader(arguments: Arguments) -> Callable[[], Keys]:
    key, jwks = arguments.one("key"), arguments.one("jwks")
    algorithms = sorted(set(arguments.options.get("algorithm", ())))
    if not algorithms or not set(algorithms) <= set(ALGORITHMS):
        raise ValueError(f"algorithm= is needed: {', '.join(ALGORITHMS)}, or several with jwks=")
    if jwks is not None and key is None:
        return partial(read_key_set, Path(jwks), algorithms)
    if key is None or jwks is not None:
        raise ValueError("either key= or jwks= is needed, and not both")
    if len(algorithms) > 1:
        raise ValueError("key= is for one algorithm=; use jwks= for several")
    return partial(read_key, Path(key), algorithms[0])


def _leeway_seconds(text: str) -> int:
    if not re.fullmatch("[0-9]{1,3}", text) or int(text) > MAX_LEEWAY_SECONDS:
        raise ValueError(f"leeway= must be a whole number of seconds from 0 to {MAX_LEEWAY_SECONDS}, not {text!r}")
    return int(text)


def _subprotocol(request: HandshakeRequest, grant: Grant) -> str | None:
    """Return the subprotocol to choose because a token was offered as one; ``None`` keeps the grant's."""
    if not request.bearers:
        return None
    if not request.subprotocols:
        raise Denied(400, "offer another subprotocol beside the one that carries the token")
    return request.subprotocols[0] if grant.subprotocol is None else None


def _decoded(text: str) -> str:
    """Decode base64url; malformed input gives an empty text, which is not a valid token."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode("ascii")
    except ValueError:
        return ""


def _cookies(header: str, name: str) -> Iterator[str]:
    # RFC 6265 section 4.2.1. Not http.cookies: it stops at the first malformed cookie.
    for pair in header.split(";"):
        cookie, _, value = pair.partition("=")
        if cookie.strip() == name:
            yield value.strip().strip('"')
