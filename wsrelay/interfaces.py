"""The seams of wsrelay: what a stranger may implement without asking us.

Nothing is implemented here. Where a seam is used by plugins it is a zope ``Interface`` (``twisted.plugin``
finds providers by it); where it is only called, a typing ``Protocol``.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from zope.interface import Attribute, Interface

from wsrelay.closecodes import CloseReason
from wsrelay.grant import Grant
from wsrelay.message import Message
from wsrelay.request import HandshakeRequest
from wsrelay.stats import Tally
from wsrelay.wire.frames import Encoding

__all__ = ["Backplane", "IHandshakeValidator", "IHandshakeValidatorFactory", "Send", "Subscriber"]

#: Writes bytes and returns how many it took; a socket's own ``send`` is one.
Send = Callable[[bytes], int]


class Subscriber(Protocol):
    """A connection as rooms see it. Hashed by identity; a member of at most one room.

    Attributes:
        encoding: makes the frames that it gets of plain ones.
        send: writes whole frames to the peer, never blocks, and returns how many bytes it took. An ``OSError``, of
            which ``BlockingIOError`` is one, means none.
        tally: its room's to write: what it has been given, or where its room's count stood; once it has left, what it
            was given in all. :meth:`wsrelay.rooms.hub.Hub.given` knows it at any time.


    The first two are fixed once it has joined. One that takes no more is left where it stands in the log, from
    :meth:`wsrelay.rooms.hub.Hub.pause` (or from the first time that ``send`` did not take all) to
    :meth:`~wsrelay.rooms.hub.Hub.resume`.
    """

    encoding: Encoding
    send: Send
    tally: Tally

    @property
    def own(self) -> Tally:
        """What of what was published to its room names it as its publisher, so that it does not get it."""

    def keep(self, data: bytes, sent: int) -> None:
        """Write later what is behind the first ``sent`` bytes, before anything else; when that is done, ``Hub.resume``.

        Not the rest alone, which would be a copy: all that do not take a large message share its bytes.
        """

    def evict(self, reason: CloseReason) -> None:
        """Nothing more comes from the room: leave it, close, and tell the peer why. Must not raise."""

    def hold(self) -> None:
        """Stop reading what it publishes; what was read already is published still. Must not raise.

        Nothing happens where it is held already.
        """

    def release(self) -> None:
        """Read on, in a later turn of the reactor: it must not publish before it returns. Must not raise.

        Nothing happens where it is not held.
        """

    def fail(self, error: Exception) -> None:
        """``send`` raised anything else: leave the room, log, close with 1011. Must not raise."""


class Backplane(Protocol):
    """What carries messages between the processes that serve one room.

    The local one (:mod:`wsrelay.backplane.local`) is the reference: it carries nothing anywhere.
    """

    def publish(self, room: str, messages: Sequence[Message]) -> None:
        """Bring messages from a member of this process, in their order, to the room's members, here and elsewhere."""


class IHandshakeValidator(Interface):
    """Decides about handshakes. One instance serves all connections, so it holds no connection's state."""

    def validate(request: HandshakeRequest, grant: Grant) -> Grant | Awaitable[Grant]:
        """Return what is granted, at once or later (a coroutine or a Deferred).

        Args:
            request: what the client asks for; frozen.
            grant: what the validators before this one granted. Return it, or ``grant.narrowed(…)``.

        Raises:
            wsrelay.errors.Denied: the handshake is refused with that status and reason.

        Any other exception, anything but a :class:`~wsrelay.grant.Grant`, and an answer that does not come
        in time refuse the handshake too (500, 500, 504), with a fixed text. It must not block.
        """


class IHandshakeValidatorFactory(Interface):
    """Makes a validator from its ``--validate NAME[:ARGUMENTS]``. Found by ``twisted.plugin``.

    To add one, ship a file in ``twisted/plugins/`` with an instance that provides this interface and
    ``twisted.plugin.IPlugin``; it may import only what is cheap (every twistd run imports it).
    """

    name = Attribute("The NAME in --validate: str, lower-case letters, digits and dashes.")
    usage = Attribute("The arguments on one line, as --help-validators shows them: str, may be empty.")
    description = Attribute("What it checks, in one sentence: str.")

    def validator(arguments: str) -> Any:
        """Return an :class:`IHandshakeValidator`.

        Args:
            arguments: what stands behind "NAME:", as it is; empty when there is nothing.
                :func:`wsrelay.validators.arguments.parse` reads the built-in ones' form.

        Raises:
            ValueError: the arguments are wrong; the text says what to write instead. A file that cannot be
                read may raise ``OSError``.
        """
