"""Opening: one connection's opening handshake, from the first byte to the 101.

What a request looks like is :mod:`wsrelay.request`'s, who may come in and what the response looks like
:mod:`wsrelay.handshake`'s, and what an open connection does :class:`wsrelay.protocol.RelayProtocol`'s, which builds
on this.

The whole of it replaces Autobahn's, whose parser takes what nobody should (TRAPS 9-11), and whose 101 costs 11 µs, most
of them for lines in a log that nobody reads.
"""

from typing import Any

from autobahn.websocket.compress import PerMessageDeflate, PerMessageDeflateOffer
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from wsrelay import closecodes, deflate
from wsrelay.connection import log
from wsrelay.errors import Denied
from wsrelay.grant import Grant
from wsrelay.handshake import acceptance
from wsrelay.keepalive import KeepAlive
from wsrelay.request import HandshakeRequest, parse_request, take_head

__all__ = ["Opening"]


class Opening(KeepAlive):
    """A connection that opens once its request is well-formed and granted."""

    _granting: Deferred[Any] | None = None

    # --- the request ------------------------------------------------------------------------------

    def processHandshake(self) -> None:
        """Replace Autobahn's parser with the strict one, and ask the validators.

        The transport is not paused meanwhile: a paused socket does not report that its client has gone.
        A client that sends anything before the 101 is refused instead (TRAPS 11).
        """
        try:
            if self._granting is not None:
                raise Denied(400, "there is data behind the request; wait for the 101")
            head = take_head(self.data)
            if head is None:
                return
            certificate = self.transport.getPeerCertificate() if ISSLTransport.providedBy(self.transport) else None
            request = parse_request(head, self.transport.getPeer(), certificate)
            self.factory.check_admission()
            self.data = b""
            granted = self.factory.chain.grant(request)
        except Denied as denied:
            self.deny(denied)
            return
        if isinstance(granted, Grant):
            self._open(granted, request)
        else:
            self._wait_for(granted, request)

    # --- the validators ---------------------------------------------------------------------------

    def _wait_for(self, granting: "Deferred[Grant]", request: HandshakeRequest) -> None:
        self.set_deadline(self.seconds() + self.factory.settings.validate_seconds, Opening._validation_timeout)
        self._granting = granting
        granting.addCallbacks(self._open, self._refused, callbackArgs=(request,))
        granting.addErrback(self.fail)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """TCP has ended: nobody waits for the validators any more."""
        super().connectionLost(reason)
        self._give_up_validating()

    def _validation_timeout(self) -> None:
        """Refuse; a validator that swallows the cancellation, and answers all the same, is not heard any more."""
        log.warn("{peer}: the validators took too long (--validate-seconds)", peer=self.peer)
        self.deny(Denied(504, "the handshake could not be validated in time", [("Retry-After", "10")]))
        self._give_up_validating()

    def _give_up_validating(self) -> None:
        if self._granting is not None:
            self._granting.cancel()

    def _refused(self, failure: Failure) -> None:
        failure.trap(Denied)
        self.deny(failure.value)  # type: ignore[arg-type]  # trap has made sure

    # --- the 101 ----------------------------------------------------------------------------------

    def _open(self, grant: Grant, request: HandshakeRequest) -> None:
        """Do as granted and send the 101, unless the client has gone while the validators were asked."""
        if self.state != self.STATE_CONNECTING:
            return
        try:
            if grant.expires_at is not None and grant.expires_at <= self.factory.wall_clock():
                raise Denied(401, closecodes.EXPIRED.text)
            offers = request.headers.get("sec-websocket-extensions")
            extension = self._agree(offers) if offers else None
            self.enter(grant)
        except Denied as denied:
            self.deny(denied)
            return
        self.succeedHandshake(acceptance(request.headers["sec-websocket-key"], grant.subprotocol, extension))

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
        self.onOpen()
