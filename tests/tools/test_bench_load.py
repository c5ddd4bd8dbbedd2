"""The benchmark's load generator sees what happens to messages, and its floor is a relay.

A figure of the benchmark is worth as much as the check behind it. So the generator runs against a relay of this file
that does one thing wrong, and has to name it. No test here looks at a time.
"""

import json
import re
import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.http11 import Request
from websockets.sync.server import ServerConnection, serve

from tests.harness.live import SECONDS, Process, missing, relay, run

pytestmark = pytest.mark.interop

BENCH = Path(__file__).resolve().parents[2] / "bench"

#: What can be wrong with a message, and with a connection.
FAULTS = ("lost", "doubled", "disordered", "changed", "unexpected", "closed")

#: Enough for some thousand messages.
SHORT = ("--seconds", "0.3", "--warmup", "0.1")

#: Which message of a run something happens to; early enough for the warm-up.
FATEFUL = 20


@dataclass(frozen=True)
class Ran:
    """How a run of the generator ended.

    Attributes:
        code: its exit code.
        report: what it printed to stdout.
        said: what it printed to stderr.
    """

    code: int
    report: dict[str, Any]
    said: str

    @property
    def faults(self) -> dict[str, int]:
        """What it counted that should not be."""
        return {name: self.report[name] for name in FAULTS if self.report[name]}


@dataclass(frozen=True)
class Programs:
    """The two programs, compiled.

    Attributes:
        folder: where they are.
    """

    folder: Path

    def start_load(self, *arguments: object) -> "subprocess.CompletedProcess[str]":
        """Run the generator to its end."""
        return run(self.folder / "load", *map(str, arguments), stderr=subprocess.PIPE)

    def load(self, port: int, *arguments: object) -> Ran:
        """Run the generator for a short while against a port, and return what it found."""
        done = self.start_load("--port", port, *SHORT, *arguments)
        assert done.stdout.count("\n") == 1, done.stderr
        return Ran(done.returncode, json.loads(done.stdout), done.stderr)

    @contextmanager
    def floor(self) -> Iterator[tuple[int, int]]:
        """Run the floor while the block runs, and return its port and its process id."""
        with Process([str(self.folder / "floor")]) as process:
            yield int(process.output.wait_for(r"^listening on (\d+)$")[0]), process.pid


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """Compile both programs, as their own comments say but with all warnings."""
    if not shutil.which("cc"):
        missing("cc", "apt-get install gcc")
    folder = tmp_path_factory.mktemp("bench")
    for name, libraries in (("floor", []), ("load", ["-lz"])):
        warnings = ["-Wall", "-Wextra", "-Wshadow", "-Werror"]
        done = run("cc", "-O2", *warnings, "-o", folder / name, BENCH / f"{name}.c", *libraries)
        if "zlib.h" in done.stdout:
            missing("zlib", "apt-get install zlib1g-dev")
        assert (done.returncode, done.stdout) == (0, "")
    return Programs(folder)


@pytest.fixture(scope="module")
def floor(programs: Programs) -> Iterator[tuple[int, int]]:
    """The port and the process id of one floor for all runs, as rooms are left empty."""
    with programs.floor() as started:
        yield started


#: What becomes of the n-th message to the first receiver: the messages that it gets instead.
Fate = Callable[[int, str], list[str]]


