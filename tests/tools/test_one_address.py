"""The measure of what one address can take: attacks arrive, and late bystanders and refused newcomers fail."""

import asyncio
import json
import socket
import sys
import tempfile
import unittest
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.harness import live
from tests.tools.test_soak import SOAK, load

attacker: Any = load("attacker")
attacks: Any = load("attacks")
bystanders: Any = load("bystanders")
kernel: Any = load("kernel")
most: Any = load("most")
witness: Any = load("witness")


def row(**changes: Any) -> dict[str, Any]:
    """Return the figures of a harmless attack, with changes."""
    usual = {"p50_ms": 1.0, "p95_ms": 9.0, "max_ms": 20.0}
    newcomers = {**usual, "answers": {"101": 4}}
    counts = {"open": 5, "rooms": 2, "answers": {"101": 50, "429": 30}, "late": 0, "faults": [], "newcomers": newcomers}
    taken = {"seconds": 10.0, "cpu_share": 0.5, "relay_mib": 3.0, "kernel_mib": 2.0, "kernel_kib_of_one": 60}
    return {"name": "pings", "source": "address", **usual, **counts, **taken, "log_lines_per_second": 7.0, **changes}


class AttacksTests(unittest.TestCase):
    """The table of attacks."""

    def test_every_row(self) -> None:
        """Each row has a name of its own, a request that fits the relay's limits, and whole frames in its floods."""
        self.assertEqual(len(attacks.BY_NAME), len(attacks.ATTACKS))
        for attack in attacks.ATTACKS:
            self.assertLessEqual(len(attack.request(1, attack.room(1))), 16_384, attack.name)
            self.assertLessEqual(attack.connections, attack.network_connections, attack.name)
            self.assertIsInstance(attack.once(0) + attack.again(0), bytes)

    def test_windows(self) -> None:
        """A room with deflate bombs has a publisher and a subscriber of each window."""
        row = attacks.BY_NAME["deflate 1:1000, rooms with three windows"]
        requests = [row.request(number, row.room(number)) for number in range(4)]

        self.assertEqual([bool(row.again(number)) for number in range(4)], [True, False, False, False])
        self.assertEqual(len({row.room(number) for number in range(4)}), 1)
        for bits, request in zip((15, 9, 12, 15), requests, strict=True):
            self.assertIn(b"server_max_window_bits=%d\r\n" % bits, request)

    def test_network_addresses(self) -> None:
        """The addresses of a network are in a /64 of their own each, and in all /56 of one /48."""
        named = [attacker.forwarded_for(number).split(b":")[1:5] for number in range(65536)]

        self.assertEqual(len({tuple(words) for words in named}), 65536)
        self.assertEqual(len({tuple(words[:3]) for words in named}), 1)
        self.assertEqual(len({int(words[3], 16) >> 8 for words in named[:256]}), 256)


class ReportTests(unittest.TestCase):
    """Verdict and table."""

    def test_pass(self) -> None:
        """A harmless attack is no fault, and its figures are in the table, with the most of each column."""
        rows = [row(), row(name="bombs", relay_mib=44.0), row(source="network")]
        report = most.markdown(rows, 10, [], 2)

        self.assertEqual(most.faults(rows), [])
        for words in (
            "by default: **PASSED**",
            "## One address",
            "## One /48",
            "| bombs | 5 |",
            "| **at most** |",
            "**44**",
        ):
            self.assertIn(words, report)
        self.assertIn("handshakes/s 5, refused/s 3, CPU, % of a core 50", most.line(row()))

    def test_late_bystanders(self) -> None:
        """A 95th percentile of 100 ms fails, just below it passes."""
        self.assertEqual(most.faults([row(p95_ms=99.9)]), [])
        self.assertIn("p95 is 100 ms", most.faults([row(p95_ms=100.0)])[0])
        self.assertIn("**FAILED**", most.markdown([row(p95_ms=100.0)], 10, ["--http"], 1))

    def test_other_faults(self) -> None:
        """A refused newcomer, a message that does not come, and a changed one fail."""
        refused = {**row()["newcomers"], "answers": {"101": 3, "503": 1}}
        for changes, words in (
            ({"newcomers": refused}, "25 % of the newcomers"),
            ({"late": 2}, "2 messages"),
            ({"faults": ["message 3 was changed"]}, "message 3 was changed"),
        ):
            self.assertIn(words, "\n".join(most.faults([row(**changes)])))

    def test_no_newcomers(self) -> None:
        """Without newcomers none is refused; their lag is infinite."""
        none = row(newcomers={**witness.percentiles([]), "answers": {}})
        self.assertEqual(most.faults([none]), [])
        self.assertIn("p95, ms inf", most.line(none))


