"""The units of deploy/systemd: checked by systemd-analyze, and run by systemd-socket-activate.

systemd itself does not run; the tests keep the socket across a restart, as systemd does.
"""

import shlex
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.deploy.files import DEPLOY, local, options, rendered
from tests.harness.clients import WebsocketsClient, handshake, text
from tests.harness.live import (
    SCRIPTS,
    SECONDS,
    Process,
    command_line,
    environment,
    make_certificate,
    require,
    run,
    taken_port,
)
from wsrelay.settings import Settings

pytestmark = pytest.mark.deploy

FOLDER = DEPLOY / "systemd"

#: Maximum exposure by `systemd-analyze security`, of 100; up to 20 is rated OK.
EXPOSURE = 20

#: Close code and reason on a stop of the relay.
RESTARTING = (1012, "the relay is restarting: reconnect with back-off")


#: An instance of the template unit: its port.
INSTANCE = "8001"

#: Lines of the template unit that the other has not, or in another way.
OWN = {
    *("Unit.Description", "Unit.After", "Unit.Requires", "Service.Environment", "Service.EnvironmentFile"),
    *("Service.LoadCredential", "Install.WantedBy"),
}


def unit(name: str) -> dict[str, dict[str, list[str]]]:
    """Return section → name → values of a unit."""
    found: dict[str, dict[str, list[str]]] = {}
    section: dict[str, list[str]] = {}
    for line in (FOLDER / name).read_text("utf-8").splitlines():
        if line.startswith("["):
            section = found.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            section.setdefault(key, []).append(value)
    return found


@pytest.fixture
def units(tmp_path: Path) -> list[str]:
    """Copies of both units with the path of the tests' program."""
    service = rendered("systemd/wsrelay.service", {"ExecStart=/opt/wsrelay/bin": f"ExecStart={SCRIPTS}"})
    (tmp_path / "wsrelay.service").write_text(service)
    (tmp_path / "wsrelay.socket").write_text((FOLDER / "wsrelay.socket").read_text())
    return [str(tmp_path / "wsrelay.service"), str(tmp_path / "wsrelay.socket")]


@pytest.fixture
def instance(tmp_path: Path) -> str:
    """A copy of the template unit as an instance, with the path of the tests' program."""
    service = rendered("systemd/wsrelay@.service", {"ExecStart=/opt/wsrelay/bin": f"ExecStart={SCRIPTS}"})
    file = tmp_path / f"wsrelay@{INSTANCE}.service"
    file.write_text(service)
    return str(file)


def test_systemd_verify_instance(instance: str) -> None:
    """``systemd-analyze verify`` finds nothing in an instance of the template unit."""
    ended = run(require("systemd-analyze"), "verify", "--man=no", instance)
    assert (ended.returncode, ended.stdout) == (0, "")


def test_systemd_security_instance(instance: str) -> None:
    """``systemd-analyze security`` rates an instance as the one service: OK."""
    command = ["security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager"]
    ended = run(require("systemd-analyze"), *command, instance)
    assert ended.returncode == 0, ended.stdout


def test_template_unit() -> None:
    """The template unit differs from the other only in what an instance has of its own."""

    def lines(name: str) -> dict[str, list[str]]:
        return {f"{section}.{key}": values for section, keys in unit(name).items() for key, values in keys.items()}

    one, many = lines("wsrelay.service"), lines("wsrelay@.service")
    assert {key for key in one | many if one.get(key) != many.get(key)} <= OWN


def instance_environment(password: str) -> dict[str, str]:
    """Return the variables of an instance's Environment lines, with systemd's specifiers replaced."""
    given = {"%l": "host", "%i": INSTANCE, "%d/backplane.password": password}
    found = {}
    for line in unit("wsrelay@.service")["Service"]["Environment"]:
        name, _, written = line.partition("=")
        for specifier, value in given.items():
            written = written.replace(specifier, value)
        assert "%" not in written
        found[name] = written
    return found


def test_instance_options(tmp_path: Path) -> None:
    """``--check-config`` accepts the options of an instance: nodes.toml and the unit's environment."""
    (tmp_path / "password").write_text("secret\n")
    variables = {**instance_environment(str(tmp_path / "password")), "WSRELAY_CONFIG": str(FOLDER / "nodes.toml")}
    ended = run(*command_line("twistd", "--check-config"), env=environment(variables))
    assert ended.returncode == 0, ended.stdout
    shown = options(ended.stdout)
    assert (shown["node-name"], shown["admin"]) == (f"host-{INSTANCE}", f"tcp:1{INSTANCE}")
    assert shown["listen"] == [f"tcp:{INSTANCE}:interface=127.0.0.1"]
    assert "secret" not in ended.stdout


