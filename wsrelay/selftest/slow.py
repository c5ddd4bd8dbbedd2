"""Cases: members that do not read, do not finish, or vanish; the others must not notice.

Must not live here: members that break rules (:mod:`wsrelay.selftest.violations`).
"""

from typing import Final

from twisted.internet.defer import Deferred, TimeoutError  # noqa: A004 - its own

from wsrelay.selftest.case import Case
from wsrelay.selftest.frames import FIN, message
from wsrelay.selftest.lab import Lab
from wsrelay.selftest.member import Member
from wsrelay.selftest.outcome import Differs, Ended, Fails, Outcome, Silence, Skipped, shown
from wsrelay.selftest.reaction import go_on
from wsrelay.selftest.tasks import beside

__all__ = ["CASES"]

#: The longest messages while a member does not read, and how many of them are on their way at a time.
_MESSAGE_BYTES: Final = 2**16
_WINDOW: Final = 4

#: The most messages: many short ones take long.
_MOST_MESSAGES: Final = 20000

_NUMBER_BYTES: Final = 8

_LAST: Final = b"last"

_ALL_LATER: Final = "got all later"
_OTHER_CAUSE: Final = "the server holds messages for another reason, such as a limit on rates; or all room stopped"

#: A server waits at least so long, before it cuts a connection whose close frame cannot be written.
_CLOSE_SECONDS: Final = 5


async def _never_reader(lab: Lab) -> str:
    stalled, *speakers, listener = await lab.joined("stalled member", "speaker", "other speaker", "listener")
    stalled.hold()
    size = min(_MESSAGE_BYTES, lab.bounds.max_message_bytes)
    wanted = lab.bounds.stalled_bytes // size
    most = min(wanted, _MOST_MESSAGES)
    began = lab.clock.seconds()
    try:
        talk = _talk(lab, speakers, listener, most, size)
        total = await beside(talk, *(speaker.drain() for speaker in speakers))
    except Silence as silence:
        raise await _cause(lab, silence, stalled, speakers, listener) from None
    seconds = lab.clock.seconds() - began
    outcome = await _aftermath(stalled, speakers[0], total)
    if total < wanted and outcome == _ALL_LATER:
        raise Skipped(
            f"{total} messages of {size} bytes in {seconds:.1f} s are too few to tell; the listener got them all"
            + "; --timeout SECONDS gives more time" * (total < most)
        )
    (newcomer,) = await lab.joined("newcomer")
    await go_on(speakers[0], newcomer, "to the newcomer")
    seen = f"the listener got all {total} messages ({total * size >> 20} MiB) in {seconds:.1f} s; the stalled one"
    if shown(None) in outcome and seconds < _CLOSE_SECONDS:
        raise Differs(f"{seen} {outcome}", "a slow client cannot tell its end from a network failure")
    return f"{seen} {outcome}"


async def _talk(lab: Lab, speakers: list[Member], listener: Member, most: int, size: int) -> int:
    """Let speakers send numbered messages in turns for a while, and the listener hear all; return how many.

    Raises:
        Silence: the listener hears nothing any more.
        Fails: it does not get what was sent.
    """
    filler = bytes(max(size - _NUMBER_BYTES, 0))
    until = lab.clock.seconds() + lab.bounds.patience_seconds
    heard: list[int] = []
    sent = 0
    try:
        while len(heard) < sent or not heard:
            while sent < min(most, len(heard) + _WINDOW) and (lab.clock.seconds() < until or not sent):
                speakers[sent % 2].say(sent.to_bytes(_NUMBER_BYTES) + filler)
                sent += 1
            heard.append(int.from_bytes((await listener.hear()).payload[:_NUMBER_BYTES]))
    except Outcome as outcome:
        kind = Silence if isinstance(outcome, Silence) else Fails
        raise kind(f"with a member that does not read the listener got {len(heard)} of {most}: {outcome}") from None
    for first in (0, 1):
        if [number for number in heard if number % 2 == first] != list(range(first, sent, 2)):
            raise Fails("with a member that does not read the listener got not each message once and in order")
    return sent


async def _cause(lab: Lab, silence: Silence, stalled: Member, speakers: list[Member], listener: Member) -> Outcome:
    """Return why the listener hears nothing: a speaker was closed; the stalled member, without which it goes on."""
    for speaker in speakers:
        if speaker.has_ended:
            return Ended(speaker.who, speaker.close)
    stalled.abort()
    try:
        await Deferred.fromCoroutine(listener.hear()).addTimeout(lab.bounds.patience_seconds / 2, lab.clock)
    except (Outcome, TimeoutError):
        return Differs(f"{silence}; nor when that member has gone", _OTHER_CAUSE)
    return Fails(f"{silence}; it goes on when that member has gone")


async def _aftermath(stalled: Member, speaker: Member, total: int) -> str:
    """Return what became of the stalled member, which now reads, until a last message (a pong may overtake others)."""
    speaker.say(_LAST)
    count = 0
    try:
        while (await stalled.hear()).payload != _LAST:
            count += 1
    except Ended as ended:
        return f"was {shown(ended.close)}, after {count} of them"
    except Silence:
        if count < total:
            return f"got {count} of them, then nothing"
    return _ALL_LATER if count == total else f"skipped {total - count} of them, and goes on"


async def _half_frame(lab: Lab) -> str:
    culprit, bystander, speaker = await lab.joined("culprit", "bystander", "speaker")
    culprit.send(message(b"x" * 1000)[:100])
    return await _undisturbed(culprit, bystander, speaker, "half a frame")


async def _half_message(lab: Lab) -> str:
    culprit, bystander, speaker = await lab.joined("culprit", "bystander", "speaker")
    culprit.send(_first_fragment())
    return await _undisturbed(culprit, bystander, speaker, "a first fragment")


def _first_fragment() -> bytes:
    frame = bytearray(message(b"x" * 100))
    frame[0] &= ~FIN
    return bytes(frame)


async def _undisturbed(culprit: Member, bystander: Member, speaker: Member, what: str) -> str:
    before = await go_on(speaker, bystander, "meanwhile")
    culprit.abort()
    if before or await go_on(speaker, bystander, "later"):
        raise Fails(f"{what} was relayed", "members get messages that nobody has sent")
    return "the others go on, also when its TCP has ended"


CASES: Final = (
    Case(
        "never-reader",
        "Slow and broken members",
        "while one member does not read, the others get everything",
        "promise 4",
        "one slow client stops its room (--slow-policy pause-publishers of wsrelay is made to do that)",
        _never_reader,
    ),
    Case(
        "half-frame",
        "Slow and broken members",
        "half a frame, then silence, then the end of TCP: nobody else notices",
        "promise 6",
        "one broken client disturbs the others",
        _half_frame,
    ),
    Case(
        "half-message",
        "Slow and broken members",
        "a first fragment, then silence, then the end of TCP: nobody else notices",
        "promise 6",
        "one broken client disturbs the others",
        _half_message,
    ),
)
