"""nginx, HAProxy and Caddy as deploy/ configures them: upgrade, peer address, idle timeout, readiness, drain, TLS."""

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
from tests.deploy.health import health
from tests.deploy.proxies import CLIENT, LISTEN, PROXIES, Place, nginx_configuration
from tests.deploy.stacks import OPTIONS, RESTARTING, Stack, exchange, silent_pairs, started
from tests.harness.clients import WebsocketsClient, text
from tests.harness.live import SECONDS, relay, require, run, taken_port
from wsrelay.tap import Options

pytestmark = pytest.mark.deploy

#: Log line of a proxy about an unready relay, and how many of them until it reacts; nginx has no probe.
DOWN = {"caddy": ('"status code out of tolerances"', 2), "haproxy": ("Server relay/one is DOWN", 1)}


@pytest.fixture(scope="module", params=sorted(PROXIES))
def stack(
    request: pytest.FixtureRequest, certificate: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """Each proxy, with the timeouts of its file."""
    with started(request.param, certificate, tmp_path_factory.mktemp(request.param)) as running:
        yield running


@dataclass
class Silence:
    """Two idle clients behind each proxy, and the time until which they are idle."""

    pairs: list[list[WebsocketsClient]]
    until: float


@pytest.fixture(scope="module")
def silence(certificate: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Silence]:
    """All three proxies with the timeouts of their files, and idle clients."""
    with ExitStack() as entered:
        pairs = silent_pairs(entered, list(PROXIES), tmp_path_factory.mktemp("silence"), certificate)
        yield Silence(pairs, time.monotonic() + 61)


def test_idle_clients_connect(silence: Silence) -> None:
    """Idle clients connect; they stay idle during the other tests, and the last test checks them."""
    assert len(silence.pairs) == len(PROXIES)


def test_proxy_relays(stack: Stack) -> None:
    """Messages pass over TLS, with and without permessage-deflate; same-host origins are accepted."""
    with stack.proxy.client() as one, stack.proxy.client(deflate=True) as other:
        assert (one.extensions, other.extensions) == ("", "permessage-deflate")
        exchange(one, other)
        one.hears_nothing()


def test_forwarded_address(stack: Stack) -> None:
    """The relay logs the client's address, also if the client sends X-Forwarded-For."""
    joined = r"(\S+) (?:through \S+ )?joined 'room'"
    before = len(re.findall(joined, stack.relay.output.text))
    for headers in ({}, {"X-Forwarded-For": "192.0.2.1"}, {"X-Forwarded-For": "192.0.2.1, 127.0.0.1"}):
        with stack.proxy.client(additional_headers=headers) as client:
            client.hears_nothing()
    # The PROXY protocol adds the port.
    peers = stack.relay.output.wait_for(joined, before + 3)[before:]
    assert [peer.removeprefix("tcp4:").partition(":")[0] for peer in peers] == [CLIENT] * 3


def test_refusal(stack: Stack) -> None:
    """A refused handshake passes through the proxy with its status."""
    with pytest.raises(InvalidStatus) as refused, stack.proxy.client("/room//double"):
        pass
    assert refused.value.response.status_code == 400
    with pytest.raises(InvalidStatus) as refused, stack.proxy.client(origin="https://elsewhere.example"):
        pass
    assert refused.value.response.status_code == 403


def test_redirect_to_https(stack: Stack) -> None:
    """Plain HTTP is redirected to HTTPS."""
    connection = http.client.HTTPConnection("127.0.0.1", stack.proxy.plain, timeout=SECONDS)
    connection.request("GET", "/room?a=b", headers={"Host": "localhost"})
    answer = connection.getresponse()
    connection.close()
    assert answer.status in (301, 308)
    assert re.fullmatch(r"https://localhost(:\d+)?/room\?a=b", answer.headers["Location"])


@pytest.mark.parametrize("name", sorted(PROXIES))
def test_server_sent_events(name: str, certificate: Path, tmp_path: Path) -> None:
    """Server-sent events are not buffered."""
    with (
        started(name, certificate, tmp_path, "--http") as stack,
        stack.proxy.client() as publisher,
        stack.proxy.answer("/room", Accept="text/event-stream") as answer,
    ):
        assert answer.status == 200
        for number in range(3):
            publisher.say(text(f"message {number}"))
            assert any(f"message {number}".encode() in line for line in iter(answer.readline, b""))


#: One room in other spellings and with other queries; the last field is what a client might forge.
SPELLINGS = (
    ("/r%C3%A4um/{}?token=a", {}),
    ("/r%c3%a4um/{}?token=b&x=1", {}),
    ("/%72%C3%A4um%2F{}", {}),
    ("/r%C3%A4um/{}", {"X-Wsrelay-Room": "/elsewhere"}),
)


@pytest.mark.parametrize("name", sorted(PROXIES))
def test_rooms_meet(name: str, certificate: Path, tmp_path: Path) -> None:
    """With two relays, a room's members meet at the same one, however they spell it; the rooms use both."""
    with (
        relay(*OPTIONS, listen=LISTEN) as one,
        relay(*OPTIONS, listen=LISTEN) as two,
        health() as admin,
        PROXIES[name](Place(one, admin.port, certificate, tmp_path, other=two)) as proxy,
    ):
        for number in range(10):
            with ExitStack() as entered:
                speaker, *listeners = [
                    entered.enter_context(proxy.client(path.format(number), additional_headers=fields))
                    for path, fields in SPELLINGS
                ]
                speaker.say(text(f"hello {number}"))
                assert [listener.hear() for listener in listeners] == [f"hello {number}"] * 3
        for server in (one, two):
            assert "joined" in server.output.text


@pytest.mark.parametrize("name", sorted(PROXIES))
def test_drain_behind_proxy(name: str, certificate: Path, tmp_path: Path) -> None:
    """On a stop of the relay, clients see 1012 with its reason; new clients get 502 or 503."""
    with started(name, certificate, tmp_path, "--drain-seconds", "1") as stack:
        with stack.proxy.client() as one, stack.proxy.client() as other:
            stack.relay.signal(signal.SIGTERM)
            assert [one.closed(), other.closed()] == [RESTARTING] * 2
            assert stack.relay.wait() == 0
        with pytest.raises(InvalidStatus) as refused, stack.proxy.client():
            pass
        assert refused.value.response.status_code in (502, 503)


@pytest.mark.parametrize("name", sorted(DOWN))
def test_readiness_probe(name: str, certificate: Path, tmp_path: Path) -> None:
    """A relay whose /readyz is 503 gets no new clients; open connections go on."""
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
def test_readiness_during_drain(name: str, certificate: Path, tmp_path: Path) -> None:
    """A draining relay is not ready: it gets no new clients; clients not yet closed still get messages."""
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
        stack.relay.signal(signal.SIGTERM)  # the second signal ends the drain
        assert stack.relay.wait() == 0


@pytest.mark.parametrize("name", ["caddy/Caddyfile", "haproxy/haproxy.cfg", "nginx/wsrelay.conf"])
def test_documented_options(name: str) -> None:
    """The relay accepts the options in the comment of the file."""
    (line,) = re.findall(r"^# +twistd -n --pidfile= wsrelay (.*)$", rendered(name, {}), re.MULTILINE)
    parsed = Options()
    parsed.environ = {}
    parsed.parseOptions(line.split())


def test_nginx_check(certificate: Path, tmp_path: Path) -> None:
    """``nginx -t`` finds nothing in its file."""
    with relay() as server, taken_port() as one, taken_port() as other:
        ports = [taken.getsockname()[1] for taken in (one, other)]
        file = nginx_configuration(Place(server, 0, certificate, tmp_path), *ports)
        said = checked("nginx", "-t", "-p", str(tmp_path), "-c", str(file), "-e", "stderr")
    assert "[" not in said, said  # a log level: [warn] or worse


def test_haproxy_check(certificate: Path, tmp_path: Path) -> None:
    """``haproxy -c`` finds nothing in its file, given a certificate."""
    file = tmp_path / "haproxy.cfg"
    file.write_text(rendered("haproxy/haproxy.cfg", {"/etc/haproxy/tls/relay.pem": str(certificate)}))
    assert checked("haproxy", "-c", "-V", "-f", str(file)).strip() == "Configuration file is valid"


def test_caddy_check(tmp_path: Path) -> None:
    """``caddy validate`` and ``caddy fmt`` find nothing in its file."""
    file = DEPLOY / "caddy" / "Caddyfile"
    environ = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    said = checked("caddy", "validate", "--config", str(file), "--adapter", "caddyfile", **environ)
    assert "Valid configuration" in said
    assert '"level":"warn"' not in said
    formatted = run(require("caddy"), "fmt", str(file), stderr=subprocess.DEVNULL)
    assert formatted.stdout == file.read_text("utf-8")


def checked(program: str, *arguments: str, **environ: str) -> str:
    """Run a check of a configuration, which must pass, and return its output."""
    ended = run(require(program), *arguments, env={"PATH": "/usr/bin", **environ})
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


def test_idle_clients_survive(silence: Silence) -> None:
    """With the timeouts of deploy/, connections that are idle for more than 60 s stay open behind all three."""
    with pytest.raises(TimeoutError):
        silence.pairs[0][0].ws.recv(max(0.0, silence.until - time.monotonic()))
    for pair in silence.pairs:
        exchange(*pair)