def test_systemd_verify(units: list[str]) -> None:
    """``systemd-analyze verify`` finds nothing in the units."""
    ended = run(require("systemd-analyze"), "verify", "--man=no", *units)
    assert (ended.returncode, ended.stdout) == (0, "")


def test_systemd_security(units: list[str]) -> None:
    """``systemd-analyze security`` rates the service OK."""
    ended = run(
        require("systemd-analyze"), "security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager", units[0]
    )
    assert ended.returncode == 0, ended.stdout
    assert "Overall exposure level" in ended.stdout


def test_stop_timeout_and_memory() -> None:
    """TimeoutStopSec is above drain and close; MemoryMax is above the memory budget."""
    service = unit("wsrelay.service")["Service"]
    said = options((FOLDER / "relay.toml").read_text("utf-8"))
    settings = Settings()
    drain = said.get("drain-seconds", settings.drain_seconds) + said.get("close-seconds", settings.close_seconds)
    assert int(service["TimeoutStopSec"][0]) >= drain + 5
    limit = int(service["MemoryMax"][0].removesuffix("G")) << 30
    assert limit >= 1.5 * said.get("memory-budget", settings.memory_budget)
    assert unit("wsrelay.socket")["Socket"]["Backlog"] == ["1024"]


@contextmanager
def activated(listening: socket.socket, folder: Path) -> Iterator[Process]:
    """Run the service by systemd-socket-activate with a socket; it starts on the first connection."""
    service = unit("wsrelay.service")["Service"]
    (folder / "relay.toml").write_text(local((FOLDER / "relay.toml").read_text("utf-8")))
    variables = [line.replace("/etc/wsrelay", str(folder)) for line in service["Environment"]]
    (command,) = service["ExecStart"]
    activate = [
        require("systemd-socket-activate"),
        f"--fdname={unit('wsrelay.socket')['Socket']['FileDescriptorName'][0]}",
        "--setenv=WSRELAY_DRAIN_SECONDS=1",
        *(f"--setenv={line}" for line in variables),
        *shlex.split(command.replace("/opt/wsrelay/bin", str(SCRIPTS))),
    ]
    # LISTEN_PID is the pid of the program, which only the child knows.
    passing = ["bash", "-c", 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@" 3<&"$0"', str(listening.fileno())]
    with Process([*passing, *activate], str(folder), pass_fds=[listening.fileno()]) as process:
        yield process


def test_socket_activation(tmp_path: Path) -> None:
    """The first client starts the relay; a connection during a restart waits and is accepted by the next relay."""
    with taken_port() as listening:
        address = listening.getsockname()
        url = f"ws://127.0.0.1:{address[1]}/room"
        with activated(listening, tmp_path) as relay, WebsocketsClient(url) as one, WebsocketsClient(url) as other:
            one.say(text("hello"))
            assert other.hear() == "hello"
            relay.signal(signal.SIGHUP)  # ExecReload
            relay.output.wait_for("SIGHUP: reloaded")
            relay.signal(signal.SIGTERM)
            assert [one.closed(), other.closed()] == [RESTARTING] * 2
            assert relay.wait() == 0
            assert "Traceback" not in relay.output.text

        with socket.create_connection(address, SECONDS) as early:
            early.sendall(handshake("/room"))
            with activated(listening, tmp_path), WebsocketsClient(url) as late:
                assert early.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 101"
                late.hears_nothing()


#: Runs a program under MemoryDenyWriteExecute=yes: PR_SET_MDWE, since Linux 6.3.
WITHOUT_WRITTEN_CODE = """
import ctypes, os, sys
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0):
    sys.exit(77)
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_memory_deny_write_execute(tmp_path: Path) -> None:
    """TLS fails under MemoryDenyWriteExecute, so it is not set; when this test fails, set it."""
    assert "MemoryDenyWriteExecute" not in unit("wsrelay.service")["Service"]
    file = make_certificate(tmp_path)
    endpoint = f"ssl:0:privateKey={file}:certKey={file}:interface=127.0.0.1"
    ended = run(sys.executable, "-c", WITHOUT_WRITTEN_CODE, *command_line("twistd", "--listen", endpoint))
    if ended.returncode == 77:
        pytest.skip("this kernel has no PR_SET_MDWE")
    assert (ended.returncode, "write+execute memory" in ended.stdout) == (1, True), ended.stdout
