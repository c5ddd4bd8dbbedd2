"""The commands of README, quick start and the HTTP pages, run as they are written, but for ports."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.clients import WebsocketsClient
from tests.harness.live import ADMIN, require, run
from tests.pages.page import ROOT, Command, blocks, commands
from tests.pages.rules import RELAY
from tests.pages.terminal import ENVIRONMENTS, Terminal, address, any_port
from tests.pages.test_commands import make_files

pytestmark = pytest.mark.interop

README, QUICK_START = ROOT / "README.md", ROOT / "docs" / "quickstart.md"


def on(*pages: Path) -> list[Command]:
    """Return the commands of pages; the same one in another environment is no other."""
    found = [command for page in pages for block in blocks(page, "sh") for command in commands(block)]
    return list({ENVIRONMENTS.sub("", command.text): command for command in reversed(found)}.values())[::-1]


#: Relays to start; those with keys of the quick start are test_quickstart's.
RELAYS = [
    command for command in on(README, QUICK_START) if RELAY.search(command.text) and " relay/" not in command.text
]

#: ``make relay`` in the pages.
MAKE = [command for command in on(README, QUICK_START) if command.text.startswith("make relay")]

#: Pages with requests to the relay's own ports and to the admin endpoint.
ASKING = (QUICK_START, *(ROOT / "docs" / f"{name}.md" for name in ("http", "debugging", "admin", "troubleshooting")))

#: What is asked with curl, the end of a connection and that of the relay last.
CURL = sorted(
    (command for command in on(*ASKING) if command.text.startswith("curl ")),
    key=lambda command: ("/drain" in command.text, "DELETE" in command.text),
)


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    """A terminal in a folder with the files that the pages name."""
    make_files(tmp_path)
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n")
    return Terminal(tmp_path)


@pytest.mark.parametrize("command", RELAYS, ids=str)
def test_relay(command: Command, terminal: Terminal) -> None:
    """A relay starts with the options of the page, and SIGTERM stops it with exit code 0."""
    starts(any_port(command.text), terminal)


def starts(command: str, terminal: Terminal) -> None:
    """Start a relay, and stop it."""
    with terminal.start(command) as relay:
        address(relay)
        relay.signal(signal.SIGTERM)
        assert (relay.wait(), "Traceback" in relay.output.text) == (0, False), relay.output.text


@pytest.mark.parametrize("command", MAKE, ids=str)
def test_make_relay(command: Command, terminal: Terminal) -> None:
    """The recipe of ``make relay`` ends with a relay that starts."""
    # Without what the make that runs the tests passes on to its own.
    clean = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKEOVERRIDES", "ARGS")}
    shown = run("bash", "-c", f"{command.text} --dry-run --no-print-directory", cwd=ROOT, env=clean).stdout
    (line,) = re.findall(r"^exec (.*wsrelay.*)$", shown, re.MULTILINE)
    starts(any_port(line), terminal)


#: What a relay is asked with curl → status, if it is not 200; a POST publishes.
STATUS = {"Upgrade: websocket": "101", "--data": "202", "DELETE": "204", "/drain": "202"}

#: The options of the relay that curl asks: those of http.md and admin.md, and the origin of debugging.md.
ASKED = "--http --demo --history '**=100' --admin tcp:0 --validate origin:same-host,https://app.example"


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """A terminal beside a relay with a member, whose connection has a number."""
    require("curl")
    terminal = Terminal(tmp_path_factory.mktemp("asked"))
    (terminal.folder / "picture.png").write_bytes(b"\x89PNG\r\n")
    with terminal.start(f"twistd -n --pidfile= wsrelay {ASKED}") as relay:
        host = address(relay)
        with WebsocketsClient(f"ws://{host}/ops"):
            (number,) = relay.output.wait_for(r"joined 'ops' as None \(connection (\d+)\)")
            (admin,) = relay.output.wait_for(ADMIN)
            terminal.instead = {
                "127.0.0.1:8080": host,
                "https://relay.example": f"http://{host}",
                "http://127.0.0.1:8081/": admin,
                "/connections/17": f"/connections/{number}",
                "--max-time 3 ": "--max-time 0.5 ",
                "curl ": "curl --silent --show-error --write-out ' (%{http_code})' ",
            }
            yield terminal
            assert "Traceback" not in relay.output.text


def test_two_terminals(asked: Terminal) -> None:
    """What is typed into the client of one terminal is read in the other."""
    found = [command for command in on(README, *ASKING) if re.search(r"\bwebsockets ws://", command.text)]
    for command in found:
        with asked.start(command.text) as one, asked.start(command.text) as other:
            for client in (one, other):
                client.output.wait_for("Connected to ")
            one.write_line("hello")
            assert other.output.wait_for("hello"), str(command)
    assert found


@pytest.mark.parametrize("command", CURL, ids=str)
def test_curl(command: Command, asked: Terminal) -> None:
    """The relay answers with the status of success."""
    if "text/event-stream" in command.text:
        with asked.start(command.text) as stream:
            assert stream.output.wait_for(r"retry: \d+")
        return
    status = next((status for part, status in STATUS.items() if part in command.text), "200")
    ended = asked.run(command.text)
    assert f"({status})" in ended.stdout or "wsrelay_" in ended.stdout, ended.stdout
