"""Hypothesis strategies of several test modules."""

from hypothesis import strategies as st

from wsrelay.wire import frames

#: Small texts and binaries, sometimes one larger than a slice of a log.
payloads = st.binary(max_size=20) | st.sampled_from([200, 5000]).map(bytes)

#: Opcode and payload of a message.
messages = st.tuples(st.sampled_from([frames.TEXT, frames.BINARY]), payloads)

#: Few rooms, so that members share them.
rooms = st.sampled_from(["a", "a/b", "/"])
