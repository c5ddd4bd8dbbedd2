"""The gate of the admin endpoint: which requests twisted.web gets to see.

One request without a body per connection, within a time, from a bounded number of connections. Its head passes the same
strict parser as a handshake (:mod:`wsrelay.http.head`) before Twisted's own, more generous one reads it. The endpoint
has no password, so requests that a page of another site made a browser send are refused here.

Must not live here: which path is answered with what (:mod:`wsrelay.admin.routes`, :mod:`wsrelay.admin.views`).
"""

import ipaddress
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import ISSLTransport
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import IResource
from twisted.web.server import Site

from wsrelay.errors import Denied
from wsrelay.http.head import parse_head, split_head
from wsrelay.http.responses import refusal
from wsrelay.request import HandshakeRequest, split_host

__all__ = ["MAX_CONNECTIONS", "GatedChannel", "GatedSite", "Guard", "is_local"]

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


#: The most connections at once; as many more are told that there are too many, and all beyond are ended without a word.
MAX_CONNECTIONS: Final = 64

#: The methods that anything here can be asked with.
METHODS: Final = ("GET", "HEAD", "POST", "DELETE")

#: How long the answer may take, and then the client to read it.
ANSWER_SECONDS: Final = 30.0

#: How long what a refused client still sends is read and thrown away: unread, it would make TCP overtake the answer.
LINGER_SECONDS: Final = 1.0

#: On every answer: it is of this moment, it is what it says it is, and no other site may have it.
SAFE_FIELDS: Final = (
    ("Cache-Control", "no-store"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
)


class GatedChannel(HTTPChannel):
    """One connection: a request, an answer, the end."""

    site: "GatedSite"
    transport: Any
    _networkProducer: Any

    def __init__(self) -> None:
        super().__init__()
        self._received = b""
        self._has_request = False
        self._deadline: Any = None

    def connectionMade(self) -> None:
        """A client has connected. All of its request must come within ``request_seconds``, TLS included."""
        super().connectionMade()
        channels = self.site.channels
        channels.add(self)
        self._set_deadline(self.site.request_seconds, self._late)
        if len(channels) > 2 * MAX_CONNECTIONS:
            self.transport.abortConnection()
        elif len(channels) > MAX_CONNECTIONS:
            self._refuse(Denied(503, "too many connections to the admin endpoint", [("Retry-After", "1")]))

    def dataReceived(self, data: bytes) -> None:
        """Collect the head, and give it to twisted.web once it is whole and right; nothing that comes behind it."""
        if self._has_request:
            return
        self._received += data
        try:
            parts = split_head(self._received)
            if parts is None:
                return
            head, rest = parts
            self._check(parse_head(head, self.transport.getPeer(), None, METHODS), rest)
        except Denied as denied:
            self._refuse(denied)
            return
        self._has_request = True
        self._set_deadline(ANSWER_SECONDS, self._abort)
        super().dataReceived(head + b"\r\n\r\n")

    def checkPersistence(self, request: Any, version: bytes) -> bool:
        """Let every answer be the last. See :meth:`twisted.web.http.HTTPChannel.checkPersistence`."""
        request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
        return False

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """TCP has ended."""
        self.site.channels.discard(self)
        self._deadline.cancel()
        super().connectionLost(reason)

    def _check(self, request: HandshakeRequest, rest: bytes) -> None:
        if request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers:
            raise Denied(413, "a request to the admin endpoint has no body")
        if rest:
            raise Denied(400, "there is data behind the request; send one request per connection")
        self.site.check(request)

    def _late(self) -> None:
        self._refuse(Denied(408, "the request did not come in time"))

    def _refuse(self, denied: Denied) -> None:
        self._has_request = True
        self._networkProducer.unregisterProducer()
        self.transport.write(refusal(Denied(denied.status, denied.reason, [*denied.headers, *SAFE_FIELDS])))
        # Half of the connection stays open until the client has read the answer; with TLS there are no halves.
        is_tls = ISSLTransport.providedBy(self.transport)
        half_close = None if is_tls else getattr(self.transport, "loseWriteConnection", None)
        (half_close or self.transport.loseConnection)()
        self._set_deadline(LINGER_SECONDS, self._abort)

    def _abort(self) -> None:
        self._set_deadline(LINGER_SECONDS, self._abort)
        self.transport.abortConnection()

    def _set_deadline(self, seconds: float, act: Callable[[], None]) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = self.site.reactor.callLater(seconds, act)


class GatedSite(Site):
    """Makes the connections of the admin endpoint, and knows them all.

    Args:
        resource: what is served.
        reactor: for the time.
        request_seconds: from accept to the whole request.
        check: raises :class:`~wsrelay.errors.Denied` for a request that may not be answered.

    Attributes:
        channels: the connections.
    """

    protocol = GatedChannel  # type: ignore[assignment]  # Twisted annotates the proxy that it makes
    displayTracebacks = False
    noisy = False

    def __init__(
        self,
        resource: IResource,
        reactor: Any,
        request_seconds: float,
        check: Callable[[HandshakeRequest], None],
    ) -> None:
        super().__init__(resource, reactor=reactor, timeout=None, parsePOSTFormSubmission=False)
        self.request_seconds = request_seconds
        self.check = check
        self.channels: set[GatedChannel] = set()

    def startFactory(self) -> None:
        """Do nothing: Twisted would write an access log, and keep a clock for it."""

    def stopFactory(self) -> None:
        """Do nothing, too."""

    def log(self, request: object) -> None:
        """Log nothing: who asks every ten seconds would fill the log."""

    def acceptableProtocols(self) -> list[bytes]:
        """Name what is spoken over TLS: not HTTP/2, which has another parser."""
        return [b"http/1.1"]

    def end(self) -> None:
        """End all connections, once they have what was written."""
        for channel in tuple(self.channels):
            channel.loseConnection()
