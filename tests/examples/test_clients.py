"""Tests of the terminal chats examples/python_client.py and examples/node_client.mjs.

A :func:`~tests.examples.stage.stage` scripts refusals and closes. Back-off waits are cut to hundredths of a second.
"""

import shutil
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.examples.stage import Act, Close, Hear, Refuse, in_turn, stage
from tests.harness.clients import HERE as INTEROP
from tests.harness.clients import WebsocketsClient, binary, text
from tests.harness.live import Process, missing, relay, require
from wsrelay.closecodes import INTERNAL_ERROR, RESTARTING, TABLE, CloseReason

pytestmark = pytest.mark.deploy

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"

#: Short back-off.
QUICK = ("--first-wait", "0.01", "--max-wait", "0.05")

#: Removes the jitter: random numbers are at their maximum.
NO_CHANCE_IN_PYTHON = (
    "import random, runpy, sys; random.uniform = max; del sys.argv[0]; runpy.run_path(sys.argv[0], None, '__main__')"
)
NO_CHANCE_IN_NODE = "data:text/javascript,Math.random=()=>1"

#: Starts a client with a URL, ``options`` and additions to its environment.
Chat = Callable[..., Process]


def python_chat(
    url: str, options: Sequence[str] = QUICK, environ: dict[str, str] | None = None, *, by_chance: bool = True
) -> Process:
    """Start the client in Python."""
    before = [] if by_chance else ["-c", NO_CHANCE_IN_PYTHON]
    command = [sys.executable, *before, str(EXAMPLES / "python_client.py"), *options, url]
    return Process(command, environ={"NO_PROXY": "*", **(environ or {})})


@pytest.fixture(scope="module")
def node_chat(tmp_path_factory: pytest.TempPathFactory) -> Chat:
    """Starts the Node client, in a folder with ws in node_modules."""
    node = require("node")
    modules = INTEROP / "node_modules"
    if not (modules / "ws").is_dir():
        missing("the npm package ws", "npm ci --prefix tests/interop")
    folder = tmp_path_factory.mktemp("node")
    shutil.copy(EXAMPLES / "node_client.mjs", folder)
    (folder / "node_modules").symlink_to(modules)

    def start(
        url: str, options: Sequence[str] = QUICK, environ: dict[str, str] | None = None, *, by_chance: bool = True
    ) -> Process:
        before = [] if by_chance else ["--import", NO_CHANCE_IN_NODE]
        return Process([node, *before, "node_client.mjs", *options, url], cwd=str(folder), environ=environ)

    return start


@pytest.fixture(params=["python", "node"])
def chat(request: pytest.FixtureRequest) -> Chat:
    """Starts a client; a test with this fixture runs for both."""
    found: Chat = python_chat if request.param == "python" else request.getfixturevalue("node_chat")
    return found


def connected(client: Process, count: int = 1) -> None:
    """Wait until a client has connected ``count`` times."""
    client.output.wait_for(r"\* connected\n", count)


def test_reconnect_after_restart(node_chat: Chat) -> None:
    """The clients exchange messages, reconnect after a restart, and send lines typed meanwhile."""
    with ExitStack() as stack:
        with relay("--drain-seconds", "0") as server:
            python = stack.enter_context(python_chat(server.url("/chat")))
            node = stack.enter_context(node_chat(server.url("/chat")))
            connected(python)
            connected(node)
            python.write_line("grüß from Python")
            node.output.wait_for("(?m)^grüß from Python$")
            node.write_line("grüß from Node")
            python.output.wait_for("(?m)^grüß from Node$")
        for client in (python, node):
            client.output.wait_for(
                r"(?m)^\* closed: 1012 the relay is restarting: reconnect with back-off; again in 0\.\d s$"
            )
            client.output.wait_for(r"(?m)^\* no connection: .+; again in 0\.\d s$")
        listen = server.url().replace("ws://127.0.0.1:", "tcp:interface=127.0.0.1:").rstrip("/")
        with relay(listen=[listen]):
            connected(node, count=2)  # otherwise the message has no subscriber
            python.write_line("is anybody there?")
            node.output.wait_for(r"(?m)^is anybody there\?$")
            for client in (python, node):
                client.signal(signal.SIGINT)
                assert client.wait() == 0, client.output.text


def test_send_queue(chat: Chat) -> None:
    """Lines typed without a connection are sent after the reconnect, also after the end of the input."""
    is_open = threading.Event()
    hear = Hear()
    with stage(lambda: hear if is_open.is_set() else Refuse(503)) as server, chat(server.url) as client:
        client.output.wait_for(r"(?m)^\* refused: 503 not now; again in 0\.\d s$", 2)
        for line in ("first", "", "grüß"):
            client.write_line(line)
        client.end_input()
        client.output.wait_for(r"(?m)^\* refused: 503 not now; again in 0\.\d s$", len(server.requests) + 2)
        is_open.set()
        assert client.wait() == 0, client.output.text
    assert (hear.heard, hear.code) == (["first", "", "grüß"], 1000)


