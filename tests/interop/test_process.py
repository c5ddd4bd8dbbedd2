"""``twistd wsrelay`` and ``twist wsrelay`` as processes: options, signals, exit codes, logs."""

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import tomllib
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from tests.harness.clients import WebsocketsClient, binary, handshake, mute, read_to_end, text, tls_context
from tests.harness.live import (
    LOOPBACK,
    SCRIPTS,
    SECONDS,
    Relay,
    command_line,
    make_certificate,
    relay,
    run,
    taken_port,
    until,
)
from wsrelay import __version__

pytestmark = pytest.mark.interop

#: Allowed time to end above the documented bounds, for busy machines.
END_SECONDS = 10

#: The close frame on a stop: FIN and opcode, length, code, reason.
REASON = b"the relay is restarting: reconnect with back-off"
RESTARTING = bytes([0x88, 2 + len(REASON)]) + (1012).to_bytes(2) + REASON


@pytest.fixture(params=["twistd", "twist"])
def program(request: pytest.FixtureRequest) -> str:
    """Both commands."""
    name: str = request.param
    return name


@pytest.fixture(params=["twistd", "twist", "asyncio"])
def command(request: pytest.FixtureRequest) -> str:
    """Both commands, and twistd with asyncio's reactor: for what depends on the reactor."""
    name: str = request.param
    return name


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_drains(command: str, number: signal.Signals) -> None:
    """A signal closes each client with 1012 after its messages; after all close frames the process exits with 0."""
    # Far above END_SECONDS: answered closes end the wait early.
    options = ["--close-seconds", "600", "--drain-seconds", "1" if number == signal.SIGTERM else "600"]
    with relay(*options, program=command) as server, ExitStack() as stack:
        clients = [stack.enter_context(WebsocketsClient(server.url(f"/room/{i % 2}"))) for i in range(4)]
        clients[0].say(text("last words"))
        clients[0].hears_nothing()  # so the relay has read the message

        server.signal(number)

        assert clients[2].hear() == "last words"
        assert [client.closed() for client in clients] == [(1012, REASON.decode())] * 4
        assert server.wait(END_SECONDS) == 0
        assert "Traceback" not in server.output.text


def test_drain(command: str) -> None:
    """During a drain, clients not yet closed exchange messages; new connections are refused."""
    with relay("--drain-seconds", "600", program=command) as server, ExitStack() as stack:
        one, other = (stack.enter_context(WebsocketsClient(server.url("/room"))) for _ in range(2))
        port = one.ws.remote_address[1]
        server.signal(signal.SIGTERM)
        assert server.output.wait_for("SIGTERM: closing (2) connections over 600 s") == ["2"]
        server.output.wait_for(r"Port \d+ Closed")
        one.say(text("still here"))
        assert other.hear() == "still here"
        with socket.socket() as late, pytest.raises(ConnectionRefusedError):
            late.connect(("127.0.0.1", port))
        server.signal(signal.SIGTERM)
        assert server.wait(END_SECONDS) == 0


def test_drain_many() -> None:
    """Under load, a drain closes clients with 1012 in portions, and no accepted message is lost."""
    options = ["--members", "200", "--drain-seconds", "2", "--tolerance", "inf"]
    ended = run(sys.executable, Path(__file__).parents[2] / "soak" / "drain.py", *options)
    assert ended.returncode == 0, ended.stdout
    assert "saw {1012: 200}\n" in ended.stdout
    (portions,) = re.findall(r"closes came in (\d+) portions", ended.stdout)
    assert int(portions) >= 4, ended.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_drain_bound(command: str, number: signal.Signals) -> None:
    """Clients that send no close frame get 1012 and delay the exit by at most drain-seconds + close-seconds."""
    with relay("--close-seconds", "2", "--drain-seconds", "1", program=command) as server, mute(server) as client:
        server.signal(number)
        assert server.wait(3 + END_SECONDS) == 0
        assert read_to_end(client) == RESTARTING
        assert "Traceback" not in server.output.text


