"""The target of a request, and its query. Pure.

Must not live here: the room of a path (:mod:`wsrelay.names`).
"""

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import parse_qs

from wsrelay.errors import Denied
from wsrelay.request import split_host

__all__ = ["MAX_QUERY_FIELDS", "NO_QUERY", "Query", "origin_form"]

#: The most fields of a query that is read.
MAX_QUERY_FIELDS: Final = 100

#: RFC 9112 section 3.2.2; groups: scheme, authority, and path with query.
_ABSOLUTE: Final = re.compile(r"(https?|wss?)://([^/?]*)(.*)", re.IGNORECASE)

#: Scheme → default port (RFC 9110 section 4.2, RFC 6455 section 3).
_DEFAULT_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443}

#: The query of most requests.
NO_QUERY: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({})


def origin_form(target: str, host: str) -> str:
    """Return a request target as a path with a query.

    An absolute URL must name the host of the ``Host`` field; an absent port is the scheme's. RFC 9112 section 3.2.2
    lets a server go by the URL alone. But section 3.2 has clients, and section 3.2.2 has proxies, send the same host in
    both, so two hosts come from somebody who wants two parsers to disagree: one that checks ``Host``, one that goes by
    the URL. The scheme counts for nothing else: a proxy may have ended TLS.

    Args:
        target: visible ASCII.
        host: a well-formed ``Host`` field.

    Raises:
        Denied: 400 for any other form or scheme, a URL without a host or with a user, or another host than ``Host``.

    Source: RFC 9112 section 3.2, RFC 9110 sections 4.2.1 and 4.2.4 (no host, a user).
    """
    if target.startswith("/"):
        return target
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise Denied(400, "the request target must be a path that starts with /, or a http, https, ws or wss URL")
    authority, port = split_host(absolute[2]), _DEFAULT_PORTS[absolute[1].lower()]
    if authority is None:
        raise Denied(400, "the request target is a URL with a missing or malformed host")
    if _with_port(authority, port) != _with_port(split_host(host), port):
        raise Denied(400, "the request target and the Host field name different hosts")
    rest = absolute[3]
    return rest if rest.startswith("/") else f"/{rest}"


def _with_port(host: tuple[str, int | None] | None, default: int) -> tuple[str, int] | None:
    return None if host is None else (host[0], default if host[1] is None else host[1])


class Query(Mapping[str, tuple[str, ...]]):
    """The query of a target, parsed when it is first read: parameter → its values in order.

    Most validators read none; a malformed query that is not read is no reason to refuse.

    Args:
        text: the query, without "?".

    Raises:
        Denied: 400 from any first use, for a query that is not UTF-8 or has more fields than
            :data:`MAX_QUERY_FIELDS`.
    """

    __slots__ = ("_parsed", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._parsed: Mapping[str, tuple[str, ...]] | None = None

    def __getitem__(self, name: str) -> tuple[str, ...]:
        """Return the values of a parameter."""
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        """Yield the names of the parameters."""
        return iter(self._fields)

    def __len__(self) -> int:
        """Return the number of parameters."""
        return len(self._fields)

    @property
    def _fields(self) -> Mapping[str, tuple[str, ...]]:
        if self._parsed is None:
            self._parsed = _parse(self._text)
        return self._parsed


def _parse(text: str) -> Mapping[str, tuple[str, ...]]:
    if text.count("&") >= MAX_QUERY_FIELDS:
        raise Denied(400, f"the query has more than {MAX_QUERY_FIELDS} fields", cause="malformed")
    try:
        parsed = parse_qs(text, keep_blank_values=True, errors="strict")
    except ValueError:
        raise Denied(400, "the query is malformed: it must be percent-encoded UTF-8", cause="malformed") from None
    return {name: tuple(values) for name, values in parsed.items()}
