"""Any bytes, cut anywhere, on an open connection in memory, with bystanders in the room.

What holds, whatever comes:

* only closes of the documented table come out, or an echo of the peer's own; never 1011, which is a bug of ours
* the room gets exactly the messages that the stream has (:mod:`reference`), and the bystander's own come through
* what the peer gets is well-formed, and nothing comes behind a close frame
* nothing is logged as a failure, and nothing is left behind
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

#: The codes that the relay may close with because of what a client sends.
CODES = {row.code for row in closecodes.TABLE} - {closecodes.INTERNAL_ERROR.code}

#: What the bystander says, before and after.
MARKS = b"before", b"after " * 60


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        seen: opcode and payload of what the second bystander got.
        answers: the frames that the peer got.
        ended: whether its connection has ended, or begun to.
    """

    seen: list[tuple[int, bytes]]
    answers: list[Frame]
    ended: bool


def frames_of(data: bytes, deflate: bool) -> list[Frame]:
    """Return the frames in what a connection got, inflated."""
    return parse(data, [PerMessageDeflate(False, False, 15, 15)] if deflate else None)


def check(octets: bytes) -> None:
    """Send an input."""
    case = inputs.decode(octets)
    deflate = bool(case.flags & seeds.DEFLATE)
    with memory.relay(**framing.LIMITS) as running:
        outcome = play(running, case, deflate)
        counted = running.stats.messages_in - len(MARKS)
    expected = reference.Reader(deflate, *framing.LIMITS.values()).read(case.stream)
    judge(outcome, expected)
    assert expected.end == reference.UNKNOWN or counted == len(expected.messages), f"{counted} messages were counted"


def play(running: Relay, case: inputs.Input, deflate: bool) -> Outcome:
    """Let a peer send an input into a room with two bystanders, of whom the first speaks and the second hears."""
    fields = dict(framing.DEFLATE) if deflate else {}
    speaker, hearer, peer = (
        memory.join(running),
        memory.join(running, dict(framing.DEFLATE)),
        memory.join(running, fields),
    )
    got = [say(speaker, MARKS[0], peer)]
    got += [peer.send(chunk) for chunk in case.chunks()]
    got += [say(speaker, MARKS[1], peer)]
    ended = peer.ended
    if any(frame.opcode is Opcode.CLOSE for frame in frames_of(b"".join(got), deflate)) and not ended:
        running.wait(memory.OVERDUE_SECONDS)  # one that does not answer our close is aborted
        assert peer.transport.aborted, "a peer that does not answer a close is still there"
        ended = True
    seen = [(int(frame.opcode), bytes(frame.data)) for frame in frames_of(hearer.send(b""), deflate=True)]
    for wire in (peer, speaker, hearer):
        wire.hang_up()
    return Outcome(seen, frames_of(b"".join(got), deflate), ended)


def say(speaker: Wire, payload: bytes, peer: Wire) -> bytes:
    """Let the bystander say something, and return what the peer gets."""
    answer = speaker.send(framing.wire_frame(0x81, payload))
    assert all(frame.opcode in (Opcode.TEXT, Opcode.BINARY) for frame in parse(answer)), "the bystander was told"
    return peer.send(b"")


def judge(outcome: Outcome, expected: reference.Reading) -> None:
    """Compare what came of it with what is in the stream."""
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
    """Compare the codes of the close frames, of which there is one at most, with what should have come."""
    if expected.end == reference.CLOSED:
        assert codes == [expected.close_code], f"{expected.close_code} was answered with {codes}"
    elif expected.end == reference.BROKEN:
        assert codes, "what breaks the protocol was taken"
    elif expected.end == reference.OPEN:
        assert not codes, f"what is right was closed with {codes}"
    if expected.end not in (reference.CLOSED, reference.UNKNOWN):
        assert CODES.issuperset(codes), f"closed with {codes}"


def judge_rest(answers: list[Frame], expected: reference.Reading, closed: bool) -> None:
    """See that the peer got the bystander's messages as long as it was there, and its own pings answered."""
    heard = [bytes(frame.data) for frame in answers if frame.opcode is not Opcode.PONG]
    assert heard == list(MARKS[: 1 if closed else 2]), f"the peer heard {heard}"
    pongs = [bytes(frame.data) for frame in answers if frame.opcode is Opcode.PONG]
    if expected.end != reference.UNKNOWN:
        assert pongs == expected.pings, f"{expected.pings} were answered with {pongs}"


TARGET = Target(
    name="connection",
    title="whatever an open connection sends, only documented closes come out",
    check=check,
    inputs=inputs.strategy(framing.streams, (seeds.PLAIN, seeds.DEFLATE)),
    seeds=seeds.open_connection(),
    words=[framing.wire_frame(first, b"", bytes(4)) for first in (0x81, 0x82, 0xC1, 0x01, 0x80, 0x88, 0x89)],
    max_bytes=2048,
)
