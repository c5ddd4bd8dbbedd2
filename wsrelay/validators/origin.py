"""Origins: the ``origin:`` validator. Browsers send the origin of the page; other clients may send any.

Origins are compared here and nowhere else. Must not live here: parsing and patterns of origins
(:mod:`wsrelay.validators.origin_patterns`), authenticating clients other than browsers
(:mod:`wsrelay.validators.token`).
"""

import re
from collections.abc import Collection
from typing import Final, Self

from zope.interface import implementer

from wsrelay.errors import Denied
from wsrelay.grant import Grant
from wsrelay.interfaces import IHandshakeValidator
from wsrelay.request import HandshakeRequest, split_host
from wsrelay.validators.arguments import parse
from wsrelay.validators.origin_patterns import (
    DEFAULT_PORTS,
    Origin,
    OriginPattern,
    OriginPatterns,
    parse_argument,
    parse_origin,
    written,
)

__all__ = ["OriginValidator"]

SAME_HOST: Final = "same-host"
NULL: Final = "null"
NONE: Final = "none"
ANY: Final = "*"

_WORDS: Final = frozenset([SAME_HOST, NULL, NONE, ANY])

#: The field with which browsers say whose page sends a request, with its values for the page's own host and port, and
#: for a user who typed the address; the last one stands for a missing field, too.
_SITE: Final = "sec-fetch-site"
_OWN_SITE: Final = "same-origin"
_NO_SITE: Final = "none"

#: The schemes of a relay's own origin; which one, only a TLS proxy in front knows.
_SCHEMES: Final = ("https", "http")

#: The most characters of an origin in a refusal, and of one that is named twice: the whole reason fits into
#: ``MAX_REASON_CHARS``.
MAX_ORIGIN_CHARS: Final = 120
MAX_TWICE_CHARS: Final = 62

#: Characters of a malformed origin that no refusal quotes, markup among them.
_UNSAFE: Final = re.compile(r"[^0-9A-Za-z:/._~@?#%+-]")

#: Beginnings of reasons.
_NO_ORIGIN: Final = "no Origin was sent; to allow programs, which need not send one"
_MALFORMED: Final = "the Origin is malformed, it must be SCHEME://HOST or SCHEME://HOST:PORT"
_FOREIGN: Final = "a page of another site sent this without an Origin; let it send one (CORS mode)"
_NULL_ORIGIN: Final = (
    "the origin null is not allowed (file: pages and sandboxed frames of any site send it); to allow all of these"
)


@implementer(IHandshakeValidator)
class OriginValidator:
    """Allow a handshake by its ``Origin``; deny all others.

    Scheme, host and port must be equal, unless a pattern matches. ``same-host`` does not protect against DNS
    rebinding, where the hostile name is both origin and host: add the ``host`` validator.

    Args:
        origins: the allowed origins.
        words: additional rules. ``same-host``: an http or https origin with the host of the ``Host`` field, any port,
            or no origin. ``null``: the origin "null" (sandboxed frames, files). ``none``: no origin (not a browser).
            ``*``: every origin, and none.
        patterns: patterns of allowed origins.

    Browsers send no ``Origin`` with a GET of the page's own host, or of an image or link; ``Sec-Fetch-Site`` then tells
    them from programs: ``same-origin`` is the origin of the ``Host`` field; ``cross-site`` and ``same-site`` are
    denied, but for ``*`` (TRAPS 110).

    Peer sees:
        403 if the origin is not allowed or malformed. The reason names the origin, and what to write to allow it.

    Source: RFC 6454 sections 5 and 6.2, RFC 6455 section 10.2, https://w3c.github.io/webappsec-fetch-metadata/;
    TRAPS 16 (why Autobahn's own check is off).
    """

    def __init__(
        self,
        origins: Collection[Origin] = (),
        words: Collection[str] = (),
        patterns: Collection[OriginPattern] = (),
    ) -> None:
        self._origins = frozenset(origins)
        self._words = frozenset(words)
        self._patterns = OriginPatterns(patterns)
        self._is_default = self._words == {SAME_HOST} and not origins and not patterns

    @classmethod
    def from_arguments(cls, text: str) -> Self:
        """Make a validator from ``ORIGIN|same-host|null|none|*[,…]``.

        Raises:
            ValueError: no origin, or an invalid one.
        """
        values = parse(text).values
        if not values:
            raise ValueError("name at least one origin, or same-host, null, none or *")
        if ANY in values and len(set(values)) > 1:
            raise ValueError("* allows every origin and programs: write it alone, or name the origins without it")
        parsed = [parse_argument(value, _WORDS) for value in values if value not in _WORDS]
        origins = [value for value in parsed if not isinstance(value, OriginPattern)]
        patterns = [value for value in parsed if isinstance(value, OriginPattern)]
        return cls(origins, _WORDS.intersection(values), patterns)

    def validate(self, request: HandshakeRequest, grant: Grant) -> Grant:
        """Return the grant unchanged. See :class:`~wsrelay.interfaces.IHandshakeValidator`."""
        if not self._allows(request):
            raise Denied(403, self._reason(request))
        return grant

    def _allows(self, request: HandshakeRequest) -> bool:
        if ANY in self._words:
            return True
        if request.origin is not None:
            return self._allows_origin(request.origin, request.host)
        site = request.headers.get(_SITE, _NO_SITE)
        if site == _OWN_SITE:
            return any(self._allows_origin(f"{scheme}://{request.host}", request.host) for scheme in _SCHEMES)
        return site == _NO_SITE and (NONE in self._words or SAME_HOST in self._words)

    def _allows_origin(self, text: str, host_field: str) -> bool:
        if text == NULL:
            return NULL in self._words
        origin = parse_origin(text)
        if origin is None:
            return False
        if origin in self._origins or (SAME_HOST in self._words and _is_same_host(origin, host_field)):
            return True
        return self._patterns.match(origin)

    def _reason(self, request: HandshakeRequest) -> str:
        """Return the reason of a refusal. It quotes nothing of the client but an origin or host, cut."""
        text, site = request.origin, request.headers.get(_SITE, _NO_SITE)
        if text is None and site == _OWN_SITE:
            text = f"{_SCHEMES[0]}://{request.host}"
        elif text is None and site != _NO_SITE:
            return _FOREIGN
        if text is None:
            return f"{_NO_ORIGIN}, {self._remedy(NONE)}"
        if text == NULL:
            return f"{_NULL_ORIGIN}, {self._remedy(NULL)}"
        origin = parse_origin(text)
        if origin is None:
            return f"{_MALFORMED}: {_UNSAFE.sub('?', _cut(text))}"
        name = written(origin)
        if len(name) > MAX_TWICE_CHARS:
            return f"the origin {_cut(name)} is not allowed; to allow it, add it to --validate origin:..."
        return f"the origin {name} is not allowed; to allow it, {self._remedy(name)}"

    def _remedy(self, word: str) -> str:
        """Return what to write; other arguments are not named, as the client reads this."""
        if self._is_default:
            return f"write --validate origin:{SAME_HOST},{word}"
        return f"add {word} to --validate origin:..."


def _cut(text: str) -> str:
    return text if len(text) <= MAX_ORIGIN_CHARS else f"{text[:MAX_ORIGIN_CHARS]}..."


def _is_same_host(origin: Origin, host_field: str) -> bool:
    # In other schemes the host is not a DNS name: an extension's id, an app's "localhost".
    host = split_host(host_field)
    return host is not None and host[0] == origin[1] and origin[0] in DEFAULT_PORTS
