"""The restart of soak: clients come back as docs/clients.md says, and broken ones are told."""

import json
import sys
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.harness import live
from tests.tools.test_soak import SOAK, load
from tests.tools.test_soak_history import load_script

reconnecting: Any = load("reconnecting")
restart: Any = load_script("restart")

HEAD = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"


def close(code: int) -> bytes:
    """Return a close frame of the relay."""
    return b"\x88\x02" + code.to_bytes(2)


class Connection:
    """Takes what a client sends."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.send = self.sent.append


class Crowd(reconnecting.Crowd):  # type: ignore[misc]  # Any
    """A crowd of one on a clock of its own, whose random times are nine tenths of their bound.

    Attributes:
        waits: the times that the client has waited.
        connection: its newest one.
    """

    def __init__(self) -> None:
        super().__init__(0, 1, 10, 0)
        self.loop.close()
        self.time = 0.0
        self.now = lambda: self.time
        self.random = lambda: 0.9
        self.waits: list[float] = []
        self.later = lambda seconds, act: self.waits.append(seconds)
        [self.client] = self.clients

    def open(self) -> None:
        """Let the client connect."""
        self.connection = Connection()
        with mock.patch.object(reconnecting.exchanges, "Connection", return_value=self.connection):
            self.client.open()

    def at(self, seconds: float, data: bytes) -> None:
        """Let the client receive something at some time."""
        self.time = seconds
        self.client.receive(data)


class ClientTests(unittest.TestCase):
    """One client."""

    def setUp(self) -> None:
        """Make it, and connect it."""
        self.crowd = Crowd()
        self.crowd.open()

    def test_restart(self) -> None:
        """It is offline from the close frame to the next 101; refused attempts are counted."""
        crowd = self.crowd
        crowd.at(0, HEAD + b"\x89\x01x" + close(1012))
        self.assertEqual(crowd.connection.sent, [b"\x8a\x81\0\0\0\0x", b"\x88\x82\0\0\0\0\x03\xf4"])
        crowd.at(1, b"")
        crowd.open()
        crowd.at(2, b"")
        crowd.open()
        self.assertFalse(crowd.are_back())
        crowd.at(3.5, HEAD[:9])
        crowd.at(3.5, HEAD[9:])
        self.assertTrue(crowd.are_back())
        found = crowd.outcome(0.0)
        self.assertEqual(
            (3.5, 3.5, 3.5, 1, 2, 1, []),
            tuple(found[name] for name in ("median_seconds", "p95_seconds", "first_seconds"))
            + tuple(found[name] for name in ("busiest", "attempts", "failures", "faults")),
        )

    def test_back_off(self) -> None:
        """It waits up to a bound that doubles to 30 s, and begins anew after a connection that was good."""
        for _ in range(8):
            self.crowd.at(0, b"")
            self.crowd.open()
        self.assertEqual(self.crowd.waits, [0.9 * bound for bound in (0.5, 1, 2, 4, 8, 16, 30, 30)])
        self.crowd.at(0, HEAD)
        self.crowd.at(10.1, close(1012))
        self.crowd.at(10.1, b"")
        self.assertEqual(self.crowd.waits[-1], 0.9 * 0.5)

    def test_faults(self) -> None:
        """Another code, no close frame, and a second close are faults; a refusal is a failed attempt."""
        for data, fault in ((close(1013), "it was closed with 1013"), (b"", "it was closed with no close frame")):
            self.setUp()
            self.crowd.at(0, HEAD)
            self.crowd.at(1, data)
            self.assertEqual(self.crowd.outcome(0.0)["faults"], [f"1 clients: {fault}"])
        self.crowd.open()
        self.crowd.at(1, b"HTTP/1.1 503 Service Unavailable\r\n\r\n")
        self.crowd.at(1, b"")
        self.assertEqual(self.crowd.client.failures, 1)
        self.crowd.open()
        self.crowd.at(2, HEAD + close(1012))
        self.assertIn("it was closed again with 1012", self.crowd.client.faults)

    def test_nobody_back(self) -> None:
        """Without a return there are no figures, and a fault."""
        self.crowd.at(0, HEAD + close(1012))
        found = self.crowd.outcome(0.0)
        self.assertEqual((found["back"], found["median_seconds"], found["busiest"]), (0, float("inf"), 0))
        [fault] = restart.faults({"drain": [found]})
        self.assertEqual(fault, "drain, run 1: 1 clients did not come back")


class ReportTests(unittest.TestCase):
    """The report."""

    RUN = {name: 2.0 for _, name, _ in restart.COLUMNS} | {"clients": 2, "faults": []}

    def test_passed(self) -> None:
        """A row has the medians of its runs."""
        options = restart.parse_arguments(["--only", "kept", "--", "--http"])
        runs = [self.RUN | {"max_seconds": seconds} for seconds in (1.0, 9.0, 2.0)]
        text = restart.markdown({"kept": runs}, restart.chosen(options), options)
        self.assertIn("relay options `--http`: **PASSED**", text)
        self.assertIn("| kept socket, drain 0 s, then the new process | 2 | 2.0 | 2.0 | 2.0 |", text)

    def test_failed(self) -> None:
        """Faults are told."""
        options = restart.parse_arguments([])
        text = restart.markdown({"kept": [self.RUN | {"faults": ["why"]}]}, restart.WAYS, options)
        self.assertIn("**FAILED**\n\n* kept, run 1: why\n", text)

    def test_drain_seconds(self) -> None:
        """Another time of the drain is that of all that drain, also in the report."""
        ways = restart.chosen(restart.parse_arguments(["--drain-seconds", "1.5"]))
        self.assertEqual(list(ways), list(restart.WAYS))
        self.assertEqual((ways["overlap"].drain_seconds, ways["kept"].drain_seconds), (1.5, 0))
        self.assertIn("then drain 1.5 s", ways["overlap"].title)


@pytest.mark.interop
def test_restart(tmp_path: Path) -> None:
    """A small crowd comes back each way; on a kept socket no attempt fails."""
    words = ["--clients=30", "--runs=1", "--drain-seconds=0.5", "--only=at-once", "--only=kept-drain", "--only=overlap"]
    done = live.run(sys.executable, str(SOAK / "restart"), "--results", str(tmp_path), *words, timeout=100)
    found = json.loads((tmp_path / "restart.json").read_text("utf-8"))

    assert done.returncode == 0, done.stdout
    assert {name: (run["back"], run["faults"]) for name, [run] in found.items()} == dict.fromkeys(found, (30, []))
    assert [found[name][0]["failures"] for name in ("kept-drain", "overlap")] == [0, 0]
    assert "| kept socket, the new process first, then drain 0.5 s | 30 |" in done.stdout
