"""Endpoints of both address families, as processes on real sockets."""

import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import reduce
from pathlib import Path

import pytest

from tests.harness.clients import WebsocketsClient, text, tls_context
from tests.harness.live import SECONDS, Relay, command_line, make_certificate, relay, run, taken_port
from tests.net.test_sockets import require_ipv6

pytestmark = pytest.mark.interop

#: Endpoints → the URLs that the log has for them; PORT is a free port.
PAIRS = {
    ("tcp:PORT", "tcp6:PORT"): ["ws://0.0.0.0:PORT/", "ws://[::]:PORT/"],
    ("tcp6:PORT", "tcp:PORT"): ["ws://[::]:PORT/", "ws://0.0.0.0:PORT/"],
    (r"tcp6:PORT:interface=\:\:", "tcp:PORT:interface=127.0.0.1"): ["ws://[::]:PORT/", "ws://127.0.0.1:PORT/"],
    (r"ssl:PORT:privateKey=PEM:interface=\:\:", "ssl:PORT:privateKey=PEM"): ["wss://[::]:PORT/", "wss://0.0.0.0:PORT/"],
    ("tls:FOLDER:port=PORT", "ssl:PORT:privateKey=PEM"): ["wss://[::]:PORT/", "wss://0.0.0.0:PORT/"],
    ("tcp6:PORT",): ["ws://[::]:PORT/"],
    (r"ssl:PORT:privateKey=PEM:interface=\:\:",): ["wss://[::]:PORT/"],
    ("tls:FOLDER:port=PORT",): ["wss://[::]:PORT/"],
}


@pytest.mark.parametrize("listen", PAIRS)
def test_ipv4_and_ipv6(listen: tuple[str, ...], tmp_path: Path) -> None:
    """An IPv4 and an IPv6 client meet in a room, through a pair of endpoints and through one IPv6 endpoint alone."""
    require_ipv6()
    pem = make_certificate(tmp_path)
    with ExitStack() as stack:
        server, port = stack.enter_context(relay_on_free_port(listen, {"PEM": str(pem), "FOLDER": str(tmp_path)}))
        assert server.addresses == [url.replace("PORT", port) for url in PAIRS[listen]]
        one, other = (stack.enter_context(client(server, host, pem)) for host in ("127.0.0.1", "::1"))
        one.say(text("hello"))
        assert other.hear() == "hello"
        assert server.output.wait_for(r" (tcp\d):\S+ joined ", 2) == ["tcp4", "tcp6"]


@contextmanager
def relay_on_free_port(listen: Sequence[str], places: Mapping[str, str]) -> Iterator[tuple[Relay, str]]:
    """Run a relay on the same port of several endpoints; another process may take a free port before it does."""
    while True:
        with taken_port() as free:
            port = str(free.getsockname()[1])
        filled = [reduce(lambda word, place: word.replace(*place), places.items(), word) for word in listen]
        with ExitStack() as stack:
            try:
                server = stack.enter_context(relay(listen=[word.replace("PORT", port) for word in filled]))
            except AssertionError as error:
                if "Address already in use" in str(error):
                    continue
                raise
            yield server, port
        return


def client(server: Relay, host: str, pem: Path) -> WebsocketsClient:
    """Connect to an address of the first endpoint."""
    scheme, port = re.findall(r"^(wss?)://.*:(\d+)/$", server.addresses[0])[0]
    connection = socket.create_connection((host, int(port)), SECONDS)
    options = {"ssl": tls_context(pem)} if scheme == "wss" else {}
    return WebsocketsClient(f"{scheme}://localhost:{port}/room", sock=connection, **options)


def test_ports_chosen_by_kernel() -> None:
    """``tcp:0`` and ``tcp6:0`` listen on two ports."""
    require_ipv6()
    with relay(listen=["tcp:0", "tcp6:0"]) as server:
        assert len({url.rpartition(":")[2] for url in server.addresses}) == 2


def test_address_in_use() -> None:
    """A port of another program, or of two own endpoints of one family, is refused with advice."""
    require_ipv6()
    with taken_port() as taken:
        port = taken.getsockname()[1]
        ended = run(*command_line("twistd", "--listen", f"tcp6:{port}"))
    assert ended.returncode == 1
    assert f"wsrelay: cannot listen: Couldn't listen on [::]:{port}: [Errno 98] Address already in use." in ended.stdout
    assert "`ss -ltnp` names it" in ended.stdout
    twice = [f"tcp6:{port}", rf"tcp6:{port}:interface=\:\:1"]
    ended = run(*command_line("twistd", "--listen", twice[0], "--listen", twice[1]))
    assert ended.returncode == 1
    assert "or two of our endpoints have the same" in ended.stdout


def test_unix_socket_in_use(tmp_path: Path) -> None:
    """The unix socket of another relay is refused in one line, without advice on ports."""
    path = tmp_path / "relay.sock"
    with relay(listen=[f"unix:{path}"]):
        ended = run(*command_line("twistd", "--listen", f"unix:{path}"))
    assert ended.returncode == 1
    assert f"wsrelay: cannot listen: Couldn't listen on any:{bytes(path)}: Cannot acquire lock." in ended.stdout
    assert " Another relay listens on this socket.\n" in ended.stdout
    assert "Traceback" not in ended.stdout
