"""Hypothesis strategies of several test modules."""

from hypothesis import strategies as st

from wsrelay.wire import frames

#: Small texts and binaries, sometimes one larger than a slice of a log.
payloads = st.binary(max_size=20) | st.sampled_from([200, 5000]).map(bytes)

#: Opcode and payload of a message.
messages = st.tuples(st.sampled_from([frames.TEXT, frames.BINARY]), payloads)

#: Few rooms, so that members share them.
rooms = st.sampled_from(["a", "a/b", "/"])

#: Values of a header field: spaces, separators, and any bytes that RFC 9110 section 5.5 allows, those most that some
#: parser takes for a space or a line break in some character set.
field_values = st.lists(
    st.sampled_from([b" ", b"\t", b",", b"=", b"a", b"\x85", b"\xa0", b"\xc2\x85", b"\xe2\x80\xa8", b"\xe3\x80\x80"])
    | st.sampled_from([bytes([byte]) for byte in (*range(0x20, 0x7F), *range(0x80, 0x100))]),
    max_size=12,
).map(b"".join)
