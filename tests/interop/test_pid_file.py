"""twistd's PID file: the documented commands start again after ``kill -9``, also as process 1 of a container."""

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.harness.live import LISTENING, LOOPBACK, SCRIPTS, Process, require, run

pytestmark = pytest.mark.interop

README = Path(__file__).parents[2] / "README.md"


def documented() -> list[str]:
    """Return README's first command under "Using it"."""
    (line,) = re.findall(r"^## Using it\n\n```sh\n(.*)$", README.read_text("utf-8"), re.MULTILINE)
    return shlex.split(line, comments=True)


def as_process_1(command: Sequence[str]) -> list[str]:
    """Return a command that runs another as process 1 of a PID namespace; skip where that is not permitted."""
    program, *arguments = command
    unshare = [require("unshare"), "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
    if run(*unshare, "true").returncode:
        refuse = pytest.fail if os.environ.get("CI") else pytest.skip
        refuse("user namespaces are not permitted here: unshare --user fails")
    return [*unshare, str(SCRIPTS / program), *arguments, "--listen", LOOPBACK]


@pytest.mark.parametrize("which", ["README", "default"])
def test_start_after_kill(which: str, tmp_path: Path) -> None:
    """A container whose process 1 was killed starts again, with README's command and with twistd's default PID file."""
    command = documented() if which == "README" else ["twistd", "--nodaemon", "wsrelay"]
    for _ in range(3):
        with Process(as_process_1(command), str(tmp_path)) as process:
            process.output.wait_for(LISTENING)
        left = [(path.name, path.read_text()) for path in tmp_path.iterdir()]
        assert left == ([] if which == "README" else [("twistd.pid", "1")])


def test_pid_file_of_other_process(tmp_path: Path) -> None:
    """A PID file that names another running process is left to twistd, which refuses to start."""
    (tmp_path / "twistd.pid").write_text(str(os.getpid()))
    ended = run(SCRIPTS / "twistd", "--nodaemon", "wsrelay", "--listen", LOOPBACK, cwd=tmp_path)
    assert ended.returncode == 1
    assert f"Another twistd server is running, PID {os.getpid()}\n" in ended.stdout
    assert (tmp_path / "twistd.pid").exists()
