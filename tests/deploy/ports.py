"""Where a program of somebody else's listens, when it was told to take any port."""

import os
from pathlib import Path


def listening_port(pid: int) -> int:
    """Return the port of the one TCP socket on 127.0.0.1 that a process listens on, as the kernel knows it."""
    own = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        target = os.readlink(descriptor)
        if target.startswith("socket:["):
            own.add(target.removeprefix("socket:[").removesuffix("]"))
    found = []
    for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]:
        words = line.split()
        address, state, inode = words[1], words[3], words[9]
        if state == "0A" and inode in own and address.startswith("0100007F:"):
            found.append(int(address.partition(":")[2], 16))
    (port,) = found
    return port
