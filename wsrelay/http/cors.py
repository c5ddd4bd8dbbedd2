"""Cross-origin resource sharing: the fields that let a page of another origin send a request and read its answer. Pure.

Must not live here: the allowed origins (:mod:`wsrelay.validators.origin`, through
:meth:`wsrelay.validators.chain.ValidatorChain.shared_with`).

Source: Fetch, https://fetch.spec.whatwg.org/#http-cors-protocol.
"""

import re
from collections.abc import Collection, Mapping
from typing import Final

from wsrelay.request import TOKEN, members

__all__ = ["EVERY", "is_preflight", "preflight_fields", "sharing_fields"]

#: The value of ``Access-Control-Allow-Origin`` for every origin; browsers then refuse credentials.
EVERY: Final = "*"

#: A sandboxed frame or a file: any site can make such a page, so it gets no credentials.
_NULL: Final = "null"

#: Response fields for pages, beside the ones that Fetch always shows.
_EXPOSED: Final = "Retry-After, Wsrelay-Connection"

#: Lifetime of a preflight's answer in the browser, in seconds: the longest that Chromium takes.
_MAX_AGE_SECONDS: Final = 7200

#: Request fields that proxies set; a page must not.
_PROXY_FIELD: Final = re.compile(r"forwarded|via|x-real-ip|x-forwarded-.*")

_METHOD: Final = "access-control-request-method"
_FIELDS: Final = "access-control-request-headers"


def sharing_fields(origin: str | None) -> tuple[tuple[str, str], ...]:
    """Return the fields of an answer that pages of an origin may read.

    Args:
        origin: a named origin, ``"*"`` for every origin, or ``None`` for none.

    Peer sees:
        Credentials (cookies, client certificates) are allowed for a named origin only.
    """
    if origin is None:
        return ()
    credentials = () if origin in (EVERY, _NULL) else (("Access-Control-Allow-Credentials", "true"),)
    return (
        ("Access-Control-Allow-Origin", origin),
        *credentials,
        ("Access-Control-Expose-Headers", _EXPOSED),
        ("Vary", "Origin"),
    )


def is_preflight(headers: Mapping[str, str]) -> bool:
    """Return whether an OPTIONS request asks for leave to send another request."""
    return "origin" in headers and _METHOD in headers


def preflight_fields(headers: Mapping[str, str], methods: Collection[str]) -> tuple[tuple[str, str], ...]:
    """Return the fields of the answer to a preflight, beside :func:`sharing_fields`.

    All requested fields are allowed but those of proxies: validators may read any field, and libraries for tracing add
    their own; an ``EventSource`` sends its ``Last-Event-ID`` without asking. At most
    :data:`~wsrelay.request.MAX_MEMBERS` are read: 64 KiB of commas took 10 ms of CPU time.

    Args:
        headers: the preflight's fields.
        methods: the served methods.
    """
    requested = members(headers.get(_FIELDS, ""))
    allowed = [name for name in requested if TOKEN.fullmatch(name) and not _PROXY_FIELD.fullmatch(name.lower())]
    return (
        ("Access-Control-Allow-Methods", ", ".join(methods)),
        *([("Access-Control-Allow-Headers", ", ".join(allowed))] if allowed else ()),
        ("Access-Control-Max-Age", str(_MAX_AGE_SECONDS)),
        ("Vary", "Access-Control-Request-Method, Access-Control-Request-Headers"),
    )
