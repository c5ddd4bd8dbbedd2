"""Choosing a subprotocol: the ``subprotocol:`` validator.

Must not live here: separating the offers from tokens offered as subprotocols (:mod:`wsrelay.http.head`).
"""

from collections.abc import Sequence
from typing import Final, Self

from zope.interface import implementer

from wsrelay.errors import Denied
from wsrelay.grant import Grant
from wsrelay.interfaces import IHandshakeValidator
from wsrelay.request import BEARER, TOKEN, HandshakeRequest
from wsrelay.validators.arguments import parse

__all__ = ["SubprotocolValidator", "shown_offers"]

#: A longer offer may be a token: no log and no response names it.
MAX_NAME_CHARS: Final = 24

#: The most characters of all offers in a log line or a response.
MAX_OFFERS_CHARS: Final = 80


def shown_offers(request: HandshakeRequest) -> str:
    """Return the offered subprotocols for the log and for the client, cut; without tokens."""
    names = [name if len(name) <= MAX_NAME_CHARS else f"[{len(name)} characters]" for name in request.subprotocols]
    if request.bearers:
        names.append(f"{BEARER}...")
    return ", ".join(names)[:MAX_OFFERS_CHARS]


@implementer(IHandshakeValidator)
class SubprotocolValidator:
    """Choose one of our subprotocols.

    A client without offers gets none. The choice of an earlier validator is kept if it is one of ours. Where no
    validator chooses, some clients fail (TRAPS 95).

    Args:
        names: our subprotocols by preference; the first one that the client offers is chosen.

    Peer sees:
        The choice in ``Sec-WebSocket-Protocol``; 400 if it offers subprotocols but none of ours, with its offers.

    Source: RFC 6455 sections 1.9 and 4.2.2.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)

    @classmethod
    def from_arguments(cls, text: str) -> Self:
        """Make a validator from ``NAME[,NAME…]``.

        Raises:
            ValueError: no name, or an invalid one.
        """
        values = parse(text).values
        if not values:
            raise ValueError("name at least one subprotocol")
        for value in values:
            if not TOKEN.fullmatch(value):
                raise ValueError(f"{value!r} is not a subprotocol: use letters, digits and !#$%&'*+-.^_`|~ only")
            if value.startswith(BEARER):
                raise ValueError(f"{value!r} is not a subprotocol: names with this prefix carry a token")
        return cls(values)

    def validate(self, request: HandshakeRequest, grant: Grant) -> Grant:
        """Return the grant with one of our subprotocols. See :class:`~wsrelay.interfaces.IHandshakeValidator`."""
        if not request.subprotocols or grant.subprotocol in self._names:
            return grant
        for name in self._names:
            if name in request.subprotocols:
                return grant.narrowed(subprotocol=name)
        raise Denied(400, f"none of the offered subprotocols is supported: {shown_offers(request)}")
