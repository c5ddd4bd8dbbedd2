"""permessage-deflate (RFC 7692): which offers are taken. How messages are deflated is :mod:`wsrelay.frames`'."""

from typing import Any

from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept

__all__ = ["accept", "accept_nothing", "well_formed"]


def well_formed(extensions: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Return the well-formed permessage-deflate offers among the extensions that a client offers.

    All others must be declined (RFC 7692 section 7), but Autobahn would refuse the handshake for one.

    Args:
        extensions: (name, parameters), as Autobahn parses the header field.
    """
    return [(name, parameters) for name, parameters in extensions if _is_well_formed(name, parameters)]


def accept(offers: list[PerMessageDeflateOffer]) -> PerMessageDeflateOfferAccept:
    """Accept the first offer: the client's favourite (RFC 7692 section 5)."""
    return PerMessageDeflateOfferAccept(offers[0])


def accept_nothing(_offers: list[PerMessageDeflateOffer]) -> None:
    """Decline all offers."""


def _is_well_formed(name: str, parameters: Any) -> bool:
    if name != PerMessageDeflateOffer.EXTENSION_NAME:
        return False
    try:
        PerMessageDeflateOffer.parse(parameters)
    except Exception:  # noqa: BLE001 - Autobahn raises nothing more precise
        return False
    return True
