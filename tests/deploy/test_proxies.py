"""Behind nginx, HAProxy and Caddy as deploy/ configures them: upgrade, address, silence, health, drain, TLS."""

import http.client
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from tests.deploy.files import DEPLOY, rendered
from tests.deploy.proxies import CLIENT, PROXIES, Place, nginx_configuration
from tests.deploy.stacks import RESTARTING, Stack, exchange, silent_pairs, started
from tests.harness.clients import WebsocketsClient, text
from tests.harness.live import SECONDS, relay, require, run, taken_port
from wsrelay.tap import Options

pytestmark = pytest.mark.deploy

#: What a proxy says of a relay that is not ready, and how often until it has acted on it; nginx does not ask.
DOWN = {"caddy": ('"status code out of tolerances"', 2), "haproxy": ("Server relay/one is DOWN", 1)}


@pytest.fixture(scope="module", params=sorted(PROXIES))
def stack(
    request: pytest.FixtureRequest, certificate: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """Each of the proxies, with the times that its file says."""
    with started(request.param, certificate, tmp_path_factory.mktemp(request.param)) as running:
        yield running


@dataclass
class Silence:
    """Two clients behind each proxy, and until when they are to be silent."""

    pairs: list[list[WebsocketsClient]]
    until: float


@pytest.fixture(scope="module")
def silence(certificate: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Silence]:
    """All three proxies with the times that their files say, and clients that nobody talks to."""
    with ExitStack() as entered:
        pairs = silent_pairs(entered, list(PROXIES), tmp_path_factory.mktemp("silence"), certificate)
        yield Silence(pairs, time.monotonic() + 61)


def test_silence_begins(silence: Silence) -> None:
    """Clients are let in, and left alone while the other tests of this file run; the last one looks after them."""
    assert len(silence.pairs) == len(PROXIES)


def test_messages(stack: Stack) -> None:
    """Two clients talk through the proxy, over TLS, deflated and not; the validator of origins sees the right host."""
    with stack.proxy.client() as one, stack.proxy.client(deflate=True) as other:
        assert (one.extensions, other.extensions) == ("", "permessage-deflate")
        exchange(one, other)
        one.hears_nothing()


def test_address(stack: Stack) -> None:
    """The relay's line in the log has the client's address, whatever the client says of itself."""
    joined = r"(\S+) (?:through \S+ )?joined 'room'"
    before = len(re.findall(joined, stack.relay.output.text))
    for headers in ({}, {"X-Forwarded-For": "192.0.2.1"}, {"X-Forwarded-For": "192.0.2.1, 127.0.0.1"}):
        with stack.proxy.client(additional_headers=headers) as client:
            client.hears_nothing()
    # By the PROXY protocol the port is known as well.
    peers = stack.relay.output.wait_for(joined, before + 3)[before:]
    assert [peer.removeprefix("tcp4:").partition(":")[0] for peer in peers] == [CLIENT] * 3


def test_refusal(stack: Stack) -> None:
    """A refusal passes through with its status and reason, and so does the answer to what is no handshake."""
    with pytest.raises(InvalidStatus) as refused, stack.proxy.client("/room//double"):
        pass
    assert refused.value.response.status_code == 400
    with pytest.raises(InvalidStatus) as refused, stack.proxy.client(origin="https://elsewhere.example"):
        pass
    assert refused.value.response.status_code == 403


def test_redirect(stack: Stack) -> None:
    """Who comes without TLS is sent where it is."""
    connection = http.client.HTTPConnection("127.0.0.1", stack.proxy.plain, timeout=SECONDS)
    connection.request("GET", "/room?a=b", headers={"Host": "localhost"})
    answer = connection.getresponse()
    connection.close()
    assert answer.status in (301, 308)
    assert re.fullmatch(r"https://localhost(:\d+)?/room\?a=b", answer.headers["Location"])


@pytest.mark.parametrize("name", sorted(PROXIES))
def test_events(name: str, certificate: Path, tmp_path: Path) -> None:
    """Server-sent events come at once, one by one, and none waits for the next in a buffer."""
    with (
        started(name, certificate, tmp_path, "--http") as stack,
        stack.proxy.client() as publisher,
        stack.proxy.answer("/room", Accept="text/event-stream") as answer,
    ):
        assert answer.status == 200
        for number in range(3):
            publisher.say(text(f"message {number}"))
            assert any(f"message {number}".encode() in line for line in iter(answer.readline, b""))


@pytest.mark.parametrize("name", sorted(PROXIES))
def test_drain(name: str, certificate: Path, tmp_path: Path) -> None:
    """When the relay is stopped, clients behind the proxy are told 1012 and why; new ones get 502 or 503."""
    with started(name, certificate, tmp_path, "--drain-seconds", "1") as stack:
        with stack.proxy.client() as one, stack.proxy.client() as other:
            stack.relay.signal(signal.SIGTERM)
            assert [one.closed(), other.closed()] == [RESTARTING] * 2
            assert stack.relay.wait() == 0
        with pytest.raises(InvalidStatus) as refused, stack.proxy.client():
            pass
        assert refused.value.response.status_code in (502, 503)


@pytest.mark.parametrize("name", sorted(DOWN))
def test_not_ready(name: str, certificate: Path, tmp_path: Path) -> None:
    """A relay whose /readyz is 503 gets nobody new; who is connected goes on."""
    with (
        started(name, certificate, tmp_path) as stack,
        stack.proxy.client() as one,
        stack.proxy.client() as other,
    ):
        stack.health.ready = False
        stack.proxy.process.output.wait_for(*DOWN[name])
        with pytest.raises(InvalidStatus) as refused, stack.proxy.client():
            pass
        assert refused.value.response.status_code == 503
        exchange(one, other)
        assert stack.health.asked == {("/readyz", "HTTP/1.1")}


@pytest.mark.parametrize("name", sorted(DOWN))
def test_drain_for_long(name: str, certificate: Path, tmp_path: Path) -> None:
    """A relay that drains says so at /readyz: it gets nobody new, and those whose turn has not come go on talking."""
    options = ["--drain-seconds", "36000", "--admin", "tcp:0"]
    with (
        started(name, certificate, tmp_path, *options) as stack,
        stack.proxy.client() as one,
        stack.proxy.client() as other,
    ):
        stack.relay.signal(signal.SIGTERM)
        stack.proxy.process.output.wait_for(*DOWN[name])
        with pytest.raises(InvalidStatus) as refused, stack.proxy.client():
            pass
        assert refused.value.response.status_code == 503
        exchange(one, other)
        stack.relay.signal(signal.SIGTERM)  # nobody needs to be waited for
        assert stack.relay.wait() == 0


@pytest.mark.parametrize("name", ["caddy/Caddyfile", "haproxy/haproxy.cfg", "nginx/wsrelay.conf"])
def test_command_line(name: str) -> None:
    """The relay takes the options that the file says go with it."""
    (line,) = re.findall(r"^# +twistd -n wsrelay (.*)$", rendered(name, {}), re.MULTILINE)
    parsed = Options()
    parsed.environ = {}
    parsed.parseOptions(line.split())


def test_nginx_check(certificate: Path, tmp_path: Path) -> None:
    """nginx -t has nothing to say against its file."""
    with relay() as server, taken_port() as one, taken_port() as other:
        ports = [taken.getsockname()[1] for taken in (one, other)]
        file = nginx_configuration(Place(server, 0, certificate, tmp_path), *ports)
        said = checked("nginx", "-t", "-p", str(tmp_path), "-c", str(file), "-e", "stderr")
    assert "[" not in said, said  # a level of its log, [warn] and above


def test_haproxy_check(certificate: Path, tmp_path: Path) -> None:
    """``haproxy -c`` has nothing to say against its file, but for the certificate that is not there."""
    file = tmp_path / "haproxy.cfg"
    file.write_text(rendered("haproxy/haproxy.cfg", {"/etc/haproxy/tls/relay.pem": str(certificate)}))
    assert checked("haproxy", "-c", "-V", "-f", str(file)).strip() == "Configuration file is valid"


def test_caddy_check(tmp_path: Path) -> None:
    """``caddy validate`` and ``caddy fmt`` have nothing to say against its file."""
    file = DEPLOY / "caddy" / "Caddyfile"
    environ = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    said = checked("caddy", "validate", "--config", str(file), "--adapter", "caddyfile", **environ)
    assert "Valid configuration" in said
    assert '"level":"warn"' not in said
    formatted = run(require("caddy"), "fmt", str(file), stderr=subprocess.DEVNULL)
    assert formatted.stdout == file.read_text("utf-8")


def checked(program: str, *arguments: str, **environ: str) -> str:
    """Return what a program says, all in one, when it checks a file; it must be content."""
    ended = run(require(program), *arguments, env={"PATH": "/usr/bin", **environ})
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


def test_more_than_a_minute(silence: Silence) -> None:
    """With all times as they are checked in, rooms that are silent for more than 60 s pass all three."""
    with pytest.raises(TimeoutError):
        silence.pairs[0][0].ws.recv(max(0.0, silence.until - time.monotonic()))
    for pair in silence.pairs:
        exchange(*pair)
