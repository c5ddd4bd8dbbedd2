"""permessage-deflate (RFC 7692): negotiation, and inflating messages of the peer.

Must not live here: deflating messages to the peer (:mod:`wsrelay.wire.deflate`).
"""

from typing import Final

from autobahn.websocket.compress import PerMessageDeflate, PerMessageDeflateOffer, PerMessageDeflateOfferAccept

__all__ = ["MAX_OFFERS_CHARS", "Inflater", "accept", "accept_nothing", "well_formed"]

#: The longest ``Sec-WebSocket-Extensions`` that is read; clients send some 100 characters. Autobahn takes up to 9 ms of
#: CPU time for 16 KiB.
MAX_OFFERS_CHARS: Final = 1024

#: Parameters of an extension as Autobahn parses them: name → values, ``True`` for one without.
Parameters = dict[str, list[str | bool]]


class Inflater(PerMessageDeflate):
    """Inflates the messages of one connection, without state between messages.

    Autobahn's class keeps its decompressor after a message, some 40 KB, and discards it at the next one.
    """

    def __init__(self) -> None:
        super().__init__(
            is_server=True,
            server_no_context_takeover=True,
            client_no_context_takeover=True,
            server_max_window_bits=0,
            client_max_window_bits=0,
            mem_level=0,
        )

    def end_decompress_message(self) -> None:
        """End a message."""
        super().end_decompress_message()
        self._decompressor = None

    def forget(self) -> None:
        """Give up a message."""
        self._decompressor = None


def well_formed(extensions: list[tuple[str, Parameters]]) -> list[tuple[str, Parameters]]:
    """Return the well-formed permessage-deflate offers among a client's extensions.

    Others must be declined (RFC 7692 section 7); Autobahn would refuse the whole handshake.

    Args:
        extensions: (name, parameters), as Autobahn parses the header field.
    """
    return [(name, parameters) for name, parameters in extensions if _is_well_formed(name, parameters)]


class _Accept(PerMessageDeflateOfferAccept):
    """Accepts an offer, without context in either direction.

    A server may demand both, offered or not (RFC 7692 sections 7.1.1.1 and 7.1.1.2). The relay sends without context
    anyway; a client that knows it need not keep its window.
    """

    def __init__(self, offer: PerMessageDeflateOffer) -> None:
        super().__init__(offer, request_no_context_takeover=True, no_context_takeover=True)

    def get_extension_string(self) -> str:
        """Return the value of the response's field; Autobahn's lacks parameters that the client did not offer."""
        agreed: str = super().get_extension_string()
        if self.offer.request_no_context_takeover:
            return agreed
        return f"{agreed}; server_no_context_takeover"


def accept(offers: list[PerMessageDeflateOffer]) -> PerMessageDeflateOfferAccept:
    """Accept the first offer: the client's favourite (RFC 7692 section 5)."""
    return _Accept(offers[0])


def accept_nothing(_offers: list[PerMessageDeflateOffer]) -> None:
    """Decline all offers."""


def _is_well_formed(name: str, parameters: Parameters) -> bool:
    if name != PerMessageDeflateOffer.EXTENSION_NAME:
        return False
    try:
        PerMessageDeflateOffer.parse(parameters)
    except Exception:  # noqa: BLE001 - Autobahn raises nothing more precise
        return False
    return True
