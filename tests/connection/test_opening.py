"""Tests of wsrelay.connection.opening. More, as clients see it: tests/connection/test_protocol.py."""

import inspect
import socket
from collections.abc import Sequence
from typing import Any

from autobahn.websocket.compress import PerMessageDeflate, PerMessageDeflateOfferAccept
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, fail
from twisted.internet.tcp import Connection as TcpTransport
from twisted.protocols.haproxy._wrapper import HAProxyWrappingFactory

from tests.harness.framing import wire_frame
from tests.harness.http import http_bytes
from tests.harness.support import Answer, RecordingSubscriber, Relay, RelayTestCase, Transport, request_bytes
from wsrelay import closecodes
from wsrelay.backplane.local import LocalBackplane
from wsrelay.connection.protocol import RelayProtocol
from wsrelay.connection.stage import Stage
from wsrelay.errors import Denied
from wsrelay.grant import Grant
from wsrelay.message import Run
from wsrelay.message_id import MessageId
from wsrelay.settings import Settings
from wsrelay.validators.origin import OriginValidator


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


class ExplainedTests(RelayTestCase):
    """Refusals as a close frame, with explain_refusals."""

    def relay(self, validators: Sequence[Any] | None = (), **settings: Any) -> Relay:
        return super().relay(validators, **{"explain_refusals": True, **settings})

    def told(self, answer: bytes) -> tuple[int, str]:
        """Return code and reason of the close frame behind a 101."""
        head, _, close = answer.partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 101 "), answer)
        self.assertEqual((close[0], close[1]), (0x88, len(close) - 2))
        return int.from_bytes(close[2:4]), close[4:].decode()

    def test_client_told(self) -> None:
        """A client sees the status as a close code, and the reason; of each validator, at once or late."""
        for status in (401, 403, 404, 418, 429, 503, 599):
            for answer in (Denied(status, "because"), lambda *_, status=status: fail(Denied(status, "because"))):
                relay = self.relay([Answer(answer)])
                client = relay.client()
                relay.wait(relay.factory.settings.close_seconds + 1)  # the transport in memory has no half-close
                self.assertEqual((client.status, client.closed), (None, (4000 + status, "because")))
                self.assertEqual(relay.stats.handshakes_denied, {(status, "answer"): 1})

    def test_is_a_refusal(self) -> None:
        """It is counted and logged as a refusal; the client is in no room, and was never open."""
        records = []
        for explains in (False, True):
            relay = self.relay([Answer(Denied(403, "no"))], explain_refusals=explains, http=True)
            other = relay.factory.hub
            wire = relay.wire()
            wire.send(request_bytes())
            self.assertEqual(wire.status, 101 if explains else 403)
            self.assertEqual(
                (wire.transport.protocol.stage, len(other), relay.factory.web.handles), (Stage.ENDING, 0, {})
            )
            self.assertEqual((wire.transport.protocol.status().state, wire.transport.protocol.member), ("closed", None))
            stats = relay.stats
            counts = (stats.connections_opened, stats.connections_closed, stats.closes_sent)
            self.assertEqual((counts, stats.handshakes_denied), ((0, {}, {}), {(403, "answer"): 1}))
            wire.hang_up()
            relay.settle()
            records += [each for event in self.events for each in event.get("records", ())]
            self.events.clear()
        self.assertEqual(records[0], records[1])
        self.assertEqual(len(records), 2)

    def test_relay_refuses(self) -> None:
        """The relay's own refusals are told, too."""
        later: Deferred[Any] = Deferred()
        for validators, settings, code in (
            ([], {"max_rooms": 1}, 4503),
            ([Answer(Grant("room", expires_at=1.0))], {}, 4401),
            ([Answer(later)], {}, 4504),
            ([Answer(KeyError())], {}, 4500),
            ([], {"history": ("room=1",)}, 4400),
        ):
            relay = self.relay(validators, **settings)
            relay.factory.hub.join("other", RecordingSubscriber())
            wire = relay.wire()
            answer = wire.send(request_bytes("/room?last=x"))
            if not answer:
                relay.wait(relay.factory.settings.validate_seconds + 1)
                answer = wire.send(b"")
            self.assertEqual(self.told(answer)[0], code)
        self.flushLoggedErrors(KeyError)

    def test_over_limit(self) -> None:
        """An over-limit client is told once its request has come; without a request it gets a response."""
        relay = self.relay(max_connections_per_address=1)
        relay.client()
        wire, silent = relay.wire(), relay.wire()
        self.assertEqual(wire.send(request_bytes()[:-1]), b"")
        self.assertEqual(self.told(wire.send(b"\n")), (4429, "too many connections from your address"))
        relay.wait(1.5)
        silent.send(b"")
        self.assertEqual(silent.status, 429)

    def foreign(self, relay: Relay, **fields: str | None) -> tuple[int, str]:
        """Return what a page of another origin is told."""
        wire = relay.wire()
        answer = wire.send(request_bytes(fields={"Origin": "https://evil.example", **fields}))
        if not answer:
            relay.wait(relay.factory.settings.validate_seconds + 1)
            answer = wire.send(b"")
        return self.told(answer)

    def test_foreign_page(self) -> None:
        """A page of another origin is told that alone; log and counters have what really refused it."""
        denied = Denied(401, "your cookie has expired, Alice", cause="cookie")
        for answer, status, cause in (
            (denied, 401, "cookie"),
            (lambda *_: fail(denied), 401, "cookie"),
            (lambda *_: Deferred(), 504, "validate_seconds"),
            (KeyError("secret"), 500, "failure"),
        ):
            relay = self.relay([Answer(answer), OriginValidator.from_arguments("https://app.example")])
            code, reason = self.foreign(relay)
            self.assertEqual((code, reason[:31]), (4403, "the origin https://evil.example"))
            self.assertEqual(relay.stats.handshakes_denied, {(status, cause): 1})
            relay.settle()
            [record] = [each for event in self.events for each in event.get("records", ())]
            self.assertEqual((record["status"], record["cause"]), (status, cause))
            self.events.clear()
        self.flushLoggedErrors(KeyError)

    def test_foreign_page_over_limit(self) -> None:
        """Nor is it told about limits, or data behind its handshake."""
        relay = self.relay([OriginValidator.from_arguments("same-host")], max_connections_per_address=1)
        early = self.told(relay.wire().send(request_bytes(fields={"Origin": "https://evil.example"}) + b"early"))
        relay.client()
        self.assertEqual([self.foreign(relay)[0], early[0]], [4403, 4403])
        self.assertEqual(
            relay.stats.handshakes_denied, {(400, "malformed"): 1, (429, "max_connections_per_address"): 1}
        )

    def test_whom_origin_tells(self) -> None:
        """A page that may connect, and a program, are told the reason; every page is where no origin is asked for."""
        allowed = {"Origin": "https://app.example"}
        page, program = {"Origin": None, "Sec-Fetch-Site": "cross-site"}, {"Origin": None}
        for origins, fields, code in (
            (["https://app.example"], allowed, 4401),
            (["https://app.example"], program, 4401),
            (["https://app.example"], page, 4403),
            (["*"], page, 4401),
            (["*"], {}, 4401),
            ([], {}, 4401),
        ):
            validators = [Answer(Denied(401, "no")), *map(OriginValidator.from_arguments, origins)]
            self.assertEqual(self.foreign(self.relay(validators), **fields)[0], code, (origins, fields))

    def test_place(self) -> None:
        """A refused client that stays takes a slot for refusals, and gives up its place in the limits."""
        relay = self.relay([Answer(Denied(403, "no"))], max_connections_per_address=3, max_handshakes_per_address=3)
        for _ in range(3):
            self.assertEqual(self.told(relay.wire().send(request_bytes())), (4403, "no"))
        admission = relay.factory.admission
        self.assertEqual((admission.connections, admission.handshakes), (0, 0))
        relay.factory.reload(relay.factory.settings, [])
        self.assertTrue(relay.client().open)
        self.assertEqual((admission.connections, len(relay.factory.connections)), (1, 4))

    def test_no_slot(self) -> None:
        """While the slots for refusals are taken, there is a response, as without the option; no answer is dropped."""
        relay = self.relay([Answer(Denied(403, "no"))], max_connections=16)
        waiting = [relay.wire(), relay.wire()]
        for wire in waiting:
            self.assertEqual(self.told(wire.send(request_bytes()))[0], 4403)
        for _ in range(2):
            wire = relay.wire()
            wire.send(request_bytes())
            self.assertEqual((wire.status, wire.ended), (403, True))
            wire.hang_up()
        self.assertEqual((relay.factory.admission.connections, relay.stats.connections_dropped), (0, 0))
        waiting[0].hang_up()
        self.assertEqual(self.told(relay.wire().send(request_bytes()))[0], 4403)

    def test_over_limit_slot(self) -> None:
        """An over-limit client is told in the slot that it has, also if that is the last one."""
        relay = self.relay(max_connections=1)
        relay.client()
        wire, dropped = relay.wire(), relay.wire()
        self.assertEqual(self.told(wire.send(request_bytes()))[0], 4503)
        self.assertEqual((dropped.transport.aborted, relay.stats.connections_dropped), (True, 1))

    def test_turn(self) -> None:
        """A client whose data waits for a turn of its network gets a response, and leaves nothing in the queue."""
        later: Deferred[Any] = Deferred()
        relay = self.relay([Answer(later)])
        wire, turns = relay.wire(), relay.factory.turns
        wire.send(request_bytes())
        turns.wait(wire.transport.protocol, b"early")
        later.errback(Denied(403, "no"))
        wire.received = wire.transport.getOutBuffer()
        self.assertEqual((wire.status, wire.ended), (403, True))
        wire.hang_up()
        self.assertEqual(turns._queues, {})

    def test_over_limit_malformed(self) -> None:
        """An over-limit client whose request is malformed gets a response."""
        relay = self.relay(max_connections_per_address=1)
        relay.client()
        wire = relay.wire()
        wire.send(request_bytes(fields={"Host": None}))
        self.assertEqual(wire.status, 429)

    def test_shed(self) -> None:
        """A pending handshake is told that it is refused for memory, or for a restart."""
        relay = self.relay([Answer(lambda *_: Deferred())])
        wires = [relay.wire(), relay.wire()]
        for wire in wires:
            wire.send(request_bytes())
        wires[0].transport.protocol.shed(closecodes.OVERLOADED, Denied(429, "too much"))
        relay.factory.close_all(closecodes.RESTARTING, 5)
        self.assertEqual([self.told(wire.send(b""))[0] for wire in wires], [4429, 4503])

    def test_early_data(self) -> None:
        """Data behind the handshake is refused; it is read and discarded."""
        for validators in ([], [Answer(Deferred())]):
            relay = self.relay()
            other = relay.client()
            relay.factory.reload(relay.factory.settings, validators)
            wire = relay.wire()
            answer = wire.send(request_bytes() + (b"" if validators else b"early"))
            self.assertEqual(self.told(answer or wire.send(b"early"))[0], 4400)
            wire.send(wire_frame(0x81, b"hello") * 1000)
            self.assertEqual((other.messages, relay.stats.messages_in, relay.stats.failures), ([], 0, 0))

    def test_end(self) -> None:
        """Our half of TCP ends at the peer's close frame; the rest at the peer's end, or at a refusal's deadline."""
        relay = self.relay([Answer(Denied(403, "no"))], close_seconds=2)
        leaves, stays = relay.wire(), relay.wire()
        halves: list[str] = []
        for wire in (leaves, stays):
            wire.transport.loseWriteConnection = lambda: halves.append("ended")
            self.assertEqual(self.told(wire.send(request_bytes())), (4403, "no"))
            self.assertEqual((wire.transport.aborted, wire.ended, halves), (False, False, []))
        for _ in range(2):
            leaves.send(wire_frame(0x88, b""))
            self.assertEqual((halves, leaves.ended), (["ended"], False))
        leaves.transport.protocol.readConnectionLost()
        self.assertTrue(leaves.transport.disconnecting)
        relay.wait(3)
        self.assertTrue(stays.transport.aborted)

    def test_plain_responses(self) -> None:
        """What is no well-formed handshake gets a response: plain HTTP, another version, a malformed request."""
        relay = self.relay([Answer(Denied(403, "no"))], http=True)
        for data, status in (
            (http_bytes("GET /room"), 403),
            (http_bytes("POST /room", b"x"), 403),
            (request_bytes(line="HEAD /room HTTP/1.1"), 403),
            (request_bytes(fields={"Sec-WebSocket-Version": "8"}), 426),
            (request_bytes(fields={"Connection": None}), 426),
            (request_bytes(fields={"Sec-WebSocket-Key": "x"}), 400),
            (request_bytes("//", fields={"Host": None}), 400),
            (request_bytes(fields={"X-A": "a" * 20_000}), 431),
        ):
            wire = relay.wire()
            wire.send(data)
            self.assertEqual(wire.status, status, data[:100])

    def test_bad_room(self) -> None:
        """A path that names no room is told; a page of an origin that is not allowed is told that alone."""
        relay = self.relay([OriginValidator.from_arguments("https://a.example")])
        for path, words in (("/a*", "the room name has a *"), ("/chat/", 'no "/" at the end'), ("/%", "percent")):
            for origin, code, said in (("https://a.example", 4400, words), ("https://b.example", 4403, "the origin")):
                found = self.told(relay.wire().send(request_bytes(path, fields={"Origin": origin})))
                self.assertEqual((found[0], said in found[1]), (code, True), found)

    def test_over_limit_behind_proxy(self) -> None:
        """A client over a limit is told, also where its address and its whole request come in one read."""
        relay = self.relay(max_connections_per_address=1)
        answers = []
        for _ in range(2):
            protocol = HAProxyWrappingFactory(relay.factory).buildProtocol(IPv4Address("TCP", "10.0.0.1", 7))
            transport = Transport(protocol, isServer=True, peerAddress=IPv4Address("TCP", "10.0.0.1", 7))
            protocol.makeConnection(transport)
            transport.bufferReceived(b"PROXY TCP4 192.0.2.7 10.0.0.1 5 80\r\n" + request_bytes())
            answers.append(transport.getOutBuffer())

        self.assertEqual(self.told(answers[1]), (4429, "too many connections from your address"))

    def test_frees_request(self) -> None:
        """The request is not kept while the answer of the peer is awaited."""
        for explains in (True, False):
            relay = self.relay([Answer(Denied(403, "no"))], explain_refusals=explains, http=True)
            wire = relay.wire()
            [connection] = relay.factory.connections
            opening = connection.phase
            wire.send(request_bytes())
            self.assertEqual((opening.request, opening.incoming_bytes, connection.stage), (None, 0, Stage.ENDING))

    def test_reload(self) -> None:
        """A reload turns it on and off."""
        validators = [Answer(Denied(403, "no"))]
        relay = self.relay(validators, explain_refusals=False)
        for explains, status in ((True, 101), (False, 403)):
            relay.factory.reload(Settings(explain_refusals=explains), validators)
            wire = relay.wire()
            wire.send(request_bytes())
            self.assertEqual(wire.status, status)


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
