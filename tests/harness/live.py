"""Relays as processes of their own, for tests on real sockets.

:func:`relay` starts one and always stops it; :class:`Process` is any program that is watched by what it prints;
:func:`require` finds the programs of others. Clients are :mod:`tests.harness.clients`'.
"""

import datetime
import http.client
import ipaddress
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NoReturn, Self
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

#: The timeout of every wait; ends a hanging test.
SECONDS = 30

#: The endpoint of tests: a port chosen by the kernel.
LOOPBACK = "tcp:0:interface=127.0.0.1"

#: The folder of twistd and twist of the interpreter that runs the tests.
SCRIPTS = Path(sysconfig.get_path("scripts"))

#: Twisted's two commands for a plugin, with text logs to stdout and without files; and one with asyncio's reactor.
COMMANDS = {
    "twistd": ("twistd", "--nodaemon", "--pidfile="),
    "twist": ("twist", "--log-format=text"),
    "asyncio": ("twistd", "--nodaemon", "--pidfile=", "--reactor=asyncio"),
}

#: The log line of each endpoint.
LISTENING = re.compile(r"relaying to .* on ([^\s\"]+)")

#: The log line of the admin endpoint.
ADMIN = re.compile(r"admin endpoint on ([^\s\"]+)")

#: Program → how to install it.
PROGRAMS = {
    "caddy": "apt-get install caddy",
    "cc": "apt-get install gcc libc6-dev",
    "chromium": "apt-get install chromium",
    "curl": "apt-get install curl",
    "firefox-esr": "apt-get install firefox-esr",
    "groff": "apt-get install groff-base",
    "haproxy": "apt-get install haproxy",
    "man": "apt-get install man-db",
    "nginx": "apt-get install nginx-light",
    "node": "apt-get install nodejs",
    "prometheus": "apt-get install prometheus",
    "prometheus-blackbox-exporter": "apt-get install prometheus-blackbox-exporter",
    "promtool": "apt-get install prometheus",
    "redis-sentinel": "apt-get install redis-sentinel",
    "redis-server": "apt-get install redis-server",
    "systemd-analyze": "apt-get install systemd",
    "systemd-socket-activate": "apt-get install systemd",
    "unshare": "apt-get install util-linux",
    "zsh": "apt-get install zsh",
}


def require(program: str) -> str:
    """Return the path of an external program; see :func:`missing` if it is not installed."""
    return shutil.which(program) or missing(program, PROGRAMS[program])


def missing(what: str, how: str) -> NoReturn:
    """Fail in CI, where every program is required; elsewhere skip with advice how to install it."""
    message = f"{what} is not installed; to run this test: {how}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def until(condition: Callable[[], bool]) -> None:
    """Poll files and unix sockets, which tests can wait for in no other way."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for a child process: ours, without options of a relay; WSRELAY_PURE is none."""
    ours = {name: value for name, value in os.environ.items() if not re.match("WSRELAY_(?!PURE$)", name)}
    return {**ours, **(extra or {})}


