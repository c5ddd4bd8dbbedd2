"""``twistd wsrelay`` and ``twist wsrelay`` as an operator meets them: options, signals, exit codes."""

import signal
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.clients import WebsocketsClient, binary, mute, read_to_end, text
from tests.live import LOOPBACK, command_line, relay, run, taken_port
from wsrelay import __version__

pytestmark = pytest.mark.interop

#: What a process may take to end on top of what was promised, on a machine that does other things as well.
END_SECONDS = 10

#: What a client that is not masked by a library sees when the relay stops: FIN and opcode, length, code, reason.
REASON = b"the relay is shutting down"
GOING_AWAY = bytes([0x88, 2 + len(REASON)]) + (1001).to_bytes(2) + REASON


@pytest.fixture(params=["twistd", "twist"])
def program(request: pytest.FixtureRequest) -> str:
    """Both commands behave alike."""
    name: str = request.param
    return name


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_stop(program: str, number: signal.Signals) -> None:
    """A signal closes every client with 1001 behind its messages; when all have answered, the process exits with 0."""
    # Far more than END_SECONDS: to wait for it would be to wait for nobody.
    with relay("--close-seconds", "600", program=program) as server, ExitStack() as stack:
        clients = [stack.enter_context(WebsocketsClient(server.url(f"/room/{i % 2}"))) for i in range(4)]
        clients[0].say(text("last words"))
        clients[0].hears_nothing()  # and the relay has them

        server.signal(number)

        assert clients[2].hear() == "last words"
        assert [client.closed() for client in clients] == [(1001, REASON.decode())] * 4
        assert server.wait(END_SECONDS) == 0
        assert "Traceback" not in server.output.text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_in_time(program: str, number: signal.Signals) -> None:
    """Clients that do not answer are told, too, and keep the process for close-seconds at most."""
    with relay("--close-seconds", "2", program=program) as server, mute(server) as client:
        server.signal(number)
        assert server.wait(2 + END_SECONDS) == 0
        assert read_to_end(client) == GOING_AWAY
        assert "Traceback" not in server.output.text


def test_stop_now(program: str) -> None:
    """A second signal ends the process at once, whoever has not answered."""
    with relay("--close-seconds", "600", program=program) as server, mute(server) as client:
        server.signal(signal.SIGTERM)
        assert client.recv(len(GOING_AWAY), socket.MSG_WAITALL) == GOING_AWAY
        server.signal(signal.SIGTERM)
        assert server.wait(END_SECONDS) == 0
        assert "Traceback" not in server.output.text


def test_two_signals(program: str) -> None:
    """Two signals that come together end the process at once."""
    with relay("--close-seconds", "600", program=program) as server, mute(server):
        server.signal(signal.SIGTERM)
        server.signal(signal.SIGINT)
        assert server.wait(END_SECONDS) == 0
        assert "Traceback" not in server.output.text


def test_stop_early(program: str) -> None:
    """A relay that has said where it listens stops cleanly."""
    with relay(program=program) as server:
        server.stop()


def test_port_in_use(program: str) -> None:
    """A relay whose port is taken says so in one line and fails."""
    with taken_port() as taken:
        port = taken.getsockname()[1]
        ended = run(*command_line(program, "--listen", f"tcp:{port}:interface=127.0.0.1"))
    assert ended.returncode == 1
    (line,) = (line for line in ended.stdout.splitlines() if str(port) in line)
    assert f"wsrelay: cannot listen: Couldn't listen on 127.0.0.1:{port}: " in line
    assert "Traceback" not in ended.stdout


def test_wrong_options(program: str) -> None:
    """Wrong options are named all at once; the process fails."""
    ended = run(*command_line(program, "--listen", LOOPBACK, "--max-message-bytes", "-5", "--validate", "nosuch"))
    assert ended.returncode == {"twistd": 1, "twist": 64}[program]
    assert "--max-message-bytes: expected a whole number >= 1, got '-5'" in ended.stdout
    assert "validate: nosuch: there is no validator of this name" in ended.stdout
    assert "Traceback" not in ended.stdout


def test_precedence(program: str, tmp_path: Path) -> None:
    """The command line wins over the environment, that over the file, and that over the default."""
    file = tmp_path / "relay.toml"
    file.write_text('listen = ["tcp:0:interface=127.0.0.1"]\necho = true\nmax-message-bytes = 1\nmax-fragments = 1\n')
    options = ["--config", str(file), "--max-fragments", "4"]
    environ = {"WSRELAY_MAX_MESSAGE_BYTES": "20", "WSRELAY_MAX_FRAGMENTS": "3"}
    with relay(*options, program=program, listen=(), environ=environ) as server, ExitStack() as stack:
        client, many, large = (stack.enter_context(WebsocketsClient(server.url("/room"))) for _ in range(3))
        # websockets ends a fragmented message with an empty frame: these are four, and then five.
        client.say(text("three ", "fragments", " fit"))
        assert client.hear() == "three fragments fit"
        many.say(text("f", "o", "u", "r"))
        large.say(binary(bytes(21)))
        for limited, code in ((many, 1008), (large, 1009)):
            assert limited.hear() == "three fragments fit"
            assert limited.closed()[0] == code


def test_version(program: str) -> None:
    """--version prints the relay's, not Twisted's."""
    ended = run(*command_line(program, "--version"))
    assert (ended.returncode, ended.stdout) == (0, f"wsrelay {__version__}\n")


def test_help_validators(program: str) -> None:
    """--help-validators lists the built-in ones with their arguments."""
    ended = run(*command_line(program, "--help-validators"))
    assert ended.returncode == 0
    names = [line.partition(":")[0] for line in ended.stdout.splitlines() if not line.startswith(" ")]
    assert {"host", "http", "origin", "python", "rooms", "subprotocol", "token"} <= set(names)
    assert "origin:ORIGIN|same-host|" in ended.stdout


def test_environment(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options in the environment of whoever runs the tests do not reach the relays in them."""
    monkeypatch.setenv("WSRELAY_ECHO", "perhaps")
    with relay(program=program) as server, WebsocketsClient(server.url()) as client:
        client.say(text("hello"))
        client.hears_nothing()
