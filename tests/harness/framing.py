"""Frames of clients, valid and invalid, and their outcome in both of the relay's parsers.

Shared by the tests and by ``fuzz/``: the fast path and Autobahn's parser are compared by :func:`outcome` on both.
"""

import zlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any
from unittest import mock

from hypothesis import strategies as st

from tests.harness.support import Relay, request_bytes
from tests.wire.test_frames import parse

#: The field that offers permessage-deflate.
DEFLATE: Mapping[str, str] = {"Sec-WebSocket-Extensions": "permessage-deflate"}

#: Small limits, so that random streams exceed them.
LIMITS = {"max_message_bytes": 4500, "max_fragments": 3}


def wire_frame(first: int, payload: bytes, key: bytes | None = b"\1\2\3\4", length_bits: int = 0) -> bytes:
    """Return a frame with any first byte, masked if a key is given, with a length field of 7, 16 or 64 bits."""
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
    """Return a deflated payload, optionally with a final block (RFC 7692 section 7.2.3.4)."""
    compressor = zlib.compressobj(wbits=-15)
    data = compressor.compress(payload) + compressor.flush(zlib.Z_FINISH if final else zlib.Z_SYNC_FLUSH)
    return data + b"\0" if final else data.removesuffix(b"\0\0\xff\xff")


def fragmented(first: int, parts: Sequence[bytes]) -> bytes:
    """Return a message as one frame per part; ``first`` is the first frame's byte, without FIN."""
    return b"".join(
        wire_frame((0 if index else first) | (0x80 if index == len(parts) - 1 else 0), part)
        for index, part in enumerate(parts)
    )


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
fragments = st.lists(payloads, min_size=2, max_size=4).map(lambda parts: fragmented(1, parts))
odd = st.one_of(
    st.builds(wire_frame, st.integers(0, 255), payloads, keys | st.none(), st.sampled_from([0, 16, 64])),
    st.builds(wire_frame, st.sampled_from([0xC1, 0xC2]), payloads, keys),
    st.just(wire_frame(0x88, b"\x03\xe8")),
    st.binary(max_size=12),
)
#: Mostly valid frames, so that some precede an invalid one.
streams = st.lists(st.one_of(common, common, common, compressed, control, fragments, odd), max_size=8).map(b"".join)


def outcome(case: Any, chunks: Sequence[bytes], fields: Mapping[str, str], *, fast: bool) -> Any:
    """Return the messages of the room, the bytes to the sender, and the end of the connection.

    Args:
        case: see :class:`tests.harness.support.Relay`.
        chunks: the client's bytes behind its handshake, per read.
        fields: header fields of its handshake.
        fast: whether common frames are taken by :func:`wsrelay.wire.frames.parse`, or all frames by Autobahn.
    """
    relay = Relay(case, **LIMITS)
    sender, listener = relay.wire(), relay.wire()
    sender.send(request_bytes(fields=fields))
    listener.send(request_bytes())
    with ExitStack() as stack:
        if not fast:
            slow = stack.enter_context(mock.patch("wsrelay.wire.frames.parse", return_value=(b"", 0, 0)))
        answers = [sender.send(chunk) for chunk in chunks]
        # A frame that a read has cut behind others waits for one more read, also where what there is of it is wrong.
        # Nothing else does: that read brings no message, and no answer but a close.
        messages_in = relay.stats.messages_in
        answers.append(sender.send(b""))
        assert relay.stats.messages_in == messages_in, "a whole message had to wait for another read"
        assert answers[-1][:1] in (b"", b"\x88"), f"an answer had to wait for another read: {answers[-1]!r}"
        if not fast and any(chunks):
            slow.assert_called()  # or both outcomes would be of one path
    got = listener.send(b"")
    stats = relay.stats
    counts = (stats.messages_in, stats.bytes_in, stats.messages_dropped, dict(stats.closes_sent), stats.failures)
    return parse(got), b"".join(answers), sender.ended, counts