class FaultyRelay:
    """A relay that sends everyone else what it should, and the first receiver what a fate says.

    Args:
        fate: see above.
        echoes: which message the publisher gets too; none if it is 0.
        closes: at which message a receiver is closed; none if it is 0.
    """

    def __init__(self, fate: Fate | None = None, echoes: int = 0, closes: int = 0) -> None:
        self._fate = fate or (lambda _, message: [message])
        self._echoes = echoes
        self._closes = closes
        self._members: dict[ServerConnection, str] = {}
        self._lock = threading.Lock()
        self._count = 0

    def join(self, connection: ServerConnection, request: Request) -> None:
        """Add a member before its handshake is answered, as the generator publishes when the last one is."""
        with self._lock:
            self._members[connection] = request.path

    def serve(self, connection: ServerConnection) -> None:
        """Relay what one member says."""
        with suppress(ConnectionClosed):
            for message in connection:
                assert isinstance(message, str)
                with self._lock:
                    self._publish(connection, message)
        with self._lock:
            del self._members[connection]

    def _publish(self, publisher: ServerConnection, message: str) -> None:
        self._count += 1
        first, *others = [member for member in self._room_of(publisher) if member is not publisher]
        if self._count == self._closes:
            threading.Thread(target=first.close, args=(1013, "too slow")).start()
        for delivered in self._fate(self._count, message):
            self._send(first, delivered)
        for other in others:
            self._send(other, message)
        if self._count == self._echoes:
            self._send(publisher, message)

    def _room_of(self, publisher: ServerConnection) -> list[ServerConnection]:
        path = self._members[publisher]
        return [member for member, its_path in self._members.items() if its_path == path]

    def _send(self, member: ServerConnection, message: str) -> None:
        with suppress(ConnectionClosed):
            member.send(message)


@contextmanager
def faulty(
    served: FaultyRelay,
    extensions: Sequence[ServerPerMessageDeflateFactory] = (),
    context: ssl.SSLContext | None = None,
) -> Iterator[int]:
    """Serve while the block runs, and return the port."""
    with serve(
        served.serve,
        "127.0.0.1",
        0,
        process_request=served.join,
        compression=None,
        extensions=extensions or None,
        ssl=context,
        max_size=None,
        close_timeout=1,
    ) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.socket.getsockname()[1]
        server.shutdown()
        thread.join(SECONDS)


def drop(count: int, message: str) -> list[str]:
    """Lose one message."""
    return [] if count == FATEFUL else [message]


def drop_some(count: int, message: str) -> list[str]:
    """Lose three messages, two of them one after the other."""
    return [] if count in (FATEFUL, FATEFUL + 1, FATEFUL + 5) else [message]


def double(count: int, message: str) -> list[str]:
    """Send one message twice."""
    return [message] * (2 if count == FATEFUL else 1)


def swapper() -> Fate:
    """Return a fate that swaps one message with the next one of its publisher."""
    held: list[str] = []

    def swap(count: int, message: str) -> list[str]:
        if count == FATEFUL:
            held.append(message)
            return []
        # The other room's may come between.
        return [message, held.pop()] if held and held[0][:3] == message[:3] else [message]

    return swap


def corrupt_end(count: int, message: str) -> list[str]:
    """Change the last character of one message."""
    return [message[:-1] + "\x7f" if count == FATEFUL else message]


def corrupt_name(count: int, message: str) -> list[str]:
    """Change one message where it says whose it is."""
    return ["\x7f" + message[1:] if count == FATEFUL else message]


def corrupt_sequence(count: int, message: str) -> list[str]:
    """Change one message where it says which one it is."""
    return [message[:3] + "o" + message[4:] if count == FATEFUL else message]


def cut(count: int, message: str) -> list[str]:
    """Cut one message short."""
    return [message[:-1] if count == FATEFUL else message]


def to_nothing(count: int, message: str) -> list[str]:
    """Empty one message."""
    return ["" if count == FATEFUL else message]


