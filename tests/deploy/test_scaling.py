"""docs/scaling.md: its commands are run as they are written, but for ports and folders."""

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from tests.deploy.files import DEPLOY, ROOT
from tests.harness.broker import READY, Broker, BrokerError, reserved_port
from tests.harness.clients import WebsocketsClient, text
from tests.harness.live import LISTENING, SCRIPTS, Process, require, run, until

pytestmark = pytest.mark.deploy

#: Ports in the page, and in the files of deploy/ that it names.
PORTS = ("6380", "8001", "8002", "8080", "18001", "18002")

#: Files of deploy/ that its commands read.
FILES = ("nginx/try.conf", "nginx/nodes.conf", "haproxy/try.cfg", "haproxy/nodes.cfg")

#: Proxy → the beginning of --listen of its relays, and of the command that starts it.
BEHIND = {"nginx": ("--listen tcp:", "/usr/sbin/nginx "), "haproxy": ("--listen haproxy:", "/usr/sbin/haproxy ")}


def shell() -> list[str]:
    """Return the blocks of shell of the page."""
    page = (ROOT / "docs" / "scaling.md").read_text("utf-8")
    return re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


class Terminals:
    """Runs commands of the page in a folder.

    Args:
        folder: used as the clone.
        stack: for the processes and the ports.
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        taken = {port: stack.enter_context(closing(reserved_port())) for port in PORTS}
        self.ports = {port: str(reserved.getsockname()[1]) for port, reserved in taken.items()}
        for name in FILES:
            file = folder / "deploy" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(self._local((DEPLOY / name).read_text("utf-8")), "utf-8")

    def start(self, *words: str) -> Process:
        """Start the command that has these words; Ctrl-C at the end."""
        process = Process(["bash", "-c", f"exec {self._block(*words)}"], str(self._folder))
        return self._stack.enter_context(interrupted(process))

    def run(self, *words: str) -> str:
        """Run the command that has these words, and return its output."""
        ended = run("bash", "-c", self._block(*words), cwd=self._folder, stderr=subprocess.DEVNULL)
        assert ended.returncode == 0, ended.stdout
        return ended.stdout

    def _block(self, *words: str) -> str:
        (found,) = [block for block in shell() if all(word in block for word in words)]
        return self._local(found.replace(".venv/bin/", f"{SCRIPTS}/").replace("-p /tmp ", f"-p {self._folder} "))

    def _local(self, said: str) -> str:
        ports = "|".join(PORTS)
        return re.sub(rf"(?<!\d)({ports})(?!\d)", lambda found: self.ports[found[0]], said)


@contextmanager
def interrupted(process: Process) -> Iterator[Process]:
    """Run a process while the block runs, then press Ctrl-C."""
    with process:
        try:
            yield process
        finally:  # SIGKILL would leave the worker of nginx running
            if process.running:
                process.signal(signal.SIGINT)
                process.wait()


@pytest.mark.parametrize("name", sorted(BEHIND))
def test_try_it(name: str, tmp_path: Path) -> None:
    """Two relays behind each proxy: members at both talk, Redis is killed, and what was said meanwhile comes once."""
    require(name)
    require("redis-server")
    listen, proxy = BEHIND[name]
    with ExitStack() as stack:
        terminals = Terminals(tmp_path, stack)
        broker = terminals.start("redis-server --port")
        broker.output.wait_for(READY)
        for node in ("one", "two"):
            relay = terminals.start(listen, f"--node-name {node}")
            relay.output.wait_for(LISTENING)
            relay.output.wait_for("backplane: up on")
        terminals.start(proxy)
        url = f"ws://127.0.0.1:{terminals.ports['8080']}/room"
        until(lambda: _answers(terminals.ports["8080"]))
        one, other = (stack.enter_context(WebsocketsClient(url)) for _ in range(2))
        until(lambda: _connections(terminals) == [1, 1])
        one.say(text("hello"))
        assert other.hear() == "hello"
        terminals.run("kill -9")
        broker.wait()
        one.say(text("are you there?"))
        other.say(text("where is Redis?"))
        terminals.start("redis-server --port")
        assert (other.hear(), one.hear()) == ("are you there?", "where is Redis?")
        for client in (one, other):
            client.hears_nothing()


def _connections(terminals: Terminals) -> list[int]:
    """Return the clients of each node, as /nodes has them."""
    return sorted(node["connections"] for node in json.loads(terminals.run("18001/nodes"))["items"])


def _answers(port: str) -> bool:
    """Whether the proxy has a relay for a request; a plain one is refused with 426."""
    command = ["curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", f"http://127.0.0.1:{port}/x"]
    return run(*command).stdout == "426"


def test_shell_syntax() -> None:
    """Bash parses each block, and each file of deploy/ in them exists."""
    for block in shell():
        assert run("bash", "-n", "-c", block).returncode == 0, block
        for name in re.findall(r"\bdeploy/[\w./@-]+", block):
            assert (ROOT / name).exists(), name


def test_users_command(tmp_path: Path) -> None:
    """The commands for Redis' file of users make one with the password."""
    (block,) = [block for block in shell() if "PASSWORD_SHA256" in block]
    lines = [line for line in block.splitlines() if "backplane.password" in line or "PASSWORD_SHA256" in line]
    assert len(lines) == 3
    script = "\n".join(lines).replace("/etc/", f"{tmp_path}/").replace(" -g redis", "")
    for folder in ("wsrelay", "redis"):
        (tmp_path / folder).mkdir()
    ended = run("bash", "-e", "-c", script, cwd=ROOT)
    assert ended.returncode == 0, ended.stdout
    assert (tmp_path / "wsrelay" / "backplane.password").stat().st_mode & 0o077 == 0
    password = (tmp_path / "wsrelay" / "backplane.password").read_text("ascii").strip()
    with Broker(acl=tmp_path / "redis" / "users.acl") as broker:
        with pytest.raises(BrokerError, match=r"^NOAUTH"):
            broker.command("PING")
        assert broker.command("AUTH", "wsrelay", password) == b"OK"