class WitnessTests(unittest.TestCase):
    """Percentiles, and messages that do not come."""

    def test_percentiles(self) -> None:
        """Median, 95th percentile and maximum are in ms."""
        found = witness.percentiles([number / 1000 for number in range(101)])
        self.assertEqual(found, {"p50_ms": 50.0, "p95_ms": 95.0, "max_ms": 100.0})

    def test_missing_messages_are_late(self) -> None:
        """A message that does not come counts with the time that it was waited for."""
        ears = [bystanders.Ear(next=4), bystanders.Ear(next=7)]
        witness.LAST_SECONDS, usual = 0.0, witness.LAST_SECONDS
        self.addCleanup(setattr, witness, "LAST_SECONDS", usual)

        self.assertEqual(asyncio.run(witness.settle(set(), ears, [[7], [6]])), [0.04, 0.02])


class KernelTests(unittest.TestCase):
    """Kernel memory of connections."""

    def test_unread_bytes(self) -> None:
        """Bytes that a peer does not read are counted at the server's end, and only for its port."""
        with ExitStack() as stack:
            server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            port = server.getsockname()[1]
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            accepted, _ = server.accept()
            stack.enter_context(accepted).setblocking(False)
            before = sum(kernel.buffers(port))
            sent = 0
            while True:
                try:
                    sent += accepted.send(bytes(65536))
                except BlockingIOError:
                    break
            after, client_port = kernel.buffers(port), accepted.getpeername()[1]

        self.assertEqual(len(after), 2)  # and the listening one
        self.assertGreater(sum(after), before + 65536)
        self.assertEqual(len(kernel.buffers(client_port)), 0)


@pytest.mark.interop
class ProcessTests(unittest.TestCase):
    """The command."""

    def measure(self, folder: str, *options: str) -> Any:
        """Run the command for a second per attack."""
        return live.run(
            sys.executable, str(SOAK / "one_address"), "--seconds", "1", "--results", folder, *options, timeout=200
        )

    def test_attacks_arrive(self) -> None:
        """Each kind of attack is measured, from one address and from one /48."""
        names = ("nothing", "handshakes of a foreign", "pings", "frames of 8 KiB", "never-readers")
        with tempfile.TemporaryDirectory() as folder:
            done = self.measure(folder, *(word for name in names for word in ("--only", name)))
            rows = json.loads((Path(folder) / "one_address.json").read_text("utf-8"))

        self.assertIn(done.returncode, (0, 1), done.stdout)  # lags are not asserted here
        taken = {(each["source"], each["name"]): each for each in rows}
        for source in ("address", "network"):
            self.assertGreater(taken[source, "pings"]["open"], 5)
            self.assertGreater(taken[source, "handshakes of a foreign origin"]["answers"]["403"], 5)
            self.assertGreater(taken[source, "nothing"]["heard"], 20)
            self.assertGreater(taken[source, "never-readers, and one publisher"]["kernel_mib"], 0)
        self.assertIn("**at most**", done.stdout)

    def test_relay_options(self) -> None:
        """Options after -- go to the relay; an unknown one ends the run; a wrong attack is a usage error."""
        with tempfile.TemporaryDirectory() as folder:
            done = self.measure(folder, "--only", "nothing", "--", "--no-such-option")
            unknown = self.measure(folder, "--only", "no such attack")

        self.assertEqual((done.returncode, unknown.returncode), (1, 2))
        self.assertIn("FAILED: the server ended", done.stdout)
