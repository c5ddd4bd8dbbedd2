"""What a relay says of itself when it starts: versions, and the limits that it runs with."""

import platform
from importlib.metadata import version
from typing import Any, Final

import twisted
from wsrelay import __version__
from wsrelay.settings import Settings

__all__ = ["announcement"]

#: What an operator asks for first, beside the number of connections.
_LIMITS: Final = (
    "max_connections_per_address",
    "max_message_bytes",
    "memory_budget",
    "room_log_bytes",
    "drain_seconds",
)


def announcement(settings: Settings, max_connections: int, reactor: Any) -> list[str]:
    """Return the lines.

    Args:
        settings: what it runs with.
        max_connections: how many it takes, which the settings may leave to the limit on open files.
        reactor: what it runs on.
    """
    versions = {
        "wsrelay": __version__,
        "Python": platform.python_version(),
        "Twisted": f"{twisted.__version__} with {type(reactor).__name__}",
        "Autobahn": version("autobahn"),
    }
    limits = {"max_connections": max_connections} | {name: getattr(settings, name) for name in _LIMITS}
    return [
        "started: " + ", ".join(f"{name} {number}" for name, number in versions.items()),
        "limits: " + " ".join(f"{name.replace('_', '-')}={value:.16g}" for name, value in limits.items()),
    ]
