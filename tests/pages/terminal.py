"""A terminal of a reader of the pages: commands as they are written, but for ports, in a folder of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.harness.live import LISTENING, LOOPBACK, SCRIPTS, Process, run

#: Beginnings of commands on the pages that stand for the environment of the tests.
ENVIRONMENTS = re.compile(r"(?<![\w/.])(?:\.venv|/opt/wsrelay|~/wsrelay)/bin/")


class Terminal:
    """A folder with commands in it.

    Args:
        folder: the working folder; ``wsrelay``, ``twistd`` and ``websockets`` are found.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        scripts = folder / ".scripts"
        scripts.mkdir(exist_ok=True)
        for name in ("wsrelay", "websockets"):
            script = scripts / name
            script.write_text(f'#!/bin/sh\nexec {sys.executable} -m {name} "$@"\n', "utf-8")
            script.chmod(0o755)
        #: Text on the page → text instead, such as a port.
        self.instead: dict[str, str] = {}
        self.environ = {
            "PATH": f"{scripts}:{SCRIPTS}:{os.environ['PATH']}",
            "WSRELAY_LISTEN": LOOPBACK,
            "NO_PROXY": "*",
            "PYTHONUNBUFFERED": "1",
        }

    def run(self, command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        return run("bash", "-c", self.local(command), cwd=self.folder, env={**os.environ, **self.environ})

    def start(self, command: str) -> Process:
        """Start a command; the last of its lines stays in the foreground."""
        *lines, last = self.local(command).strip().splitlines()
        return Process(["bash", "-c", "\n".join([*lines, f"exec {last}"])], str(self.folder), self.environ)

    def local(self, command: str) -> str:
        """Return a command for this machine."""
        command = re.sub(r"\\\n\s*", "", ENVIRONMENTS.sub("", command))
        for text, instead in self.instead.items():
            command = command.replace(text, instead)
        return command


def any_port(command: str) -> str:
    """Return the command of a relay with ports that the kernel chooses, and a broker that is not there."""
    command = re.sub(r"(\b(?:tcp|ssl):|--(?:listen|admin) )\d+", r"\g<1>0", command)
    return re.sub(r"redis://[\d.]+", "redis://127.0.0.1:1", command)


def address(relay: Process) -> str:
    """Wait until a relay listens, and return host and port of its first endpoint."""
    found: str = relay.output.wait_for(LISTENING)[0]
    return re.sub(r"^wss?://|/$", "", found)
