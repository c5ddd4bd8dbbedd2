"""Opening: the phase from accept to the 101, or to a granted HTTP exchange.

It admits a connection, waits for its request, and asks the validators. It replaces Autobahn's handshake: that parser
accepts malformed requests (TRAPS 9-11), and its 101 costs 11 µs, mostly for log lines. Must not live here: parsing of
requests (:mod:`wsrelay.http.head`), access (:mod:`wsrelay.validators`), limits on connections
(:mod:`wsrelay.limits.admission`).
"""

import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final

from msgspec.structs import replace
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.tcp import Connection as TcpTransport
from twisted.python.failure import Failure

from wsrelay import closecodes
from wsrelay.connection.host import Host
from wsrelay.connection.phase import Phase
from wsrelay.connection.plain_http import PlainHTTP
from wsrelay.connection.stage import OPENING_STAGES, Stage
from wsrelay.connection.websocket import OpenWebSocket
from wsrelay.errors import Denied
from wsrelay.grant import Grant
from wsrelay.http.exchange import Exchange
from wsrelay.http.head import DeniedPath, check_upgrade, parse_head, split_head
from wsrelay.http.responses import HEAD, acceptance, explained_refusal, refusal
from wsrelay.http.wants import wanted
from wsrelay.net.proxies import UNIX, ip_address
from wsrelay.net.sockets import source, speaks_proxy, unmapped
from wsrelay.request import HandshakeRequest
from wsrelay.validators import probe
from wsrelay.validators.subprotocol import shown_offers
from wsrelay.wanted import ALL_NEW, Wanted
from wsrelay.wire import frames

__all__ = ["KEPT_TIMES", "Opening"]

#: Time for an over-limit client to send its request, so that it can be refused by a response, in seconds.
_TURN_AWAY_SECONDS: Final = 1.0

#: The memory of a parsed head, and of what validators make of it, in times of its bytes: measured with a validator that
#: asks a back end in JSON, and bytes above 0x7f.
KEPT_TIMES: Final = 5


