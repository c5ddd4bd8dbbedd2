"""The commands of ``wsrelay`` as processes, against a relay on real sockets."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.harness.clients import WebsocketsClient
from tests.harness.live import LOOPBACK, SECONDS, Process, Relay, command_line, environment, relay, run, taken_port
from tests.interop import test_process

pytestmark = pytest.mark.interop

#: The program, as it is found without an installed script.
WSRELAY = [sys.executable, "-m", "wsrelay"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_drains(number: signal.Signals) -> None:
    """``serve`` ends by a signal as twistd does: all clients get 1012, and it exits with 0."""
    test_process.test_signal_drains("wsrelay", number)


def test_serve_port_in_use() -> None:
    """With its port in use, it says so and exits with 1."""
    test_process.test_port_in_use("wsrelay")


def test_serve_short_endpoint(tmp_path: Path) -> None:
    """A port alone is a place to listen; a wrong variable is warned about; no file is left."""
    environ = {"WSRELAY_MAX_ROMS": "7"}
    with Relay(command_line("wsrelay", "--listen", "0"), str(tmp_path), environ) as server:
        server.await_start(1)
        with WebsocketsClient(server.url("/room")):
            pass
        server.output.wait_for("WSRELAY_MAX_ROMS in the environment is no option, and ignored; is it WSRELAY_MAX_ROOMS")
        assert os.listdir(tmp_path) == []
        server.stop()


def test_first_hour(tmp_path: Path) -> None:
    """A folder, its relay with TLS, a token, and two clients: what one says, the other prints."""
    assert run(*WSRELAY, "init", "my relay", cwd=tmp_path).returncode == 0
    config = str(tmp_path / "my relay" / "relay.toml")
    ca = ["--ca", str(tmp_path / "my relay" / "cert.pem")]
    tls = f"ssl:0:interface=127.0.0.1:privateKey={tmp_path}/my relay/key.pem:certKey={tmp_path}/my relay/cert.pem"
    with relay("--config", config, program="wsrelay", listen=[LOOPBACK, tls]) as server:
        refused = run(*WSRELAY, "say", server.url("chat"), "hello")
        assert (refused.returncode, "refused: 401 a token is needed" in refused.stdout) == (1, True)
        environ = {"WSRELAY_TOKEN": run(*WSRELAY, "token", "--config", config, "--room=chat").stdout.strip()}
        secure = server.addresses[1].replace("127.0.0.1", "localhost") + "chat"
        with tailing(secure, *ca, environ=environ) as reader:
            spoken = run(*WSRELAY, "say", server.url("chat"), "hello", env=environment(environ))
            assert (spoken.returncode, spoken.stdout) == (0, "")
            reader.output.wait_for(r"hello\n")
            lines = subprocess.run(
                [*WSRELAY, "say", secure, "--insecure"],
                input="".join(f"line {number}\n" for number in range(100)),
                env=environment(environ), text=True, timeout=SECONDS, check=False,
            )  # fmt: skip
            assert lines.returncode == 0
            reader.output.wait_for(r"line 99\n")
            reader.signal(signal.SIGINT)
            assert reader.wait(SECONDS) == 130
            assert "Traceback" not in reader.output.text
        server.output.wait_for(r"client closed with 1005", 1)


@contextmanager
def tailing(url: str, *words: str, environ: dict[str, str]) -> Iterator[Process]:
    """Run ``tail`` while the block runs."""
    with Process([*WSRELAY, "tail", url, *words], environ=environ) as process:
        process.output.wait_for("connected to")
        yield process


def test_head() -> None:
    """When the reader of a pipe has enough, ``tail`` ends quietly; lines of a pipe are messages."""
    with relay("--history=10") as server:
        url, program = server.url("room"), shlex.join(WSRELAY)
        said = f"printf 'a\\nb\\nc\\n' | {program} say {url}"
        ended = run("bash", "-c", f'{said}; {program} tail {url} --last=3 | head -n 2; echo "${{PIPESTATUS[@]}}"')
    assert [line for line in ended.stdout.splitlines() if not line.startswith("*")] == ["a", "b", "0 0"]


def test_no_relay() -> None:
    """Without a relay it ends with 1, and says so; options may stand between the words."""
    with taken_port() as taken:
        url = f"ws://127.0.0.1:{taken.getsockname()[1]}"
    ended = run(*WSRELAY, "say", "room", "--url", url, "hello")
    assert ended.returncode == 1
    assert "Is the relay running?" in ended.stdout
    assert "Traceback" not in ended.stdout


def test_signals() -> None:
    """``tail`` ends by a signal with the exit code of a shell, and without a traceback."""
    with relay() as server:
        for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
            with tailing(server.url("room"), environ={}) as reader:
                reader.signal(number)
                assert reader.wait(SECONDS) == code
                assert "Traceback" not in reader.output.text


def test_streams(tmp_path: Path) -> None:
    """Closed standard streams, a full disk and a reader that went away: one line at most, and 1."""
    (tmp_path / "token.py").write_text("1 / 0")  # it would hide Python's own
    program = shlex.join(WSRELAY)
    with relay("--history=10") as server:
        url = server.url("room")
        for line, code, said in (
            (f"{program} --help > /dev/full", 1, "cannot read or write: No space left on device"),
            (f"{program} --help >&-", 1, "cannot read or write: Bad file descriptor"),
            (f"{program} say {url} <&-", 1, "standard input: Bad file descriptor"),
            (f"{program} say {url} $'\\xff'", 2, "is not UTF-8"),
            (f"{program} say {url} hello 2>&-", 0, ""),
            (f"{program} tail {url} --last=1 > /dev/full", 1, "cannot read or write: No space left on device"),
            (f"exec 3> >(true); wait $!; {program} --help >&3", 1, ""),
        ):
            ended = run("bash", "-c", line, cwd=tmp_path)
            assert (ended.returncode, "Traceback" in ended.stdout) == (code, False), ended.stdout
            assert said in ended.stdout
            assert len([each for each in ended.stdout.splitlines() if not each.startswith("*")]) == bool(said)


def test_explained_refusal() -> None:
    """A refusal that comes as a close (--explain-refusals) ends a client, which says what to do."""
    with relay("--explain-refusals", "--validate", "rooms:other") as server:
        for name in ("tail", "say"):
            ended = run(*WSRELAY, name, server.url("room"), *["hello"] * (name == "say"))
            assert ended.returncode == 1
            assert ended.stdout.startswith("* refused: 403 ")
            assert "connected" not in ended.stdout
