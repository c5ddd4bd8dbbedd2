"""Signed tokens: the ``token:`` validator. Tokens are JWTs (RFC 7519), checked by PyJWT.

Where a token may stand in a handshake, and what its claims grant. Which keys may have signed it is read by
:mod:`wsrelay.validators.keys`. Tokens are not made here, and no token, key or text of an exception gets into a
reason, a log or a repr. Sequence of calls::

    _key_reader, then what it returns   once, when the validator is made
    _given → _verified → _granted       per handshake
"""

import base64
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

import jwt
import msgspec
from msgspec import UNSET, UnsetType, field
from zope.interface import implementer

from wsrelay.errors import Denied
from wsrelay.grant import Grant
from wsrelay.interfaces import IHandshakeValidator
from wsrelay.names import RoomPattern
from wsrelay.request import HandshakeRequest
from wsrelay.validators.arguments import Arguments, parse
from wsrelay.validators.keys import ALGORITHMS, Keys, read_key, read_key_set

__all__ = ["TokenValidator"]

#: Clocks that differ by more than this want mending, not leeway.
MAX_LEEWAY_SECONDS: Final = 300


class _Claims(msgspec.Struct):
    # null is a wrong type, not a missing claim: an issuer that looked up no rooms must not open all of them.
    exp: float
    sub: str | UnsetType = UNSET
    rooms: list[str] = field(default_factory=lambda: ["**"])
    can_publish: bool = True
    can_subscribe: bool = True


@implementer(IHandshakeValidator)
class TokenValidator:
    """Want a signed token, and grant what its claims say.

    The claims ``exp``, ``aud`` and ``iss`` must be there and hold, ``nbf`` and ``iat`` hold if they are there. ``exp``
    is when the connection is closed. ``sub`` (a string) is the identity, ``rooms`` (a list of patterns) the allowed
    rooms, without it all; ``can_publish`` and ``can_subscribe`` (booleans) take away rights when they are false.

    The token is looked for in ``Authorization: Bearer``, in the offered subprotocols, and where it is switched on
    in a cookie (which comes whatever page connects: the ``origin`` validator is needed too) and in the query (which
    gets into the logs of proxies). A subprotocol that carries one is ``base64url.bearer.…``, base64url-encoded
    behind the last dot; a real one must be offered beside it, because a browser wants to see one of its offers
    chosen, and the token is not echoed.

    Args:
        read_keys: reads the keys, like :func:`~wsrelay.validators.keys.read_key`; called here, once.
        audience: what ``aud`` must be or hold.
        issuer: what ``iss`` must be.
        leeway_seconds: how far clocks may differ; a connection may stay for that long after ``exp``.
        cookie: the name of the cookie; ``None`` is off.
        query: the name of the query parameter; ``None`` is off.

    Peer sees:
        400 for different tokens in one handshake, or for an offer of nothing but tokens; 401 with
        ``WWW-Authenticate`` when there is no valid token; 403 for malformed claims and for a room that the
        token does not allow.

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
        """Make one of ``key=FILE|jwks=FILE,algorithm=ALG,audience=AUD,issuer=ISS``, and more: see the plugin.

        Raises:
            ValueError: an argument is missing, wrong or unknown, or the file does not hold what it should.
            OSError: the file cannot be read.
        """
        arguments = parse(text, ("key", "jwks", "algorithm", "audience", "issuer", "leeway", "cookie", "query"))
        if arguments.values:
            raise ValueError(f"{arguments.values[0]!r} is no argument of this validator")
        return cls(
            _key_reader(arguments),
            audience=arguments.required("audience"),
            issuer=arguments.required("issuer"),
            leeway_seconds=_leeway_seconds(arguments.one("leeway") or "0"),
            cookie=arguments.one("cookie"),
            query=arguments.one("query"),
        )

    def validate(self, request: HandshakeRequest, grant: Grant) -> Grant:
        """Return what the token grants. See :class:`~wsrelay.interfaces.IHandshakeValidator`."""
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

    def _verified(self, token: str) -> dict[str, Any]:
        try:
            return self._decode(token)
        except Exception as error:  # noqa: BLE001 - whatever a token does to its parser, it is not valid
            expired = isinstance(error, jwt.ExpiredSignatureError)
        # Raised out here, so that the exception and what it quotes do not hang on the denial.
        reason = "the token has expired" if expired else "the token is not valid"
        raise Denied(401, reason, [("WWW-Authenticate", 'Bearer error="invalid_token"')])

    def _decode(self, token: str) -> dict[str, Any]:
        header = jwt.get_unverified_header(token)
        # RFC 8725 section 3.1: the token's alg only picks one of our keys; each is for one algorithm that we allow.
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

    def _granted(self, payload: dict[str, Any], grant: Grant) -> Grant:
        try:
            claims = msgspec.convert(payload, _Claims)
            # Each of them, also behind one that holds the room: what they would have said is not known.
            rooms = [RoomPattern(pattern) for pattern in claims.rooms]
        except ValueError:  # msgspec's own, or RoomPattern's
            raise Denied(403, "the token's claims are malformed") from None
        if not any(grant.room in pattern for pattern in rooms):
            raise Denied(403, "the token does not allow this room")
        return grant.narrowed(
            identity=None if claims.sub is UNSET else claims.sub,
            can_publish=claims.can_publish,
            can_subscribe=claims.can_subscribe,
            expires_at=claims.exp + self._leeway_seconds,
        )


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
        raise ValueError("key= holds one key, which is for one algorithm=; keys for several are given as jwks=")
    return partial(read_key, Path(key), algorithms[0])


def _leeway_seconds(text: str) -> int:
    if not re.fullmatch("[0-9]{1,3}", text) or int(text) > MAX_LEEWAY_SECONDS:
        raise ValueError(f"leeway= must be a whole number of seconds from 0 to {MAX_LEEWAY_SECONDS}, not {text!r}")
    return int(text)


def _subprotocol(request: HandshakeRequest, grant: Grant) -> str | None:
    """Return what must be chosen because a token was offered; ``None`` leaves the grant's."""
    if not request.bearers:
        return None
    if not request.subprotocols:
        raise Denied(400, "offer another subprotocol beside the one that carries the token")
    return request.subprotocols[0] if grant.subprotocol is None else None


def _decoded(text: str) -> str:
    """Return the text that base64url stands for, or an empty one, which is no valid token."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode("ascii")
    except ValueError:
        return ""


def _cookies(header: str, name: str) -> Iterator[str]:
    # RFC 6265 section 4.2.1; not http.cookies, which stops reading at the first cookie it does not like.
    for pair in header.split(";"):
        cookie, _, value = pair.partition("=")
        if cookie.strip() == name:
            yield value.strip().strip('"')
