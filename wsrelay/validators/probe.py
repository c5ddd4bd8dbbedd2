"""Credentials of the readiness probe: they let its two connections pass the validators.

Its connections carry a secret, made at start and sent to this relay only. Must not live here: the probe
(:mod:`wsrelay.admin.probe`), its exemption from limits (:mod:`wsrelay.limits.admission`).
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

#: The probe's header field with the secret.
FIELDS: Final[Mapping[str, str]] = {_FIELD: _SECRET}


def grant(request: HandshakeRequest) -> Grant | None:
    """Return the probe's grant for a request with the secret, ``None`` for any other."""
    shown = request.headers.get(_FIELD)
    if shown is None or not compare_digest(shown.encode(), _SECRET.encode()):
        return None
    return Grant(room=PROBE_ROOM)
