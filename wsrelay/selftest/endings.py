"""The case about the ends of connections in all cases before it.

Must not live here: which code each of them should have.
"""

from typing import Final

from wsrelay.selftest.case import Case
from wsrelay.selftest.lab import Lab
from wsrelay.selftest.outcome import Differs, Skipped, shown

__all__ = ["CASES"]


async def _reasons(lab: Lab) -> str:
    if not lab.ends:
        raise Skipped("the server has closed no connection in the cases that were tried")
    silent = [close for _, close in lab.ends if close is None]
    mute = [close for _, close in lab.ends if close is not None and not (close.code and close.reason)]
    if silent or mute:
        examples = sorted({shown(close) for close in silent + mute})
        raise Differs(f"{len(silent + mute)} of {len(lab.ends)} had no code or no reason: {'; '.join(examples)}")
    return f"{len(lab.ends)} of {len(lab.ends)} had both"


CASES: Final = (
    Case(
        "close-reasons",
        "Ends",
        "each close by the server in the cases above had a code and a reason",
        "promise 5",
        "developers and users do not learn why a connection has ended",
        _reasons,
    ),
)
