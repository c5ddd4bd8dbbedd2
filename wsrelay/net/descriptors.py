"""The maximum number of connections under the limit on open files (RLIMIT_NOFILE).

Must not live here: counting connections (:mod:`wsrelay.limits.admission`).
"""

import os
import resource
from contextlib import suppress
from typing import Final

from wsrelay.errors import SettingsError

__all__ = ["check_limit", "most_connections", "raise_limit"]

#: File descriptors reserved for accept bursts (a whole backlog in one turn), refusals and logs.
MARGIN: Final = 1280

#: File descriptors that a relay needs for itself when it starts: the reactor's, and what listens.
OWN_FILES: Final = 16

_HOW: Final = "(ulimit -Hn, LimitNOFILE=)"

#: Stands for no limit (RLIM_INFINITY).
_PLENTY: Final = 2**20


def raise_limit() -> None:
    """Raise this process's soft limit to its hard limit; needs no privilege."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(ValueError, OSError):  # some systems refuse their own hard limit; keep the soft one
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def most_connections(reserved: int = 0, *, raised: bool = False) -> int:
    """Return the maximum number of connections.

    The limit on open files, minus the open ones and the reserved, minus a margin: a quarter of the rest, at most
    :data:`MARGIN`. At least 1.

    Args:
        reserved: file descriptors that validators may use.
        raised: ``True`` for the limit after :func:`raise_limit`, ``False`` for the current one.
    """
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[raised]
    free = (_PLENTY if limit == resource.RLIM_INFINITY else limit) - _open_files() - reserved
    return max(1, free - min(MARGIN, free // 4))


def check_limit(max_connections: int, reserved: int = 0) -> None:
    """Raise ``SettingsError`` if ``max_connections`` exceeds the limit, or nothing is left for connections.

    Called at start, without connections.
    """
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if limit != resource.RLIM_INFINITY and limit - _open_files() - reserved < OWN_FILES:
        raise SettingsError([f"the limit on open files, {limit}, is too low for a relay; raise it {_HOW}"])
    most = most_connections(reserved, raised=True)
    if max_connections > most:
        problem = f"max_connections: the limit on open files leaves room for {most}, not for {max_connections}; "
        raise SettingsError([f"{problem}raise it {_HOW}, or allow fewer"])


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"))
