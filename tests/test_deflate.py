"""Tests of wsrelay.deflate."""

from tests.support import RelayTestCase, request_bytes


class OffersTests(RelayTestCase):
    """Negotiating permessage-deflate."""

    def test_offers(self) -> None:
        """permessage-deflate is agreed to only with --compress; bad offers are declined (RFC 7692 section 7)."""
        offer = "permessage-deflate; client_max_window_bits"
        for compress, extension, agreed in [
            (False, offer, False),
            (True, offer, True),
            (True, "permessage-deflate; server_max_window_bits=10", True),
            (True, "permessage-deflate; server_max_window_bits=8", False),
            (True, "permessage-deflate; server_max_window_bits=99", False),
            (True, "permessage-deflate; nosuch", False),
            (True, "permessage-deflate; server_no_context_takeover=1, permessage-deflate", True),
            (True, "x-webkit-deflate-frame, permessage-bzip2; nosuch=1", False),
            (True, ";;,=,", False),
        ]:
            wire = self.relay(compress=compress).wire()
            wire.send(request_bytes(fields={"Sec-WebSocket-Extensions": extension}))
            self.assertIn(b" 101 ", wire.received)
            self.assertEqual(b"permessage-deflate" in wire.received, agreed, extension)

    def test_smaller_windows_are_kept_to(self) -> None:
        """A client that asked for a small window gets frames that fit it."""
        relay = self.relay(compress=True)
        wire = relay.wire()
        wire.send(request_bytes(fields={"Sec-WebSocket-Extensions": "permessage-deflate; server_max_window_bits=9"}))
        [connection] = relay.factory.connections

        self.assertEqual(connection.encoding, 9)