def test_second_signal(command: str) -> None:
    """A second signal ends the process at once."""
    with relay("--close-seconds", "600", "--drain-seconds", "0", program=command) as server, mute(server) as client:
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
    """Return the certificate for a new connection."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with server.connect() as plain, context.wrap_socket(plain, server_hostname="localhost") as connection:
        certificate = connection.getpeercert(binary_form=True)
    assert certificate is not None
    return certificate


@pytest.mark.parametrize("kind", ["ssl", "tls", "haproxy:ssl", "haproxy:tls"])
def test_reload_certificate(command: str, kind: str, tmp_path: Path) -> None:
    """After SIGHUP new connections get the new certificate; an invalid file changes nothing."""
    file = make_certificate(tmp_path)
    where = f"privateKey={file}:port=0" if kind.endswith("ssl") else f"{tmp_path}:port=0"
    with relay(program=command, listen=[f"{kind}:{where}:interface=127.0.0.1"]) as server:
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
def test_reload_keeps_connections(program: str, kind: str, tmp_path: Path) -> None:
    """Connections made before a new certificate go on, also together with new ones."""
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


def test_reload_validators(command: str, tmp_path: Path) -> None:
    """After SIGHUP new handshakes meet the new validators; open connections stay."""
    file = tmp_path / "relay.toml"
    file.write_text("validate = ['rooms:old']\n")
    with relay("--config", str(file), program=command) as server, ExitStack() as stack:
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
    """A reload with errors changes nothing; one line names all errors."""
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
    """A stop right after the start is clean."""
    with relay(program=program) as server:
        server.stop()


def test_port_in_use(program: str) -> None:
    """With its port in use, the relay logs one line and exits with 1."""
    with taken_port() as taken:
        port = taken.getsockname()[1]
        ended = run(*command_line(program, "--listen", f"tcp:{port}:interface=127.0.0.1"))
    assert ended.returncode == 1
    (line,) = (line for line in ended.stdout.splitlines() if str(port) in line)
    assert f"wsrelay: cannot listen: Couldn't listen on 127.0.0.1:{port}: " in line
    assert "Traceback" not in ended.stdout


def test_wrong_options(program: str) -> None:
    """All wrong options are reported at once, and the process fails."""
    ended = run(*command_line(program, "--listen", LOOPBACK, "--max-message-bytes", "-5", "--validate", "nosuch"))
    assert ended.returncode == {"twistd": 1, "twist": 64}[program]
    assert "--max-message-bytes: expected a whole number >= 1, got '-5'" in ended.stdout
    assert "validate: nosuch: there is no validator of this name" in ended.stdout
    assert "Traceback" not in ended.stdout


def test_option_precedence(program: str, tmp_path: Path) -> None:
    """Command line before environment before file before default."""
    file = tmp_path / "relay.toml"
    file.write_text('listen = ["tcp:0:interface=127.0.0.1"]\necho = true\nmax-message-bytes = 1\nmax-fragments = 1\n')
    options = ["--config", str(file), "--max-fragments", "4"]
    environ = {"WSRELAY_MAX_MESSAGE_BYTES": "20", "WSRELAY_MAX_FRAGMENTS": "3"}
    with relay(*options, program=program, listen=(), environ=environ) as server, ExitStack() as stack:
        client, many, large = (stack.enter_context(WebsocketsClient(server.url("/room"))) for _ in range(3))
        # websockets adds an empty last fragment: four fragments, then five.
        client.say(text("three ", "fragments", " fit"))
        assert client.hear() == "three fragments fit"
        many.say(text("f", "o", "u", "r"))
        large.say(binary(bytes(21)))
        for limited, code in ((many, 1008), (large, 1009)):
            assert limited.hear() == "three fragments fit"
            assert limited.closed()[0] == code


def test_version(program: str) -> None:
    """--version prints the version of wsrelay."""
    ended = run(*command_line(program, "--version"))
    assert (ended.returncode, ended.stdout) == (0, f"wsrelay {__version__}\n")


def test_help_validators(program: str) -> None:
    """--help-validators lists the built-in validators with their arguments."""
    ended = run(*command_line(program, "--help-validators"))
    assert ended.returncode == 0
    names = [line.partition(":")[0] for line in ended.stdout.splitlines() if not line.startswith(" ")]
    assert {"host", "http", "origin", "python", "rooms", "subprotocol", "token"} <= set(names)
    assert "origin:ORIGIN|same-host|" in ended.stdout


def test_environment(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """WSRELAY_* variables of the tests' own environment do not reach their relays."""
    monkeypatch.setenv("WSRELAY_ECHO", "perhaps")
    with relay(program=program) as server, WebsocketsClient(server.url()) as client:
        client.say(text("hello"))
        client.hears_nothing()


