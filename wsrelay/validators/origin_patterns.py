"""Origins as values, and patterns of origins: ``https://*.example.com``, ``http://localhost:*``. Pure.

Must not live here: the words of the ``origin:`` validator, and refusals (:mod:`wsrelay.validators.origin`).
"""

import re
from collections.abc import Collection
from typing import Final, NamedTuple

from wsrelay.request import split_host

__all__ = ["Origin", "OriginPattern", "OriginPatterns", "parse_argument", "parse_origin", "written"]

#: Scheme and host in lower case, and port; ``None`` without a port in the text or a default for the scheme.
Origin = tuple[str, str, int | None]

#: Default ports, omitted by browsers. Other schemes have none: ``capacitor://localhost``, ``chrome-extension://…``.
DEFAULT_PORTS: Final = {"http": 80, "https": 443}

#: The port of a pattern that matches every port; no origin has it.
ANY_PORT: Final = -1

#: RFC 6454 section 6.2: scheme "://" host [":" port], so no path, no query and no user before the host.
_ORIGIN: Final = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>.*)")

#: The text before a path, a query or a fragment.
_BEFORE_PATH: Final = re.compile(r"[^/?#]*(?://[^/?#]*)?")

_FORM: Final = (
    "write SCHEME://HOST or SCHEME://HOST:PORT with nothing behind it (write internationalized hosts as xn--…)"
)
_STARS: Final = (
    "* stands for subdomains (https://*.example.com), for ports (http://localhost:*),"
    " or for all hosts of a scheme other than http and https (moz-extension://*)"
)
_ALL_SITES: Final = "it allows the pages of all sites; name a host, or write * alone to allow everything"
_TOP_LEVEL: Final = "it allows the pages of too many sites; write two labels or more, as in https://*.example.com"
_ADDRESS: Final = "an address has no subdomains"
_NOT_WEB: Final = "only http and https have subdomains and ports; write the origin exactly"


def parse_origin(text: str) -> Origin | None:
    """Parse an origin; ``None`` if malformed.

    A trailing dot belongs to the host, as in browsers: ``good.example.`` is not ``good.example``. The host is empty in
    origins such as ``file://`` and ``content://``, which web views send; never in http and https.
    """
    match = _ORIGIN.fullmatch(text)
    if match is None:
        return None
    scheme = match["scheme"].lower()
    authority = split_host(match["authority"])
    if authority is None:
        return None if match["authority"] or scheme in DEFAULT_PORTS else (scheme, "", None)
    host, port = authority
    if port is None:
        return scheme, host, DEFAULT_PORTS.get(scheme)
    return (scheme, host, port) if 0 < port < 2**16 else None


def written(origin: Origin) -> str:
    """Return an origin as browsers and options write it: lower case, without a default port."""
    scheme, host, port = origin
    return f"{scheme}://{host}" + ("" if port == DEFAULT_PORTS.get(scheme) else f":{port}")


class OriginPattern(NamedTuple):
    """More than one origin.

    Attributes:
        scheme: in lower case.
        host: a host; ``.example.com`` for its subdomains of any depth, without ``example.com`` itself; empty for all
            hosts and ports of a scheme other than http and https.
        port: a port, or :data:`ANY_PORT`.
    """

    scheme: str
    host: str
    port: int | None


class OriginPatterns:
    """A set of patterns.

    Args:
        patterns: the patterns.
    """

    def __init__(self, patterns: Collection[OriginPattern] = ()) -> None:
        self._schemes = frozenset(pattern.scheme for pattern in patterns if not pattern.host)
        #: Schemes and hosts with any port.
        self._hosts = frozenset(pattern[:2] for pattern in patterns if pattern.host[:1] not in ("", "."))
        #: Scheme and port → the suffixes of hosts.
        self._suffixes: dict[tuple[str, int | None], tuple[str, ...]] = {}
        for scheme, host, port in patterns:
            if host.startswith("."):
                self._suffixes[scheme, port] = (*self._suffixes.get((scheme, port), ()), host)

    def match(self, origin: Origin) -> bool:
        """Return whether an origin matches a pattern.

        Complexity:
            Linear in the number of patterns with the origin's scheme and port.
        """
        scheme, host, port = origin
        if scheme in self._schemes or (scheme, host) in self._hosts:
            return True
        suffixes = self._suffixes.get((scheme, port), ()) + self._suffixes.get((scheme, ANY_PORT), ())
        # No empty labels: no DNS name has one, so no page has such an origin.
        return host.endswith(suffixes) and not host.startswith(".") and ".." not in host


def parse_argument(text: str, words: Collection[str] = ()) -> Origin | OriginPattern:
    """Parse an origin or a pattern as operators write it.

    Args:
        text: the origin or pattern.
        words: other valid arguments, for the hint in the error.

    Raises:
        ValueError: neither; or a pattern that matches too much. The text says what to write.
    """
    try:
        return _parse(text)
    except ValueError as error:
        near = _near(text, words)
        hint = f"; is it {near}?" if near else ""
        raise ValueError(f"{text!r} is not an origin: {error}{hint}") from None


def _parse(text: str) -> Origin | OriginPattern:
    if "*" in text:
        return _parse_pattern(text)
    origin = parse_origin(text)
    if origin is None:
        raise ValueError(_FORM)
    return origin


def _parse_pattern(text: str) -> OriginPattern:
    exact_port = text.removesuffix(":*")
    scheme, _, host = exact_port.partition("://*")
    if host[:1] in ("", ":") and exact_port != scheme:
        return _all_hosts(scheme, text)
    below = host.startswith(".")
    origin = parse_origin(f"{scheme}://{host[1:]}" if below else exact_port)
    if origin is None:
        raise ValueError(_STARS)
    if origin[0] not in DEFAULT_PORTS:
        raise ValueError(_NOT_WEB)
    if below:
        _check_domain(origin[1])
    port = origin[2] if exact_port == text else ANY_PORT
    return OriginPattern(origin[0], f".{origin[1]}" if below else origin[1], port)


def _all_hosts(scheme: str, text: str) -> OriginPattern:
    """Return the pattern ``SCHEME://*``.

    Hosts of schemes other than http and https are ids, often new in each install: ``moz-extension://UUID``.
    """
    origin = parse_origin(f"{scheme}://x")
    if origin is None:
        raise ValueError(_STARS)
    if origin[0] in (*DEFAULT_PORTS, "ws", "wss"):
        raise ValueError(_ALL_SITES)
    if text != f"{scheme}://*":
        raise ValueError(_NOT_WEB)
    return OriginPattern(origin[0], "", ANY_PORT)


def _check_domain(host: str) -> None:
    """Raise ``ValueError`` unless a host may have subdomains that belong together."""
    labels = host.split(".")
    if "" in labels:
        raise ValueError(_STARS)
    if host.startswith("[") or labels[-1].isdigit():
        raise ValueError(_ADDRESS)
    if len(labels) == 1 and host != "localhost":
        raise ValueError(_TOP_LEVEL)


def _near(text: str, words: Collection[str]) -> str | None:
    """Return a similar valid argument; ``None`` without one."""
    if text.lower() in words:
        return text.lower()
    before_path = _BEFORE_PATH.match(text)
    assert before_path is not None  # it matches the empty text
    scheme = "http" if text.startswith(("localhost", "127.", "[::1]")) else "https"
    for near in (before_path[0], f"{scheme}://{before_path[0]}"):
        try:
            _parse(near)
        except ValueError:
            continue
        return near
    return None
