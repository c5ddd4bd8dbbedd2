"""Find the port of a third-party program that listens on port 0."""

import os
from pathlib import Path


def listening_port(pid: int) -> int:
    """Return the port of the only listening TCP socket of a process on 127.0.0.1, from /proc."""
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
