"""The admin endpoint of a relay process. The in-memory tests are the other modules of tests.admin."""

import os
import signal
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from tests.harness.browsers import Browser
from tests.harness.clients import WebsocketsClient, text
from tests.harness.live import LOOPBACK, SECONDS, Relay, command_line, make_certificate, relay, require, run

pytestmark = pytest.mark.interop

#: A validator that breaks the relay, on request: what was published is never flushed again.
WEDGE = """
from wsrelay.rooms.due import Due
from wsrelay.rooms.room import Room


def wedge(request, grant):
    if request.room == "wedge":
        Room.publish = lambda room, *run: Due.NOTHING
    return grant
"""

ADMIN = ("--admin", "tcp:0")


def ready(server: Relay) -> tuple[int, str]:
    """Return the status of /readyz, and the result of the readiness probe."""
    status, shown = server.ask("/readyz")
    return status, shown["checks"]["canary"]


def doors(folder: Path) -> dict[str, str]:
    """Return endpoints of all kinds."""
    pem = make_certificate(folder)
    return {
        "tcp": LOOPBACK,
        "all addresses": "tcp:0",
        "tcp6": r"tcp6:0:interface=\:\:1",
        "all IPv6 addresses": "tcp6:0",
        "unix": f"unix:{folder / 'socket'}",
        "TLS": f"ssl:0:interface=127.0.0.1:privateKey={pem}",
        "PROXY": f"haproxy:{LOOPBACK}",
        "PROXY in TLS": f"haproxy:ssl:0:interface=127.0.0.1:privateKey={pem}",
    }


KINDS = ["tcp", "all addresses", "tcp6", "all IPv6 addresses", "unix", "TLS", "PROXY", "PROXY in TLS"]


@pytest.mark.parametrize("kind", KINDS)
def test_ready(kind: str, tmp_path: Path) -> None:
    """The readiness probe passes each kind of endpoint and any validators, and leaves no trace."""
    gates = ("--validate", "host:relay.example", "--validate", "origin:none", "--validate", "rooms:a")
    with relay(*ADMIN, *gates, listen=[doors(tmp_path)[kind]]) as server:
        assert ready(server) == (200, "ok")
        assert server.ask("/healthz") == (200, "ok\n")
        assert server.ask("/rooms") == (200, {"items": [], "next": None, "total": 0})
        assert "canary" not in server.output.text
        assert "denied" not in server.output.text


@pytest.mark.parametrize("kind", KINDS)
def test_ready_beyond_limits(kind: str, tmp_path: Path) -> None:
    """On each kind of endpoint the probe is exempt from the limits on clients, which a silent client has reached."""
    limits = "--max-handshakes 1 --max-connects-per-second 1 --burst-seconds 1 --handshake-seconds 60"
    with relay(*ADMIN, *limits.split(), listen=[doors(tmp_path)[kind]]) as server, ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(silent(server.addresses[0]))
        assert ready(server) == (200, "ok")
        assert "denied" not in server.output.text


def silent(url: str) -> socket.socket:
    """Return a connection that sends nothing."""
    where = urlsplit(url)
    if where.scheme.endswith("unix"):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(url.partition(":")[2])
        return connection
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(where.hostname or "", where.hostname)
    return socket.create_connection((host, where.port), SECONDS)


def test_wedged(tmp_path: Path) -> None:
    """A relay whose reactor turns, but that delivers nothing any more, is not ready within 2 s; it is alive still."""
    (tmp_path / "wedging.py").write_text(WEDGE, "utf-8")
    environ = {"PYTHONPATH": str(tmp_path)}
    with relay(*ADMIN, "--validate", "python:wedging:wedge", environ=environ) as server:
        assert ready(server) == (200, "ok")
        with WebsocketsClient(server.url("/wedge")):
            began = time.monotonic()
            while (found := ready(server))[0] == 200:
                assert time.monotonic() - began < 2
            seconds = time.monotonic() - began
        print(f"503 after {seconds:.2f} s")  # noqa: T201 - a figure to quote

        assert found == (503, "what was published was not delivered within 1 s")
        assert seconds < 2
        assert server.ask("/healthz")[0] == 200


