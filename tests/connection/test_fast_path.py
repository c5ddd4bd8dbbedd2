"""The fast path for common frames against Autobahn's parser: any byte stream, cut anywhere, gives the same events."""

import os
from itertools import pairwise
from typing import Any

from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.harness.framing import DEFLATE, deflated, outcome, streams, wire_frame
from tests.harness.support import Answer, RelayTestCase, narrowing, request_bytes
from tests.wire.test_frames import parse
from wsrelay.connection.protocol import RelayProtocol
from wsrelay.wire import frames

#: Autobahn's parser, for a test that counts its calls.
original = RelayProtocol.onFrameBegin


class EquivalenceTests(RelayTestCase):
    """Both parsers on the same bytes."""

    @given(streams, st.lists(st.integers(0, 400), max_size=6), st.sampled_from([{}, DEFLATE]))
    @example(wire_frame(0x81, b"a") * 3 + wire_frame(0x81, b"\xff") + wire_frame(0x81, b"b"), [], {})
    @example(wire_frame(0x82, b"") * 3, [6, 7, 13], {})
    @example(wire_frame(0x82, b"x" * 4500) + wire_frame(0x82, b"x" * 4501), [], {})
    @example(wire_frame(0xC2, deflated(b"x" * 4500)) + wire_frame(0xC2, deflated(b"x" * 4501)), [], DEFLATE)
    @example(wire_frame(0xC1, deflated(b"\xff")), [], DEFLATE)
    @example(wire_frame(0xC1, deflated(b"a", final=True)) + wire_frame(0x81, b"b"), [], DEFLATE)
    @example(wire_frame(0xC1, deflated(b"a")), [], {})
    @example(wire_frame(0xC1, b"\n"), [], DEFLATE)  # ends only with the four appended bytes
    @example(wire_frame(0x81, b"x" * 120, None) + wire_frame(0x81, b"y"), [], {})
    @example(wire_frame(0x81, b"x", length_bits=16), [3], {})
    @example(wire_frame(0x81, b"x" * 200, length_bits=64), [3], {})
    @example(wire_frame(0x01, b"a") + wire_frame(0x81, b"b"), [7], {})  # within a fragmented message
    @example(wire_frame(0x81, b"a") + wire_frame(0x81, b"\xff" * 3)[:-1], [], {})  # wrong, and cut behind another
    @hypothesis_settings(max_examples=int(os.environ.get("WSRELAY_FUZZ_EXAMPLES", "300")))
    def test_fast_path_equivalence(self, stream: bytes, cuts: list[int], fields: dict[str, str]) -> None:
        """Messages, answers, counts and the end are the same, wherever the stream is cut."""
        places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
        chunks = [stream[begin:end] for begin, end in pairwise(places)]

        fast, slow = (outcome(self, chunks, fields, fast=is_fast) for is_fast in (True, False))
        self.assertEqual(fast, slow)

    def test_fast_path_taken(self) -> None:
        """Common frames never reach Autobahn's parser, also behind an uncommon one."""
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

    def test_fast_path_limit_deflated(self) -> None:
        """The limit holds for a message as it was sent, too: Autobahn closes for it."""
        data = wire_frame(0xC2, bytes((0, 0, 0, 0xFF, 0xFF)) * 20 + b"\0")  # empty blocks

        self.assertEqual(frames.parse(data, 101, frames.COMMON), (b"\x82\0", 1, len(data)))
        self.assertEqual(frames.parse(data, 100, frames.COMMON), (b"", 0, 0))

    def test_fast_path_mixed(self) -> None:
        """Plain and compressed messages of any length may follow each other in one read."""
        sent = [(kind, bytes(size)) for size in (0, 1, 125, 126, 4096) for kind in (0x82, 0xC2, 0xC2, 0x82, 0x82)]
        data = b"".join([wire_frame(kind, deflated(one) if kind == 0xC2 else one) for kind, one in sent])
        joined = b"".join([frames.encode(frames.BINARY, one) for _, one in sent])

        self.assertEqual(frames.parse(data, 2**20, frames.COMMON), (joined, len(sent), len(data)))
        self.assertEqual(frames.parse(data[:-1], 2**20, frames.COMMON)[1], len(sent) - 1)

    def test_fast_path_read_only(self) -> None:
        """A read-only client that publishes is closed on the fast path, too; nothing is relayed."""
        relay = self.relay([Answer(lambda request, grant: narrowing({"can_publish": False}, request, grant))])
        sender, listener = relay.wire(), relay.wire()
        sender.send(request_bytes())
        listener.send(request_bytes())
        [answer] = parse(sender.send(wire_frame(0x81, b"a") * 2))

        self.assertEqual((int(answer.opcode), listener.send(b"")), (frames.CLOSE, b""))
