"""Refusals that pages can read (--explain-refusals), and the GET that explains: neither costs more than a refusal."""

import socket
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred

from tests.connection.test_protocol import client_frame
from tests.faults.support import (
    ATTACKED,
    ELSEWHERE,
    FaultTestCase,
    Hook,
    attacked,
    closed_with,
    connect,
    masked,
    port,
    pour,
)
from tests.harness.clients import handshake, tls_context
from tests.harness.http import http_bytes
from tests.harness.live import LOOPBACK, Relay, make_certificate, relay
from tests.harness.support import Wire, request_bytes
from wsrelay.errors import Denied
from wsrelay.validators.origin import OriginValidator

interop = pytest.mark.interop

ATTACKER = "192.0.2.66"
MIB = 2**20

#: Validators, for which the bystanders' rooms are allowed, and "hooked" is not.
DENYING = ["--validate", f"rooms:{ATTACKED},{ELSEWHERE},{ELSEWHERE}/**"]


def told(data: bytes) -> tuple[int, str]:
    """Return code and reason of the close frame behind a 101."""
    head, _, frames = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 "), data[:100]
    return closed_with(frames)


class ExplainedTests(FaultTestCase):
    """Refused clients that do not leave."""

    def test_explained_flood(self) -> None:
        """Over-limit clients that never close hold the slots of refusals, for as long as a refusal may take."""
        with self.attacked(explain_refusals=True, max_connections_per_address=10, close_seconds=3) as relay:
            wires: list[Wire] = []
            for number in range(500):
                wire = relay.wire(IPv4Address("TCP", ATTACKER, number))
                wire.send(request_bytes(f"/{ATTACKED}"))
                wires.append(wire)
            dropped = [wire for wire in wires if wire.transport.aborted]
            refused = [wire for wire in wires[10:] if wire not in dropped]
            self.assertEqual((len(dropped), len(refused)), (426, 64))
            self.assertEqual(Counter(told(wire.received)[0] for wire in refused), {4429: 64})
            relay.bystanders.welcome()
            relay.wait(4)
            self.assertTrue(all(wire.transport.aborted for wire in refused))
            for wire in refused:
                wire.hang_up()
            wire = relay.wire(IPv4Address("TCP", ATTACKER, 1))
            self.assertEqual(told(wire.send(request_bytes(f"/{ATTACKED}")))[0], 4429)
            self.assertLess(len([line for line in self.logged() if "denied" in line]), 15)
            self.assertEqual(relay.stats.connections_opened, 10 + len(relay.bystanders))

    def test_explained_never_read(self) -> None:
        """A refused client that neither reads nor closes is aborted at the deadline, and its frames are no messages."""
        hook = Hook(Denied(403, "no"))
        with self.attacked([hook], explain_refusals=True, close_seconds=2) as relay:
            wires = [relay.wire() for _ in range(20)]
            for wire in wires:
                wire.transport.stalled = True
                wire.send(request_bytes("/hooked"))
            for _ in range(3):
                relay.bystanders.exchange()
                for wire in wires:
                    wire.send(client_frame(1, b"x") * 1000)
                relay.wait(0.5)
            self.assertEqual([wire.transport.protocol.incoming_bytes for wire in wires], [0] * 20)
            relay.wait(1.5)
            self.assertEqual([wire.transport.aborted for wire in wires], [True] * 20)
            self.assertEqual((relay.factory.hub.member_count("hooked"), len(relay.factory.hub)), (0, 2))

    def test_explained_idle(self) -> None:
        """Refused clients that stay, and do nothing, take slots for refusals, and no place of their address."""
        settings = {"max_connections_per_address": 10, "max_handshakes_per_address": 10, "close_seconds": 3}
        with self.attacked([Hook(Denied(403, "no"))], explain_refusals=True, **settings) as relay:
            idle: list[Wire] = []
            for number in range(100):
                wire = relay.wire(IPv4Address("TCP", ATTACKER, number))
                wire.send(request_bytes("/hooked"))
                if wire.ended:
                    self.assertEqual(wire.status, 403)
                    wire.hang_up()  # as TCP does behind a response
                else:
                    self.assertEqual(told(wire.received), (4403, "no"))
                    idle.append(wire)
            honest = relay.wire(IPv4Address("TCP", ATTACKER, 100))
            honest.send(request_bytes(f"/{ATTACKED}"))
            self.assertEqual((len(idle), honest.status, relay.stats.connections_dropped), (64, 101, 0))
            relay.bystanders.welcome()
            admission, counted = relay.factory.admission, 1 + len(relay.bystanders)
            self.assertEqual((admission.connections, admission.handshakes), (counted, 0))
            self.assertEqual(len(relay.factory.connections), counted + len(idle))
            relay.wait(4)
            self.assertTrue(all(wire.transport.aborted for wire in idle))
            for wire in idle:
                wire.hang_up()
            wire = relay.wire(IPv4Address("TCP", ATTACKER, 101))
            self.assertEqual(told(wire.send(request_bytes("/hooked")))[0], 4403)

    def test_explained_foreign_page(self) -> None:
        """A page of another origin, whose sockets bring its visitor's cookie, reads nothing of what is said of that."""
        hook = Hook(lambda request, _: Denied(403, request.headers["cookie"]))
        origin = OriginValidator.from_arguments("https://app.example,none")
        with self.attacked([hook, origin], explain_refusals=True) as relay:
            answers = set()
            for cookie in ("sid=alice", "sid=expired", "sid=" + "x" * 5000):
                for target in ("/hooked", "/hooked/too", "/other"):
                    fields = {"Origin": "https://evil.example", "Cookie": cookie}
                    answers.add(relay.wire().send(request_bytes(target, fields)))
                    relay.bystanders.exchange()
            [answer] = answers
            self.assertEqual(told(answer)[0], 4403)
            self.assertNotIn(b"sid", answer)
            mine = relay.wire().send(request_bytes("/hooked", {"Origin": "https://app.example", "Cookie": "sid=alice"}))
            self.assertEqual(told(mine), (4403, "sid=alice"))

    def test_explaining_get_flood(self) -> None:
        """A GET that explains is counted as a handshake: its address is limited, and validators end at their time."""
        with self.attacked([], max_handshakes_per_address=10, validate_seconds=2) as relay:
            relay.factory.reload(relay.factory.settings, [Hook(lambda *_: Deferred())])
            wires = [relay.wire(IPv4Address("TCP", ATTACKER, number)) for number in range(50)]
            for wire in wires:
                wire.send(http_bytes("GET /hooked"))
            statuses = Counter(wire.status if wire.received else 0 for wire in wires)
            self.assertEqual(statuses, {0: 10, 429: 40})
            relay.bystanders.welcome()
            relay.wait(3)
            for wire in wires[:10]:
                wire.send(b"")
            self.assertEqual(Counter(wire.status for wire in wires[:10]), {504: 10})


