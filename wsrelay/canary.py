"""The canary's pass: what lets the connections with which a relay tries itself out in, and keeps them out of sight.

Pure. How it is tried out is :mod:`wsrelay.web.canary`'s. Its connections are real ones, with every limit but the
validators, of which none knows them: they show a secret that never leaves the process, but for the way to itself.
"""

import secrets
from collections.abc import Mapping
from hmac import compare_digest
from typing import Final

from wsrelay.grant import Grant
from wsrelay.request import HandshakeRequest

__all__ = ["FIELDS", "ROOM", "grant"]

#: Its room. It has an empty segment, so that no path, token or validator can name it: see
#: :func:`wsrelay.names.check_room`.
ROOM: Final = "/canary"

_FIELD: Final = "wsrelay-canary"

#: Made anew with each process.
_SECRET: Final = secrets.token_urlsafe(32)

#: What a request that shows the secret has in addition.
FIELDS: Final[Mapping[str, str]] = {_FIELD: _SECRET}


def grant(request: HandshakeRequest) -> Grant | None:
    """Return the canary's grant for a request that shows the secret; for all others ``None``."""
    shown = request.headers.get(_FIELD)
    if shown is None or not compare_digest(shown.encode("ascii"), _SECRET.encode("ascii")):
        return None
    return Grant(room=ROOM)
