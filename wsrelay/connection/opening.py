"""Opening: one connection's opening handshake, from the first byte to the 101.

What a request looks like is :mod:`wsrelay.request`'s, who may come in and what the response looks like
:mod:`wsrelay.validators.chain`'s, and what an open connection does
:class:`wsrelay.connection.protocol.RelayProtocol`'s, which builds on this.

The whole of it replaces Autobahn's, whose parser takes what nobody should (TRAPS 9-11), and whose 101 costs 11 µs, most
of them for lines in a log that nobody reads.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Any, Final

from autobahn.websocket.compress import PerMessageDeflate, PerMessageDeflateOffer
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.protocol import connectionDone
from twisted.internet.tcp import Connection as TcpTransport
from twisted.protocols.haproxy._wrapper import HAProxyProtocolWrapper
from twisted.python.failure import Failure

from wsrelay import closecodes
from wsrelay.connection import deflate
from wsrelay.connection.flow import Intake
from wsrelay.errors import Denied
from wsrelay.grant import Grant
from wsrelay.http.head import check_upgrade, parse_head, take_head
from wsrelay.http.responses import acceptance
from wsrelay.net.proxies import UNIX
from wsrelay.request import HandshakeRequest
from wsrelay.validators import probe

__all__ = ["Opening"]

#: How long a client that is one too many may take to send its request, so that it can be told.
_TURN_AWAY_SECONDS: Final = 1.0


class Opening(Intake):
    """A connection that opens once it is admitted, and its request is well-formed and granted."""

    methods: Collection[str] = ("GET",)  #: of HTTP that there are
    _granting: Deferred[Any] | None = None
    _visit: Any = None  #: the :class:`~wsrelay.limits.admission.Visit`, once it is admitted
    _turned_away: Any = None  #: the :class:`~wsrelay.errors.Denied`, if it is one too many

    # --- admission --------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        """A client has connected: count it, before anything of what it sends is looked at."""
        super().connectionMade()
        try:
            host = None if _speaks_proxy(self.transport) else self._host_of(self.transport.getPeer())
            self._visit = self.factory.admission.arrive(self.seconds(), host)
        except Denied as denied:
            self._turn_away(denied)
        except Exception as error:  # noqa: BLE001 - Twisted would log it, and leave the connection as it is
            self.fail(error)

    def _host_of(self, peer: Any) -> str | None:
        """Return the address for which it is counted. Not that of a proxy, behind which there are many."""
        host = _host(peer)
        return None if host == UNIX or host in self.factory.trusted_proxies else host

    def _identify(self) -> None:
        """Count it for its address, now that a PROXY header has told it."""
        host = self._host_of(self.transport.getPeer())
        if host is not None:
            self._visit.identify(host, self.seconds())

    def _turn_away(self, denied: Denied) -> None:
        """Wait for the request, just to say that this client is one too many; if there are many of those, for nothing.

        Peer sees:
            The response; the end of TCP where there is not even room for that.
        """
        if self.factory.turn_away(self):
            self._turned_away = denied
            self.set_deadline(self.seconds() + _TURN_AWAY_SECONDS, Opening._tell_turned_away)
        else:
            self._abort()
            if isinstance(self.transport, TcpTransport):
                # Its descriptor would be free at the end of the turn, too, but a whole backlog comes in one (TRAPS 75).
                self.transport.connectionLost(Failure(ConnectionAborted()))

    def _tell_turned_away(self) -> None:
        self.deny(self._turned_away)

    # --- the request ------------------------------------------------------------------------------

    def processHandshake(self) -> None:
        """Replace Autobahn's parser with the strict one, and ask the validators.

        The transport is not paused meanwhile: a paused socket does not report that its client has gone.
        A client that sends anything before the 101 is refused instead (TRAPS 11).
        """
        try:
            if self._turned_away is None and not self._visit.is_identified:
                self._identify()
            if self._granting is not None:
                raise Denied(400, "there is data behind the request; wait for the 101", cause="malformed")
            head = self.take_head()
            if head is None:
                return
            if self._turned_away is not None:
                raise self._turned_away
            request = self._behind_proxies(self._parse(head))
            granted = self.ask(request)
        except Denied as denied:
            self.deny(denied)
            return
        if isinstance(granted, Grant):
            self.admit(granted, request)
        else:
            self._wait_for(granted, request)

    def _parse(self, head: bytes) -> HandshakeRequest:
        certificate = self.transport.getPeerCertificate() if ISSLTransport.providedBy(self.transport) else None
        return parse_head(head, self.transport.getPeer(), certificate, self.methods)

    def take_head(self) -> bytes | None:
        """Return the request's head, once all of it has come. See :func:`wsrelay.http.head.take_head`."""
        return take_head(self.data)

    def ask(self, request: HandshakeRequest) -> "Grant | Deferred[Grant]":
        """Ask the validators.

        Raises:
            Denied: it is no handshake, or it is not granted.
        """
        check_upgrade(request.headers)
        self.data = b""
        return probe.grant(request) or self.factory.chain.grant(request)

    def _behind_proxies(self, request: HandshakeRequest) -> HandshakeRequest:
        """Return the request as that of the client that trusted proxies name."""
        host = _host(request.peer)
        if host not in self.factory.trusted_proxies:
            return request
        client = self.factory.trusted_proxies.client(host, request.headers.get("x-forwarded-for", ""))
        self._visit.identify(client, self.seconds())
        if client == host:
            return request
        self.forwarded_for = client
        address_type = IPv6Address if ":" in client else IPv4Address
        return replace(request, peer=address_type("TCP", client, 0))

    # --- the validators ---------------------------------------------------------------------------

    def _wait_for(self, granting: "Deferred[Grant]", request: HandshakeRequest) -> None:
        self.set_deadline(self.seconds() + self.factory.settings.validate_seconds, Opening._validation_timeout)
        self._granting = granting
        granting.addCallbacks(self.admit, self._refused, callbackArgs=(request,))
        granting.addErrback(self.fail)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """TCP has ended: nobody waits for the validators any more."""
        if self._visit is not None:  # first, whatever the rest raises
            self._visit.end()
        try:
            super().connectionLost(reason)
        finally:
            self._give_up_validating()

    def _validation_timeout(self) -> None:
        """Refuse; a validator that swallows the cancellation, and answers all the same, is not heard any more."""
        reason = "the handshake could not be validated in time"
        self.deny(Denied(504, reason, [("Retry-After", "10")], cause="validate_seconds"))
        self._give_up_validating()

    def _give_up_validating(self) -> None:
        if self._granting is not None:
            self._granting.cancel()

    def _refused(self, failure: Failure) -> None:
        failure.trap(Denied)
        self.deny(failure.value)  # type: ignore[arg-type]  # trap has made sure

    # --- the 101 ----------------------------------------------------------------------------------

    def admit(self, grant: Grant, request: HandshakeRequest) -> None:
        """Do as granted, unless the client has gone while the validators were asked."""
        if self.state != self.STATE_CONNECTING:
            return
        try:
            if grant.expires_at is not None and grant.expires_at <= self.factory.wall_clock():
                raise Denied(401, closecodes.EXPIRED.text, cause="expired")
            self.begin(grant, request)
        except Denied as denied:
            self.deny(denied)

    def begin(self, grant: Grant, request: HandshakeRequest) -> None:
        """Join the room and send the 101.

        Raises:
            Denied: it cannot be done.
        """
        offers = request.headers.get("sec-websocket-extensions")
        extension = self._agree(offers) if offers else None
        self.enter(grant)
        number = None if self.factory.web is None else self.number
        self.succeedHandshake(acceptance(request.headers["sec-websocket-key"], grant.subprotocol, extension, number))

    def enter(self, grant: Grant) -> None:
        """Do what the grant says, before the 101.

        Raises:
            Denied: it cannot be done.
        """
        raise NotImplementedError

    def _agree(self, offers: str) -> str | None:
        """Agree on permessage-deflate, or on nothing; return what the response says about it."""
        well_formed = deflate.well_formed(self._parseExtensionsHeader(offers))
        parsed = [PerMessageDeflateOffer.parse(parameters) for _, parameters in well_formed]
        accepted = self.perMessageCompressionAccept(parsed) if parsed else None
        if accepted is None:
            return None
        self._perMessageCompress = PerMessageDeflate.create_from_offer_accept(True, accepted)
        extension: str = accepted.get_extension_string()
        return extension

    def succeedHandshake(self, res: Any) -> None:
        """Send the 101: the connection is open.

        Args:
            res: the response (Autobahn's name for what is decided).
        """
        # The only sign there is of a peer that does not read (TRAPS 25).
        self.transport.registerProducer(self, True)
        self.write(res)
        self.state = self.STATE_OPEN
        self._visit.opened()
        self.onOpen()


def _host(address: Any) -> str:
    """Return the IP address of an address of Twisted's, ``UNIX`` for one that has none."""
    host: str = getattr(address, "host", UNIX)
    return host


def _speaks_proxy(transport: Any) -> bool:
    """Whether the client's address is known only when a PROXY header has come; until then it is the proxy's."""
    while transport is not None and not isinstance(transport, HAProxyProtocolWrapper):
        transport = getattr(transport, "transport", None)
    return transport is not None
