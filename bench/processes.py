"""Start programs on a core of their own, and stop them, always and in bounded time.

Lives here: processes, cores, logs. Must not live here: what is measured.
"""

import os
import re
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

#: What a server says when it listens. Only whole lines count, so that no half-written port is read.
#: Several nodes name their ports in one line, with commas.
LISTENING = re.compile(r"(?:listening on |wss?://127\.0\.0\.1:)([1-9][0-9]*(?:,[1-9][0-9]*)*)\b.*\n")

#: What ends us.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

#: Bounds: from start to listening, from SIGTERM to exit, between two looks.
START_SECONDS = 30
STOP_SECONDS = 8
POLL_SECONDS = 0.02

TAIL_LINES = 6


class FailedError(Exception):
    """A program did not do what it is there for; the text says what happened."""


def raise_descriptor_limit() -> None:
    """Allow as many open files as we may, for all programs that are started from now on."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def cores() -> tuple[int, int]:
    """Choose a core for the servers and one for the load generator; the same one where there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back the signals that end us while the block runs, so that nothing is half started or half stopped."""
    held: list[int] = []
    usual = {number: signal.signal(number, lambda number, _: held.append(number)) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
        for number in held:
            signal.raise_signal(number)


@contextmanager
def running(
    command: Sequence[str],
    core: int,
    folder: Path,
    environ: Mapping[str, str],
    stdout: IO,
    stderr: IO,
    descriptors: Sequence[int] = (),
) -> Iterator[subprocess.Popen]:
    """Run a program while the block runs, and always stop it.

    Args:
        command: what to run.
        core: where.
        folder: its working directory.
        environ: what its environment has besides ours, without any option of a relay.
        stdout: the file for what it prints.
        stderr: the file for what else it prints.
        descriptors: what it inherits besides.
    """
    started: list[subprocess.Popen] = []
    try:
        with uninterrupted():
            started.append(_popen(command, core, folder, environ, stdout, stderr, descriptors))
        yield started[0]
    finally:
        try:
            with uninterrupted():
                stop(*started)
        finally:
            stop(*started)  # where a signal came just before signals were held back; the next one is ignored


def _popen(
    command: Sequence[str],
    core: int,
    folder: Path,
    environ: Mapping[str, str],
    stdout: IO,
    stderr: IO,
    descriptors: Sequence[int],
) -> subprocess.Popen:
    """Start a program on one core, which holds for its threads and children as well."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("WSRELAY_")}
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})  # which children inherit
    try:
        return subprocess.Popen(
            command,
            cwd=folder,
            env={**ours, **environ},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            # Ctrl-C is for us, who then stop it in order.
            start_new_session=True,
            pass_fds=descriptors,
        )
    finally:
        os.sched_setaffinity(0, allowed)


def stop(*started: subprocess.Popen) -> None:
    """End programs with SIGTERM, or with SIGKILL when that takes too long, and their children with them."""
    for process in started:
        family = tree(process.pid) if process.poll() is None else []
        process.terminate()  # does nothing to a process that has ended
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        process.kill()
        process.wait()
        for pid in family[1:]:
            _kill_orphan(pid, process.pid)


def _kill_orphan(pid: int, session: int) -> None:
    """Kill what a program has left behind. Its session shows that the id has not gone to somebody else."""
    with suppress(ProcessLookupError):
        if os.getsid(pid) == session:
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + STOP_SECONDS
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def tree(pid: int) -> list[int]:
    """Give the ids of a process and all that it has started, itself first."""
    found = [pid]
    for parent in found:
        with suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (task / "children").read_text(encoding="ascii").split())
    return found


def program(pid: int) -> str:
    """Return the name of the program that a process runs; empty once it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def is_alive(pid: int) -> bool:
    """Whether a process has not ended; one that nobody has waited for has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextmanager
def listening(command: Sequence[str], core: int, folder: Path, environ: Mapping[str, str]) -> Iterator[tuple[int, int]]:
    """Run a server while the block runs.

    Yields:
        Its process id and its port, or its first one.

    Raises:
        FailedError: it did not start.
    """
    with listening_nodes(command, core, folder, environ) as (pid, ports):
        yield pid, ports[0]


@contextmanager
def listening_nodes(
    command: Sequence[str], core: int, folder: Path, environ: Mapping[str, str]
) -> Iterator[tuple[int, list[int]]]:
    """Run a server of one or more nodes while the block runs.

    Yields:
        Its process id and its ports.

    Raises:
        FailedError: it did not start.
    """
    log = folder / "server.log"
    with log.open("wb") as output, running(command, core, folder, environ, output, output) as process:
        yield process.pid, await_ports(process, log)
        if process.poll() is not None:
            raise FailedError(f"the server ended with {process.returncode}:\n{tail(log)}")


def await_ports(process: subprocess.Popen, log: Path) -> list[int]:
    """Wait until a server says on which ports it listens, and does.

    Raises:
        FailedError: it ended, or did not within `START_SECONDS`.
    """
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        found = LISTENING.search(log.read_text("utf-8", errors="replace"))
        ports = [int(port) for port in found[1].split(",")] if found else []
        if ports and all(map(_accepts, ports)):
            return ports
        if process.poll() is not None:
            raise FailedError(f"the server ended with {process.returncode} at its start:\n{tail(log)}")
        time.sleep(POLL_SECONDS)
    raise FailedError(f"the server did not listen within {START_SECONDS} s:\n{tail(log)}")


def _accepts(port: int) -> bool:
    """Whether somebody listens there: some say so just before they do."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def output_of(command: Sequence[str], core: int, folder: Path, seconds: float) -> tuple[int, str, str]:
    """Run a program to its end.

    Returns:
        Its exit code, what it printed to stdout, and the end of what it printed to stderr.

    Raises:
        FailedError: it did not end in time.
    """
    results, log = folder / "load.out", folder / "load.log"
    with (
        results.open("wb") as output,
        log.open("wb") as errors,
        running(command, core, folder, {}, output, errors) as process,
    ):
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired as failure:
            raise FailedError(f"did not end within {seconds:.0f} s") from failure
    return process.returncode, results.read_text("utf-8", errors="replace"), tail(log)


def tail(log: Path) -> str:
    """Give the last lines of a log."""
    return "\n".join(log.read_text("utf-8", errors="replace").splitlines()[-TAIL_LINES:])