def run(*command: str | Path, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end and return its output, both streams as one unless ``options`` differ."""
    usual = {
        "env": environment(),
        "timeout": SECONDS,
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
    }
    return subprocess.run(command, check=False, text=True, **{**usual, **options})


def command_line(program: str, *arguments: str, scripts: Path = SCRIPTS) -> list[str]:
    """Return the command that runs ``wsrelay`` in the foreground: ``wsrelay serve``, or one of :data:`COMMANDS`."""
    if program == "wsrelay":
        return [sys.executable, "-m", "wsrelay", "serve", *arguments]
    name, *options = COMMANDS[program]
    return [str(scripts / name), *options, "wsrelay", *arguments]


class Output:
    """The output lines of a program, read by a thread, so that the program never blocks on a full pipe."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._lines: list[str] = []
        self._ended = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._thread.start()

    @property
    def text(self) -> str:
        """The output so far, in whole lines."""
        return "".join(self._lines)

    def line(self, index: int) -> str:
        """Wait for a line, counted from 0, and return it."""
        self._wait(lambda: len(self._lines) > index)
        assert len(self._lines) > index, f"line {index} was not printed:\n{self.text[-2000:]}"
        return self._lines[index]

    def wait_for(self, pattern: str | re.Pattern[str], count: int = 1) -> list[str]:
        """Wait until a pattern has matched ``count`` times, and return the matches as ``re.findall`` does."""
        found: list[str] = []

        def enough() -> bool:
            found[:] = re.findall(pattern, self.text)
            return len(found) >= count

        self._wait(enough)
        assert len(found) >= count, f"{pattern!r} was not printed {count} times:\n{self.text}"
        return found

    def join(self) -> None:
        """Wait until the program has closed its output."""
        self._thread.join(SECONDS)

    def _wait(self, enough: Callable[[], bool]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: enough() or self._ended, SECONDS)

    def _read(self, stream: IO[bytes]) -> None:
        for line in stream:
            with self._changed:
                self._lines.append(line.decode())
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


class Process:
    """A child process with its output, both streams as one.

    Args:
        command: runs in a session of its own, so that Ctrl-C reaches the tests only, which then stop it.
        cwd: its working folder.
        environ: added to our environment.
        pass_fds: additional file descriptors.

    Attributes:
        output: its output.
        pid: its process id.
    """

    def __init__(
        self,
        command: Sequence[str],
        cwd: str | None = None,
        environ: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment(environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=pass_fds,
        )
        assert self._process.stdout is not None
        self.pid = self._process.pid
        self.output = Output(self._process.stdout)

    def __enter__(self) -> Self:
        """Return itself; leaving ends the process."""
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()  # does nothing where wait() has seen the end
        self._process.wait()
        self.output.join()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with suppress(BrokenPipeError):  # what it did not live to read
                stream.close()

    @property
    def running(self) -> bool:
        """Whether it is running."""
        return self._process.poll() is None

    def write_line(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def end_input(self) -> None:
        """Close its standard input, as Ctrl-D does in a terminal."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def wait(self, seconds: float = SECONDS) -> int:
        """Wait for its end and return its exit code.

        Raises:
            subprocess.TimeoutExpired: it is still running.
        """
        code = self._process.wait(seconds)
        self.output.join()
        return code

    def memory_bytes(self, field: str) -> int:
        """Return a field of /proc/PID/status: ``VmRSS``, the resident memory, or ``VmHWM``, its maximum."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        found = re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024


class Relay(Process):
    """A running relay process.

    Attributes:
        addresses: one URL per endpoint, in their order; all of them end with "/".
    """

    addresses: list[str]

    def url(self, path: str = "/") -> str:
        """Return the URL of a path on the first endpoint."""
        return self.addresses[0] + path.removeprefix("/")

    @property
    def admin(self) -> str:
        """The URL of the admin endpoint, with "/" at its end."""
        return self.output.wait_for(ADMIN)[0]

    def ask(self, path: str, method: str = "GET", **fields: str) -> "tuple[int, Any]":
        """Send a request to the admin endpoint; return the status and the body, JSON or text."""
        url = urlsplit(self.admin)
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=SECONDS)
        with closing(connection):
            connection.request(method, path, headers=fields)
            response = connection.getresponse()
            body = response.read()
        is_json = response.headers.get_content_type() == "application/json"
        return response.status, json.loads(body) if is_json else body.decode()

    def connect(self, receive_bytes: int | None = None) -> socket.socket:
        """Return a socket connected to the first endpoint, on 127.0.0.1.

        Args:
            receive_bytes: the size of the kernel's receive buffer; ``None`` is the default.
        """
        connection = socket.socket()
        connection.settimeout(SECONDS)
        if receive_bytes is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        connection.connect(("127.0.0.1", int(self.addresses[0].rstrip("/").rpartition(":")[2])))
        return connection

    def await_start(self, endpoints: int) -> None:
        """Wait until it has logged its endpoints."""
        self.addresses = self.output.wait_for(LISTENING, endpoints)

    def stop(self) -> None:
        """Stop it with SIGTERM; fail unless it exits with 0 and without tracebacks."""
        self.signal(signal.SIGTERM)
        code = self.wait()
        assert (code, "Traceback" in self.output.text) == (0, False), self.output.text


@contextmanager
def relay(
    *arguments: str,
    program: str = "twistd",
    listen: Sequence[str] = (LOOPBACK,),
    environ: Mapping[str, str] | None = None,
    scripts: Path = SCRIPTS,
    max_files: int | None = None,
) -> Iterator[Relay]:
    """Run a relay in an empty folder while the block runs.

    If it still runs at the end of the block, it must stop cleanly.

    Args:
        arguments: its options.
        program: ``wsrelay``, or one of :data:`COMMANDS`.
        listen: its endpoints; empty if the config file or the environment names one.
        environ: added to our environment.
        scripts: the folder of the program.
        max_files: the hard limit on its open files; ``None`` is ours.
    """
    endpoints = [word for description in listen for word in ("--listen", description)]
    command = command_line(program, *endpoints, *arguments, scripts=scripts)
    if max_files is not None:
        command = ["sh", "-c", f'ulimit -n {max_files}; exec "$0" "$@"', *command]
    with tempfile.TemporaryDirectory() as folder, Relay(command, folder, environ) as started:
        started.await_start(len(listen) or 1)
        try:
            yield started
        except Exception as error:
            error.add_note(f"The relay said:\n{started.output.text}")
            raise
        if started.running:
            started.stop()


def taken_port(host: str = "127.0.0.1") -> socket.socket:
    """Return a listening socket on a port of a host's address, chosen by the kernel."""
    taken = socket.socket()
    taken.bind((host, 0))
    taken.listen()
    return taken


def make_certificate(folder: Path) -> Path:
    """Write a key and a self-signed certificate for 127.0.0.1 and localhost into one file, and return it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "relay.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return file
