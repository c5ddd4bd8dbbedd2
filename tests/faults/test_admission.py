"""Connection floods: from one address, from many, through proxies, and without free descriptors."""

from collections import Counter
from contextlib import ExitStack

import pytest
from twisted.internet.address import IPv4Address, IPv6Address

from tests.faults.crowds import Crowd
from tests.faults.support import ATTACKED, ELSEWHERE, AttackedRelay, FaultTestCase, attacked, connect, port, remarks
from tests.harness.clients import WebsocketsClient, handshake, text
from tests.harness.live import LOOPBACK, Relay, relay
from tests.harness.support import Wire, request_bytes
from wsrelay.settings import Settings

interop = pytest.mark.interop

MIB = 2**20

#: The addresses of the attacker, of another client, and of a trusted proxy.
ATTACKER, OTHER, PROXY, SECOND = "192.0.2.66", "192.0.2.77", "192.0.2.88", "192.0.2.89"


def ask(
    relay: AttackedRelay, host: str = ATTACKER, forwarded_for: str | None = None, second_line: str | None = None
) -> Wire:
    """Connect from an address to the attacked room; leave if refused."""
    address = (IPv6Address if ":" in host else IPv4Address)("TCP", host, 40000)
    wire = relay.wire(address)
    wire.send(request_bytes(f"/{ATTACKED}", {"X-Forwarded-For": forwarded_for, "x-forwarded-for": second_line}))
    if wire.ended:
        wire.hang_up()
    return wire


def counted(*wires: Wire) -> Counter[int]:
    """Return status → number of answers; 0 is an end without an answer."""
    return Counter(wire.status if wire.received else 0 for wire in wires)


