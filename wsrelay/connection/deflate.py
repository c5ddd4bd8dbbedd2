"""permessage-deflate (RFC 7692): which offers are taken, and what comes in. What goes out is
:mod:`wsrelay.wire.frames`'.
"""

from autobahn.websocket.compress import PerMessageDeflate, PerMessageDeflateOffer, PerMessageDeflateOfferAccept

__all__ = ["Inflater", "accept", "accept_nothing", "well_formed"]

#: Parameters of an extension as Autobahn parses them: name → values, ``True`` for one without.
Parameters = dict[str, list[str | bool]]


class Inflater(PerMessageDeflate):
    """Inflates the messages of one connection; between them it keeps nothing.

    Autobahn's own keeps its decompressor, some 40 KB once a first message has come, to throw it away with the next one.
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


def well_formed(extensions: list[tuple[str, Parameters]]) -> list[tuple[str, Parameters]]:
    """Return the well-formed permessage-deflate offers among the extensions that a client offers.

    All others must be declined (RFC 7692 section 7), but Autobahn would refuse the handshake for one.

    Args:
        extensions: (name, parameters), as Autobahn parses the header field.
    """
    return [(name, parameters) for name, parameters in extensions if _is_well_formed(name, parameters)]


class _Accept(PerMessageDeflateOfferAccept):
    """Accepts an offer, without context in either direction.

    A server may demand both, whether they are offered or not (RFC 7692 sections 7.1.1.1 and 7.1.1.2). We send
    without context anyway, and a client that knows it need not keep its window.
    """

    def __init__(self, offer: PerMessageDeflateOffer) -> None:
        super().__init__(offer, request_no_context_takeover=True, no_context_takeover=True)

    def get_extension_string(self) -> str:
        """Return the value of the response's field; Autobahn's lacks what the client has not asked for."""
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
