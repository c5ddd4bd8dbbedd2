"""A slow link between two hosts on this machine: two network namespaces, joined by a pair of virtual devices.

:func:`slow_link` moves the calling thread into the first one, :meth:`SlowLink.far` for a while into the second.
Sockets, threads and processes stay where they were made. Needs Linux, root and iproute2. Imports the standard library
only, because ``bench/slow_links.py`` uses it as well.
"""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["FAR", "NEAR", "SlowLink", "problem", "slow_link"]

#: The addresses of the two hosts (RFC 5737: for documentation, so no machine has them).
NEAR: Final = "192.0.2.1"
FAR: Final = "192.0.2.2"

#: IPv4 and TCP headers.
_HEADER_BYTES: Final = 40

#: See unshare(2).
_CLONE_NEWNET: Final = 0x40000000

_LIBC: Final = ctypes.CDLL(None, use_errno=True)

#: The network namespace of the calling thread.
_OWN: Final = "/proc/thread-self/ns/net"


def problem() -> str | None:
    """Return why this machine has no slow links, with what to do; ``None`` if it has."""
    if os.geteuid():
        return "network namespaces need root: run the tests as root"
    missing = [program for program in ("ip", "tc") if shutil.which(program) is None]
    return f"{' and '.join(missing)} not installed: apt-get install iproute2" if missing else None


class SlowLink:
    """The link.

    Args:
        near: a descriptor of the first namespace.
        far: of the second one.
    """

    def __init__(self, near: int, far: int) -> None:
        self._near = near
        self._far = far

    @contextmanager
    def far(self) -> Iterator[None]:
        """Run a block on the far host; what it connects goes through the link."""
        _enter(self._far)
        try:
            yield
        finally:
            _enter(self._near)


@contextmanager
def slow_link(kbit: int, segment_bytes: int = 1400) -> Iterator[SlowLink]:
    """Run a block on the near host of a link. All is gone at the end, with the processes that were started in it.

    Args:
        kbit: the rate from near to far, in kbit/s; up to 0.4 s of it waits at the link, as in a modem.
        segment_bytes: the largest TCP segment.
    """
    home = os.open(_OWN, os.O_RDONLY)
    opened = [home]
    try:
        for _ in range(2):
            if _LIBC.unshare(_CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "unshare")
            opened.append(os.open(_OWN, os.O_RDONLY))
        _, near, far = opened
        _run("ip link add far type veth peer name near")
        _run(f"ip link set near netns /proc/self/fd/{near}", near)
        _set_up("far", FAR, segment_bytes)
        _enter(near)
        _set_up("near", NEAR, segment_bytes)
        _run(f"tc qdisc add dev near root tbf rate {kbit}kbit burst 4kb latency 400ms")
        yield SlowLink(near, far)
    finally:
        _enter(home)
        for descriptor in opened:
            os.close(descriptor)


def _set_up(device: str, address: str, segment_bytes: int) -> None:
    _run("ip link set lo up")
    _run(f"ip addr add {address}/24 dev {device}")
    _run(f"ip link set {device} mtu {segment_bytes + _HEADER_BYTES} up")


def _run(command: str, *descriptors: int) -> None:
    subprocess.run(command.split(), check=True, timeout=30, pass_fds=descriptors)


def _enter(namespace: int) -> None:
    if _LIBC.setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
