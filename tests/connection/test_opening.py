"""Tests of wsrelay.connection.opening. More, as clients see it: tests/connection/test_protocol.py."""

import inspect
import socket
from collections.abc import Sequence
from typing import Any

from autobahn.websocket.compress import PerMessageDeflate, PerMessageDeflateOfferAccept
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.tcp import Connection as TcpTransport
from twisted.protocols.haproxy._wrapper import HAProxyWrappingFactory

from tests.harness.framing import wire_frame
from tests.harness.http import http_bytes
from tests.harness.support import Answer, RecordingSubscriber, Relay, RelayTestCase, Transport, request_bytes
from wsrelay import closecodes
from wsrelay.backplane.local import LocalBackplane
from wsrelay.connection.protocol import RelayProtocol
from wsrelay.connection.stage import Stage
from wsrelay.grant import Grant
from wsrelay.message import Run
from wsrelay.message_id import MessageId


class OpeningTests(RelayTestCase):
    """From the accept to the 101."""

    def test_open_synchronously(self) -> None:
        """With synchronous validators, the last byte of the request is answered by the 101."""
        relay = self.relay([Answer(lambda request, grant: grant)])
        wire = relay.wire()
        [connection] = relay.factory.connections
        connection.dataReceived(request_bytes())

        self.assertTrue(wire.transport.stream)
        self.assertEqual(connection.state, connection.STATE_OPEN)

    def test_over_limit_refused(self) -> None:
        """An over-limit client is refused when its request is complete, or after a second."""
        relay = self.relay(max_connections_per_address=1)
        first = relay.client()
        wire = relay.wire()
        self.assertEqual(wire.send(request_bytes()[:-1]), b"")
        wire.send(b"\n")
        self.assertEqual(wire.status, 429)
        self.assertIn(b"\r\nRetry-After: 10\r\n", wire.received)
        self.assertIn(b"too many connections from your address", wire.received)
        silent = relay.wire()
        relay.wait(2)
        silent.send(b"")

        self.assertEqual((silent.status, silent.ended), (429, True))
        self.assertTrue(first.open)

    def test_over_limit_gone(self) -> None:
        """An over-limit client that has gone gets no answer; a malformed request gets its own."""
        relay = self.relay(max_connections_per_address=1)
        relay.client()
        gone, wrong = relay.wire(), relay.wire()
        gone.hang_up()
        wrong.send(b"GET / HTTP/1.1\r\n" * 2000)
        relay.wait(5)

        self.assertEqual(wrong.status, 431)
        self.assertEqual(relay.stats.handshakes_denied, {(431, "max_request_bytes"): 1})

    def test_over_limit_dropped(self) -> None:
        """A dropped connection frees its descriptor at once, before further accepts in the turn."""
        relay = self.relay(max_connections=1)
        for _ in range(2):
            relay.wire()
        ours, theirs = socket.socketpair()
        self.addCleanup(theirs.close)
        connection: Any = relay.factory.buildProtocol(None)
        transport = TcpTransport(ours, connection, relay.clock)
        transport.connected = 1
        transport.getPeer = lambda: IPv4Address("TCP", "192.0.2.1", 1)  # type: ignore[method-assign]  # socketpair: no address
        transport.setTcpNoDelay = lambda enabled: None  # type: ignore[method-assign]  # socketpair: no TCP
        connection.makeConnection(transport)

        self.assertEqual(ours.fileno(), -1)
        relay.settle()
        self.assertEqual((len(relay.factory.connections), relay.stats.connections_dropped), (2, 1))

    def test_bug_in_admission(self) -> None:
        """An exception during admission ends the connection with 500; the connection is registered."""
        relay = self.relay()
        self.patch(relay.factory.admission, "arrive", lambda now, host: 1 / 0)
        wire = relay.wire()
        self.assertEqual(wire.send(b"")[:12], b"HTTP/1.1 500")
        wire.hang_up()

        self.assertEqual(relay.factory.connections, set())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_trusted_proxy(self) -> None:
        """Validators, log and limits get the client's address from a trusted proxy."""
        asked = Answer(lambda request, grant: grant)
        relay = self.relay([asked], trusted_proxies=("10.0.0.0/8",), max_connections_per_address=1)
        proxy = IPv4Address("TCP", "10.0.0.1", 7)
        for forwarded_for, peer in [
            ("1.1.1.1, 192.0.2.7", IPv4Address("TCP", "192.0.2.7", 0)),
            ("2001:db8::1", IPv6Address("TCP", "2001:db8::1", 0)),
            (None, proxy),
        ]:
            wire = relay.wire(proxy)
            wire.send(request_bytes(fields={"X-Forwarded-For": forwarded_for}))
            self.assertEqual(wire.status, 101)
            self.assertEqual(asked.requests[-1].peer, peer)
        self.assertIn("192.0.2.7 through tcp4:10.0.0.1:7 joined 'room' as None (connection 1)", self.logged())

        wire = relay.wire(proxy)
        wire.send(request_bytes(fields={"X-Forwarded-For": "2001:db8::2"}))
        self.assertEqual(wire.status, 429)

    def test_silent_trusted_peer(self) -> None:
        """Silent connections from a trusted network take half of max_handshakes of one peer, and no more."""
        relay = self.relay(trusted_proxies=("10.0.0.0/8",), max_handshakes=4)
        for _ in range(6):
            relay.wire(IPv4Address("TCP", "10.6.6.6", 7))
        statuses = []
        for peer, fields in (("10.0.0.1", {"X-Forwarded-For": "192.0.2.7"}), ("192.0.2.8", {})):
            wire = relay.wire(IPv4Address("TCP", peer, 7))
            wire.send(request_bytes(fields=fields))
            statuses.append(wire.status)
        self.assertEqual(statuses, [101, 101])
        refused = relay.wire(IPv4Address("TCP", "10.6.6.6", 7))
        refused.send(request_bytes())
        self.assertEqual(refused.status, 503)
        self.assertIn(b"too many connections of one proxy without a request", refused.received)

    def test_busy_trusted_peer(self) -> None:
        """A proxy has as many clients as the limits on all allow: those with a request do not count for it."""
        relay = self.relay([Answer(Deferred())], trusted_proxies=("10.0.0.1", "unix"), max_handshakes=6)
        for proxy in (IPv4Address("TCP", "10.0.0.1", 7), UNIXAddress(None)):
            for number in range(3):
                wire = relay.wire(proxy)
                wire.send(request_bytes(fields={"X-Forwarded-For": f"192.0.2.{number}"}))
        self.assertEqual(relay.factory.admission.handshakes, 6)

    def test_untrusted_proxy(self) -> None:
        """X-Forwarded-For of an untrusted peer is ignored."""
        asked = Answer(lambda request, grant: grant)
        relay = self.relay([asked], trusted_proxies=("10.0.0.0/8",), max_connections_per_address=1)
        relay.wire().send(request_bytes(fields={"X-Forwarded-For": "10.1.1.1"}))
        wire = relay.wire()
        wire.send(request_bytes(fields={"X-Forwarded-For": "10.1.1.2"}))

        self.assertEqual((asked.requests[0].peer.host, wire.status), ("192.0.2.1", 429))

    def test_unix_socket(self) -> None:
        """A unix socket's peer has no address; it may be a trusted proxy."""
        asked = Answer(lambda request, grant: grant)
        for trusted, client in (((), UNIXAddress(None)), (("unix",), IPv4Address("TCP", "192.0.2.7", 0))):
            relay = self.relay([asked], trusted_proxies=trusted, max_connections_per_address=2)
            wires = [relay.wire(UNIXAddress(None)) for _ in range(2)]
            for wire in wires:
                wire.send(request_bytes(fields={"X-Forwarded-For": "192.0.2.7"}))
                self.assertEqual((wire.status, asked.requests[-1].peer), (101, client))

    def test_dual_stack_peer(self) -> None:
        """An IPv4 client at a dual-stack socket has its IPv4 address in the request, the log and the limits."""
        asked = Answer(lambda request, grant: grant)
        relay = self.relay([asked], max_connections_per_address=1)
        mapped = relay.wire(IPv6Address("TCP", "::ffff:192.0.2.7", 5))
        mapped.send(request_bytes())
        relay.settle()
        second = relay.wire(IPv4Address("TCP", "192.0.2.7", 6))
        second.send(request_bytes())
        self.assertEqual((mapped.status, second.status), (101, 429))
        self.assertEqual(asked.requests[0].peer, IPv4Address("TCP", "192.0.2.7", 5))
        self.assertTrue(self.logged()[0].startswith("tcp4:192.0.2.7:5 joined "))
        translated = relay.wire(IPv6Address("TCP", "::ffff:0:102:304", 5))
        translated.send(request_bytes())
        relay.settle()
        self.assertIn("tcp6:::ffff:0:102:304:5 joined ", self.logged()[-1])

    def test_expected_source(self) -> None:
        """A connection from an expected source is under no limit, once; a PROXY header cannot name that source."""
        relay = self.relay(max_connections=64, max_handshakes=1, max_connects_per_second=1, burst_seconds=1)
        ours, other = IPv4Address("TCP", "127.0.0.1", 5), IPv4Address("TCP", "127.0.0.1", 6)
        relay.wire()
        relay.factory.admission.expected += [ours, ours]
        statuses = []
        for address in (ours, other, ours, ours):
            wire = relay.wire(address)
            wire.send(request_bytes())
            statuses.append(wire.status)
        self.assertEqual((statuses, relay.factory.admission.connections), ([101, 503, 101, 503], 1))
        relay.factory.admission.expected.append(ours)
        protocol = HAProxyWrappingFactory(relay.factory).buildProtocol(other)
        transport = Transport(protocol, isServer=True, peerAddress=other)
        protocol.makeConnection(transport)
        transport.bufferReceived(b"PROXY TCP4 127.0.0.1 127.0.0.1 5 80\r\n" + request_bytes())
        self.assertIn(b" 503 ", transport.getOutBuffer())
        self.assertEqual(relay.factory.admission.expected, [ours])

    def test_proxy_protocol(self) -> None:
        """On a haproxy: endpoint the address is the PROXY header's; the client is counted once it is read."""
        relay = self.relay(max_handshakes_per_address=1)
        wrapped = HAProxyWrappingFactory(relay.factory)
        connections = []
        for client in ("192.0.2.7", "192.0.2.8", "192.0.2.7"):
            protocol = wrapped.buildProtocol(IPv4Address("TCP", "10.0.0.1", 7))
            transport = Transport(protocol, isServer=True, peerAddress=IPv4Address("TCP", "10.0.0.1", 7))
            protocol.makeConnection(transport)
            transport.bufferReceived(b"PROXY TCP4 %s 10.0.0.1 5 80\r\nGET" % client.encode())
            connections.append(transport)

        self.assertEqual([transport.disconnecting for transport in connections], [False, False, True])
        self.assertIn(b" 429 ", connections[2].getOutBuffer())

    def test_open_asynchronously(self) -> None:
        """The connection opens with the last validator's answer, and frees the handshake's data."""
        answer: Deferred[Grant] = Deferred()
        relay = self.relay([Answer(answer), Answer(lambda request, grant: grant.narrowed(identity="me"))])
        wire = relay.wire()
        [connection] = relay.factory.connections
        self.assertEqual(wire.send(request_bytes()), b"")
        self.assertEqual(connection.data, b"")
        answer.callback(Grant("late"))
        wire.send(b"")

        self.assertIn(b" 101 ", wire.received)
        self.assertEqual(connection.grant, Grant("late", "me"))

    def test_deflate_agreed(self) -> None:
        """Response and connection have the agreed compression; without an offer, none."""
        relay = self.relay()
        for offered, agreed in [
            (None, None),
            ("permessage-deflate; server_max_window_bits=10", b"permessage-deflate; server_max_window_bits=10"),
            ("permessage-deflate; nosuch, permessage-deflate", b"permessage-deflate"),
        ]:
            wire = relay.wire()
            wire.send(request_bytes(fields={"Sec-WebSocket-Extensions": offered}))
            field = b"\r\nSec-WebSocket-Extensions: " + (agreed or b"")
            self.assertEqual(field in wire.received, agreed is not None, wire.received)

    def test_canary_deflate(self) -> None:
        """Autobahn's codec is made as in its own handshake; an upgrade that changes that fails here."""
        self.assertEqual(
            list(inspect.signature(PerMessageDeflate.create_from_offer_accept).parameters), ["is_server", "accept"]
        )
        self.assertEqual(
            list(inspect.signature(RelayProtocol._parseExtensionsHeader).parameters)[:2], ["self", "header"]
        )
        self.assertTrue(callable(PerMessageDeflateOfferAccept.get_extension_string))

    def test_room_full_while_validating(self) -> None:
        """A room that fills up during validation is a 503."""
        later: Deferred[Grant] = Deferred()
        relay = self.relay([Answer(later)], max_rooms=1)
        wire = relay.wire()
        wire.send(request_bytes("/late"))
        relay.factory.hub.join("other", RecordingSubscriber())
        later.callback(Grant("late"))
        wire.send(b"")

        self.assertEqual(wire.status, 503)


