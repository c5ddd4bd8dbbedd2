"""The relay as a process with each reactor: ours, those that ``--reactor`` chooses, and as a daemon."""

import os
import signal
from pathlib import Path

import pytest

from tests.harness.clients import WebsocketsClient, text
from tests.harness.live import LISTENING, LOOPBACK, SCRIPTS, Relay, run, until

pytestmark = pytest.mark.interop

#: Command and its own options → the class of the reactor that the log names.
REACTORS = {
    ("twistd", "--nodaemon", "--pidfile="): "LeanReactor",
    ("twistd", "--nodaemon", "--pidfile=", "--reactor=wsrelay"): "LeanReactor",
    ("twistd", "--nodaemon", "--pidfile=", "--reactor=epoll"): "EPollReactor",
    ("twistd", "--nodaemon", "--pidfile=", "--reactor=poll"): "PollReactor",
    ("twistd", "--nodaemon", "--pidfile=", "--reactor=select"): "SelectReactor",
    ("twistd", "--nodaemon", "--pidfile=", "--reactor=asyncio"): "AsyncioSelectorReactor",
    ("twist", "--log-format=text"): "EPollReactor",
    ("twist", "--log-format=text", "--reactor=wsrelay"): "LeanReactor",
}


def relays(url: str) -> None:
    """Check that messages are relayed, each a turn of its own."""
    with WebsocketsClient(url) as one, WebsocketsClient(url) as other:
        for number in range(3):
            one.say(text(f"message {number}"))
            assert other.hear() == f"message {number}"
            other.say(text(f"answer {number}"))
            assert one.hear() == f"answer {number}"


@pytest.mark.parametrize("command", REACTORS, ids=" ".join)
def test_reactors(command: tuple[str, ...], tmp_path: Path) -> None:
    """A relay with each reactor names it in the log, relays, and drains on SIGTERM."""
    script, *options = command
    with Relay([str(SCRIPTS / script), *options, "wsrelay", "--listen", LOOPBACK], str(tmp_path)) as server:
        server.await_start(1)
        assert f" with {REACTORS[command]}, " in server.output.text
        relays(server.url("/room"))
        server.stop()


def test_daemon(tmp_path: Path) -> None:
    """A daemon, whose epoll descriptor is older than its process, relays with our reactor and ends on SIGTERM."""
    log, pid_file = tmp_path / "relay.log", tmp_path / "relay.pid"
    options = ["--pidfile=relay.pid", "--logfile=relay.log", "wsrelay", "--listen", LOOPBACK]
    ended = run(SCRIPTS / "twistd", *options, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (0, "")
    try:
        until(lambda: LISTENING.search(log.read_text()) is not None)
        relays(LISTENING.findall(log.read_text())[0] + "room")
    finally:
        os.kill(int(pid_file.read_text()), signal.SIGTERM)
    until(lambda: not pid_file.exists())
    said = log.read_text()
    assert " with LeanReactor, " in said
    assert "Server Shut Down." in said
    assert "Traceback" not in said


def test_help_reactors() -> None:
    """--help-reactors lists ours as available."""
    listed = run(SCRIPTS / "twistd", "--help-reactors").stdout
    available, _, _ = listed.partition("reactors not available")
    assert "\n    wsrelay\t" in f"\n{available}"
