"""Credentials of the readiness probe: they let its two connections pass the validators.

Pure. The probe itself is :mod:`wsrelay.admin.probe`. Its connections are subject to every limit but the validators,
none of which can know them: they show a secret that is made at start and never leaves the process, except to the relay
itself.
"""

import secrets
from collections.abc import Mapping
from hmac import compare_digest
from typing import Final

from wsrelay.grant import Grant
from wsrelay.names import PROBE_ROOM
from wsrelay.request import HandshakeRequest

__all__ = ["FIELDS", "grant"]

_FIELD: Final = "wsrelay-canary"

#: Made anew in each process.
_SECRET: Final = secrets.token_urlsafe(32)

#: The header field that shows the secret, as the probe sends it.
FIELDS: Final[Mapping[str, str]] = {_FIELD: _SECRET}


def grant(request: HandshakeRequest) -> Grant | None:
    """Return the probe's grant for a request that shows the secret, ``None`` for any other request."""
    shown = request.headers.get(_FIELD)
    if shown is None or not compare_digest(shown.encode("ascii"), _SECRET.encode("ascii")):
        return None
    return Grant(room=PROBE_ROOM)
