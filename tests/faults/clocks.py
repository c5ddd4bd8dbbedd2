"""Processes with a wall clock that tests set while they run; their monotonic clock is the machine's."""

import struct
import time
from pathlib import Path

from tests.harness.live import require, run

#: The C source of the shim.
SOURCE = Path(__file__).resolve().parent / "clock.c"


def compiled(folder: Path) -> Path:
    """Compile the shim into a folder, and return it."""
    shim = folder / "clock.so"
    done = run(require("cc"), "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", shim, SOURCE)
    assert done.returncode == 0, done.stdout
    return shim


class WallClock:
    """The wall clock of some processes.

    Args:
        shim: see :func:`compiled`.
        file: a path for the shift; made here.

    Attributes:
        environ: the environment of the processes.
        shift: seconds ahead of the machine's clock.
    """

    def __init__(self, shim: Path, file: Path) -> None:
        self._file = file
        file.touch()
        self.environ = {"LD_PRELOAD": str(shim), "CLOCK_SHIFT": str(file)}
        self.shift = 0
        self.step(0)

    def step(self, seconds: int) -> None:
        """Set it forward, or back."""
        self.shift += seconds
        with self._file.open("r+b") as file:  # in place: it is mapped
            file.write(struct.pack("@l", self.shift))

    def now(self) -> float:
        """Return its time, in seconds since the epoch."""
        return time.time() + self.shift
