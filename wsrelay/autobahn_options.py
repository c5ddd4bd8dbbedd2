"""Settings applied to Autobahn: every option it has, set once, and where connections find them.

What the options mean to users is :mod:`wsrelay.settings`'; which compression offers are taken is
:mod:`wsrelay.deflate`'s.
"""

from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory

from wsrelay import deflate
from wsrelay.autobahn_protocol import initial_attributes, share_names
from wsrelay.connection import Connection
from wsrelay.settings import Settings

__all__ = ["autobahn_options", "configured"]


def autobahn_options(settings: Settings) -> dict[str, Any]:
    """Return every protocol option of Autobahn, for one single call (a second one resets some: TRAPS 17)."""
    return {
        "versions": [13],  # 8 takes the origin from another field (TRAPS 15)
        "webStatus": False,  # it is an open redirect (TRAPS 14)
        "utf8validateIncoming": True,
        "requireMaskedClientFrames": True,
        "maskServerFrames": False,
        "applyMask": True,
        # Unlimited by default (TRAPS 21). Nothing goes out through Autobahn that these could apply to.
        "maxFramePayloadSize": _autobahn_limit_bytes(settings),
        "maxMessagePayloadSize": _autobahn_limit_bytes(settings),
        "autoFragmentSize": 0,
        "failByDrop": False,  # peers should see 1002, 1007 and 1009, not 1006 (TRAPS 22)
        "echoCloseCodeReason": False,  # Connection.sendCloseFrame echoes the code
        "tcpNoDelay": True,
        "perMessageCompressionAccept": deflate.accept_nothing if settings.no_compress else deflate.accept,
        # Timers: the sweep's (TRAPS 29).
        "openHandshakeTimeout": 0,
        "closeHandshakeTimeout": 0,
        "autoPingInterval": 0,
        "autoPingTimeout": 0,
        "autoPingSize": 12,
        "autoPingRestartOnAnyTraffic": False,
        "serveFlashSocketPolicy": False,
        "flashSocketPolicy": "",
        # Origins are the origin validator's: Autobahn's patterns match suffixes (TRAPS 16).
        "allowedOrigins": ["*"],
        "allowNullOrigin": True,
        "maxConnections": 0,  # ours: wsrelay.limits.admission (TRAPS 18)
        "trustXForwardedFor": 0,  # it would not ask whether the peer is a proxy (TRAPS 19)
    }


def _autobahn_limit_bytes(settings: Settings) -> int:
    """Return where Autobahn stops reading a message; ``RelayProtocol.onMessage`` has the exact limit.

    Autobahn counts deflated bytes, too, and noise gets longer by being deflated (5 bytes for each stored block, of at
    most 64 KiB); and what inflates to just its limit is over it.
    """
    limit = settings.max_message_bytes
    return limit if settings.no_compress else limit + limit // 256 + 1024


def configured(protocol: type[Connection], factory: WebSocketServerFactory) -> type[Connection]:
    """Return a protocol class with Autobahn's options, and the rest of what it sets, as class attributes.

    Args:
        protocol: the class.
        factory: has had its :func:`autobahn_options` set.

    Otherwise each connection would copy them (TRAPS 7), and ``setTcpNoDelay`` come before that, so that it would
    never be called (TRAPS 1).
    """
    configured = type(protocol.__name__, (protocol,), {"CONFIG_ATTRS": (), **initial_attributes(factory)})
    share_names(configured)
    return configured
