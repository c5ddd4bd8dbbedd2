"""Tries cases, one after the other, each within its time.

Must not live here: output (:mod:`wsrelay.selftest.report`), exit codes (:mod:`wsrelay.commands.selftest`).
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from twisted.internet.defer import Deferred, TimeoutError  # noqa: A004 - its own
from twisted.internet.error import ConnectError, ConnectionRefusedError, DNSLookupError  # noqa: A004 - its own

from wsrelay.selftest.case import Case
from wsrelay.selftest.lab import Lab
from wsrelay.selftest.member import Member
from wsrelay.selftest.outcome import Ended, Fails, Outcome, Refused, Silence, Verdict
from wsrelay.selftest.target import Target

__all__ = ["Result", "Unreachable", "probe", "try_all"]

_IS_IT_RUNNING: Final = " Is the relay running?"

#: As many as most cases have in a room.
_OTHERS: Final = ("second client", "third client")

#: A text that each server should take.
_SHORT_BYTES: Final = 64

#: How long others of a named room are listened to, twice: first for what it greets new members with.
_LISTEN_SECONDS: Final = 1


class Unreachable(Exception):
    """There is nothing to try: no connection, or no way into a room."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a case has shown.

    Attributes:
        case: the case.
        verdict: the verdict.
        seen: what was seen, one line.
        means: what that means to an application; empty if it passed or was skipped.
        seconds: how long it took.
    """

    case: Case
    verdict: Verdict
    seen: str
    means: str
    seconds: float


async def probe(lab: Lab) -> None:
    """Open as many connections as most cases do; in a named room, listen whether somebody else uses it.

    Raises:
        Unreachable: that is not possible; says why, and what to do.
    """
    try:
        await Deferred.fromCoroutine(_enter(lab)).addTimeout(lab.bounds.seconds, lab.clock)
    except Refused as refused:
        raise Unreachable(f"{lab.target.url}: {refused}{_advice(refused, lab.target)}") from None
    except Outcome as outcome:
        raise Unreachable(f"{lab.target.url}: no WebSocket server: {outcome}") from None
    except (ConnectError, DNSLookupError, TimeoutError) as error:
        raise Unreachable(
            f"{lab.target.url}: no connection: {error}{_IS_IT_RUNNING * isinstance(error, ConnectionRefusedError)}"
        ) from None
    finally:
        await lab.leave()


async def _enter(lab: Lab) -> None:
    (client,) = await lab.joined("client")
    for who in _OTHERS:
        try:
            await lab.joined(who)
        except (Refused, Ended) as outcome:
            raise Unreachable(
                f"{lab.target.url}: most cases need {1 + len(_OTHERS)} clients in one room, but {outcome}; allow as"
                " many in a room (--max-room-members of wsrelay), and of one address"
            ) from None
    await _speak(lab, client)
    if lab.target.room is not None:
        await _listen(lab, client)


async def _speak(lab: Lab, client: Member) -> None:
    """Send a short text, as nearly all cases do.

    Raises:
        Unreachable: a limit or a rule of the server forbids it.
    """
    client.say("x" * _SHORT_BYTES)
    with suppress(Silence):
        try:
            await client.pong(client.ping())
        except Ended as ended:
            if ended.verdict is Verdict.DIFFERS:
                raise Unreachable(
                    f"{lab.target.url}: cases need text messages of {_SHORT_BYTES} bytes, but {ended};"
                    " name a room with --room that takes them"
                ) from None


async def _listen(lab: Lab, client: Member) -> None:
    """Listen to a named room.

    Raises:
        Unreachable: somebody else speaks in it.
    """
    for is_greeted in (False, True):
        await lab.pause(_LISTEN_SECONDS)
        heard = await client.pong(client.ping())
        if heard and is_greeted:
            raise Unreachable(
                f"{lab.target.rooms}: somebody else uses this room: a message came that no case has sent,"
                f" {heard[0].payload[:40]!r}; name a room with --room that nobody uses"
            )


def _advice(refused: Refused, target: Target) -> str:
    status = refused.status
    tls = "that port has no TLS: ws://" if "version number" in refused.seen else "--ca FILE trusts a certificate"
    advice = {
        None: tls if target.is_tls else "if that port has TLS, write wss://",
        401: "give a token with --token, or in WSRELAY_TOKEN",
        403: "give a token with --token, an origin with --origin, or another room with --room",
        404: "is this the path of the rooms?",
    }
    return f"; {advice[status]}" if status in advice else ""


async def try_all(lab: Lab, cases: Sequence[Case], tell: Callable[[Result], object]) -> list[Result]:
    """Try cases.

    Args:
        lab: each case gets one like it.
        cases: in their order.
        tell: is called with each result, as soon as it is there.
    """
    results = []
    for case in cases:
        result = await _try(case, lab.anew())
        tell(result)
        results.append(result)
    return results


async def _try(case: Case, lab: Lab) -> Result:
    began = lab.clock.seconds()
    seen = ""
    outcome: Outcome | None = None
    try:
        seen = await Deferred.fromCoroutine(case.attempt(lab)).addTimeout(lab.bounds.seconds, lab.clock)
    except Outcome as raised:
        outcome = raised
    except TimeoutError:
        outcome = Silence(f"not done after {lab.bounds.seconds:g} s")
    except (ConnectError, DNSLookupError) as error:
        outcome = Fails(f"no further connection: {error}")
    closed = await lab.leave()
    if closed and isinstance(outcome, Silence):  # this is why
        outcome = closed[0]
    seconds = lab.clock.seconds() - began
    if outcome is None:
        return Result(case, Verdict.PASS, _line(seen), "", seconds)
    return Result(case, outcome.verdict, _line(outcome.seen), _means(outcome, case, lab.target), seconds)


def _means(outcome: Outcome, case: Case, target: Target) -> str:
    if outcome.verdict is Verdict.SKIPPED:
        return ""
    others = f"; or somebody else uses the room {target.rooms}" * (target.room is not None)
    return f"{outcome.means or case.means}{others}"


def _line(text: str) -> str:
    """Return a text of the server in one line, without control characters."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
