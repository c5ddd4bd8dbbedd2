#!/usr/bin/env python3
"""What members that never read cost the others: memory of the relay and throughput of the readers, by slow policy.

Usage: ``bench/slow.py [--stalled 1000] [--readers 20] [--seconds 6] [--repeats 3]``, with the Python of an environment
that has wsrelay installed. In one room, one member publishes, some read and check every message, and some never read;
the runs without those are between the others. Exit codes: 0 it ran, 1 something failed.
"""

import argparse
import json
import re
import socket
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import processes
import servers
import toolchain

from wsrelay.policies import SLOW_POLICIES

MIB = 2**20

#: Time for publishers that are held to go on, and for who was evicted to be gone.
WARMUP_SECONDS = 6
SLOW_SECONDS = 2
GRACE_SECONDS = 60

#: Where the load generator's first room is.
REQUEST = (
    b"GET /bench-0 HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@dataclass(frozen=True)
class Outcome:
    """What one run has shown.

    Attributes:
        per_second: deliveries to readers.
        cpu_us: of the relay, per delivery; where others use the machine, this is what to compare.
        passed_bytes: what passed through the room while it was measured; more did before.
        grown_bytes: the most that the relay had resident, less what it had when all were there.
    """

    per_second: float
    cpu_us: float
    passed_bytes: float
    grown_bytes: int


def memory_bytes(pid: int, field: str) -> int:
    """Return a field of /proc/PID/status: VmRSS is what is resident now, VmHWM the most that was."""
    found = re.search(rf"^{field}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text("ascii"), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


@contextmanager
def stalled(count: int, port: int) -> Iterator[None]:
    """Open connections that never read more than their 101."""
    with ExitStack() as stack:
        for _ in range(count):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(GRACE_SECONDS)
            connection.connect(("127.0.0.1", port))
            connection.sendall(REQUEST)
            if not connection.recv(12).endswith(b"101"):
                raise processes.FailedError("a member that is to stall was refused")
        yield


def measure(policy: str, count: int, options: argparse.Namespace) -> Outcome:
    """Run the relay with a policy, let some members stall and others read.

    Raises:
        processes.FailedError: something went wrong, a message that did not arrive included.
    """
    server_core, load_core = processes.cores()
    relay = servers.BY_NAME[servers.RELAY].command_line(False, servers.places())
    command = [*relay, "--slow-policy", policy, "--slow-seconds", str(SLOW_SECONDS), "--close-seconds", "1"]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        pid, port = stack.enter_context(processes.listening(command, server_core, Path(folder), {}))
        stack.enter_context(stalled(count, port))
        before_bytes = memory_bytes(pid, "VmRSS")
        words = {
            "port": port, "pids": pid, "members": options.readers + 1, "publishers": 1, "window": 16,
            "size": options.size, "warmup": WARMUP_SECONDS, "seconds": options.seconds, "drain": GRACE_SECONDS / 2,
        }  # fmt: skip
        load = [
            str(toolchain.compiled("load")),
            *(word for name, value in words.items() for word in (f"--{name}", str(value))),
        ]
        bound = WARMUP_SECONDS + options.seconds + GRACE_SECONDS
        code, printed, errors = processes.output_of(load, load_core, Path(folder), bound)
        grown_bytes = memory_bytes(pid, "VmHWM") - before_bytes
    if code:
        raise processes.FailedError(f"{policy}: the load generator ended with {code}: {errors} {printed}")
    outcome = json.loads(printed)
    passed_bytes = outcome["messages"] * options.size
    cpu_us = outcome["server_cpu_us_per_delivery"]
    return Outcome(outcome["deliveries_per_second"], cpu_us, passed_bytes, grown_bytes)


def median(outcomes: list[Outcome], name: str) -> float:
    """Return the median of an attribute."""
    return statistics.median(getattr(outcome, name) for outcome in outcomes)


def main(arguments: list[str]) -> int:
    """Measure all policies, and print a table."""
    parser = argparse.ArgumentParser(description="What members that never read cost the others.")
    for name, value in {"stalled": 1000, "readers": 20, "seconds": 6, "repeats": 3, "size": 1024}.items():
        parser.add_argument(f"--{name}", type=int, default=value, help=f"default {value}")
    parser.add_argument("--policies", default=",".join(SLOW_POLICIES), help="default all")
    options = parser.parse_args(arguments)
    processes.raise_descriptor_limit()
    runs = [(policy, count) for policy in options.policies.split(",") for count in (0, options.stalled)]
    found: dict[tuple[str, int], list[Outcome]] = {run: [] for run in runs}
    for _ in range(options.repeats):
        for run in runs:
            found[run].append(measure(*run, options))
            print(*run, found[run][-1], file=sys.stderr, flush=True)
    print(f"| policy | deliveries/s | with {options.stalled} that never read | CPU | memory | passed |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for policy, count in runs[1::2]:
        alone, beside = median(found[policy, 0], "per_second"), median(found[policy, count], "per_second")
        cpu = median(found[policy, count], "cpu_us") / median(found[policy, 0], "cpu_us")
        grown, passed = (median(found[policy, count], name) / MIB for name in ("grown_bytes", "passed_bytes"))
        print(
            f"| {policy} | {alone:,.0f} | {beside:,.0f} ({beside / alone:.0%}) | {cpu:.0%} | +{grown:.1f} MiB |"
            f" {passed:,.0f} MiB |"
        )
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (processes.FailedError, toolchain.MissingError) as failure:
        sys.exit(str(failure))