def test_help(program: str) -> None:
    """--help has headings and fits 80 columns, with both commands."""
    ended = run(*command_line(program, "--help"), env={**os.environ, "COLUMNS": "80"})
    assert ended.returncode == 0
    assert [line for line in ended.stdout.splitlines() if len(line) > 80] == []
    assert ended.stdout.startswith(f"Usage: {program} [options] ")
    assert "\n\nA WebSocket relay: the URL path is the room, and " in ended.stdout
    assert "\nRooms and slow subscribers:\n  --slow-policy=POLICY  Policy for slow subscribers: " in ended.stdout


def test_check_config(program: str, tmp_path: Path) -> None:
    """--check-config prints the effective options as an equivalent file, does not listen, and exits with 0."""
    file = tmp_path / "relay.toml"
    with taken_port() as taken:
        file.write_text(f'listen = ["tcp:{taken.getsockname()[1]}:interface=127.0.0.1"]\nmax-rooms = 7\n')
        options = ["--config", str(file), "--echo", "--check-config"]
        first = run(*command_line(program, *options), stderr=subprocess.PIPE)
    assert (first.returncode, first.stderr) == (0, "")
    assert f"max-rooms = 7  # {file}\n" in first.stdout
    file.write_text(first.stdout)
    second = run(*command_line(program, "--config", str(file), "--check-config"))
    assert tomllib.loads(second.stdout) == tomllib.loads(first.stdout)
    assert tomllib.loads(second.stdout)["echo"] is True


#: Options that are wrong before the relay listens → the error message.
WRONG = {
    "--max-rooms=x": "--max-rooms: expected a whole number, got 'x'",
    "--config=/nowhere/relay.toml": "/nowhere/relay.toml: there is no file /nowhere/relay.toml; `wsrelay init` makes",
    "--listen=tcp:80:nonsense=1": "listen: tcp:80:nonsense=1: ",
    "--listen=ssl:443:privateKey=/nowhere/key.pem": "listen: ssl:443:privateKey=/nowhere/key.pem: ",
    "--validate=token:key=/nowhere/key,algorithm=HS256": "validate: token:key=/nowhere/key,algorithm=HS256: ",
    "--validate=python:broken:it": "validate: python:broken:it: broken cannot be imported: ZeroDivisionError: ",
}


