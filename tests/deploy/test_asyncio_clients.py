"""Callables that ask others by asyncio's clients: aiohttp a back end, redis-py a real Redis."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from tests.harness.broker import Broker
from tests.harness.clients import WebsocketsClient, text
from tests.harness.live import Relay, missing, relay

pytestmark = pytest.mark.deploy

#: Library → a module beside the config file: looks a cookie up, with a client that is made at its first use.
MODULES = {
    "aiohttp": """
import aiohttp
from wsrelay.errors import Denied

sessions = []

async def check(request, grant):
    if not sessions:
        sessions.append(aiohttp.ClientSession("http://127.0.0.1:PORT"))
    async with sessions[0].get("/" + request.headers["cookie"]) as answer:
        if answer.status != 200:
            raise Denied(401, "log in first")
        return grant.narrowed(identity=await answer.text())
""",
    "redis": """
import redis.asyncio
from wsrelay.errors import Denied

client = redis.asyncio.Redis(port=PORT, decode_responses=True)

async def check(request, grant):
    name = await client.get(request.headers["cookie"])
    if name is None:
        raise Denied(401, "log in first")
    return grant.narrowed(identity=name)
""",
}


class BackEnd(BaseHTTPRequestHandler):
    """Knows one session."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer with the user of a session."""
        self.send_response(200 if self.path == "/session-1" else 404)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"anna")

    def log_message(self, *what: object) -> None:
        """Log nothing."""


@pytest.fixture
def back_end() -> Iterator[int]:
    """Run a back end, and return its port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BackEnd) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def redis() -> Iterator[int]:
    """Run a Redis with the same session, and return its port."""
    with Broker() as broker:
        broker.command("SET", "session-1", "anna")
        yield broker.port


@pytest.fixture(params=MODULES)
def config(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A config file with a module beside it that uses the library."""
    library: str = request.param
    try:
        __import__(library)
    except ImportError:
        missing(library, f"pip install {library}")
    port = request.getfixturevalue({"aiohttp": "back_end", "redis": "redis"}[library])
    (tmp_path / "gate.py").write_text(MODULES[library].replace("PORT", str(port)))
    file = tmp_path / "relay.toml"
    file.write_text('validate = ["origin:*", "python:gate:check"]\n')
    return str(file)


def refused(server: Relay, cookie: str) -> int:
    """Return the status for a client with a cookie."""
    with pytest.raises(InvalidStatus) as raised, WebsocketsClient(server.url(), additional_headers={"Cookie": cookie}):
        pass
    status: int = raised.value.response.status_code
    return status


def test_asyncio_clients(config: str) -> None:
    """On asyncio's reactor a session is looked up for each client, on connections that are kept."""
    with relay("--config", config, program="asyncio") as server:
        for _ in range(3):
            with (
                WebsocketsClient(server.url("/room"), additional_headers={"Cookie": "session-1"}) as one,
                WebsocketsClient(server.url("/room"), additional_headers={"Cookie": "session-1"}) as other,
            ):
                one.say(text("hello"))
                assert other.hear() == "hello"
            assert refused(server, "session-2") == 401
        assert server.output.wait_for(r"as '(\w+)' \(connection \d+\)\n", 6) == ["anna"] * 6


def test_other_reactor(config: str) -> None:
    """On our reactor the line for the operator says what to do, whatever way the library fails in."""
    with relay("--config", config) as server:
        assert [refused(server, "session-1") for _ in range(2)] == [500] * 2
        server.stop()
        assert server.output.text.count('start the relay with "twistd --reactor=asyncio wsrelay"') == 1
