"""Choosing a subprotocol: the ``subprotocol:`` validator.

Which of a client's offers are subprotocols, and which carry a token, is told apart in :mod:`wsrelay.request`.
"""

from collections.abc import Sequence
from typing import Self

from zope.interface import implementer

from wsrelay.errors import Denied
from wsrelay.grant import Grant
from wsrelay.interfaces import IHandshakeValidator
from wsrelay.request import BEARER, TOKEN, HandshakeRequest
from wsrelay.validators.arguments import parse

__all__ = ["SubprotocolValidator"]


@implementer(IHandshakeValidator)
class SubprotocolValidator:
    """Choose one of our subprotocols.

    A client that offers none gets none. A choice that an earlier validator made stands if it is one of ours.

    Args:
        names: our subprotocols; the first that the client offers is chosen.

    Peer sees:
        The choice in ``Sec-WebSocket-Protocol``; 400 when it offers subprotocols and none of ours.

    Source: RFC 6455 sections 1.9 and 4.2.2.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)

    @classmethod
    def from_arguments(cls, text: str) -> Self:
        """Make one of ``NAME[,NAME…]``.

        Raises:
            ValueError: nothing is given, or something that is no name.
        """
        values = parse(text).values
        if not values:
            raise ValueError("name at least one subprotocol")
        for value in values:
            if not TOKEN.fullmatch(value):
                raise ValueError(f"{value!r} is no subprotocol: letters, digits and !#$%&'*+-.^_`|~ may be in it")
            if value.startswith(BEARER):
                raise ValueError(f"{value!r} is no subprotocol: a client that offers it sends a token")
        return cls(values)

    def validate(self, request: HandshakeRequest, grant: Grant) -> Grant:
        """Return the grant with one of our subprotocols. See :class:`~wsrelay.interfaces.IHandshakeValidator`."""
        if not request.subprotocols or grant.subprotocol in self._names:
            return grant
        for name in self._names:
            if name in request.subprotocols:
                return grant.narrowed(subprotocol=name)
        raise Denied(400, "none of the offered subprotocols is spoken here")
