"""Who may ask the admin endpoint: it has no password, so that no web page may have a browser ask it.

Pure. Where it listens beyond loopback, that is the operator's decision, and reaching it is the network's business.
"""

import ipaddress
from typing import Any, Final

from wsrelay.errors import Denied
from wsrelay.request import HandshakeRequest, split_host

__all__ = ["Guard", "is_local"]

#: Methods that change nothing (RFC 9110 section 9.2.1).
_SAFE_METHODS: Final = frozenset(["GET", "HEAD"])


def is_local(address: Any) -> bool:
    """Return whether nobody on another machine can reach an address of Twisted's: loopback, or a unix socket."""
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
        """Refuse what a strange page has made a browser ask.

        Raises:
            Denied: 421 for another name than this machine's own, as long as only that can reach it: a name that
                anybody's DNS has let point here (rebinding). 403 for a request that changes something and comes from
                another site.
        """
        if self.is_local and not _names_loopback(request.host):
            raise Denied(421, "ask for localhost or a loopback address: the admin endpoint has no other name")
        if request.method not in _SAFE_METHODS and _is_foreign(request):
            raise Denied(403, "another site may not ask for this")


def _is_foreign(request: HandshakeRequest) -> bool:
    # Sec-Fetch-Site: same-origin for our own page, none for what somebody has typed; not there outside of browsers.
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
