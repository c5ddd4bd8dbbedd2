"""Run the relay's command, and programs of this folder beside it that report at their end as JSON."""

import json
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "bench"))  # for bench/processes.py

import processes

#: Bound on the end of a helper.
END_SECONDS = 30


def command_line(options: list[str], listen: str = "tcp:0:interface=127.0.0.1") -> list[str]:
    """Return the command of the relay."""
    twistd = str(Path(sysconfig.get_path("scripts")) / "twistd")
    return [twistd, "-n", "--pidfile=", "wsrelay", "--listen", listen, *options]


@contextmanager
def helper(core: int, script: str, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """Run one of the other programs of this folder while the block runs, and always stop it."""
    command = ["taskset", "-c", str(core), sys.executable, str(HERE / script), *arguments]
    command = command if shutil.which("taskset") else command[3:]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def said(process: "subprocess.Popen[str]", name: str, seconds: float = END_SECONDS) -> Any:
    """Return what a helper prints in the end.

    Args:
        process: the helper.
        name: for the failure.
        seconds: bound on its end.

    Raises:
        processes.FailedError: it did not end in time, or printed something else.
    """
    try:
        output, _ = process.communicate(timeout=seconds)
        return json.loads(output)
    except (subprocess.TimeoutExpired, ValueError) as failure:
        raise processes.FailedError(f"{name} did not report: {failure}") from failure
