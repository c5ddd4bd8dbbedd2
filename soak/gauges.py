"""Memory, descriptors and CPU time of a process."""

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Gauges:
    """One sample.

    Attributes:
        rss_mib: resident memory in MiB.
        descriptors: open files and sockets.
        cpu_seconds: CPU time since the start.
    """

    rss_mib: float
    descriptors: int
    cpu_seconds: float


def read(pid: int) -> Gauges:
    """Sample a process.

    Raises:
        OSError: there is no such process.
    """
    folder = Path("/proc") / str(pid)
    times = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[11:13]
    return Gauges(
        rss_mib(pid),
        len(list((folder / "fd").iterdir())),
        sum(map(int, times)) / _TICKS_PER_SECOND,
    )


def rss_mib(pid: int) -> float:
    """Return the resident memory of a process, in MiB.

    Raises:
        OSError: there is no such process.
    """
    resident = int((Path("/proc") / str(pid) / "statm").read_text(encoding="ascii").split()[1])
    return round(resident * _PAGE_BYTES / 2**20, 3)
