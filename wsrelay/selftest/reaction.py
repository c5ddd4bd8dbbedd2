"""How a server reacts to what one client does, and whether the others of its room go on.

Must not live here: what the client does, which reaction is expected.
"""

from dataclasses import dataclass
from typing import Final

from wsrelay.selftest.frames import Close, Message, Pong
from wsrelay.selftest.member import Member
from wsrelay.selftest.outcome import Ended, Silence, shown
from wsrelay.selftest.tasks import beside

__all__ = ["Reaction", "go_on", "reaction"]

_AFTER: Final = "after"


@dataclass(frozen=True, slots=True)
class Reaction:
    """A reaction.

    Attributes:
        is_open: whether the connection goes on.
        close: the server's close frame; ``None`` if there was none.
        text: both of it in words.
        relayed: what the bystander got of it.
    """

    is_open: bool
    close: Close | None
    text: str
    relayed: list[Message]

    @property
    def code(self) -> int | None:
        """The code of the close frame; ``None`` without."""
        return None if self.close is None else self.close.code


async def reaction(culprit: Member, bystander: Member, speaker: Member) -> Reaction:
    """Return the reaction to what a member has just sent, once the bystander has got what comes behind it.

    A pong does not prove that the connection goes on: some servers answer pings before they look at the messages that
    came earlier. A message of the culprit that is relayed does.

    Args:
        culprit: has sent something.
        bystander: is in the same room.
        speaker: is there as well, and goes on speaking if the culprit has ended.

    Raises:
        Outcome: the bystander was disturbed.
    """
    if not await _is_answered(culprit):
        relayed = await go_on(speaker, bystander)
        return _ended(culprit, relayed) if culprit.has_ended else _open("neither closed nor answered", relayed)
    culprit.say(_AFTER)
    try:
        relayed = await beside(bystander.hear_until(_AFTER), _speak_at_end(culprit, speaker))
    except Silence:
        return _open("not closed, but no longer relayed", await go_on(speaker, bystander))
    return _ended(culprit, relayed) if culprit.has_ended else _open("not closed", relayed)


def _ended(culprit: Member, relayed: list[Message]) -> Reaction:
    return Reaction(False, culprit.close, shown(culprit.close), relayed)


def _open(text: str, relayed: list[Message]) -> Reaction:
    return Reaction(True, None, text, relayed)


async def _is_answered(culprit: Member) -> bool:
    """Send a ping, and return whether a pong comes before the end."""
    payload = culprit.ping()
    try:
        while (event := await culprit.event()) != Pong(payload):
            if isinstance(event, Close):
                return False
    except (Ended, Silence):
        return False
    return True


async def _speak_at_end(culprit: Member, speaker: Member) -> None:
    await culprit.end()
    speaker.say(_AFTER)


async def go_on(speaker: Member, listener: Member, payload: str = _AFTER) -> list[Message]:
    """Let one member speak to another; return what the other had got before.

    Raises:
        Outcome: they do not go on.
    """
    speaker.say(payload)
    return await listener.hear_until(payload)
