"""Run ``wstest -m fuzzingclient`` of the Autobahn testsuite once, with a timeout, and show its progress.

Lives here: the specification file of the suite, its process, log and report files. Must not live here: the meaning of
verdicts.

Sequence: ``forget(folder)`` removes an old report, ``specification(...)`` is written to a file, ``run(...)`` runs it.
"""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

#: Starts wstest. Its own script checks for packages that are not installed, see requirements-py27.txt.
START = "from autobahntestsuite.wstest import run; run()"

#: Log line of wstest at the start of a case.
ANNOUNCEMENT = "Running test case ID "

#: Name of the server; prefix of the report files.
AGENT = "wsrelay"

INDEX = "index.json"

#: Called with the id of each case soon after its start.
Show = Callable[[str], None]

#: Seconds: interval of polls of the log, and from SIGTERM to SIGKILL.
POLL_SECONDS = 0.2
STOP_SECONDS = 5


def forget(folder: Path) -> None:
    """Remove only the files of an earlier report from the folder."""
    for pattern in ("index.json", "index.html", f"{AGENT}_case_*.json", f"{AGENT}_case_*.html"):
        for path in folder.glob(pattern):
            path.unlink()


def specification(url: str, folder: Path, cases: list[str], excluded: list[str]) -> str:
    """Return the text of the specification file.

    Args:
        url: the server to test.
        folder: of the report.
        cases: ids, or patterns in which ``*`` is any text.
        excluded: patterns of excluded cases.
    """
    server = {"url": url, "agent": AGENT}
    what = {"cases": cases, "exclude-cases": excluded, "exclude-agent-cases": {}}
    return json.dumps({"outdir": str(folder), "servers": [server], **what}, indent=2)


def run(command: list[str], environ: dict[str, str], log: Path, seconds: float, show: Show) -> list[str]:
    """Run wstest, and stop it after a timeout.

    Args:
        command: see `command_line`.
        environ: its environment variables.
        log: file for its output; overwritten.
        seconds: the timeout.
        show: called with the id of each case.

    Returns:
        Faults, one per line; empty if it exited with 0, which says nothing about the cases.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        ended = _follow(process, log, time.monotonic() + seconds, show)
    finally:
        _stop(process)
    if not ended:
        return [f"wstest did not end within {seconds:.0f} s and was stopped, see {log}"]
    return [f"wstest ended with {process.returncode}, see {log}"] if process.returncode else []


def command_line(python: Path, spec: Path) -> list[str]:
    """Return the command of a run; unbuffered, so that its log shows the running case."""
    return [str(python), "-u", "-c", START, "--mode", "fuzzingclient", "--spec", str(spec)]


def _follow(process: "subprocess.Popen[bytes]", log: Path, deadline: float, show: Show) -> bool:
    """Show the cases until the process ends (True) or times out (False)."""
    with log.open(encoding="utf-8", errors="replace") as lines:
        while time.monotonic() < deadline:
            ended = process.poll() is not None
            for line in lines:
                if line.startswith(ANNOUNCEMENT):
                    show(line.removeprefix(ANNOUNCEMENT).partition(" ")[0])
            if ended:
                return True
            time.sleep(POLL_SECONDS)
    return False


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End the process if it is running."""
    # Popen sends no signal to an ended process.
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:
        process.kill()
        process.wait()
