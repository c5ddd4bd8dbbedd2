"""Tells ``twistd`` and ``twist`` that there is a ``wsrelay`` command.

Data only: every twist/twistd run in the environment imports this module (TRAPS 38),
so nothing but ``ServiceMaker`` may be imported here. The name ``wsrelay`` below must
never change: ``dropin.cache`` files remember it.
"""

from twisted.application.service import ServiceMaker

wsrelay = ServiceMaker(
    "wsrelay",
    "wsrelay.tap",
    "A WebSocket relay: every message reaches everyone else in its room.",
    "wsrelay",
)
