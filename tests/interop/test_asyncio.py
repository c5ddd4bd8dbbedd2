"""A coroutine as a validator, on the reactor of asyncio, where it awaits asyncio, and on ours, where it cannot."""

import signal
import socket
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from tests.harness.clients import WebsocketsClient, handshake, text
from tests.harness.live import Relay, relay

pytestmark = pytest.mark.interop

#: A module beside the config file. Whoever comes without a cookie waits for ever.
MODULE = """
import asyncio

from twisted.internet import reactor
from twisted.internet.task import deferLater

from wsrelay.errors import Denied

waiting = []


async def look_up(name):
    async with asyncio.timeout(60):
        await asyncio.to_thread(str, name)
    return await deferLater(reactor, 0, str.upper, name)


async def check(request, grant):
    if "cookie" not in request.headers:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            print("a lookup was cancelled", flush=True)
            raise
    name = await look_up(request.headers["cookie"])
    if name == "NOBODY":
        raise Denied(401, "log in first")
    return grant.narrowed(identity=name)
"""

CONFIG = 'validate = ["origin:*", "python:mysite.gate:check"]\n'


def site(folder: Path) -> str:
    """Write a config file with a package beside it; return the path of the file."""
    (folder / "mysite").mkdir()
    (folder / "mysite" / "gate.py").write_text(MODULE)
    (folder / "relay.toml").write_text(CONFIG)
    return str(folder / "relay.toml")


def status(server: Relay, cookie: str) -> int:
    """Return the status that a client with a cookie is refused with."""
    with pytest.raises(InvalidStatus) as refused, client(server, cookie):
        pass
    code: int = refused.value.response.status_code
    return code


def client(server: Relay, cookie: str) -> WebsocketsClient:
    """Return a client with a cookie."""
    return WebsocketsClient(server.url("/room"), additional_headers={"Cookie": cookie})


def test_asyncio(tmp_path: Path) -> None:
    """On asyncio's reactor it lets in and refuses; who leaves, or is there at the end, cancels what it waits for."""
    with relay("--config", site(tmp_path), program="asyncio") as server:
        with client(server, "anna") as one, client(server, "berta") as other:
            one.say(text("hello"))
            assert other.hear() == "hello"
        assert server.output.wait_for(r"joined 'room' as '(\w+)'", 2) == ["ANNA", "BERTA"]
        assert status(server, "nobody") == 401
        server.signal(signal.SIGHUP)
        server.output.wait_for("SIGHUP: reloaded")
        assert status(server, "nobody") == 401
        with server.connect() as gone:
            gone.sendall(handshake("/room"))
            gone.shutdown(socket.SHUT_RDWR)
            server.output.wait_for("a lookup was cancelled")
        with server.connect() as waits:
            waits.sendall(handshake("/room"))
            assert status(server, "nobody") == 401  # so that the relay has read the other one
            server.stop()
        assert server.output.text.count("a lookup was cancelled") == 2
        assert "destroyed" not in server.output.text


def test_other_reactor(tmp_path: Path) -> None:
    """On our reactor it is a 500 for each, and one line that says what to do."""
    with relay("--config", site(tmp_path)) as server:
        assert [status(server, "anna") for _ in range(3)] == [500] * 3
        server.stop()
        [line] = (line for line in server.output.text.splitlines() if "needs asyncio" in line)
        assert f"{tmp_path}/mysite/gate.py:" in line
        assert 'start the relay with "twistd --reactor=asyncio wsrelay"' in line
