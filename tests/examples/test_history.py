"""Tests of clients that resume in rooms with history: the examples, and the loop in docs/clients.md."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from http.server import ThreadingHTTPServer
from threading import Thread

import pytest

from tests.examples.test_clients import QUICK, Chat, chat, connected, node_chat
from tests.examples.test_pages import EXAMPLES, Quiet
from tests.harness.background import Background
from tests.harness.browsers import Browser, Page, blank_site
from tests.harness.clients import WebsocketsClient, binary, text
from tests.harness.forwarder import Forwarder
from tests.harness.live import SECONDS, Relay, relay

__all__ = ["chat", "node_chat"]

pytestmark = pytest.mark.deploy

PAGE = (EXAMPLES.parent / "docs" / "clients.md").read_text("utf-8")

#: Options of a client that reads the history.
LAST = (*QUICK, "--last", "10")


class Line:
    """A relay with history, and clients that reach it through a line which can be cut.

    Args:
        server: the relay.
        forwarder: the line.
    """

    def __init__(self, server: Relay, forwarder: Forwarder) -> None:
        self._server = server
        self._forwarder = forwarder
        self.url = f"ws://127.0.0.1:{forwarder.port}/chat/1"

    def client(self) -> WebsocketsClient:
        """Return a client with a line of its own."""
        return WebsocketsClient(self._server.url("/chat/1"))

    def publish(self, *words: str) -> None:
        """Publish texts, and wait for each until the relay has it: one read of many is forgotten as a whole."""
        with self.client() as client:
            for each in words:
                client.say(text(each))
                assert client.ws.ping().wait(SECONDS)

    def miss(self, *words: str) -> None:
        """Publish texts while the line is cut."""
        self._forwarder.silence()
        self.publish(*words)
        self._forwarder.cut()
        self._forwarder.resume()


@pytest.fixture
def line() -> Iterator[Line]:
    """A relay that keeps five messages of each room, and a line to it."""
    with (
        relay("--http", "--history", "chat/*=5", "--drain-seconds", "0") as server,
        Background() as background,
        Forwarder(background, int(server.addresses[0].rstrip("/").rpartition(":")[2])) as forwarder,
    ):
        yield Line(server, forwarder)


def test_terminal_history(chat: Chat, line: Line) -> None:
    """With --last it prints old messages at first, after a reconnect those that it missed, and none twice."""
    line.publish("before")
    with chat(line.url, LAST) as client:
        connected(client)
        client.output.wait_for("(?m)^before$")
        with line.client() as other:
            client.write_line("mine")
            assert other.hear() == "mine"
            for said in (text("same"), binary(b"\0\1\2")):
                other.say(said)
            client.output.wait_for(r"(?m)^\(3 bytes\)$")
        line.miss("same", "missed")
        client.output.wait_for("(?m)^missed$")
        connected(client, 2)
        line.publish("live")
        client.output.wait_for("(?m)^live$")
        said = [row for row in client.output.text.splitlines() if not row.startswith("* ")]
    assert said == ["before", "same", "(3 bytes)", "same", "missed", "live"]


def test_terminal_history_gone(chat: Chat, line: Line) -> None:
    """If the room has forgotten messages that it missed, it says so, and prints those that are left."""
    with chat(line.url, LAST) as client:
        connected(client)
        line.miss(*(f"number {number}" for number in range(20)))
        client.output.wait_for(r"\* messages may be missing")
        client.output.wait_for("(?m)^number 19$")
        connected(client, 2)
        assert "number 0\n" not in client.output.text


def test_terminal_history_refused(chat: Chat) -> None:
    """A relay without --http refuses to tell the history: the client ends and prints the refusal."""
    with relay() as server, chat(server.url("/chat/1"), LAST) as client:
        assert client.wait() == 1, client.output.text
        assert client.output.text.startswith("* refused: 426 this is a WebSocket relay")


@pytest.fixture
def site() -> Iterator[str]:
    """The URL of the examples folder."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=EXAMPLES)) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join(SECONDS)


def until_items(page: Page, *wanted: str) -> None:
    """Wait until the page shows exactly these messages."""
    items = "JSON.stringify([...document.querySelectorAll('#messages li')].map((item) => item.textContent))"
    page.until(f"{items} === {json.dumps(json.dumps(wanted, separators=(',', ':')))}")


def test_history_page(each_browser: Browser, site: str, line: Line) -> None:
    """The page shows old messages at first, after a reconnect those that it missed, and none twice."""
    line.publish("before")
    with ExitStack() as stack:
        page = each_browser.page(f"{site}history.html?url={line.url}")
        stack.callback(page.close)
        until_items(page, "before")
        page.until("document.getElementById('state').textContent === 'connected'")
        with line.client() as other:
            page.run("document.getElementById('text').value = '<b>mine</b>'; document.querySelector('button').click()")
            assert json.loads(other.hear())["text"] == "<b>mine</b>"
        line.miss("missed")
        until_items(page, "before", "me: <b>mine</b>", "missed")
        page.until("document.getElementById('state').textContent === 'connected'")
        line.publish("live")
        until_items(page, "before", "me: <b>mine</b>", "missed", "live")


def follow() -> str:
    """Return the loop of docs/clients.md."""
    (found,) = re.findall(r"^```js\n(async function follow\(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def test_documented_loop(each_browser: Browser, line: Line) -> None:
    """The loop of docs/clients.md loses no message that is published between its steps, also after a reconnect."""
    with blank_site() as port, ExitStack() as stack:
        page = each_browser.page(f"http://127.0.0.1:{port}/")
        stack.callback(page.close)
        url = json.dumps(line.url.replace("ws", "http"))
        page.run(
            f"""(() => {{
              {follow()}
              Math.random = () => 0.05;
              window.seen = [];
              let loads = 0;
              const load = async () => {{
                const body = `during load ${{++loads}}`;
                await fetch({url}, {{ method: "POST", body }});
                seen.push("loaded");
              }};
              const apply = (data) => {{ seen.push(data); document.body.append(data + ";"); }};
              follow({url}, load, apply);
            }})()"""
        )
        page.until("document.body.textContent.includes('during load 1')")
        line.publish("live")
        page.until("document.body.textContent.includes('live')")
        line.miss("missed, and in the state")
        page.until("document.body.textContent.includes('during load 2')")
        line.publish("end")
        page.until("document.body.textContent.includes('end')")
        assert page.run("JSON.stringify(seen)") == json.dumps(
            ["loaded", "during load 1", "live", "loaded", "during load 2", "end"], separators=(",", ":")
        )