class OneAddressTests(FaultTestCase):
    """An address over its limits, beside the bystanders and other clients."""

    def test_max_connections_per_address(self) -> None:
        """Of 1 000 connections of one address, its limit stays open; the others get 429 with Retry-After."""
        with self.attacked(max_connections_per_address=100) as relay:
            wires = [ask(relay) for _ in range(1000)]
            self.assertEqual(counted(*wires), {101: 100, 429: 900})
            self.assertIn(b"\r\nRetry-After: 10\r\n", wires[-1].received)
            relay.bystanders.welcome()
            self.assertEqual(ask(relay, OTHER).status, 101)
            wires[0].hang_up()
            self.assertEqual(counted(ask(relay), ask(relay)), {101: 1, 429: 1})
            # Refusals are rate-limited in the log: ten lines, and one with the count at the next tick.
            self.assertLess(len([line for line in self.logged() if "denied" in line]), 12)

    def test_max_handshakes_per_address(self) -> None:
        """Of 1 000 silent connections few wait for their deadline; most are dropped at once, and counted."""
        with self.attacked(max_handshakes_per_address=100, handshake_seconds=5) as relay:
            silent = [relay.wire(IPv4Address("TCP", ATTACKER, 1)) for _ in range(1000)]
            dropped = [wire for wire in silent if wire.transport.aborted]
            # 100 handshakes, and 64 slots for refusals.
            self.assertEqual((len(dropped), relay.stats.connections_dropped), (836, 836))
            relay.bystanders.welcome()
            self.assertEqual(ask(relay, OTHER).status, 101)
            for wire in dropped:
                wire.hang_up()
            for seconds, told in ((1.5, {429: 64}), (4, {408: 100})):
                relay.wait(seconds)
                told_now = [wire for wire in silent if wire not in dropped and wire.send(b"")]
                self.assertEqual(counted(*told_now), told)

    def test_max_connects_per_second_per_address(self) -> None:
        """An address that reconnects in a loop is limited to its rate; others are not affected."""
        with self.attacked(max_connects_per_second_per_address=10, burst_seconds=2, close_seconds=1) as relay:
            for burst in (20, 10, 10):  # the first had two seconds' worth
                relay.bystanders.exchange()
                wires = [ask(relay) for _ in range(50)]
                self.assertEqual(counted(*wires), {101: burst, 429: 50 - burst})
                self.assertIn(b"\r\nRetry-After: 1\r\n", wires[-1].received)
                self.assertEqual(ask(relay, OTHER).status, 101)
                for wire in wires:
                    wire.hang_up()
                relay.wait(1)

    def test_max_connects_per_second(self) -> None:
        """A crowd of many addresses is limited to the global rate with 503; open connections stay."""
        with self.attacked(max_connects_per_second=100, burst_seconds=1) as relay:
            relay.wait(1)
            wires = [ask(relay, f"198.51.100.{number}") for number in range(200)]
            self.assertEqual(counted(*wires), {101: 100, 503: 100})
            self.assertIn(b"\r\nRetry-After: 1\r\n", wires[-1].received)
            relay.bystanders.exchange()
            relay.wait(1)
            relay.bystanders.welcome()

    def test_ipv6_prefix(self) -> None:
        """All addresses of one IPv6 /64 count as one."""
        with self.attacked(max_connections_per_address=10) as relay:
            wires = [ask(relay, f"2001:db8::{number:x}:1") for number in range(100)]
            self.assertEqual(counted(*wires), {101: 10, 429: 90})
            self.assertEqual(counted(ask(relay, "2001:db8:0:1::1"), ask(relay, f"::ffff:{ATTACKER}")), {101: 2})

    def test_ipv6_networks(self) -> None:
        """All addresses of one IPv6 /48 have sixteen times the share of one; clients elsewhere are served."""
        with self.attacked(max_connections_per_address=5) as relay:
            wires = [ask(relay, f"2001:db8:0:{number:x}00::1") for number in range(100)]
            self.assertEqual(counted(*wires), {101: 80, 429: 20})
            wires = [ask(relay, f"2001:db8:1:{number:x}::1") for number in range(30)]
            self.assertEqual(counted(*wires), {101: 20, 429: 10})
            self.assertEqual(counted(ask(relay, "2001:db8:2::1"), ask(relay, f"::ffff:{ATTACKER}")), {101: 2})

    def test_forwarded_for(self) -> None:
        """Behind a trusted proxy the limits are per client, not for the proxy."""
        with self.attacked(max_connections_per_address=10, trusted_proxies=(PROXY,)) as relay:
            for client in (ATTACKER, OTHER, "2001:db8::1"):
                wires = [ask(relay, PROXY, client) for _ in range(20)]
                self.assertEqual(counted(*wires), {101: 10, 429: 10})
                relay.bystanders.exchange()
            self.assertEqual(ask(relay, ATTACKER).status, 429)  # directly: it is the same client

    def test_forged_forwarded_for(self) -> None:
        """Forged addresses have no effect: ignored without a trusted proxy, and left of the real one with it."""
        with self.attacked(max_connections_per_address=10, trusted_proxies=(PROXY, SECOND)) as relay:
            direct = [ask(relay, ATTACKER, f"203.0.113.{number}") for number in range(20)]
            through = [ask(relay, PROXY, f"203.0.113.{number}, {PROXY}, {OTHER}") for number in range(20)]
            words = [ask(relay, PROXY, f"{'x' * number}, 192.0.2.99") for number in range(20)]
            # An invalid address counts for the proxy that wrote it.
            nonsense = [ask(relay, PROXY, f"{PROXY}, not-an-address-{number}") for number in range(20)]
            # Lines are joined: the proxy's own line is the last one. An empty member is no address.
            lines = [ask(relay, PROXY, f"203.0.113.{number}", "192.0.2.98") for number in range(20)]
            empty = [ask(relay, SECOND, f"203.0.113.{number}", ", ") for number in range(20)]
            for wires in (direct, through, words, nonsense, lines, empty):
                self.assertEqual(counted(*wires), {101: 10, 429: 10})

    def test_silent_trusted_network(self) -> None:
        """Silent sockets from a trusted network take half of max_handshakes at most; proxies and others are served."""
        with self.attacked(trusted_proxies=("192.0.2.0/24",), max_handshakes=100, handshake_seconds=5) as relay:
            silent = [relay.wire(IPv4Address("TCP", SECOND, 1)) for _ in range(300)]
            self.assertEqual(relay.factory.admission.handshakes, 50)
            wires = [ask(relay, PROXY, f"198.51.100.{number}") for number in range(200)]
            self.assertEqual(counted(*wires), {101: 200})
            self.assertEqual(counted(ask(relay, SECOND, OTHER)), {0: 1})  # dropped: no slot for a refusal is free
            relay.bystanders.welcome()
            for seconds, told in ((1.5, {503: 64}), (4, {408: 50})):
                relay.wait(seconds)
                self.assertEqual(counted(*[wire for wire in silent if wire.send(b"")]), told)
            for wire in silent:
                wire.hang_up()
            self.assertEqual(counted(ask(relay, SECOND, OTHER)), {101: 1})

    def test_silent_trusted_connects(self) -> None:
        """A machine of a trusted network that connects in a loop takes half of the connects of all."""
        with self.attacked(trusted_proxies=(PROXY, SECOND), max_connects_per_second=20, burst_seconds=1) as relay:
            relay.wait(1)
            for _ in range(100):
                relay.wire(IPv4Address("TCP", SECOND, 1)).hang_up()
            self.assertEqual(counted(*[ask(relay, PROXY, f"198.51.100.{number}") for number in range(5)]), {101: 5})
            relay.wait(1)
            self.assertEqual(counted(*[ask(relay, SECOND, f"198.51.100.{number}") for number in range(15)]), {101: 15})


