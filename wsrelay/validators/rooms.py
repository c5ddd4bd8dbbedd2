"""Allowed rooms: the ``rooms:`` validator.

Must not live here: room names and patterns (:mod:`wsrelay.names`).
"""

from collections.abc import Sequence
from typing import Self

from zope.interface import implementer

from wsrelay.errors import Denied
from wsrelay.grant import Grant
from wsrelay.interfaces import IHandshakeValidator
from wsrelay.names import RoomPattern, usable_pattern
from wsrelay.request import HandshakeRequest
from wsrelay.validators.arguments import parse

__all__ = ["RoomsValidator"]


@implementer(IHandshakeValidator)
class RoomsValidator:
    """Allow some rooms only.

    The *granted* room counts: an earlier validator may have replaced the room of the path.

    Args:
        patterns: the allowed rooms; one pattern must match.

    Peer sees:
        403 for any other room.
    """

    def __init__(self, patterns: Sequence[RoomPattern]) -> None:
        self._patterns = tuple(patterns)

    @classmethod
    def from_arguments(cls, text: str) -> Self:
        """Make a validator from ``PATTERN[,PATTERN…]``.

        Raises:
            ValueError: no pattern, or an invalid one.
        """
        values = parse(text).values
        if not values:
            raise ValueError("name at least one pattern of rooms, for example chat/*")
        return cls([usable_pattern(value) for value in values])

    def validate(self, request: HandshakeRequest, grant: Grant) -> Grant:
        """Return the grant unchanged. See :class:`~wsrelay.interfaces.IHandshakeValidator`."""
        if not any(grant.room in pattern for pattern in self._patterns):
            raise Denied(403, "this room is not allowed")
        return grant
