"""Tests of wsrelay.connection.deflate."""

from tests.harness.support import RelayTestCase, request_bytes
from wsrelay.connection import deflate


class OffersTests(RelayTestCase):
    """Negotiating permessage-deflate."""

    def test_deflate_offers(self) -> None:
        """permessage-deflate is agreed to unless --no-compress; invalid offers are declined (RFC 7692 section 7)."""
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
            wire = self.relay(no_compress=not compress).wire()
            wire.send(request_bytes(fields={"Sec-WebSocket-Extensions": extension}))
            self.assertIn(b" 101 ", wire.received)
            self.assertEqual(b"permessage-deflate" in wire.received, agreed, extension)

    def test_deflate_long_offers(self) -> None:
        """Offers above the limit of characters are declined, and the handshake goes on."""
        for spaces, agreed in ((0, True), (1, False)):
            offer = "permessage-deflate" + "," * (deflate.MAX_OFFERS_CHARS - len("permessage-deflate") + spaces)
            wire = self.relay().wire()
            wire.send(request_bytes(fields={"Sec-WebSocket-Extensions": offer}))
            self.assertEqual((wire.status, b"permessage-deflate" in wire.received), (101, agreed))

    def test_deflate_no_context_takeover(self) -> None:
        """Both directions are without context takeover, stated once each, for any offer."""
        for offer in ("", "; client_no_context_takeover", "; server_no_context_takeover; client_max_window_bits"):
            wire = self.relay().wire()
            wire.send(request_bytes(fields={"Sec-WebSocket-Extensions": f"permessage-deflate{offer}"}))
            for direction in (b"server", b"client"):
                self.assertEqual(wire.received.count(direction + b"_no_context_takeover"), 1, offer)

    def test_deflate_no_decompressor(self) -> None:
        """Between messages a connection has no decompressor; the next message inflates."""
        inflater = deflate.Inflater()
        for _ in range(2):
            inflater.start_decompress_message()
            self.assertEqual(inflater.decompress_message_data(b"\x4a\x04\x00", 10), b"a")
            inflater.end_decompress_message()
            self.assertIs(inflater._decompressor, None)

    def test_deflate_window_bits(self) -> None:
        """A client that offers a small window gets frames that fit it."""
        relay = self.relay()
        wire = relay.wire()
        wire.send(request_bytes(fields={"Sec-WebSocket-Extensions": "permessage-deflate; server_max_window_bits=9"}))
        [connection] = relay.factory.connections

        self.assertIs(connection.member.encoding, relay.factory.deflate(9))