def test_all_errors_at_once(program: str, tmp_path: Path) -> None:
    """Errors found before listening are reported together, without traceback, with and without --check-config."""
    (tmp_path / "broken.py").write_text("1 / 0\n")
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    code = {"twistd": 1, "twist": 64}[program]
    ended = run(*command_line(program, *WRONG), env=environ)
    checked = run(*command_line(program, *WRONG, "--check-config"), env=environ, stderr=subprocess.PIPE)
    for returncode, said in ((ended.returncode, ended.stdout), (checked.returncode, checked.stderr)):
        assert [line for line in WRONG.values() if line not in said] == []
        assert (returncode, "Traceback" in said) == (code, False)
    assert [line for line in WRONG.values() if line in checked.stdout] == []


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["twistd", "wsrelay", "--nosuch"], 1),
        (["twist", "wsrelay", "--nosuch"], 64),
        (["twistd", "--nosuch", "wsrelay"], 1),
        (["twist", "--nosuch", "wsrelay"], 64),
        (["twist", "--log-file=/nowhere/relay.log", "wsrelay"], 74),
        (["twistd", "--nodaemon", "--pidfile=taken.pid", "wsrelay"], 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_exit_codes(command: list[str], code: int, tmp_path: Path) -> None:
    """Errors of Twisted's own options have the exit codes of docs/options.md and a short message."""
    (tmp_path / "taken.pid").write_text(str(os.getpid()))
    ended = run(SCRIPTS / command[0], *command[1:], cwd=tmp_path)
    assert (ended.returncode, "Traceback" in ended.stdout) == (code, False)
    assert command[1] == "--nosuch" or ended.stdout.count("\n") < 9


def whole_lines(file: Path) -> str:
    """Return the text of a file up to the last end of a line."""
    return file.read_text().rpartition("\n")[0]


def test_daemon_cannot_listen(tmp_path: Path) -> None:
    """A daemon with its port in use exits with 1 and logs why, in the chosen format."""
    with taken_port() as taken:
        where = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        options = ["--pidfile=relay.pid", "--logfile=relay.log", "wsrelay", "--listen", where, "--log-format=json"]
        ended = run(SCRIPTS / "twistd", *options, cwd=tmp_path)
    assert ended.returncode == 1
    assert "cannot listen" in ended.stdout
    until(lambda: not (tmp_path / "relay.pid").exists())  # the daemon removes it after its parent has ended
    why = "wsrelay: cannot listen: Couldn't listen on 127.0.0.1:"
    until(lambda: why in whole_lines(tmp_path / "relay.log"))
    said = [line["message"] for line in objects(whole_lines(tmp_path / "relay.log"))]
    assert any(str(line).startswith(why) for line in said)


def test_announcement(program: str) -> None:
    """The log has one line with the versions and one with the limits at start."""
    with relay("--max-connections", "7", program=program) as server:
        pass
    assert len(re.findall(rf"\] started: wsrelay {__version__}, Python 3\.", server.output.text)) == 1
    assert len(re.findall(r"\] limits: max-connections=7 max-connections-per-address=1024 ", server.output.text)) == 1


def objects(text: str) -> list[dict[str, object]]:
    """Return the lines of a log; each must be an object with time, level and logger."""
    read = [json.loads(line) for line in text.splitlines()]
    assert all({"time", "level", "logger"} <= set(line) for line in read)
    return read


def test_json_log(program: str) -> None:
    """With --log-format json each line is an object, also the first and last lines, by Twisted."""
    with relay("--log-format=json", program=program) as server, WebsocketsClient(server.url("/room")) as client:
        client.hears_nothing()
    lines = objects(server.output.text)
    last = {"twistd": "Server Shut Down.", "twist": "Main loop terminated."}[program]
    assert lines[-1]["message"] == last
    assert {"wsrelay", "twisted.internet.base"} <= {line["logger"] for line in lines}


@pytest.mark.parametrize("theirs", ["--log-format=json", "--log-level=critical"])
def test_twist_log_options(theirs: str) -> None:
    """twist's own log options do not affect the relay's."""
    for form in ("text", "json"):
        command = [str(SCRIPTS / "twist"), theirs, "wsrelay", "--listen", LOOPBACK, "--log-format", form]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            said = ""
            while "relaying to" not in said:
                said += process.stdout.readline() or pytest.fail(said)
            process.send_signal(signal.SIGTERM)
            said += process.stdout.read()
            assert process.wait(SECONDS) == 0
        assert said.startswith("{") == (form == "json")
        assert form == "text" or objects(said)


def test_json_log_file(tmp_path: Path) -> None:
    """A daemon's log file has only objects, also after a rotation."""
    options = ["--pidfile=relay.pid", "--logfile=relay.log", "wsrelay", "--listen", LOOPBACK, "--log-format=json"]
    assert run(SCRIPTS / "twistd", *options, cwd=tmp_path).returncode == 0
    log, pid = tmp_path / "relay.log", int((tmp_path / "relay.pid").read_text())

    def wait_for(file: Path, what: str) -> None:
        until(lambda: file.exists() and what in file.read_text())

    try:
        wait_for(log, "relaying to")
        os.kill(pid, signal.SIGUSR1)
        wait_for(tmp_path / "relay.log.1", "relaying to")
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_for(log, "Server Shut Down.")
    assert objects(log.read_text() + (tmp_path / "relay.log.1").read_text())


def test_log_level(program: str) -> None:
    """At the level warn, a healthy relay logs nothing; errors are still logged."""
    options = ["--log-level=warn", "--validate=python:os:getpid", "--listen", LOOPBACK]
    with taken_port() as taken:
        ended = run(*command_line(program, *options, "--listen", f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"))
    assert ended.returncode == 1
    (line,) = ended.stdout.splitlines()
    assert "wsrelay: cannot listen: " in line


def test_log_has_no_secrets(program: str) -> None:
    """Tokens, cookies and credentials are not logged, not even at the level debug."""
    with relay("--log-level=debug", "--log-format=json", program=program) as server:
        with server.connect() as connection:
            connection.sendall(handshake("/room?token=secret1", Cookie="secret2", Authorization="Bearer secret3"))
            assert connection.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 101"
        server.output.wait_for("room")
    assert "secret" not in server.output.text
