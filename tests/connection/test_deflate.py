"""Tests of wsrelay.connection.deflate."""

from tests.harness.support import RelayTestCase, request_bytes
from wsrelay.connection import deflate


class OffersTests(RelayTestCase):
    """Negotiating permessage-deflate."""

    def test_offers(self) -> None:
        """permessage-deflate is agreed to unless --no-compress; bad offers are declined (RFC 7692 section 7)."""
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

    def test_without_context(self) -> None:
        """Both directions are agreed to be without context, said once each, whatever was offered."""
        for offer in ("", "; client_no_context_takeover", "; server_no_context_takeover; client_max_window_bits"):
            wire = self.relay().wire()
            wire.send(request_bytes(fields={"Sec-WebSocket-Extensions": f"permessage-deflate{offer}"}))
            for direction in (b"server", b"client"):
                self.assertEqual(wire.received.count(direction + b"_no_context_takeover"), 1, offer)

    def test_nothing_is_kept_between_messages(self) -> None:
        """A connection has no decompressor but within a message; the next one inflates all the same."""
        inflater = deflate.Inflater()
        for _ in range(2):
            inflater.start_decompress_message()
            self.assertEqual(inflater.decompress_message_data(b"\x4a\x04\x00", 10), b"a")
            inflater.end_decompress_message()
            self.assertIs(inflater._decompressor, None)

    def test_smaller_windows_are_kept_to(self) -> None:
        """A client that asked for a small window gets frames that fit it."""
        relay = self.relay()
        wire = relay.wire()
        wire.send(request_bytes(fields={"Sec-WebSocket-Extensions": "permessage-deflate; server_max_window_bits=9"}))
        [connection] = relay.factory.connections

        self.assertIs(connection.member.encoding, relay.factory.deflate(9))
