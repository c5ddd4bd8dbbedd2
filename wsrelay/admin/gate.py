"""Access checks of the admin endpoint, per request.

The endpoint has no password, so requests that a page of another site made a browser send are refused here. Must not
live here: connections and their deadlines (:mod:`wsrelay.admin.server`), paths (:mod:`wsrelay.admin.routes`).
"""

import ipaddress
from typing import Final

from twisted.internet.interfaces import IAddress

from wsrelay.errors import Denied
from wsrelay.request import HandshakeRequest, split_host

__all__ = ["Guard", "is_local"]

#: Methods that change nothing (RFC 9110 section 9.2.1).
_SAFE_METHODS: Final = frozenset(["GET", "HEAD"])


def is_local(address: IAddress) -> bool:
    """Return whether only this machine can reach an address: loopback, or a unix socket."""
    host = getattr(address, "host", None)
    return host is None or _is_loopback(host)


class Guard:
    """Checks requests.

    Attributes:
        is_local: whether the endpoint listens on loopback only.
    """

    def __init__(self) -> None:
        self.is_local = True

    def check(self, request: HandshakeRequest) -> None:
        """Refuse a request that a page of another site made a browser send.

        Raises:
            Denied: 421 for a ``Host`` other than localhost or a loopback address, where the endpoint listens on
                loopback only (DNS rebinding). 403 for a request of another site that changes something.
        """
        if self.is_local and not _names_loopback(request.host):
            raise Denied(421, "ask for localhost or a loopback address: the admin endpoint has no other name")
        if request.method not in _SAFE_METHODS and _is_foreign(request):
            raise Denied(403, "another site may not ask for this")


def _is_foreign(request: HandshakeRequest) -> bool:
    # Sec-Fetch-Site: same-origin for our own page, none for a typed address; only browsers send it.
    if request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return True
    return request.origin is not None and request.origin.lower().partition("://")[2] != request.host


def _names_loopback(field: str) -> bool:
    split = split_host(field)
    return split is not None and (split[0] == "localhost" or _is_loopback(split[0].strip("[]")))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
