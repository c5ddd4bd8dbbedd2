"""Logs of relay processes: encodings, --log-file, and files that cannot be written."""

import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.harness.clients import handshake, read_to_end
from tests.harness.live import LOOPBACK, SCRIPTS, SECONDS, Relay, command_line, environment, relay, run, until

pytestmark = pytest.mark.interop

#: A line of a text log about a connection.
LINE = re.compile(r"^20\d\d-\S+ \[wsrelay#info\] tcp4:\S+ (joined|left) '[^']+'.*$", re.MULTILINE)

#: Python's own remedies for LANG=C, off.
STRICT = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}

CROWD = 100


def crowd(server: Relay, room: str, count: int = CROWD) -> None:
    """Let clients join a room all at once, and leave."""
    clients = [server.connect() for _ in range(count)]
    for client in clients:
        client.sendall(handshake(f"/{room}"))
    for client in clients:
        assert client.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 101"
    for client in clients:
        client.close()


@pytest.mark.parametrize("program", ["twistd", "twist"])
@pytest.mark.parametrize(
    ("environ", "room"),
    [
        ({"LC_ALL": "C"}, r"caf\xe9\u20ac"),
        ({"LC_ALL": "C", "PYTHONUNBUFFERED": "1"}, r"caf\xe9\u20ac"),
        ({"PYTHONIOENCODING": "ascii"}, r"caf\xe9\u20ac"),
        ({"PYTHONIOENCODING": "ascii:surrogateescape"}, r"caf\xe9\u20ac"),
        ({"LC_ALL": "C.UTF-8"}, "café€"),
    ],
    ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else "",
)
def test_encodings(program: str, environ: dict[str, str], room: str) -> None:
    """On a stdout of any encoding each joined and each left line is there, with its timestamp; the rest is escaped."""
    with relay(environ={**STRICT, **environ}, program=program) as server:
        crowd(server, "caf%C3%A9%E2%82%AC")
        server.output.wait_for(" left ", CROWD)
    said = server.output.text
    assert len(LINE.findall(said)) == 2 * CROWD
    assert said.count(f"joined '{room}' as ") == CROWD


@pytest.mark.parametrize("program", ["twistd", "twist"])
@pytest.mark.parametrize("form", ["text", "json"])
def test_log_file(program: str, form: str, tmp_path: Path) -> None:
    """The log is in the file and not on stdout; behind logrotate's rename both signals open the file again."""
    path = tmp_path / "relay.log"
    with started(program, path, "--log-format", form) as process:
        for name in ("SIGUSR1", "SIGHUP"):
            moved = path.rename(tmp_path / f"{name}.log")
            process.send_signal(getattr(signal, name))
            until(lambda: path.exists() and "opened the log file again" in path.read_text())
            assert "relaying to" in moved.read_text() or "SIGUSR1: opened" in moved.read_text()
        until(lambda: "SIGHUP: reloaded" in path.read_text())
        os.truncate(path, 0)  # copytruncate
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=SECONDS)
    assert (process.returncode, *said) == (0, b"", b"")
    last = {"twistd": "Server Shut Down.", "twist": "Main loop terminated."}[program]
    *_, line = path.read_text().splitlines()
    assert line.endswith(last) if form == "text" else json.loads(line)["message"] == last
    assert "\0" not in path.read_text()


@contextmanager
def started(program: str, path: Path, *options: str) -> "Iterator[subprocess.Popen[bytes]]":
    """Run a relay with a log file."""
    command = command_line(program, "--listen", LOOPBACK, "--log-file", str(path), *options)
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            until(lambda: path.exists() and "relaying to" in path.read_text())
            yield process
        finally:
            process.kill()


def test_rotation(tmp_path: Path) -> None:
    """Files stay below their bound, only so many are kept, and all lines are whole and in order."""
    path = tmp_path / "relay.log"
    bounds = ["--log-file-bytes", "6000", "--log-files-kept", "3"]
    with started("twistd", path, *bounds) as process:
        port = int(re.findall(r"ws://127.0.0.1:(\d+)/", path.read_text())[0])
        for number in range(200):
            with socket.create_connection(("127.0.0.1", port), SECONDS) as client:
                client.sendall(handshake(f"/room{number}"))
                assert client.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 101"
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
    files = [path, *(tmp_path / f"relay.log.{number}" for number in (1, 2, 3))]
    assert sorted(tmp_path.iterdir()) == files
    assert max(file.stat().st_size for file in files) <= 6000
    text = "".join(file.read_text() for file in reversed(files))
    rooms = [
        int(number) for number in re.findall(r"^20\S+ \[wsrelay#info\] \S+ joined 'room(\d+)'", text, re.MULTILINE)
    ]
    assert rooms == list(range(rooms[0], 200))


