"""The fast path for common frames against Autobahn's parser: any byte stream, cut anywhere, gives the same events."""

import os
import zlib
from itertools import pairwise
from typing import Any
from unittest import mock

from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.support import Answer, Relay, RelayTestCase, narrowing, request_bytes
from tests.test_frames import parse
from wsrelay import frames
from wsrelay.protocol import RelayProtocol

#: Autobahn's, for a test that counts its calls.
original = RelayProtocol.onFrameBegin

DEFLATE = {"Sec-WebSocket-Extensions": "permessage-deflate"}


def wire_frame(first: int, payload: bytes, key: bytes | None = b"\1\2\3\4", length_bits: int = 0) -> bytes:
    """Return a frame with any first byte, masked unless there is no key, with the length in 7, 16 or 64 bits."""
    masked = 0x80 if key else 0
    length = len(payload)
    if length_bits == 64 or length > 65535:
        header = bytes((first, masked | 127)) + length.to_bytes(8, "big")
    elif length_bits == 16 or length > 125:
        header = bytes((first, masked | 126)) + length.to_bytes(2, "big")
    else:
        header = bytes((first, masked | length))
    if key is None:
        return header + payload
    return header + key + bytes(octet ^ key[index % 4] for index, octet in enumerate(payload))


def deflated(payload: bytes, final: bool = False) -> bytes:
    """Return a payload as a client deflates it, with a final block if wanted (RFC 7692 section 7.2.3.4)."""
    compressor = zlib.compressobj(wbits=-15)
    data = compressor.compress(payload) + compressor.flush(zlib.Z_FINISH if final else zlib.Z_SYNC_FLUSH)
    return data + b"\0" if final else data.removesuffix(b"\0\0\xff\xff")


payloads = st.one_of(
    st.text(max_size=20).map(str.encode),
    st.binary(max_size=20),
    st.sampled_from([124, 125, 126, 127, 128, 1000, 1001, 4095, 4096, 4097]).map(lambda length: b"x" * length),
    st.sampled_from(["é" * 63, "\ud7ff" * 50, "🙂" * 300]).map(str.encode),
    st.sampled_from([b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80", b"good\xff", b"\xe2\x82"]),
)
keys = st.binary(min_size=4, max_size=4)
common = st.builds(wire_frame, st.sampled_from([0x81, 0x82]), payloads, keys)
compressed = st.builds(wire_frame, st.sampled_from([0xC1, 0xC2]), st.builds(deflated, payloads, st.booleans()), keys)
control = st.builds(wire_frame, st.sampled_from([0x89, 0x8A]), st.binary(max_size=10), keys)
fragments = st.lists(payloads, min_size=2, max_size=4).map(
    lambda parts: b"".join(
        wire_frame((1 if index == 0 else 0) | (0x80 if index == len(parts) - 1 else 0), part)
        for index, part in enumerate(parts)
    )
)
odd = st.one_of(
    st.builds(wire_frame, st.integers(0, 255), payloads, keys | st.none(), st.sampled_from([0, 16, 64])),
    st.builds(wire_frame, st.sampled_from([0xC1, 0xC2]), payloads, keys),
    st.just(wire_frame(0x88, b"\x03\xe8")),
    st.binary(max_size=12),
)
#: Mostly what clients send, so that something comes before what is wrong.
streams = st.lists(st.one_of(common, common, common, compressed, control, fragments, odd), max_size=8).map(b"".join)


class Slow(RelayProtocol):
    """A connection without the fast path."""

    def _take_common_frames(self) -> None:
        pass


class EquivalenceTests(RelayTestCase):
    """Both paths, on the same bytes."""

    def outcome(self, chunks: list[bytes], protocol: type[RelayProtocol], fields: dict[str, str]) -> Any:
        """Return what the room gets, what the sender is told, and how it ends."""
        with mock.patch("wsrelay.factory.RelayFactory.protocol", protocol):
            relay = Relay(self, max_message_bytes=4500, max_fragments=3)
        sender, listener = relay.wire(), relay.wire()
        sender.send(request_bytes(fields=fields))
        listener.send(request_bytes())
        answers = [sender.send(chunk) for chunk in chunks]
        got = listener.send(b"")
        stats = relay.stats
        counts = (stats.messages_in, stats.bytes_in, stats.messages_dropped, dict(stats.closes_sent), stats.failures)
        return parse(got), b"".join(answers), sender.ended, counts

    @given(streams, st.lists(st.integers(0, 400), max_size=6), st.sampled_from([{}, DEFLATE]))
    @example(wire_frame(0x81, b"a") * 3 + wire_frame(0x81, b"\xff") + wire_frame(0x81, b"b"), [], {})
    @example(wire_frame(0x82, b"") * 3, [6, 7, 13], {})
    @example(wire_frame(0x82, b"x" * 4500) + wire_frame(0x82, b"x" * 4501), [], {})
    @example(wire_frame(0xC2, deflated(b"x" * 4500)) + wire_frame(0xC2, deflated(b"x" * 4501)), [], DEFLATE)
    @example(wire_frame(0xC1, deflated(b"\xff")), [], DEFLATE)
    @example(wire_frame(0xC1, deflated(b"a", final=True)) + wire_frame(0x81, b"b"), [], DEFLATE)
    @example(wire_frame(0xC1, deflated(b"a")), [], {})
    @example(wire_frame(0xC1, b"\n"), [], DEFLATE)  # what ends only with the four bytes that are added
    @example(wire_frame(0x81, b"x" * 120, None) + wire_frame(0x81, b"y"), [], {})
    @example(wire_frame(0x81, b"x", length_bits=16), [3], {})
    @example(wire_frame(0x81, b"x" * 200, length_bits=64), [3], {})
    @hypothesis_settings(max_examples=int(os.environ.get("WSRELAY_FUZZ_EXAMPLES", "300")), deadline=None)
    def test_the_same_events(self, stream: bytes, cuts: list[int], fields: dict[str, str]) -> None:
        """Messages, answers, counts and the end are the same, wherever the stream is cut."""
        places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
        chunks = [stream[begin:end] for begin, end in pairwise(places)]

        self.assertEqual(self.outcome(chunks, RelayProtocol, fields), self.outcome(chunks, Slow, fields))

    def test_the_fast_path_is_taken(self) -> None:
        """Common frames never reach Autobahn's parser, those behind one that is not common neither."""
        relay = self.relay()
        sender, listener = relay.wire(), relay.wire()
        sender.send(request_bytes(fields=DEFLATE))
        listener.send(request_bytes())
        begun: list[Any] = []
        self.patch(RelayProtocol, "onFrameBegin", lambda protocol: begun.append(protocol) or original(protocol))
        common = wire_frame(0x81, b"a") + wire_frame(0x82, b"b" * 4000) + wire_frame(0xC1, deflated(b"c"))
        sender.send(common + wire_frame(0x89, b"ping") + common)

        self.assertEqual([frame.data[:1] for frame in parse(listener.send(b""))], [b"a", b"b", b"c"] * 2)
        self.assertEqual(len(begun), 1)

    def test_read_only(self) -> None:
        """Who may not publish is told so on the fast path, too, and nothing is relayed."""
        relay = self.relay([Answer(lambda request, grant: narrowing({"can_publish": False}, request, grant))])
        sender, listener = relay.wire(), relay.wire()
        sender.send(request_bytes())
        listener.send(request_bytes())
        [answer] = parse(sender.send(wire_frame(0x81, b"a") * 2))

        self.assertEqual((int(answer.opcode), listener.send(b"")), (frames.CLOSE, b""))
