"""Arbitrary bytes, cut anywhere, on an open connection in memory, with bystanders in the room.

Invariants:

* the relay closes only with documented codes, or echoes the peer's code; never 1011, which is a bug
* the room gets exactly the messages of the stream, by :mod:`reference`, and the bystander's own
* frames to the peer are well-formed; none follows a close frame
* no failure is logged; no connection, room or delayed call is left
"""

from dataclasses import dataclass

import inputs
import memory
import reference
import seeds
from target import Target
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode

from tests.harness import framing
from tests.harness.support import Relay, Wire
from tests.wire.test_frames import parse
from wsrelay import closecodes

#: Close codes for errors of a client.
CODES = {row.code for row in closecodes.TABLE} - {closecodes.INTERNAL_ERROR.code}

#: Messages of the bystander, before and after the input.
MARKS = b"before", b"after " * 60


@dataclass
class Outcome:
    """Outcome of an input.

    Attributes:
        seen: opcode and payload of the messages to the second bystander.
        answers: the frames to the peer.
        ended: the peer's connection is closed or closing.
    """

    seen: list[tuple[int, bytes]]
    answers: list[Frame]
    ended: bool


def frames_of(data: bytes, deflate: bool) -> list[Frame]:
    """Return the frames of received bytes, inflated."""
    return parse(data, [PerMessageDeflate(False, False, 15, 15)] if deflate else None)


def check(octets: bytes) -> None:
    """Run an input."""
    case = inputs.decode(octets)
    deflate = bool(case.flags & seeds.DEFLATE)
    with memory.relay(**framing.LIMITS) as running:
        outcome = play(running, case, deflate)
        counted = running.stats.messages_in - len(MARKS)
    expected = reference.Reader(deflate, *framing.LIMITS.values()).read(case.stream)
    judge(outcome, expected)
    assert expected.end == reference.UNKNOWN or counted == len(expected.messages), f"{counted} messages were counted"


def play(running: Relay, case: inputs.Input, deflate: bool) -> Outcome:
    """Send an input into a room with two bystanders: the first publishes, the second receives."""
    fields = dict(framing.DEFLATE) if deflate else {}
    speaker, hearer, peer = (
        memory.join(running),
        memory.join(running, dict(framing.DEFLATE)),
        memory.join(running, fields),
    )
    got = [say(speaker, MARKS[0], peer)]
    got += [peer.send(chunk) for chunk in (*case.chunks(), b"")]  # a frame that was cut waits for one more read
    got += [say(speaker, MARKS[1], peer)]
    ended = peer.ended
    if any(frame.opcode is Opcode.CLOSE for frame in frames_of(b"".join(got), deflate)) and not ended:
        running.wait(memory.OVERDUE_SECONDS)  # aborts a peer that does not answer the close
        assert peer.transport.aborted, "a peer that does not answer a close is still there"
        ended = True
    seen = [(int(frame.opcode), bytes(frame.data)) for frame in frames_of(hearer.send(b""), deflate=True)]
    for wire in (peer, speaker, hearer):
        wire.hang_up()
    return Outcome(seen, frames_of(b"".join(got), deflate), ended)


def say(speaker: Wire, payload: bytes, peer: Wire) -> bytes:
    """Publish as the bystander, and return the bytes to the peer."""
    answer = speaker.send(framing.wire_frame(0x81, payload))
    assert all(frame.opcode in (Opcode.TEXT, Opcode.BINARY) for frame in parse(answer)), "the bystander was told"
    return peer.send(b"")


def judge(outcome: Outcome, expected: reference.Reading) -> None:
    """Compare an outcome with the content of the stream."""
    before, after = [(reference.TEXT, mark) for mark in MARKS]
    said = [before, *expected.messages]
    assert outcome.seen[: len(said)] == said, f"the room got {outcome.seen}, of {said}"
    assert outcome.seen[-1] == after, "the bystander was not heard any more"
    known = expected.end != reference.UNKNOWN
    assert not known or outcome.seen == [*said, after], f"the room got more than {said}: {outcome.seen}"

    closes = [frame for frame in outcome.answers if frame.opcode is Opcode.CLOSE]
    assert closes in ([], outcome.answers[-1:]), f"something came behind a close: {outcome.answers}"
    assert outcome.ended == bool(closes), "a connection ended without a close, or did not end with it"
    codes = [int.from_bytes(frame.data[:2]) if frame.data else None for frame in closes]
    judge_close(codes, expected)
    judge_rest([frame for frame in outcome.answers if frame not in closes], expected, bool(closes))


def judge_close(codes: list[int | None], expected: reference.Reading) -> None:
    """Compare the code of the close frame, at most one, with the expected one."""
    if expected.end == reference.CLOSED:
        assert codes == [expected.close_code], f"{expected.close_code} was answered with {codes}"
    elif expected.end == reference.BROKEN:
        assert codes, "what breaks the protocol was taken"
    elif expected.end == reference.OPEN:
        assert not codes, f"what is right was closed with {codes}"
    if expected.end not in (reference.CLOSED, reference.UNKNOWN):
        assert CODES.issuperset(codes), f"closed with {codes}"


def judge_rest(answers: list[Frame], expected: reference.Reading, closed: bool) -> None:
    """Check that the peer got the bystander's messages while open, and pongs for its pings."""
    heard = [bytes(frame.data) for frame in answers if frame.opcode is not Opcode.PONG]
    assert heard == list(MARKS[: 1 if closed else 2]), f"the peer heard {heard}"
    pongs = [bytes(frame.data) for frame in answers if frame.opcode is Opcode.PONG]
    if expected.end != reference.UNKNOWN:
        assert pongs == expected.pings, f"{expected.pings} were answered with {pongs}"


TARGET = Target(
    name="connection",
    title="an open connection is closed only as documented",
    check=check,
    inputs=inputs.strategy(framing.streams, (seeds.PLAIN, seeds.DEFLATE)),
    seeds=seeds.open_connection(),
    words=[framing.wire_frame(first, b"", bytes(4)) for first in (0x81, 0x82, 0xC1, 0x01, 0x80, 0x88, 0x89)],
    max_bytes=2048,
)