def test_daemon_log_file(tmp_path: Path) -> None:
    """A daemon logs to the file, resolved at the start, and opens it again."""
    path = tmp_path / "relay.log"
    options = ["--pidfile=relay.pid", "--logfile=/dev/null", "wsrelay", "--listen", LOOPBACK, "--log-file", "relay.log"]
    assert run(SCRIPTS / "twistd", *options, cwd=tmp_path).returncode == 0
    pid = int((tmp_path / "relay.pid").read_text())
    try:
        until(lambda: "relaying to" in path.read_text())
        path.rename(tmp_path / "moved.log")
        os.kill(pid, signal.SIGUSR1)
        until(lambda: path.exists() and "SIGUSR1: opened" in path.read_text())
    finally:
        os.kill(pid, signal.SIGTERM)
    until(lambda: "Server Shut Down." in path.read_text())
    assert not (tmp_path / "twistd.log").exists()


@pytest.mark.parametrize("program", ["twistd", "twist"])
def test_log_reader_gone(program: str, tmp_path: Path) -> None:
    """A relay whose log's reader has gone relays on, says so once on stderr, and exits with 0."""
    reading, writing = os.pipe()
    path = tmp_path / "relay.sock"
    command = command_line(program, "--listen", f"unix:{path}")
    with subprocess.Popen(command, env=environment(), stdout=writing, stderr=subprocess.PIPE) as process:
        os.close(writing)
        os.close(reading)
        refused(path)
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=SECONDS)[1].decode()
    assert (process.returncode, said.count("the log cannot be written"), said.count("\n")) == (0, 1, 1)
    assert "[Errno 32] Broken pipe" in said


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", ">&- 2>&- <&-"])
def test_stdout_closed(closed: str, tmp_path: Path) -> None:
    """A relay that is started without stdout, or without all three, relays, and writes no log into a connection."""
    path = tmp_path / "relay.sock"
    command = ["sh", "-c", f'exec "$0" "$@" {closed}', *command_line("twistd", "--listen", f"unix:{path}")]
    with subprocess.Popen(command, env=environment()) as process:
        for _ in range(3):
            refused(path)
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0


def refused(path: Path) -> None:
    """Connect, once the relay listens, and be refused: a line in the log, and the answer only in the connection."""
    with socket.socket(socket.AF_UNIX) as connection:
        until(lambda: not connection.connect_ex(str(path)))
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        answer = read_to_end(connection)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"wsrelay#" not in answer


@pytest.mark.parametrize("program", ["twistd", "twist"])
def test_sigusr1_without_log_file(program: str) -> None:
    """Without a log file SIGUSR1 does not end the relay."""
    with relay(program=program) as server:
        server.signal(signal.SIGUSR1)
        server.output.wait_for("SIGUSR1: there is no --log-file to open again")


def test_log_file_on_full_disk(tmp_path: Path) -> None:
    """A log file on a full disk does not end the relay, which says so once on stderr."""
    path = tmp_path / "relay.sock"
    command = command_line("twistd", "--listen", f"unix:{path}", "--log-file", "/dev/full")
    with subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        refused(path)
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=SECONDS)[1].decode()
    assert (process.returncode, said.count("\n")) == (0, 1)
    assert "the log cannot be written, the relay goes on without: [Errno 28]" in said


def test_reader_does_not_read(tmp_path: Path) -> None:
    """With --log-file /dev/stdout, a reader that does not read does not stop the relay: lines are lost, and counted."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    path = tmp_path / "relay.sock"
    command = command_line("twistd", "--listen", f"unix:{path}", "--log-file", "/dev/stdout")
    with subprocess.Popen(command, env=environment(), stdout=writing, stderr=subprocess.PIPE) as process:
        os.close(writing)
        refused(path)
        for _ in range(100):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                client.sendall(handshake("/room"))
                assert client.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 101"
        seen = os.read(reading, 10**6)
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=SECONDS)[1].decode()
        with open(reading, "rb") as pipe:
            seen += pipe.read()
    assert (process.returncode, said.count("the log cannot be written")) == (0, 1)
    assert re.search(rb"\d+ log events before this one were lost: \[Errno 11\]", seen)


@pytest.mark.parametrize("program", ["twistd", "twist"])
def test_printed_in_ascii(program: str) -> None:
    """What is printed without a log is escaped, too: help, a configuration that can be read again, and errors."""
    environ = environment({**STRICT, "PYTHONIOENCODING": "ascii"})
    assert run(*command_line(program, "--help-validators"), env=environ).returncode == 0
    shown = run(*command_line(program, "--validate", "rooms:café/€/\U0001f600", "--check-config"), env=environ)
    assert shown.returncode == 0
    assert tomllib.loads(shown.stdout)["validate"] == ["rooms:café/€/\U0001f600"]
    wrong = run(*command_line(program, "--validate", "café"), env=environ)
    assert "Traceback" not in wrong.stdout
    assert r"validate: caf\xe9: there is no validator of this name" in wrong.stdout


def test_log_file_unwritable(tmp_path: Path) -> None:
    """A log file that cannot be opened is a wrong option, and is named."""
    for options in ([], ["--check-config"]):
        ended = run(*command_line("twistd", "--log-file", str(tmp_path), *options))
        assert ended.returncode == 1
        assert f"log-file: {tmp_path}: it is a folder" in ended.stdout