def foreign(count: int, message: str) -> list[str]:
    """Add a message of another room's publisher, which is connection 0 or 3."""
    other = "000" if message.startswith("003") else "003"
    return [other + message[3:], message] if count == FATEFUL else [message]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--members", 10, "--window", 16],
        ["--members", 2],
        ["--members", 10, "--publishers", "all", "--window", 16],
        ["--members", 10, "--publishers", 3, "--window", 1],
        ["--members", 5, "--rooms", 4, "--publishers", 2, "--window", 8],
        ["--members", 5, "--size", 16384, "--window", 8],
        ["--members", 3, "--size", 2**20, "--window", 2, "--publishers", "all"],
        ["--members", 5, "--size", 9],
        ["--members", 5, "--size", 125],
        ["--members", 5, "--size", 126],
        ["--members", 5, "--size", 65535],
        ["--members", 5, "--size", 65536],
        ["--members", 5, "--binary", "--window", 64],
        ["--members", 5, "--rate", 500],
        ["--members", 5, "--rate", 500, "--publishers", "all", "--rooms", 3],
        ["--members", 5, "--path-prefix", "/elsewhere/bench"],
        ["--members", 200, "--connect-concurrency", 7],
        ["--members", 5, "--deflate"],
    ],
    ids=lambda arguments: " ".join(map(str, arguments)),
)
def test_the_floor_relays(programs: Programs, floor: tuple[int, int], arguments: list[object]) -> None:
    """All that was published through the floor arrives once, in order, unchanged."""
    port, _ = floor
    ran = programs.load(port, *arguments)
    assert (ran.code, ran.report["ok"], ran.faults, ran.said) == (0, True, {}, "")
    assert ran.report["messages"] > 0
    assert ran.report["deliveries"] > 0
    assert ran.report["deflate"] is False
    latency = ran.report["latency_us"]
    assert 0 < latency["p50"] <= latency["p99"] <= latency["max"]


def test_the_report(programs: Programs, floor: tuple[int, int]) -> None:
    """A report has what the runner reads, and what it says of the server is only there for a server that was named."""
    port, pid = floor
    with_pids = programs.load(port, "--members", 4, "--pids", pid).report
    without = programs.load(port, "--members", 4).report
    named = {
        "server_cpu_seconds",
        "server_cpu_us_per_delivery",
        "open_server_cpu_seconds",
        "rss_before_kib",
        "rss_after_kib",
    }
    assert {name for name, value in without.items() if value is None} == named
    assert all(with_pids[name] is not None for name in named)
    assert with_pids["rss_after_kib"] > 0
    assert set(with_pids) >= {
        *named,
        *FAULTS,
        "ok",
        "connections",
        "handshakes_per_second",
        "open_seconds",
        "seconds",
        "messages",
        "deliveries",
        "deliveries_per_second",
        "latency_us",
        "generator_cpu_share",
        "deflate",
        "bytes_received",
    }
    assert with_pids["connections"] == 4
    assert with_pids["bytes_received"] >= with_pids["deliveries"] * 66


def test_a_rate_is_kept(programs: Programs, floor: tuple[int, int]) -> None:
    """With a rate as many messages are published as are due, whatever the window of one round trip would allow."""
    ran = programs.load(floor[0], "--members", 3, "--rate", 200)
    assert 0.3 * 200 - 1 <= ran.report["messages"] <= ran.report["seconds"] * 200 + 2


def test_bursts(programs: Programs, floor: tuple[int, int]) -> None:
    """With bursts as many messages are published as without, all that are due at one time together."""
    ran = programs.load(floor[0], "--members", 2, "--rooms", 10, "--publishers", "all", "--rate", 500, "--burst", 10)
    assert (ran.code, ran.faults) == (0, {})
    assert ran.report["messages"] % 10 == 0
    assert 0.3 * 500 - 10 <= ran.report["messages"] <= ran.report["seconds"] * 500 + 10


def test_nodes(programs: Programs, floor: tuple[int, int]) -> None:
    """Members of a room take turns with the ports: what the other node has is not delivered by this one."""
    port, pid = floor
    with programs.floor() as (other, other_pid):
        apart = programs.load(port, "--port", f"{port},{other}", "--members", 2, "--drain", 0.2)
        among = programs.load(port, "--port", f"{port},{other}", "--members", 3, "--drain", 0.2)
        twice = programs.load(port, "--port", f"{port},{port}", "--members", 3, "--pids", f"{pid},{other_pid}")
    assert (apart.code, apart.report["deliveries"], set(apart.faults)) == (1, 0, {"lost"})
    assert (among.code, set(among.faults)) == (1, {"lost"})
    assert (twice.code, twice.faults) == (0, {})
    first, second = twice.report["server_cpus_seconds"]
    assert first > second >= 0
    assert abs(first + second - twice.report["server_cpu_seconds"]) < 1e-6