# --- on sockets -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a key and a certificate for 127.0.0.1."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def server(certificate: Path) -> Iterator[Relay]:
    """A relay that explains refusals, also over TLS."""
    listen = [LOOPBACK, f"ssl:0:interface=127.0.0.1:privateKey={certificate}"]
    with relay("--explain-refusals", "--close-seconds", "2", *DENYING, listen=listen) as started:
        yield started


@interop
@pytest.mark.parametrize("is_tls", [False, True], ids=["tcp", "tls"])
def test_explained_data_behind(server: Relay, certificate: Path, is_tls: bool) -> None:
    """Data behind a refused handshake is read and discarded: no reset overtakes the close frame; then TCP ends."""
    with attacked(server) as attack, ExitStack() as stack:
        for data in (b"", masked(0x81, b"x" * 60_000) * 200):
            connection = stack.enter_context(connect(server, int(is_tls), host="127.0.0.2"))
            if is_tls:
                connection = stack.enter_context(
                    tls_context(certificate).wrap_socket(connection, server_hostname="127.0.0.1")
                )
            connection.sendall(handshake("/hooked"))
            # TCP takes it all, without a reset; over TLS both directions end at the first of it.
            (pour(connection, data) if is_tls else connection.sendall(data))
            attack.bystanders.exchange()
            # As a handshake with data behind it, where both come in one read.
            assert told(connection.recv(1000))[0] in ((4403, 4400) if data else (4403,))
            # Our half ends at the first data; a client that sends none is aborted at the deadline.
            if data and not is_tls:
                assert connection.recv(1000) == b""
        attack.settle()


@interop
def test_explained_crowd(server: Relay) -> None:
    """A crowd that is refused, and reads and closes nothing, costs no memory, and is gone after its deadline."""
    with attacked(server) as attack, ExitStack() as stack:
        before = attack.cpu_seconds()
        for _ in range(200):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.bind(("127.0.0.2", 0))
            connection.connect(("127.0.0.1", port(server)))
            connection.sendall(handshake("/hooked"))
            attack.bystanders.exchange()
        attack.bystanders.welcome()
        attack.settle()
        assert attack.cpu_seconds() - before < 2
        assert attack.grown_bytes() < 8 * MIB
    assert "Traceback" not in server.output.text