# --- on sockets -----------------------------------------------------------------------------------


def exchange_from(server: Relay, host: str) -> None:
    """Let a pair connect from an address, exchange messages, and leave."""
    with (
        WebsocketsClient(server.url("/visitors"), source_address=(host, 0)) as one,
        WebsocketsClient(server.url("/visitors"), source_address=(host, 0)) as other,
    ):
        one.say(text("hello"))
        assert other.hear() == "hello"


@interop
def test_idle_flood() -> None:
    """5 000 silent sockets of one address: others connect and talk; the cost is bounded."""
    with relay("--close-seconds", "1", "--handshake-seconds", "4") as server:
        with attacked(server) as attack, Crowd(port(server), ["127.0.0.2"] * 5000) as crowd:
            crowd.come()
            while crowd.statuses.total() < 5000:
                crowd.await_answers(min(crowd.statuses.total() + 100, 5000))
                attack.bystanders.exchange()
                exchange_from(server, "127.0.0.3")
            attack.bystanders.welcome()
            assert attack.grown_bytes() < 16 * MIB
            attack.settle()
        # Most were dropped; some waited for their deadline, some got a refusal.
        assert crowd.statuses[408] == Settings().max_handshakes_per_address
        assert crowd.statuses[408] + crowd.statuses[429] + crowd.statuses[0] == 5000
        assert len(remarks(server)) < 500, server.output.text


@interop
def test_idle_flood_trusted() -> None:
    """2 000 silent sockets from a trusted network: the proxy's other clients, and all others, are served."""
    options = ["--max-handshakes", "1000", "--trusted-proxies", "127.0.0.0/30", "--handshake-seconds", "4"]
    with relay(*options, "--close-seconds", "1") as server:
        with attacked(server) as attack, Crowd(port(server), ["127.0.0.2"] * 2000) as crowd:
            crowd.come()
            attack.bystanders.exchange()
            for host in ("127.0.0.1", "127.0.0.3", "127.0.0.7"):
                exchange_from(server, host)
            attack.bystanders.welcome()
            crowd.await_answers(2000)
            attack.settle()
        assert crowd.statuses[408] == 500
        assert crowd.statuses[408] + crowd.statuses[503] + crowd.statuses[0] == 2000


@interop
def test_connect_flood() -> None:
    """An address that connects 1 000 times gets 429; others are not refused."""
    options = ["--max-connections-per-address", "100", "--close-seconds", "1"]
    with relay(*options) as server, attacked(server) as attack:
        with Crowd(port(server), ["127.0.0.2"] * 1000, [f"/{ATTACKED}"]) as crowd:
            crowd.come()
            crowd.await_answers(1000)
            assert crowd.statuses[101] == 100
            assert crowd.statuses[101] + crowd.statuses[429] + crowd.statuses[0] == 1000
            attack.bystanders.welcome()
            exchange_from(server, "127.0.0.3")
        attack.settle()
        exchange_from(server, "127.0.0.2")
        assert len(remarks(server)) < 100, server.output.text


