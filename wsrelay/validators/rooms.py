"""Allowed rooms: the ``rooms:`` validator.

What a room's name and a pattern are lives in :mod:`wsrelay.names`; nothing is parsed here.
"""

from collections.abc import Sequence
from typing import Self

from zope.interface import implementer

from wsrelay.errors import Denied
from wsrelay.grant import Grant
from wsrelay.interfaces import IHandshakeValidator
from wsrelay.names import RoomPattern
from wsrelay.request import HandshakeRequest
from wsrelay.validators.arguments import parse

__all__ = ["RoomsValidator"]


@implementer(IHandshakeValidator)
class RoomsValidator:
    """Allow some rooms only.

    It looks at the room that is *granted*: behind a validator that sends clients to another room, at that one.

    Args:
        patterns: the allowed rooms; a room must be in one of them.

    Peer sees:
        403 for any other room.
    """

    def __init__(self, patterns: Sequence[RoomPattern]) -> None:
        self._patterns = tuple(patterns)

    @classmethod
    def from_arguments(cls, text: str) -> Self:
        """Make one of ``PATTERN[,PATTERN…]``.

        Raises:
            ValueError: nothing is given, or something that is no pattern.
        """
        values = parse(text).values
        if not values:
            raise ValueError("name at least one pattern of rooms, for example chat/*")
        return cls([RoomPattern(value) for value in values])

    def validate(self, request: HandshakeRequest, grant: Grant) -> Grant:
        """Return the grant as it is. See :class:`~wsrelay.interfaces.IHandshakeValidator`."""
        if not any(grant.room in pattern for pattern in self._patterns):
            raise Denied(403, "this room is not allowed")
        return grant