class HistoryTests(RelayTestCase):
    """WebSockets that want the history of their room."""

    def kept(self, validators: Sequence[Any] = (), **settings: Any) -> tuple[Relay, list[str]]:
        """Return a relay with a room that has forgotten messages before its last three, and the ids around these."""
        relay = self.relay(validators, **{"history": ("room=2",), **settings})
        hub, ids = relay.factory.hub, [str(relay.factory.hub.histories.at("room"))]
        for text in ("forgotten", "forgotten, too"):
            hub.publish("room", Run.text(text))
        for text in ("1", "2", "3"):
            hub.publish("room", Run.text(text))
            ids.append(str(hub.histories.at("room")))
        return relay, ids

    def test_since(self) -> None:
        """A client that returns gets exactly what it missed, then what comes."""
        relay, ids = self.kept()
        clients = [relay.client(f"/room?since={since}") for since in ids[1:]]
        relay.client().say("live")
        relay.settle()

        self.assertEqual([client.messages for client in clients], [["2", "3", "live"], ["3", "live"], ["live"]])

    def test_last(self) -> None:
        """A newcomer gets the newest messages that it asks for."""
        relay, _ = self.kept()
        clients = [relay.client(f"/room{query}") for query in ("", "?last=0", "?last=1", "?last=9")]

        self.assertEqual([client.messages for client in clients], [[], [], ["3"], ["2", "3"]])

    def test_since_gone(self) -> None:
        """Where the history is gone, 4410 follows the 101 at once, and no message."""
        relay, ids = self.kept()
        for since in (ids[0], "00000001-1", "other"):
            wire = relay.wire()
            protocol = wire.transport.protocol
            protocol.dataReceived(request_bytes(f"/room?since={since}"))
            self.assertEqual((protocol.stage, len(relay.factory.hub)), (Stage.CLOSING, 0))
            head, _, close = wire.send(b"").partition(b"\r\n\r\n")
            self.assertIn(b"HTTP/1.1 101 ", head)
            self.assertEqual(close[2:], (4410).to_bytes(2, "big") + closecodes.HISTORY_GONE.text.encode())
        client = relay.client("/room?since=other")
        self.assertEqual((client.closed, client.messages), ((4410, closecodes.HISTORY_GONE.text), []))
        self.assertEqual(relay.stats.closes_sent, {4410: 4})

    def test_since_gone_publishes_nothing(self) -> None:
        """What such a client sends is not relayed."""
        relay, _ = self.kept()
        other, wire = relay.client(), relay.wire()
        wire.send(request_bytes("/room?since=x"))
        wire.send(wire_frame(0x81, b"hello"))

        self.assertEqual((other.messages, relay.stats.messages_in), ([], 0))

    def test_since_gone_last(self) -> None:
        """With last, a client whose history is gone gets the newest messages instead."""
        relay, _ = self.kept()
        client = relay.client("/room?since=x&last=1")

        self.assertEqual((client.open, client.messages), (True, ["3"]))

    def test_wanted_refused(self) -> None:
        """A wrong parameter is a 400, and one without the right to it a 403, also after a late validator."""
        for rights, query, status in (
            ({}, "last=x", 400),
            ({}, "since=%ff", 400),
            ({"history": "none"}, "last=1", 403),
        ):
            pending: Deferred[Any] = Deferred()
            for answer in (Grant("room", **rights), pending):
                relay, _ = self.kept([Answer(answer)])
                wire = relay.wire()
                wire.send(request_bytes(f"/room?{query}"))
                if answer is pending:
                    pending.callback(Grant("room", **rights))
                wire.received = wire.received or wire.send(b"")
                self.assertEqual((wire.status, len(relay.factory.connections)), (status, 1))

    def test_wanted_room(self) -> None:
        """The room of the grant counts, not the one of the request; where it has no history, nothing is heeded."""
        for room, query, messages in (("room", "last=1", ["3"]), ("other", "last=x&since=%ff", [])):
            relay, _ = self.kept([Answer(Grant(room))])
            client = relay.client(f"/asked?{query}")
            self.assertEqual((client.open, client.messages), (True, messages))

    def test_wanted_entering(self) -> None:
        """The backplane is told the id, so that it can wait for it; the client then gets what it wants."""
        relay, ids = self.kept(http=True)
        entering: Deferred[None] = Deferred()
        told: list[MessageId | None] = []
        self.patch(LocalBackplane, "enter", lambda _, __, since=None: told.append(since) or entering)
        client = relay.client(f"/room?since={ids[2]}")
        post, stream, plain = relay.wire(), relay.wire(), relay.wire()
        post.send(http_bytes(f"POST /room?since={ids[1]}", b"x"))
        stream.send(http_bytes("GET /room", None, {"Accept": "text/event-stream", "Last-Event-ID": ids[1]}))
        plain.send(http_bytes(f"GET /room?since={ids[1]}", None, {"Accept": "application/json"}))
        two = MessageId.parse(ids[1])
        self.assertEqual((told, client.open), ([two.plus(1), None, two, two], False))
        entering.callback(None)
        relay.settle()

        self.assertEqual((client.open, client.messages[:1]), (True, ["3"]))
