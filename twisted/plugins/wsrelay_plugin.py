"""The ``wsrelay`` command of ``twistd`` and ``twist``.

Data only: every twist/twistd run in the environment imports this module (TRAPS 38),
so it imports nothing but ``ServiceMaker``. Never rename the variable ``wsrelay``:
``dropin.cache`` files contain it (TRAPS 37).
"""

from twisted.application.service import ServiceMaker

wsrelay = ServiceMaker(
    "wsrelay",
    "wsrelay.tap",
    "A WebSocket relay: every message reaches everyone else in its room.",
    "wsrelay",
)
