"""Some nodes of the relay with a broker of their own: a redis-server on a Unix socket, without persistence.

Usage: ``nodes.py COUNT twistd -n … wsrelay …``, in an empty folder. It says on which ports the nodes listen once all
do, and ends with 1 when one of the programs ends. All of them run on the core that it was given.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

import broker
import processes

#: Bound on the end of a program; less than that of this one.
STOP_SECONDS = processes.STOP_SECONDS - 2


def start(command: Sequence[str], log: Path) -> subprocess.Popen:
    """Start a program that is a child in our session, so that it is stopped with us in any case."""
    with log.open("wb") as output:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)


def stop(started: Sequence[subprocess.Popen]) -> None:
    """Stop all programs, the nodes before the broker."""
    for process in reversed(started):
        process.terminate()
    for process in reversed(started):
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def run(count: int, relay: Sequence[str], started: list[subprocess.Popen]) -> None:
    """Run a broker and so many nodes until one of the programs ends.

    Raises:
        processes.FailedError: one of the programs ended.
    """
    folder = Path.cwd()
    logs = [folder / name for name in ("broker.log", *(f"node-{number}.log" for number in range(count)))]
    started.append(start(broker.command(folder), logs[0]))
    broker.await_broker(started[0], folder / broker.SOCKET, logs[0])
    backplane = ["--backplane", f"redis+unix://{folder / broker.SOCKET}"]
    started += [start([*relay, *backplane], log) for log in logs[1:]]
    ports = [processes.await_ports(process, log)[0] for process, log in zip(started[1:], logs[1:], strict=True)]
    print("listening on", ",".join(map(str, ports)), flush=True)
    ended, _ = os.wait()
    failed = [log for process, log in zip(started, logs, strict=True) if process.pid == ended]
    raise processes.FailedError(f"{failed[0].stem} ended:\n{processes.tail(failed[0])}")


def end(_number: int, _frame: object) -> NoReturn:
    """End in order, which no second signal cuts short."""
    for number in processes.SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise SystemExit(0)


def main(count: str, *relay: str) -> int:
    """Run the programs, and stop all of them in any case."""
    for number in processes.SIGNALS:
        signal.signal(number, end)
    started: list[subprocess.Popen] = []
    try:
        run(int(count), relay, started)
    except processes.FailedError as failure:
        print(failure, flush=True)
    finally:
        stop(started)
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
