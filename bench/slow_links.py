#!/usr/bin/env python3
"""Members on a slow link, by slow policy: their close codes, and the ages of messages when they are read.

Usage: ``sudo bench/slow_links.py [--kbit 256,2000] [--policies latest,…] [--seconds 90] [--nginx [OPTIONS]]``, with the
Python of an environment that has wsrelay and websockets installed. Each run has a network of its own (Linux, root,
iproute2), in which a room gets three times what the link carries. All run at the same time, as they need little of the
machine. Exit codes: 0 it ran, 1 something failed.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

import processes
import servers
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.harness import network

#: The size of a message, and how much more is published than the link carries.
MESSAGE_BYTES = 2000
OVERLOAD = 3

#: Where the relay, and nginx, listen at the link; nothing else does there.
PORT, PROXY_PORT = 8080, 8081

#: The share of a run, from its beginning, whose messages are not in the ages: buffers fill.
WARMUP_SHARE = 1 / 3

NGINX = """
daemon off; pid nginx.pid; error_log stderr error; worker_processes 1; events {{ }}
http {{
  access_log off; client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  server {{
    listen {near}:{proxy} {options};
    location / {{
      proxy_pass http://127.0.0.1:{port}; proxy_http_version 1.1; proxy_read_timeout 1h;
      proxy_set_header Host $host; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";
    }}
  }}
}}
"""


@dataclass
class Outcome:
    """What the member on the slow link saw.

    Attributes:
        ages: of its messages, in seconds.
        end: close code and reason; empty: it was still open at the end.
        after_seconds: when it was closed.
    """

    ages: list[float] = field(default_factory=list)
    end: str = ""
    after_seconds: float = 0.0

    def row(self) -> str:
        """Return its part of the table."""
        end = f"{self.end}, after {self.after_seconds:.0f} s" if self.end else "stays"
        if not self.ages:
            return f"{end} | 0 | | |"
        ages = sorted(self.ages)
        p95 = ages[int(0.95 * (len(ages) - 1))]
        return f"{end} | {len(ages)} | {statistics.median(ages):.1f} | {p95:.1f} | {ages[-1]:.1f}"


def publish(url: str, kbit: int, until: threading.Event) -> None:
    """Publish the time, in messages of one size, at three times the link's rate."""
    every_seconds = MESSAGE_BYTES * 8 / (kbit * 1000 * OVERLOAD)
    with connect(url, compression=None) as publisher:
        due = time.monotonic()
        while not until.wait(max(0.0, due - time.monotonic())):
            publisher.send(f"{time.monotonic():.6f}".ljust(MESSAGE_BYTES))
            due += every_seconds


def read(member: ClientConnection, seconds: float) -> Outcome:
    """Read as fast as the link brings it."""
    outcome, begun = Outcome(), time.monotonic()
    try:
        while (passed := time.monotonic() - begun) < seconds:
            message = member.recv(seconds)
            if passed > seconds * WARMUP_SHARE:
                outcome.ages.append(time.monotonic() - float(message))
    except ConnectionClosed as error:
        outcome.after_seconds = time.monotonic() - begun
        outcome.end = f"{error.rcvd.code} {error.rcvd.reason!r}" if error.rcvd else "1006, no close frame"
    return outcome


def measure(policy: str, kbit: int, options: argparse.Namespace) -> Outcome:
    """Run a relay, a publisher beside it, and a member behind a link of its own."""
    core, _ = processes.cores()
    relay = servers.BY_NAME[servers.RELAY].command_line(False, servers.places())
    command = [*relay, "--slow-policy", policy, "--listen", f"tcp:{PORT}:interface={network.NEAR}"]
    with network.slow_link(kbit) as link, tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        _, port = stack.enter_context(processes.listening(command, core, Path(folder), {}))
        if options.nginx is not None:
            Path(folder, "nginx.conf").write_text(
                NGINX.format(near=network.NEAR, proxy=PROXY_PORT, options=options.nginx, port=port)
            )
            nginx = ["nginx", "-p", folder, "-c", "nginx.conf", "-e", "stderr"]
            output = stack.enter_context(Path(folder, "nginx.log").open("wb"))
            stack.enter_context(processes.running(nginx, core, Path(folder), {}, output, output))
        with link.far():
            member = stack.enter_context(member_at(PORT if options.nginx is None else PROXY_PORT))
        until = threading.Event()
        publisher = threading.Thread(target=publish, args=(f"ws://127.0.0.1:{port}/room", kbit, until))
        publisher.start()
        try:
            return read(member, options.seconds)
        finally:
            until.set()
            publisher.join()


def member_at(port: int) -> ClientConnection:
    """Connect the member; a proxy may not listen yet."""
    deadline = time.monotonic() + processes.START_SECONDS
    while True:
        try:
            return connect(f"ws://{network.NEAR}:{port}/room", compression=None, max_queue=1, ping_interval=None)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(processes.POLL_SECONDS)


def main(arguments: list[str]) -> int:
    """Measure all policies on all links, and print a table."""
    parser = argparse.ArgumentParser(description="What a member on a slow link gets.")
    parser.add_argument("--kbit", default="256,2000", help="links, in kbit/s; default 256,2000")
    parser.add_argument("--policies", default="disconnect,drop-oldest,latest", help="all but pause-publishers")
    parser.add_argument("--seconds", type=float, default=90.0, help="of each run; default 90")
    parser.add_argument("--nginx", nargs="?", const="", metavar="OPTIONS", help="behind nginx; its listen's options")
    parser.add_argument("--one", nargs=2, metavar=("POLICY", "KBIT"), help="one run, as a line of JSON")
    options = parser.parse_args(arguments)
    if (problem := network.problem()) is not None:
        parser.error(problem)
    if options.one:
        print(json.dumps(asdict(measure(options.one[0], int(options.one[1]), options))))
        return 0
    runs = [(policy, kbit) for kbit in options.kbit.split(",") for policy in options.policies.split(",")]
    # All at the same time, each in a process of its own: a run needs little of the machine.
    with ThreadPoolExecutor(len(runs)) as pool:
        outcomes = list(pool.map(lambda run: run_one([*arguments, "--one", *run]), runs))
    print("| kbit/s | policy | the member | messages | age: median, s | 95 %, s | oldest, s |")
    print("| ---: | --- | --- | ---: | ---: | ---: | ---: |")
    for (policy, kbit), outcome in zip(runs, outcomes, strict=True):
        print(f"| {kbit} | {policy} | {outcome.row()} |")
    return 0


def run_one(arguments: list[str]) -> Outcome:
    """Do one run in another process."""
    command = [sys.executable, __file__, *arguments]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return Outcome(**json.loads(printed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
