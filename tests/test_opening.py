"""Tests of wsrelay.opening. What clients see of it is in tests/test_protocol.py, too."""

import inspect

from autobahn.websocket.compress import PerMessageDeflate, PerMessageDeflateOfferAccept
from twisted.internet.defer import Deferred

from tests.support import Answer, RelayTestCase, request_bytes
from wsrelay.grant import Grant
from wsrelay.opening import Opening


class OpeningTests(RelayTestCase):
    """From the request to the 101."""

    def test_at_once(self) -> None:
        """Where no validator has to be waited for, the 101 is the answer to the last byte of the request."""
        relay = self.relay([Answer(lambda request, grant: grant)])
        wire = relay.wire()
        [connection] = relay.factory.connections
        connection.dataReceived(request_bytes())

        self.assertTrue(wire.transport.stream)
        self.assertEqual(connection.state, connection.STATE_OPEN)

    def test_when_all_have_answered(self) -> None:
        """Where one is waited for, the connection opens when it has answered, and the handshake's data is let go."""
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

    def test_compression(self) -> None:
        """What was agreed on is in the response and on the connection; where nothing is offered, nothing is."""
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

    def test_canaries(self) -> None:
        """Autobahn's codec is made as its own handshake does; an upgrade that changes that fails here."""
        self.assertEqual(
            list(inspect.signature(PerMessageDeflate.create_from_offer_accept).parameters), ["is_server", "accept"]
        )
        self.assertEqual(list(inspect.signature(Opening._parseExtensionsHeader).parameters)[:2], ["self", "header"])
        self.assertTrue(callable(PerMessageDeflateOfferAccept.get_extension_string))

    def test_enter_is_the_subclass(self) -> None:
        """What a grant means is not decided here."""
        self.assertRaises(NotImplementedError, Opening().enter, Grant("room"))
