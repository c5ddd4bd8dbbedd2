"""Cases: handshakes that are accepted.

Must not live here: those that are refused (:mod:`wsrelay.selftest.refusals`).
"""

from typing import Final

from wsrelay.selftest.case import Case
from wsrelay.selftest.lab import Lab
from wsrelay.selftest.outcome import BrokenRule, Differs, Refused

__all__ = ["CASES"]

_UNKNOWN: Final = "x-wsrelay-selftest"

#: Statuses of servers that take certain subprotocols only, as they may.
_WRONG_OFFER: Final = (400, 403)


async def _handshake(lab: Lab) -> str:
    _, answer = await lab.join("client")
    chosen = answer.fields.get("sec-websocket-protocol")
    return "101, Sec-WebSocket-Accept is right" + (f", subprotocol {chosen}" if chosen else "")


async def _subprotocol(lab: Lab) -> str:
    offers = [offer for offer in (lab.target.subprotocol, _UNKNOWN) if offer is not None]
    try:
        answer = await lab.opened({"Sec-WebSocket-Protocol": ", ".join(offers)})
    except Refused as refused:
        if refused.status not in _WRONG_OFFER:
            raise
        raise Differs(str(refused), "clients have to offer a subprotocol of the server (--subprotocol)") from None
    chosen = answer.fields.get("sec-websocket-protocol")
    if chosen is not None and chosen not in offers:
        raise BrokenRule(f"the subprotocol {chosen!r} was not offered (RFC 6455 section 4.1)")
    return f"{chosen or 'none'} chosen of: {', '.join(offers)}"


async def _extension(lab: Lab) -> str:
    answer = await lab.opened({"Sec-WebSocket-Extensions": _UNKNOWN})
    agreed = answer.fields.get("sec-websocket-extensions")
    if agreed is not None:
        raise BrokenRule(f"it agreed to the extension {agreed!r}, which nobody knows (RFC 6455 section 9.1)")
    return "not agreed"


async def _pieces(lab: Lab) -> str:
    await lab.join("client", pieces=4)
    return "101 for a request in 4 pieces"


CASES: Final = (
    Case(
        "handshake",
        "Opening",
        "101, the right Sec-WebSocket-Accept, nothing agreed that was not offered",
        "RFC 6455 section 4.2.2",
        "no client can connect",
        _handshake,
    ),
    Case(
        "handshake-in-pieces",
        "Opening",
        "a request may come in several reads",
        "RFC 9112 section 2.2",
        "clients on bad links cannot connect",
        _pieces,
    ),
    Case(
        "subprotocol",
        "Opening",
        "of the offered subprotocols one is chosen, or none",
        "RFC 6455 section 4.2.2",
        "browsers that have offered one fail the connection",
        _subprotocol,
    ),
    Case(
        "unknown-extension",
        "Opening",
        "an extension that the server does not know is declined",
        "RFC 6455 section 9.1",
        "client and server would read the frames differently",
        _extension,
    ),
)