@interop
def test_reconnect_storm() -> None:
    """5 000 clients of 50 addresses connect at once, are served, and leave at once, without warnings in the log."""
    hosts = [f"127.0.1.{number % 50 + 1}" for number in range(5000)]
    rooms = [f"/{ATTACKED}/{number}" for number in range(100)]
    with (
        relay("--close-seconds", "1") as server,
        attacked(server) as attack,
        Crowd(port(server), hosts, rooms) as crowd,
    ):
        before = remarks(server)
        crowd.come()
        attack.bystanders.welcome()
        crowd.await_answers(5000)
        assert crowd.statuses == {101: 5000}
        attack.bystanders.welcome()
        assert attack.grown_bytes() < 64 * MIB
        crowd.reset()
        attack.settle()
        # One info line per join and per leave, and nothing else, at any level.
        server.output.wait_for(r" left '" + ATTACKED + "/", 5000)
        assert server.output.text.count(f" joined '{ATTACKED}/") == 5000
        assert remarks(server) == before


@interop
def test_max_files() -> None:
    """With 64 descriptors and 300 clients, open connections work; the others get 503, or an end."""
    with relay("--close-seconds", "1", max_files=64) as server, attacked(server, shared=False) as attack:
        with ExitStack() as stack:
            admitted = [stack.enter_context(WebsocketsClient(server.url(ATTACKED))) for _ in range(2)]
            with Crowd(port(server), ["127.0.0.2"] * 300, [f"/{ELSEWHERE}/crowd"]) as crowd:
                crowd.come()
                crowd.await_answers(300)
                assert crowd.statuses[101] >= 30
                assert crowd.statuses[503] > 0
                assert crowd.statuses[101] + crowd.statuses[503] + crowd.statuses[0] == 300
                for number in range(20):
                    admitted[0].say(text(f"{number}"))
                    assert admitted[1].hear() == f"{number}"
                attack.bystanders.exchange()
        attack.settle()
        attack.bystanders.welcome()
        assert len([line for line in remarks(server) if "denied" in line]) < 100
        assert "EMFILE" not in server.output.text  # of which Twisted writes three lines per client


@interop
def test_proxied_flood() -> None:
    """Through PROXY and X-Forwarded-For the limits hold for the client, not for its proxy or other clients."""
    options = ["--max-connections-per-address", "20", "--trusted-proxies", "127.0.0.2", "--close-seconds", "1"]
    with (
        relay(*options, listen=[LOOPBACK, f"haproxy:{LOOPBACK}"]) as server,
        attacked(server) as attack,
        ExitStack() as stack,
    ):

        def come(words: bytes, endpoint: int = 0, host: str = "127.0.0.2") -> int:
            connection = stack.enter_context(connect(server, endpoint, host))
            connection.sendall(words)
            answer = connection.recv(1000)
            assert (b" 101 " in answer) != (b"\r\nRetry-After: 10\r\n" in answer)
            return int(answer[9:12])

        for client in ("192.0.2.66", "192.0.2.77", "2001:db8::1"):
            words = [
                (f"PROXY TCP{6 if ':' in client else 4} {client} {client} 5 80\r\n".encode() + handshake(), 1),
                (handshake(X_Forwarded_For=f"203.0.113.1, {client}"), 0),
            ]
            assert Counter(come(*words[number % 2]) for number in range(40)) == {101: 20, 429: 20}
            attack.bystanders.exchange()
        # From an untrusted address the same field is ignored.
        forged = [handshake(X_Forwarded_For=f"203.0.113.{number}") for number in range(40)]
        assert Counter(come(words, host="127.0.0.3") for words in forged) == {101: 20, 429: 20}
        attack.bystanders.welcome()
