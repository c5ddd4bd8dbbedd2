"""Run ``wstest -m fuzzingclient`` of the Autobahn testsuite once, within a bound, and show how far it is.

Lives here: the suite's specification file, its process, its log and the files of its report. Must not live
here: what the verdicts mean.

Sequence: ``forget(folder)`` removes an old report, ``specification(...)`` is written to a file,
``run(...)`` does the rest.
"""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

#: Starts wstest. Its own script first checks for packages that we leave out, see requirements-py27.txt.
START = "from autobahntestsuite.wstest import run; run()"

#: How wstest announces each case, on a line of its own.
ANNOUNCEMENT = "Running test case ID "

#: The suite puts the name of the server before the name of each report; this is the one that it is told.
AGENT = "wsrelay"

INDEX = "index.json"

#: Told the id of each case soon after it begins.
Show = Callable[[str], None]

#: Between two looks at the log, and from SIGTERM to SIGKILL.
POLL_SECONDS = 0.2
STOP_SECONDS = 5


def forget(folder: Path) -> None:
    """Remove the files of an earlier report, and nothing else, from the folder."""
    for pattern in ("index.json", "index.html", f"{AGENT}_case_*.json", f"{AGENT}_case_*.html"):
        for path in folder.glob(pattern):
            path.unlink()


def specification(url: str, folder: Path, cases: list[str], excluded: list[str]) -> str:
    """Write what wstest shall do, as the text of its specification file.

    Args:
        url: the server to test.
        folder: where the report goes.
        cases: ids, or patterns in which ``*`` is any text.
        excluded: patterns of cases to leave out.
    """
    server = {"url": url, "agent": AGENT}
    what = {"cases": cases, "exclude-cases": excluded, "exclude-agent-cases": {}}
    return json.dumps({"outdir": str(folder), "servers": [server], **what}, indent=2)


def run(command: list[str], environ: dict[str, str], log: Path, seconds: float, show: Show) -> list[str]:
    """Run wstest to its end, or stop it.

    Args:
        command: see `command_line`.
        environ: its environment variables.
        log: gets all that it prints; overwritten.
        seconds: how long it may take.
        show: told the id of each case.

    Returns:
        What was wrong, in a list of lines: empty when it ended by itself and with 0, which says nothing of
        the cases.
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
    """Give the command of a run; unbuffered, so that its log shows the case that it is at."""
    return [str(python), "-u", "-c", START, "--mode", "fuzzingclient", "--spec", str(spec)]


def _follow(process: "subprocess.Popen[bytes]", log: Path, deadline: float, show: Show) -> bool:
    """Show the cases until the process ends (True) or its time is over (False)."""
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
    """End the process if it has not ended."""
    # Neither signal is sent to a process that has ended: Popen looks first.
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:
        process.kill()
        process.wait()