@pytest.mark.parametrize("how", ["end of input", "Ctrl-C"])
@pytest.mark.parametrize("where", ["connected", "waiting"])
def test_exit(chat: Chat, how: str, where: str) -> None:
    """On end of input and Ctrl-C it exits with 0: connected, by a close with 1000; during back-off, at once."""
    hear = Hear()
    act = hear if where == "connected" else Refuse(503, fields={"Retry-After": "3600"})
    with stage(in_turn(act)) as server, chat(server.url) as client:
        client.output.wait_for(r"\* connected" if where == "connected" else r"again in 3600\.\d s")
        if how == "Ctrl-C":
            client.signal(signal.SIGINT)
        else:
            client.end_input()
        assert client.wait() == 0, client.output.text
        assert client.output.text.count("\n") == 1
    assert hear.code == (1000 if where == "connected" else None)


PASSING = [row for row in TABLE if row.reconnect]
FINAL = [row for row in TABLE if not row.reconnect]


@pytest.mark.parametrize("final", FINAL, ids=lambda row: f"{row.code} {row.text}")
def test_close_codes(chat: Chat, final: CloseReason) -> None:
    """It reconnects after closes with `reconnect` in the table, and exits with 1 after others."""
    rows = [*PASSING, final]
    with stage(in_turn(*map(Close, rows))) as server, chat(server.url) as client:
        assert client.wait() == 1, client.output.text
        said = client.output.text.replace("* connected\n", "").splitlines()

    assert [line.partition("; again in 0.")[0] for line in said] == [f"* closed: {row.code} {row.text}" for row in rows]
    assert ["; again in 0." in line for line in said] == [row.reconnect for row in rows]


def test_refusals(chat: Chat) -> None:
    """It prints status and reason of a refused handshake, and retries except after 4xx of its own fault."""
    statuses = [408, 429, 500, 503, 504, 403]
    with stage(in_turn(*map(Refuse, statuses))) as server, chat(server.url) as client:
        assert client.wait() == 1, client.output.text
        *passing, final = client.output.text.splitlines()

    assert [line.partition(";")[0] for line in passing] == [f"* refused: {status} not now" for status in statuses[:-1]]
    assert final == "* refused: 403 not now"


def test_refused_by_a_relay(chat: Chat) -> None:
    """It prints the refusal of a real relay."""
    with relay("--validate", "origin:https://app.example") as server, chat(server.url("/chat")) as client:
        assert client.wait() == 1
        assert client.output.text.startswith("* refused: 403 no Origin was sent; to allow programs, ")


def test_retry_after(chat: Chat) -> None:
    """It honours Retry-After in seconds and ignores a date."""
    acts = [
        Refuse(503, fields={"Retry-After": "Wed, 21 Oct 2065 07:28:00 GMT"}),
        Refuse(429, fields={"Retry-After": "1"}),
        Refuse(403),
    ]
    with stage(in_turn(*acts)) as server, chat(server.url) as client:
        assert client.wait() == 1, client.output.text
    assert server.times[2] - server.times[1] >= 1


def test_back_off(chat: Chat) -> None:
    """Back-off doubles up to a bound, and is reset only after a connection that lasted."""
    acts: list[Act] = [*[Refuse(503)] * 3, Close(INTERNAL_ERROR), Close(RESTARTING, after_seconds=0.5), Refuse(403)]
    options = ("--first-wait", "0.1", "--max-wait", "0.3")
    with stage(in_turn(*acts)) as server, chat(server.url, options, by_chance=False) as client:
        assert client.wait() == 1, client.output.text
        waits = client.output.wait_for(r"again in (\S+) s")
    assert waits == ["0.1", "0.2", "0.3", "0.3", "0.1"]


def test_ping_timeout(chat: Chat) -> None:
    """It detects a relay that no longer answers pings."""
    with relay() as server, chat(server.url("/chat"), (*QUICK, "--ping-seconds", "0.3")) as client:
        connected(client)
        server.signal(signal.SIGSTOP)
        try:
            client.output.wait_for(r"(?m)^\* closed: 1006.*; again in 0\.\d s$")
        finally:
            server.signal(signal.SIGCONT)
        connected(client, count=2)


def test_bearer_token(chat: Chat) -> None:
    """RELAY_KEY is sent as a bearer token; without it no Authorization is sent."""
    found: list[Any] = []
    for environ in ({"RELAY_KEY": "secret"}, {"RELAY_KEY": ""}):
        with stage(in_turn(Refuse(403))) as server, chat(server.url, environ=environ) as client:
            assert client.wait() == 1
        found.append(server.requests[0].headers.get("Authorization"))
    assert found == ["Bearer secret", None]


def test_terminal_escapes(chat: Chat) -> None:
    """Control characters of messages are replaced; of binary messages the size is printed."""
    with relay() as server, chat(server.url("/chat")) as client, WebsocketsClient(server.url("/chat")) as other:
        connected(client)
        for said in (text("\x1b[2J\x9b1m\rtwo\nlines"), binary(b"\x1b[2J"), text("end")):
            other.say(said)
        client.output.wait_for("(?m)^end$")
    assert client.output.text == "* connected\n�[2J�1m�two�lines\n(4 bytes)\nend\n"


def test_invalid_url(chat: Chat) -> None:
    """An invalid URL is reported in one line, without a traceback."""
    with chat("ftp://nowhere") as client:
        assert client.wait() == 1
        assert client.output.text.startswith("* ")
        assert client.output.text.count("\n") == 1
