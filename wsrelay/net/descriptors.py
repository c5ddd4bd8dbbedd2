"""How many connections the limit on open files leaves room for (RLIMIT_NOFILE)."""

import os
import resource
from contextlib import suppress
from typing import Final

from wsrelay.errors import SettingsError

__all__ = ["check_limit", "most_connections", "raise_limit"]

#: What is not given to connections, if there are enough: for a whole backlog that is accepted in one turn and dropped
#: at the end of it, for those that are told that there are too many, for validators that ask a back end, for log files.
MARGIN: Final = 1280

#: Where there is no limit at all.
_PLENTY: Final = 2**20


def raise_limit() -> None:
    """Raise the limit of this process to its hard limit, as any process may."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(ValueError, OSError):  # some systems allow less than they say; then it stays as it is
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def most_connections(*, raised: bool = False) -> int:
    """Return how many connections the limit leaves room for.

    That is, as many as files may be open, less those that are, and less a quarter of the rest, but no more than
    :data:`MARGIN`; at least 1.

    Args:
        raised: whether the limit is taken as :func:`raise_limit` leaves it, not as it is now.
    """
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[raised]
    free = (_PLENTY if limit == resource.RLIM_INFINITY else limit) - _open_files()
    return max(1, free - min(MARGIN, free // 4))


def check_limit(max_connections: int) -> None:
    """Raise ``SettingsError`` unless the limit leaves room for as many connections; asked before there are any."""
    most = most_connections(raised=True)
    if max_connections > most:
        problem = f"max_connections: the limit on open files leaves room for {most}, not for {max_connections}; "
        raise SettingsError([problem + "raise it (ulimit -Hn, LimitNOFILE=) or allow fewer"])


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"))