def test_idle(programs: Programs, floor: tuple[int, int]) -> None:
    """Without publishing there are connections, and nothing comes."""
    ran = programs.load(floor[0], "--members", 50, "--rooms", 2, "--idle")
    assert (ran.code, ran.faults, ran.report["connections"]) == (0, {}, 100)
    assert (ran.report["messages"], ran.report["deliveries"], ran.report["bytes_received"]) == (0, 0, 0)


@pytest.mark.parametrize("compress", [False, True])
def test_the_relay(programs: Programs, compress: bool) -> None:
    """What the figures are about can be measured."""
    arguments = ["--members", 5, "--rooms", 2, "--window", 8, "--size", 500, *(["--deflate"] if compress else [])]
    with relay(*([] if compress else ["--no-compress"])) as started:
        port = int(started.addresses[0].rstrip("/").rpartition(":")[2])
        ran = programs.load(port, *arguments, "--pids", started.pid)
    assert (ran.code, ran.faults, ran.said, ran.report["deflate"]) == (0, {}, "", compress)
    assert ran.report["server_cpu_seconds"] > 0


@pytest.fixture(scope="module")
def secure(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """Compile the load generator with TLS, in a folder of its own."""
    folder = tmp_path_factory.mktemp("bench-tls")
    warnings = ["-Wall", "-Wextra", "-Wshadow", "-Werror", "-DTLS"]
    sources = [BENCH / "load.c", BENCH / "load_tls.c"]
    done = run("cc", "-O2", *warnings, "-o", folder / "load", *sources, "-lz", "-lssl", "-lcrypto")
    if "openssl/" in done.stdout:
        missing("OpenSSL", "apt-get install libssl-dev")
    assert (done.returncode, done.stdout) == (0, "")
    return Programs(folder)


@pytest.mark.parametrize("size", [100, 1024, 100_000])
def test_tls(secure: Programs, tmp_path: Path, size: int) -> None:
    """Over TLS every message arrives, small ones and those of several records."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-subj", "/CN=127.0.0.1"]
    run("openssl", "req", "-x509", *kind, "-keyout", key, "-out", certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with faulty(FaultyRelay(), context=context) as port:
        ran = secure.load(port, "--tls", "--members", 5, "--window", 4, "--size", size)
        plain = secure.load(port, "--members", 5)
    assert (ran.code, ran.faults, ran.said) == (0, {}, "")
    assert ran.report["deliveries"] > 0
    assert (plain.code, plain.report["deliveries"]) == (1, 0)


def test_tls_refused(secure: Programs) -> None:
    """A relay without TLS is a failed run with a reason, and no figures."""
    with faulty(FaultyRelay()) as port:
        ran = secure.load(port, "--tls", "--members", 5)
    assert (ran.code, ran.report["deliveries"]) == (1, 0)
    assert "handshake" in ran.said


@pytest.mark.parametrize(
    ("served", "faults"),
    [
        (FaultyRelay(), {}),
        (FaultyRelay(drop), {"lost": 1}),
        (FaultyRelay(drop_some), {"lost": 3}),
        (FaultyRelay(double), {"doubled": 1}),
        (FaultyRelay(swapper()), {"disordered": 1}),
        (FaultyRelay(corrupt_end), {"changed": 1}),
        (FaultyRelay(corrupt_name), {"changed": 1}),
        (FaultyRelay(corrupt_sequence), {"changed": 1}),
        (FaultyRelay(cut), {"changed": 1}),
        (FaultyRelay(to_nothing), {"changed": 1}),
        (FaultyRelay(foreign), {"unexpected": 1}),
        (FaultyRelay(echoes=FATEFUL), {"unexpected": 1}),
    ],
    ids=[
        "none",
        "drop",
        "drop-some",
        "double",
        "swap",
        "corrupt-end",
        "corrupt-name",
        "corrupt-sequence",
        "cut",
        "empty",
        "foreign",
        "echo",
    ],
)
def test_a_fault_is_named(programs: Programs, served: FaultyRelay, faults: dict[str, int]) -> None:
    """One thing that goes wrong in thousands is counted as what it is, and only as that."""
    with faulty(served) as port:
        ran = programs.load(port, "--members", 3, "--rooms", 2, "--window", 16)
    assert (ran.code, ran.report["ok"], ran.faults) == (1 if faults else 0, not faults, faults)


@pytest.mark.parametrize("fate", [drop, double], ids=["lost", "doubled"])
def test_a_fault_among_publishers(programs: Programs, fate: Fate, request: pytest.FixtureRequest) -> None:
    """Whose message it was makes no difference."""
    with faulty(FaultyRelay(fate)) as port:
        ran = programs.load(port, "--members", 3, "--publishers", "all", "--window", 16)
    assert (ran.code, ran.faults) == (1, {request.node.callspec.id: 1})


def test_the_last_message_is_waited_for(programs: Programs) -> None:
    """What a window of one waits for in vain is lost, and nothing came after it that could show it."""
    with faulty(FaultyRelay(drop)) as port:
        ran = programs.load(port, "--members", 3)
    assert (ran.code, ran.faults, ran.report["deliveries"]) == (1, {"lost": 1}, 0)


def test_a_close_is_an_error(programs: Programs) -> None:
    """A connection that the server ends is counted, and the first is named with its code and reason."""
    with faulty(FaultyRelay(closes=FATEFUL)) as port:
        ran = programs.load(port, "--members", 3, "--window", 16)
    assert (ran.code, ran.faults) == (1, {"closed": 1})
    assert 'code 1013, reason "too slow"' in ran.said


def test_echoes_may_be_expected(programs: Programs) -> None:
    """A server that is said to echo has to, and what it echoes is no delivery."""

    class Echoing(FaultyRelay):
        """A relay that sends everyone everything."""

        def _publish(self, publisher: ServerConnection, message: str) -> None:
            for member in self._members:
                self._send(member, message)

    with faulty(Echoing()) as port:
        told = programs.load(port, "--members", 2, "--window", 4, "--echoes")
        untold = programs.load(port, "--members", 2, "--window", 4)
    assert (told.code, told.faults) == (0, {})
    assert abs(told.report["messages"] - told.report["deliveries"]) <= 4
    assert untold.code == 1
    assert set(untold.faults) == {"unexpected"}


#: What a server may agree on; how it compresses what it sends is its own business.
AGREEMENTS = {
    "with takeover": {},
    "without takeover": {"server_no_context_takeover": True},
    "small windows": {"server_max_window_bits": 9, "client_max_window_bits": 10},
    "small windows without takeover": {"server_no_context_takeover": True, "client_max_window_bits": 9},
}


@pytest.mark.parametrize("publishers", [1, "all"])
@pytest.mark.parametrize("agreement", AGREEMENTS.values(), ids=list(AGREEMENTS))
@pytest.mark.parametrize("size", [64, 20_000])
def test_deflate(programs: Programs, agreement: dict[str, Any], publishers: object, size: int) -> None:
    """Compressed messages go both ways, and are compared when they are inflated."""
    deflate = [ServerPerMessageDeflateFactory(**agreement)]
    arguments = ["--members", 3, "--window", 8, "--size", size, "--deflate", "--publishers", publishers]
    with faulty(FaultyRelay(), deflate) as port:
        ran = programs.load(port, *arguments)
    assert (ran.code, ran.faults, ran.report["deflate"]) == (0, {}, True)
    assert ran.report["deliveries"] > 0


@pytest.mark.parametrize("agreement", AGREEMENTS.values(), ids=list(AGREEMENTS))
@pytest.mark.parametrize("fate", [drop, double, corrupt_end], ids=["lost", "doubled", "changed"])
def test_a_fault_in_compressed_messages(
    programs: Programs, agreement: dict[str, Any], fate: Fate, request: pytest.FixtureRequest
) -> None:
    """That the bytes on the wire are another matter hides nothing."""
    with faulty(FaultyRelay(fate), [ServerPerMessageDeflateFactory(**agreement)]) as port:
        ran = programs.load(port, "--members", 3, "--window", 8, "--size", 500, "--deflate")
    assert (ran.code, ran.faults) == (1, {request.node.callspec.id.partition("-")[0]: 1})


def test_a_server_that_does_not_compress(programs: Programs) -> None:
    """An offer that is not taken is no error."""
    with faulty(FaultyRelay()) as port:
        ran = programs.load(port, "--members", 3, "--deflate")
    assert (ran.code, ran.faults, ran.report["deflate"]) == (0, {}, False)


def test_a_handshake_that_fails(programs: Programs) -> None:
    """A server that refuses is named with what it says."""

    def refuse(connection: ServerConnection, request: Request) -> Any:
        return connection.respond(403, "no\n")

    with serve(lambda _: None, "127.0.0.1", 0, process_request=refuse) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        ran = programs.load(server.socket.getsockname()[1], "--members", 3)
        server.shutdown()
        thread.join(SECONDS)
    assert (ran.code, ran.report["ok"], ran.report["connections"]) == (1, False, 0)
    assert "403" in ran.said


def test_nobody_listens(programs: Programs) -> None:
    """A port without a server is a failure too."""
    with programs.floor() as (port, _):
        pass
    ran = programs.load(port, "--members", 3)
    assert (ran.code, ran.report["connections"]) == (1, 0)
    assert "refused" in ran.said


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "--port"),
        (["--port", 1], "--members"),
        (["--port", 70000, "--members", 2], "--port"),
        (["--port", "x", "--members", 2], "--port"),
        (["--port", "1,", "--members", 2], "--port"),
        (["--port", 1, "--members", 2, "--burst", 2], "--burst"),
        (["--port", 1, "--members", 1], "--members"),
        (["--port", 1, "--members", 2.5], "--members"),
        (["--port", 1, "--members", 200_000, "--rooms", 2], "--members"),
        (["--port", 1, "--members", 2, "--publishers", 3], "--publishers"),
        (["--port", 1, "--members", 2, "--publishers", "some"], "--publishers"),
        (["--port", 1, "--members", 2, "--window", 0], "--window"),
        (["--port", 1, "--members", 2, "--window", 2**20, "--size", 2**20], "--window"),
        (["--port", 1, "--members", 2, "--size", 8], "--size"),
        (["--port", 1, "--members", 2, "--rate", 0], "--rate"),
        (["--port", 1, "--members", 2, "--seconds", -1], "--seconds"),
        (["--port", 1, "--members", 2, "--warmup", "nan"], "--warmup"),
        (["--port", 1, "--members", 2, "--dialect", "mqtt"], "--dialect"),
        (["--port", 1, "--members", 2, "--dialect", "nats", "--deflate"], "--deflate"),
        (["--port", 1, "--members", 2, "--pids", "1,x"], "--pids"),
        (["--port", 1, "--members", 2, "--pids", 2**31 - 1], "--pids"),
        (["--port", 1, "--members", 2, "--connect-concurrency", 0], "--connect-concurrency"),
        (["--port", 1, "--members", 2, "--path-prefix", "bench"], "--path-prefix"),
        (["--port", 1, "--members", 2, "--frobnicate"], "--frobnicate"),
        (["--port", 1, "--members"], "--members"),
        (["--port", 1, "--members", 2, "more"], "more"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_wrong_usage(programs: Programs, arguments: list[object], complaint: str) -> None:
    """What cannot be run is refused before anything is connected, by the name of the option."""
    done = programs.start_load(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(rf"load: .*{complaint}\b.*\n", done.stderr)
