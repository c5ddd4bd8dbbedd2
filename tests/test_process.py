"""``twistd wsrelay`` and ``twist wsrelay`` as an operator meets them: options, signals, exit codes."""

import re
import signal
import socket
import ssl
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from tests.clients import WebsocketsClient, binary, mute, read_to_end, text, tls_context
from tests.live import LOOPBACK, SCRIPTS, Relay, command_line, make_certificate, relay, run, taken_port
from wsrelay import __version__

pytestmark = pytest.mark.interop

#: What a process may take to end on top of what was promised, on a machine that does other things as well.
END_SECONDS = 10

#: What a client that is not masked by a library sees when the relay stops: FIN and opcode, length, code, reason.
REASON = b"the relay is restarting: reconnect with back-off"
RESTARTING = bytes([0x88, 2 + len(REASON)]) + (1012).to_bytes(2) + REASON


@pytest.fixture(params=["twistd", "twist"])
def program(request: pytest.FixtureRequest) -> str:
    """Both commands behave alike."""
    name: str = request.param
    return name


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop(program: str, number: signal.Signals) -> None:
    """A signal closes every client with 1012 behind its messages; when all have answered, the process exits with 0."""
    # Far more than END_SECONDS: to wait for it would be to wait for nobody.
    options = ["--close-seconds", "600", "--drain-seconds", "1" if number == signal.SIGTERM else "600"]
    with relay(*options, program=program) as server, ExitStack() as stack:
        clients = [stack.enter_context(WebsocketsClient(server.url(f"/room/{i % 2}"))) for i in range(4)]
        clients[0].say(text("last words"))
        clients[0].hears_nothing()  # and the relay has them

        server.signal(number)

        assert clients[2].hear() == "last words"
        assert [client.closed() for client in clients] == [(1012, REASON.decode())] * 4
        assert server.wait(END_SECONDS) == 0
        assert "Traceback" not in server.output.text


def test_drain(program: str) -> None:
    """Until its own turn comes, each client goes on talking to those that are left; nobody new comes in."""
    with relay("--drain-seconds", "600", program=program) as server, ExitStack() as stack:
        one, other = (stack.enter_context(WebsocketsClient(server.url("/room"))) for _ in range(2))
        port = one.ws.remote_address[1]
        server.signal(signal.SIGTERM)
        assert server.output.wait_for("SIGTERM: closing (2) connections over 600 s") == ["2"]
        one.say(text("still here"))
        assert other.hear() == "still here"
        with socket.socket() as late, pytest.raises(ConnectionRefusedError):
            late.connect(("127.0.0.1", port))
        server.signal(signal.SIGTERM)
        assert server.wait(END_SECONDS) == 0


def test_drain_many() -> None:
    """Under load every client sees 1012, in many portions, and loses nothing that the relay had taken before."""
    options = ["--members", "200", "--drain-seconds", "2", "--tolerance", "inf"]
    ended = run(sys.executable, Path(__file__).parent.parent / "soak" / "drain.py", *options)
    assert ended.returncode == 0, ended.stdout
    assert "saw {1012: 200}\n" in ended.stdout
    (portions,) = re.findall(r"closes came in (\d+) portions", ended.stdout)
    assert int(portions) >= 4, ended.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_in_time(program: str, number: signal.Signals) -> None:
    """Clients that do not answer are told, too, and keep the process for drain-seconds and close-seconds at most."""
    with relay("--close-seconds", "2", "--drain-seconds", "1", program=program) as server, mute(server) as client:
        server.signal(number)
        assert server.wait(3 + END_SECONDS) == 0
        assert read_to_end(client) == RESTARTING
        assert "Traceback" not in server.output.text


def test_stop_now(program: str) -> None:
    """A second signal ends the process at once, whoever has not answered."""
    with relay("--close-seconds", "600", "--drain-seconds", "0", program=program) as server, mute(server) as client:
        server.signal(signal.SIGTERM)
        assert client.recv(len(RESTARTING), socket.MSG_WAITALL) == RESTARTING
        server.signal(signal.SIGTERM)
        assert server.wait(END_SECONDS) == 0
        assert "Traceback" not in server.output.text


def test_two_signals(program: str) -> None:
    """Two signals that come together end the process at once."""
    with relay("--close-seconds", "600", "--drain-seconds", "600", program=program) as server, mute(server):
        server.signal(signal.SIGTERM)
        server.signal(signal.SIGINT)
        assert server.wait(END_SECONDS) == 0
        assert "Traceback" not in server.output.text


