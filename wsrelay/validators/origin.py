"""Origins: the ``origin:`` validator. Browsers send the origin of the page; other clients may send any.

Origins are compared here and nowhere else. Must not live here: authenticating clients other than browsers
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

__all__ = ["Origin", "OriginValidator", "parse_origin"]

#: Scheme and host in lower case, and port; ``None`` without a port in the text or a default for the scheme.
Origin = tuple[str, str, int | None]

SAME_HOST: Final = "same-host"
NULL: Final = "null"
NONE: Final = "none"
ANY: Final = "*"

_WORDS: Final = frozenset([SAME_HOST, NULL, NONE, ANY])

#: Default ports, omitted by browsers. Other schemes have none: ``capacitor://localhost``, ``chrome-extension://…``.
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}

#: RFC 6454 section 6.2: scheme "://" host [":" port], so no path, no query and no user before the host.
_ORIGIN: Final = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>.+)")


def parse_origin(text: str) -> Origin | None:
    """Parse an origin; ``None`` if malformed.

    A trailing dot belongs to the host, as in browsers: ``good.example.`` is not ``good.example``.
    """
    match = _ORIGIN.fullmatch(text)
    authority = split_host(match["authority"]) if match else None
    if match is None or authority is None:
        return None
    scheme = match["scheme"].lower()
    host, port = authority
    if port is None:
        return scheme, host, _DEFAULT_PORTS.get(scheme)
    return (scheme, host, port) if 0 < port < 2**16 else None


@implementer(IHandshakeValidator)
class OriginValidator:
    """Allow a handshake by its ``Origin``; deny all others.

    Scheme, host and port must be equal; no suffixes, no patterns. ``same-host`` does not protect against DNS
    rebinding, where the hostile name is both origin and host: add the ``host`` validator.

    Args:
        origins: the allowed origins.
        words: additional rules. ``same-host``: an http or https origin with the host of the ``Host`` field, any port,
            or no origin. ``null``: the origin "null" (sandboxed frames, files). ``none``: no origin (not a browser).
            ``*``: every origin.

    Peer sees:
        403 if the origin is not allowed or malformed.

    Source: RFC 6454 sections 5 and 6.2, RFC 6455 section 10.2; TRAPS 16 (why Autobahn's own check is off).
    """

    def __init__(self, origins: Collection[Origin] = (), words: Collection[str] = ()) -> None:
        self._origins = frozenset(origins)
        self._words = frozenset(words)

    @classmethod
    def from_arguments(cls, text: str) -> Self:
        """Make a validator from ``ORIGIN|same-host|null|none|*[,…]``.

        Raises:
            ValueError: no origin, or an invalid one.
        """
        values = parse(text).values
        if not values:
            raise ValueError("name at least one origin, or same-host, null, none or *")
        origins = []
        for value in values:
            if value in _WORDS:
                continue
            origin = parse_origin(value)
            if origin is None:
                raise ValueError(
                    f"{value!r} is not an origin: write SCHEME://HOST or SCHEME://HOST:PORT with nothing behind it"
                    " (write internationalized hosts as xn--…)"
                )
            origins.append(origin)
        return cls(origins, _WORDS.intersection(values))

    def validate(self, request: HandshakeRequest, grant: Grant) -> Grant:
        """Return the grant unchanged. See :class:`~wsrelay.interfaces.IHandshakeValidator`."""
        if not self._allows(request):
            raise Denied(403, "this origin is not allowed")
        return grant

    def _allows(self, request: HandshakeRequest) -> bool:
        if ANY in self._words:
            return True
        if request.origin is None:
            return NONE in self._words or SAME_HOST in self._words
        if request.origin == NULL:
            return NULL in self._words
        origin = parse_origin(request.origin)
        if origin is None:
            return False
        return origin in self._origins or (SAME_HOST in self._words and _is_same_host(origin, request.host))


def _is_same_host(origin: Origin, host_field: str) -> bool:
    # In other schemes the host is not a DNS name: an extension's id, an app's "localhost".
    host = split_host(host_field)
    return host is not None and host[0] == origin[1] and origin[0] in _DEFAULT_PORTS