def test_stopped() -> None:
    """A process that does not run at all answers nothing, which is what its probes time out on."""
    with (
        relay(*ADMIN) as server,
        socket.create_connection(("127.0.0.1", urlsplit(server.admin).port or 0)) as probe,
    ):
        probe.settimeout(0.2)
        os.kill(server.pid, signal.SIGSTOP)
        probe.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with pytest.raises(TimeoutError):
            probe.recv(1)
        os.kill(server.pid, signal.SIGCONT)
        probe.settimeout(SECONDS)
        assert probe.recv(99).startswith(b"HTTP/1.1 200 ")


def test_drain() -> None:
    """POST /drain does what SIGTERM does; until all have gone, the admin endpoint says that it is not ready."""
    with relay(*ADMIN, "--drain-seconds", "30") as server, ExitStack() as stack:
        members = [stack.enter_context(WebsocketsClient(server.url("/room"))) for _ in range(2)]
        assert server.ask("/drain", "POST") == (202, {"draining": True, "connections": 2})
        server.output.wait_for("POST /drain: closing 2 connections over 30 s")
        status, shown = server.ask("/readyz")
        assert (status, shown["ready"], shown["checks"]["canary"]) == (503, False, "not asked")
        assert "wsrelay_draining 1.0" in server.ask("/metrics")[1]
        for member in members:
            member.ws.close()
        assert server.wait() == 0
        assert "Traceback" not in server.output.text


def test_sigterm() -> None:
    """On SIGTERM it is the same."""
    with relay(*ADMIN, "--drain-seconds", "30") as server, WebsocketsClient(server.url("/room")) as member:
        server.signal(signal.SIGTERM)
        server.output.wait_for("SIGTERM: closing 1 connections")
        assert server.ask("/readyz")[0] == 503
        member.ws.close()
        assert server.wait() == 0


def test_close() -> None:
    """An operator finds a connection, and closes it; the others of its room stay."""
    with relay(*ADMIN) as server, ExitStack() as stack:
        first, second, third = (stack.enter_context(WebsocketsClient(server.url("/room"))) for _ in range(3))
        first.say(text("hello"))
        assert second.hear() == "hello"
        assert third.hear() == "hello"
        shown = server.ask("/connections")[1]["items"]
        assert [(item["messages_in"], item["messages_out"]) for item in shown] == [(1, 0), (0, 1), (0, 1)]
        assert server.ask(f"/connections/{shown[0]['number']}", "DELETE") == (204, "")
        assert first.closed() == (4403, "closed by the operator")
        second.say(text("still here"))
        assert third.hear() == "still here"


def test_curl(tmp_path: Path) -> None:
    """curl needs no options, but for a unix socket its path."""
    curl = require("curl")
    path = tmp_path / "admin"
    with relay("--admin", f"unix:{path}") as server:
        assert server.admin == f"http+unix:{path}"
        assert path.stat().st_mode & 0o777 == 0o600
        asked = run(curl, "--silent", "--show-error", "--include", "--unix-socket", path, "http://localhost/readyz")
        assert asked.stdout.startswith("HTTP/1.1 200 "), asked.stdout
        assert '"ready":true' in asked.stdout


def test_taken() -> None:
    """A port that is taken is told in one line."""
    with socket.create_server(("127.0.0.1", 0)) as taken, relay(*ADMIN) as server:
        port = taken.getsockname()[1]
        assert server.admin.startswith("http://127.0.0.1:")
        started = run(*command_line("twistd", "--listen", LOOPBACK, "--admin", f"tcp:{port}"))
    assert started.returncode == 1
    assert f"wsrelay: cannot listen: Couldn't listen on 127.0.0.1:{port}: " in started.stdout
    assert "Traceback" not in started.stdout


def test_beyond_loopback() -> None:
    """It warns where other machines can reach it, and only there."""
    with relay("--admin", "tcp:0:interface=0.0.0.0") as server:
        server.output.wait_for("has no password, and can be reached from other machines")
    with relay(*ADMIN) as server:
        assert server.admin.startswith("http://127.0.0.1:")
    assert "has no password" not in server.output.text


@pytest.mark.deploy
def test_page(each_browser: Browser) -> None:
    """The status page runs in a browser as its policy demands, and shows strangers' words as words."""
    name = "<b onclick=alert(1)>&amp;"
    with relay(*ADMIN) as server, WebsocketsClient(server.url("/" + quote(name))):
        page = each_browser.page(server.admin)
        page.until("document.body.innerText.includes('● ready')")
        assert page.until("[...document.querySelectorAll('td')].map((cell) => cell.textContent)").count(name) == 1
        assert page.complaints() == []
        page.close()