def shown(server: Relay) -> bytes:
    """Return the certificate that the relay shows a new connection."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with server.connect() as plain, context.wrap_socket(plain, server_hostname="localhost") as connection:
        certificate = connection.getpeercert(binary_form=True)
    assert certificate is not None
    return certificate


@pytest.mark.parametrize("kind", ["ssl", "tls", "haproxy:ssl", "haproxy:tls"])
def test_reload_certificate(program: str, kind: str, tmp_path: Path) -> None:
    """After SIGHUP new connections are shown the new certificate; a file that is broken changes nothing."""
    file = make_certificate(tmp_path)
    where = f"privateKey={file}:port=0" if kind.endswith("ssl") else f"{tmp_path}:port=0"
    with relay(program=program, listen=[f"{kind}:{where}:interface=127.0.0.1"]) as server:
        first = shown(server)
        make_certificate(tmp_path)
        assert shown(server) == first
        server.signal(signal.SIGHUP)
        server.output.wait_for("SIGHUP: reloaded 1 certificates, 1 validators and the slow policies")
        second = shown(server)
        assert second == ssl.PEM_cert_to_DER_cert("-----BEGIN CERT" + file.read_text().partition("-----BEGIN CERT")[2])
        assert second != first

        file.write_text("garbage")
        server.signal(signal.SIGHUP)
        (why,) = server.output.wait_for("SIGHUP: nothing was reloaded: (.*)")
        assert why.startswith(f"listen: {kind}:")
        assert shown(server) == second


@pytest.mark.parametrize("kind", ["ssl", "tls"])
def test_reload_drops_nobody(program: str, kind: str, tmp_path: Path) -> None:
    """A connection that was made under the old certificate goes on relaying, also to those under the new one."""
    file = make_certificate(tmp_path)
    where = f"privateKey={file}:port=0" if kind == "ssl" else f"{tmp_path}:port=0"
    with relay(program=program, listen=[f"{kind}:{where}:interface=127.0.0.1"]) as server, ExitStack() as stack:

        def client() -> WebsocketsClient:
            url = server.url("/room").replace("127.0.0.1", "localhost")
            return stack.enter_context(WebsocketsClient(url, sock=server.connect(), ssl=tls_context(file)))

        old = client()
        make_certificate(tmp_path)
        server.signal(signal.SIGHUP)
        server.output.wait_for("SIGHUP: reloaded")
        new = client()
        for one, other in ((old, new), (new, old)):
            one.say(text("hello"))
            assert other.hear() == "hello"


def test_reload_validators(program: str, tmp_path: Path) -> None:
    """After SIGHUP new clients meet the validators that the file names now; those that are in stay in."""
    file = tmp_path / "relay.toml"
    file.write_text("validate = ['rooms:old']\n")
    with relay("--config", str(file), program=program) as server, ExitStack() as stack:
        one, other = (stack.enter_context(WebsocketsClient(server.url("/old"))) for _ in range(2))
        file.write_text("validate = ['rooms:new']\nmax-rooms = 7\n")
        server.signal(signal.SIGHUP)
        server.output.wait_for("2 validators and the slow policies; changed, but it needs a restart: max-rooms")
        with pytest.raises(InvalidStatus) as refused, WebsocketsClient(server.url("/old")):
            pass
        assert refused.value.response.status_code == 403
        with WebsocketsClient(server.url("/new")):
            pass
        one.say(text("still here"))
        assert other.hear() == "still here"


def test_reload_wrong(program: str, tmp_path: Path) -> None:
    """With anything wrong nothing changes, one line names all that is, and the relay goes on."""
    file = tmp_path / "relay.toml"
    file.write_text("validate = ['rooms:old']\n")
    with relay("--config", str(file), program=program) as server, ExitStack() as stack:
        one, other = (stack.enter_context(WebsocketsClient(server.url("/old"))) for _ in range(2))
        file.write_text("validate = ['rooms:new', 'nosuch']\nmax-rooms = 'many'\n")
        server.signal(signal.SIGHUP)
        (why,) = server.output.wait_for("SIGHUP: nothing was reloaded: (.*)")
        assert f"{file}: max-rooms: expected a whole number, got 'many'; validate: nosuch: there is no validator" in why
        with WebsocketsClient(server.url("/old")) as late:
            late.say(text("as before"))
            assert (one.hear(), other.hear()) == ("as before", "as before")


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


def test_daemon_cannot_listen(tmp_path: Path) -> None:
    """A daemon whose port is taken exits with 1, says so, leaves no PID file, and its log says why."""
    with taken_port() as taken:
        where = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        options = ["--pidfile=relay.pid", "--logfile=relay.log", "wsrelay", "--listen", where]
        ended = run(SCRIPTS / "twistd", *options, cwd=tmp_path)
    assert ended.returncode == 1
    assert "cannot listen" in ended.stdout
    assert not (tmp_path / "relay.pid").exists()
    assert "wsrelay: cannot listen: Couldn't listen on 127.0.0.1:" in (tmp_path / "relay.log").read_text()


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