class Opening(Phase):
    """A connection that is not open yet.

    Args:
        host: the connection.
    """

    __slots__ = ("_client", "_exchange", "_granting", "_host", "_kept_bytes", "_request", "_turned_away")

    def __init__(self, host: Host) -> None:
        self._host = host
        #: The client's address where TCP names it; ``None`` behind a proxy.
        self._client: object = None
        #: The refusal of an over-limit client.
        self._turned_away: Denied | None = None
        #: The request, once its head is parsed.
        self._request: HandshakeRequest | None = None
        #: The validators' pending answer.
        self._granting: Deferred[Grant] | None = None
        #: The request and its body, for plain HTTP.
        self._exchange: Exchange | None = None
        #: The cost of the parsed head, while validators or a body are awaited.
        self._kept_bytes = 0

    @property
    def request(self) -> HandshakeRequest | None:
        """The request, once its head is parsed."""
        return self._request

    @property
    def incoming_bytes(self) -> int:
        """Bytes buffered of the request and its body."""
        body_bytes = 0 if self._exchange is None else self._exchange.incoming_bytes
        return len(self._host.data) + self._kept_bytes + body_bytes

    # --- admission ----------------------------------------------------------------------------------

    def arrive(self) -> None:
        """Count the connection, before its first byte is read; not the readiness probe's."""
        host = self._host
        admission = host.factory.admission
        if admission.expected and admission.expects(source(host.transport)):
            return
        client = unmapped(host.transport.getPeer())
        peer = ip_address(client)
        try:
            if speaks_proxy(host.transport) or peer in host.factory.trusted_proxies:
                host.visit = admission.arrive(host.seconds(), proxy=peer)
            else:
                self._client = client
                host.visit = admission.arrive(host.seconds(), None if peer == UNIX else peer)
        except Denied as denied:
            self._turn_away(denied)

    def _identify(self) -> None:
        """Count the connection for its client's address, once that is known. A proxy's address is not a client's."""
        host = self._host
        if host.visit.address is None:
            address = ip_address(host.transport.getPeer())
            if address != UNIX and address not in host.factory.trusted_proxies:
                host.visit.identify(address, host.seconds())

    def _identify_early(self) -> None:
        """Count it before its request: a client that sends none must not count for the proxy."""
        try:
            self._identify()
        except Denied as denied:
            self._host.visit.end()
            self._turn_away(denied)

    def _turn_away(self, denied: Denied) -> None:
        """Wait for the request of an over-limit client, to refuse it; drop it if no slot for a refusal is free.

        Peer sees:
            The response; the end of TCP without a slot.
        """
        host = self._host
        if host.factory.turn_away(host):
            self._turned_away = denied
            host.expect_within(_TURN_AWAY_SECONDS)
            return
        host.factory.stats.connections_dropped += 1
        host.abort()
        if isinstance(host.transport, TcpTransport):
            # Free its descriptor now, not at the end of the turn: a whole backlog comes in one turn (TRAPS 75).
            host.transport.connectionLost(Failure(ConnectionAborted()))

    # --- the request --------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take more of the request; once it is complete, ask the validators.

        The transport is not paused meanwhile: a paused socket does not report that its client has gone.
        A client that sends frames before the 101 is refused instead (TRAPS 11).

        Args:
            data: empty if only a PROXY header has come.
        """
        try:
            if not data:
                self._identify_early()
                return
            if self._exchange is not None:
                self._exchange.receive(data)
                self._host.factory.memory.grow(self._host, len(data))
                return
            self._host.data += data
            self._take_request(len(data))
            if self._granting is not None or self._exchange is not None:
                self._host.factory.memory.grow(self._host, self._host.incoming_bytes)
        except Denied as denied:
            self._host.deny(denied)

    def _take_request(self, new_bytes: int) -> None:
        """Ask the validators, once the head is complete.

        Args:
            new_bytes: the number of bytes that have just come.

        Raises:
            Denied: it is malformed, the client is over a limit, or it is not granted.
        """
        if self._client is None and self._turned_away is None:
            try:
                self._identify()
            except Denied:
                self._look_ahead()
                raise
        if self._granting is not None:
            raise _data_behind()
        host = self._host
        parts = split_head(host.data, host.factory.settings.max_request_bytes, new_bytes)
        if parts is None:
            return
        if self._turned_away is not None:
            self._look_ahead()
            raise self._turned_away
        head, rest = parts
        transport = host.transport
        certificate = transport.getPeerCertificate() if ISSLTransport.providedBy(transport) else None
        client = unmapped(transport.getPeer()) if self._client is None else self._client
        self._request = request = parse_head(head, client, certificate, host.factory.web.methods)
        self._kept_bytes = KEPT_TIMES * len(head)
        if self._client is None:
            self._request = request = self._behind_proxies(request)
        self._ask(request, rest)

    def _look_ahead(self) -> None:
        """Parse the head of an over-limit client, if it is complete and well-formed, for the form of its refusal."""
        host = self._host
        with suppress(Denied):
            parts = split_head(host.data, host.factory.settings.max_request_bytes)
            if parts is not None:
                self._request = parse_head(parts[0], None, methods=host.factory.web.methods)

    def _behind_proxies(self, request: HandshakeRequest) -> HandshakeRequest:
        """Return the request with the client's address as named by trusted proxies."""
        host, proxies = self._host, self._host.factory.trusted_proxies
        address = ip_address(request.peer)
        if address not in proxies:
            return request
        client = proxies.client(address, request.headers.get("x-forwarded-for", ""))
        host.visit.identify(client, host.seconds())
        if client == address:
            return request
        host.forwarded_for = client
        address_type = IPv6Address if ":" in client else IPv4Address
        return replace(request, peer=address_type("TCP", client, 0))

    # --- the validators -----------------------------------------------------------------------------

    def _ask(self, request: HandshakeRequest, rest: bytes) -> None:
        """Ask the validators.

        Raises:
            Denied: it is neither a handshake nor a served HTTP request, or it is not granted.
        """
        host = self._host
        if request.wants_websocket:
            if rest:
                raise _data_behind()
            check_upgrade(request.headers)
            host.data = b""
            granted = probe.grant(request) or host.factory.chain.grant(request)
        else:
            exchange = self._exchange = host.factory.web.exchange(host, request)
            host.data = b""
            exchange.receive(rest)
            granted = Grant(room=request.room) if exchange.is_public else host.factory.chain.grant(request)
        if isinstance(granted, Grant):
            self._admit(granted)
        else:
            self._wait_for(granted, partial(self._go_on, self._admit))

    def _wait_for(self, granting: "Deferred[Grant]", then: Callable[[Grant], None]) -> None:
        host = self._host
        if host.stage is not Stage.GRANT:  # else the validators were awaited, and now the backplane is
            host.become(Stage.GRANT)
        host.expect_within(host.factory.settings.validate_seconds)
        self._granting = granting
        granting.addCallbacks(then, self._refused)
        granting.addErrback(host.fail)

    def is_answered_half_closed(self) -> bool:
        """Return whether a whole POST waits for the validators; any other peer has left, and they are cancelled."""
        return self._granting is not None and self._exchange is not None and self._exchange.is_whole()

    def on_deadline(self) -> None:
        """Refuse: the request, or the validators' answer, is late."""
        if self._granting is not None:
            reason = "the handshake could not be validated in time"
            self._host.deny(Denied(504, reason, [("Retry-After", "10")], cause="validate_seconds"))
        else:
            late = Denied(408, "the request did not come in time", cause="handshake_seconds")
            self._host.deny(self._turned_away or late)

    def write_refusal(self, denied: Denied) -> None:
        """Write the response to the refused request, as far as that is known, and end.

        Peer sees:
            With ``explain_refusals``, a WebSocket handshake: 101 and a close frame, while there are slots for that.
        """
        host, request = self._host, denied.request if isinstance(denied, DeniedPath) else self._request
        if self._exchange is not None:
            host.respond(self._exchange.refusal(denied))
        elif request is None:
            host.respond(refusal(denied, is_head=host.data.startswith(HEAD)))
        elif host.factory.settings.explain_refusals and (explained := self._explained(denied, request)):
            host.visit.end()  # it waits for the peer in a slot for refusals
            host.respond(explained, is_close=True)
        else:
            host.respond(host.factory.web.refusal(denied, request))

    def _explained(self, denied: Denied, request: HandshakeRequest) -> bytes | None:
        """Return the refusal as a page can read it; ``None`` if there is no such form, or no slot to wait in is free.

        A page of an origin that is not allowed is told that alone: the user's cookies come with its handshake.
        """
        host, factory = self._host, self._host.factory
        if factory.turns.waiting_bytes(host):  # behind the handshake, in the queue of its place
            return None
        try:
            factory.chain.check_origin(request)
        except Denied as of_origin:
            denied = of_origin
        explained = explained_refusal(denied, request)
        return explained if explained and factory.turn_away(host) else None

    def discard(self) -> None:
        """Free the head and the body, and cancel the validators, which keep the request."""
        self._host.data, self._kept_bytes, self._request = b"", 0, None
        if self._exchange is not None:
            self._exchange.discard()
        if self._granting is not None:
            self._granting.cancel()

    def lost(self, reason: Failure) -> None:
        """TCP has ended: cancel the validators."""
        if self._granting is not None:
            self._granting.cancel()
        if self._exchange is not None:
            self._exchange.lost(reason)

    def _refused(self, failure: Failure) -> None:
        failure.trap(Denied)
        self._host.deny(failure.value)  # type: ignore[arg-type]  # trap has made sure

    # --- granted ------------------------------------------------------------------------------------

    def _go_on(self, step: Callable[[Grant], None], grant: Grant) -> None:
        """Take the next step, unless the connection has ended meanwhile."""
        if self._host.stage in OPENING_STAGES:
            try:
                step(grant)
            except Denied as denied:
                self._host.deny(denied)

    def _admit(self, grant: Grant) -> None:
        """Open or serve it, once the room's messages come to this process.

        Raises:
            Denied: the grant has expired, the room or the relay is full, the backplane has no broker, or what is
                wanted of the room's history is malformed or forbidden.
        """
        factory, request, wants, entering = self._host.factory, self._request, ALL_NEW, None
        assert request is not None
        if grant.expires_at is not None and grant.expires_at <= factory.wall_clock():
            raise Denied(401, closecodes.EXPIRED.text, cause="expired")
        if self._exchange is None or not self._exchange.is_public:
            histories = factory.hub.histories
            if histories.exist and request.method != "POST" and histories.keeps(grant.room):
                wants = wanted(request, grant)
            entering = factory.backplane.enter(grant.room, wants.id)
        if entering is None:
            self._begin(wants, grant)
        else:
            then = partial(self._go_on, partial(self._begin, wants))
            self._wait_for(Deferred.fromCoroutine(_entered(entering, grant)), then)

    def _begin(self, wants: Wanted, grant: Grant) -> None:
        if self._exchange is None:
            self._upgrade(wants, grant)
        else:
            self._serve(self._exchange, grant, wants)

    def _serve(self, exchange: Exchange, grant: Grant, wants: Wanted) -> None:
        """Serve plain HTTP. The body must be complete within ``message_seconds``."""
        host = self._host
        host.become(Stage.EXCHANGE)
        host.phase = serving = PlainHTTP(host, exchange, self._kept_bytes)
        host.expect_within(host.factory.settings.message_seconds or math.inf)
        serving.begin(grant, wants)

    def _upgrade(self, wants: Wanted, grant: Grant) -> None:
        """Join the room and send the 101.

        Raises:
            Denied: the room or the relay is full.

        Peer sees:
            4410 at once, if the history behind its ``since`` is gone: a page can see a close code, not a status.
        """
        host, factory, request = self._host, self._host.factory, self._request
        assert request is not None
        offers = request.headers.get("sec-websocket-extensions")
        agreed = host.agree_deflate(offers) if offers else None
        extension, encoding = (None, frames.plain) if agreed is None else (agreed[0], factory.deflate(agreed[1]))
        member = OpenWebSocket(host, grant, encoding, deflated=agreed is not None)
        start = host.join(member, wants)
        response = acceptance(request.headers["sec-websocket-key"], grant.subprotocol, extension, member.handle)
        is_unchosen = grant.subprotocol is None and (request.subprotocols or request.bearers)
        host.open(Stage.OPEN, response, shown_offers(request) if is_unchosen else None)
        if start.is_gone and wants.last is None:
            host.close(closecodes.HISTORY_GONE)


async def _entered(entering: Awaitable[None], grant: Grant) -> Grant:
    try:
        await entering
    except CancelledError:  # the client has gone, or the deadline has passed
        raise Denied(503, "the handshake was cancelled", cause="gone") from None
    return grant


def _data_behind() -> Denied:
    return Denied(400, "there is data behind the request; wait for the 101", cause="malformed")
