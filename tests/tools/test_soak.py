"""The soak fails on growth, and on faults seen by bystanders, in the log or by the crowd; its clients are correct."""

import asyncio
import importlib
import json
import os
import random
import sys
import tempfile
import unittest
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.harness import live

SOAK = Path(__file__).resolve().parents[2] / "soak"


def load(name: str) -> Any:
    """Import a module of the soak folder, which is not a package but only on the path of ``soak/run``."""
    with mock.patch.object(sys, "path", [str(SOAK), *sys.path]):
        return importlib.import_module(name)


bystanders: Any = load("bystanders")
churn: Any = load("churn")
client: Any = load("client")
gauges: Any = load("gauges")
tables: Any = load("tables")
trend: Any = load("trend")
verdict: Any = load("verdict")

BEFORE = gauges.Gauges(rss_mib=50.0, descriptors=10, cpu_seconds=0.5)


def samples(seconds: int = 60, leak_mib: float = 0, leaked: float = 0, lag_ms: float = 0) -> list[dict[str, Any]]:
    """Return the samples of a run with noise, and with this growth over the run."""
    noise = random.Random(1)
    found = []
    for at in range(seconds):
        part = at / seconds
        found.append(
            {
                "at": float(at),
                "rss_mib": 60 + noise.uniform(0, 8) + leak_mib * part - 20 * (at < seconds / 10),
                "descriptors": 100 + noise.randrange(40) + int(leaked * part),
                "cpu_share": 0.4,
                "p50_ms": 1 + noise.expovariate(1) + lag_ms * part,
                "p99_ms": 9.0,
                "max_ms": 20 + noise.uniform(0, 50),
                "heard": 100,
                "faults": [],
                "crowded": True,
            }
        )
    return found


def faults(taken: list[dict[str, Any]], after: Any = BEFORE, log: str = "", outcomes: Any = ()) -> str:
    """Return the faults of the verdict as one text."""
    return "\n".join(verdict.faults(taken, BEFORE, after, log, outcomes))


class TrendTests(unittest.TestCase):
    """A slope over noise."""

    def test_noise_passes(self) -> None:
        """Noise and the growth of memory during the warm-up pass, in runs of one and of ten minutes."""
        for seconds in (60, 600):
            self.assertEqual(faults(samples(seconds)), "")

    def test_leak_fails(self) -> None:
        """Growth of memory, descriptors or lag is reported, and only that one."""
        for growth, name in (("leak_mib", "memory"), ("leaked", "descriptors"), ("lag_ms", "lag")):
            found = faults(samples(600, **{growth: 60}))
            self.assertIn(f"{name}", found)
            self.assertEqual(found.count("grew by"), 1)

    def test_threshold_by_duration(self) -> None:
        """The same leak per hour passes in one minute and fails in ten."""
        self.assertEqual(faults(samples(60, leak_mib=1)), "")
        self.assertIn("memory", faults(samples(600, leak_mib=10)))

    def test_slope(self) -> None:
        """The slope is robust against outliers."""
        line = [(float(at), 3 + 2.0 * at) for at in range(12)]
        line[4] = (4.0, 900.0)
        self.assertAlmostEqual(trend.slope(line), 2.0, delta=0.1)

    def test_growth_units(self) -> None:
        """Growth is the slope times the span after the warm-up; the slope is per hour."""
        moved = trend.trend([(float(at), at / 10) for at in range(100)], allowance=1)
        self.assertAlmostEqual(moved.per_hour, 360, delta=1)
        self.assertAlmostEqual(moved.growth, 0.75 * 9.9 * 11 / 12, delta=0.1)
        self.assertTrue(moved.grows)

    def test_minimum_duration(self) -> None:
        """A run too short after the warm-up has no trend; one just long enough has."""
        for count in (0, 1, 2, 40):
            self.assertEqual(trend.trend([(float(at), 5.0 * at) for at in range(count)], allowance=1).points, [])
        self.assertTrue(trend.trend([(float(at), 5.0 * at) for at in range(42)], allowance=1).grows)


class VerdictTests(unittest.TestCase):
    """Other faults."""

    def test_bystanders(self) -> None:
        """A message lost by a bystander is a fault, also after the crowd."""
        taken = samples()
        taken.append({**taken[-1], "crowded": False, "faults": ["3 messages are lost"]})
        self.assertIn("3 messages are lost", faults(taken))

    def test_late_seconds(self) -> None:
        """One late second passes; several are a fault."""
        taken = samples()
        taken[30]["max_ms"] = 1500.0
        self.assertEqual(faults(taken), "")
        taken[40]["max_ms"] = 1600.0
        self.assertIn("at worst 1600", faults(taken))

    def test_leftovers(self) -> None:
        """Descriptors and memory above those before the crowd are faults."""
        self.assertIn("descriptors left behind", faults(samples(), gauges.Gauges(50.0, 11, 9.0)))
        self.assertEqual(faults(samples(), gauges.Gauges(50.0 + verdict.LEFT_MIB, 10, 9.0)), "")
        self.assertIn("after all had gone", faults(samples(), gauges.Gauges(51.0 + verdict.LEFT_MIB, 10, 9.0)))

    def test_log(self) -> None:
        """Tracebacks, failures and errors in the log are faults; other lines are not."""
        usual = "2026-01-01T00:00:00+0000 [wsrelay#info] tcp4:127.0.0.1:5 left 'room' as None (connection 3)\n"
        self.assertEqual(faults(samples(), log=usual), "")
        for bad in (
            "Traceback (most recent call last):",
            "[wsrelay#critical] a callback failed on x",
            "Unhandled Error",
        ):
            self.assertIn(bad, faults(samples(), log=usual + bad))

    def test_outcomes(self) -> None:
        """500, 1011 and a missing response are faults; other outcomes are not."""
        outcomes = Counter(
            {"talk: code 1000": 9, "talk: code 1011": 2, "no handshake: status 500": 1, "stall: code 1013": 3}
        )
        outcomes["half a request: status 408"] = 7
        found = churn.bugs(outcomes)
        self.assertEqual(found, ["talk: code 1011, 2 times", "no handshake: status 500, 1 times"])
        self.assertIn("1011", faults(samples(), outcomes=found))

    def test_report(self) -> None:
        """The report has verdict, trends and outcomes."""
        taken = samples()
        outcome = {
            "options": ["--max-rooms", "5"],
            "seconds": 60.0,
            "lives": 7,
            "log_lines": 8,
            "before": vars(BEFORE),
            "after": vars(BEFORE),
            "trends": {name: vars(moved) for name, moved in verdict.trends(taken).items()},
            "outcomes": {"talk: code 1000": 9},
            "samples": taken,
        }
        passed = tables.markdown({**outcome, "faults": []})
        for words in ("**PASSED**", "`--max-rooms 5`", "| talk: code 1000 | 9 |", "heard 6000 messages"):
            self.assertIn(words, passed)
        failed = tables.markdown({**outcome, "faults": ["something"]})
        self.assertIn("**FAILED**", failed)
        self.assertIn("* something", failed)


class EarTests(unittest.TestCase):
    """The checks of bystanders."""

    def heard(self, *numbers: int, filling: bytes = bystanders.FILLING) -> dict[str, Any]:
        """Return the result for messages with these numbers, half a second late."""
        ear = bystanders.Ear()
        for number in numbers:
            ear.hear(bystanders._STAMP.pack(number, 5.0) + filling, 5.5)
        taken: dict[str, Any] = bystanders.take([ear, bystanders.Ear()])
        return taken

    def test_in_order(self) -> None:
        """Messages in order are no faults."""
        taken = self.heard(0, 1, 2)
        self.assertEqual((taken["faults"], taken["heard"], taken["max_ms"]), ([], 3, 500.0))

    def test_lost_doubled_disordered_changed(self) -> None:
        """Lost, doubled, disordered and changed messages are faults."""
        for numbers in ((0, 2), (0, 0), (1, 0)):
            self.assertTrue(self.heard(*numbers)["faults"])
        self.assertIn("changed", self.heard(0, filling=b"")["faults"][0])

    def test_silence_is_late(self) -> None:
        """A second without messages counts as a late one."""
        self.assertGreaterEqual(self.heard()["max_ms"], verdict.LAG_MS)


class GaugesTests(unittest.TestCase):
    """Gauges of a process."""

    def test_this_one(self) -> None:
        """Memory, descriptors and CPU time are read from the process."""
        before = gauges.read(os.getpid())
        with tempfile.TemporaryFile():
            after = gauges.read(os.getpid())

        self.assertEqual(after.descriptors, before.descriptors + 1)
        self.assertTrue(5 < before.rss_mib < 5000)
        self.assertGreater(before.cpu_seconds, 0)


class ClientTests(unittest.TestCase):
    """The client, against the parser of websockets."""

    def test_addresses(self) -> None:
        """Clients have many addresses, all on loopback."""
        found = [next(client.ADDRESSES) for _ in range(70_000)]
        self.assertEqual(len(set(found)), len(found))
        self.assertTrue(all(address.startswith("127.") and not address.endswith(".0") for address in found))

    def test_frames(self) -> None:
        """Frames are masked, in all three forms of length."""
        from websockets.frames import Frame  # noqa: PLC0415
        from websockets.streams import StreamReader  # noqa: PLC0415

        for length in (0, 5, 125, 126, 65535, 65536):
            reader = StreamReader()
            reader.feed_data(client.frame(0x82, b"x" * length))
            generator = Frame.parse(reader.read_exact, mask=True)
            with self.assertRaises(StopIteration) as stop:
                next(generator)
            self.assertEqual(stop.exception.value.data, b"x" * length)

    def test_cancelled_hear(self) -> None:
        """A cancelled wait within a frame loses no bytes."""

        async def hear() -> bytes:
            reader = asyncio.StreamReader()
            member = client.Client(reader, mock.Mock(), deflate=False)
            whole = b"\x82\x7e\x01\x00" + b"x" * 256
            for part in (whole[:1], whole[1:3], whole[3:100]):
                reader.feed_data(part)
                with self.assertRaises(TimeoutError):
                    await asyncio.wait_for(member.hear(), 0.001)
            reader.feed_data(whole[100:])
            heard: bytes = await member.hear()
            return heard

        self.assertEqual(asyncio.run(hear()), b"x" * 256)


@pytest.mark.interop
class ProcessTests(unittest.TestCase):
    """The command."""

    def soak(self, folder: str, *options: str) -> Any:
        """Run the command for a few seconds, without plots."""
        program = f"import sys, runpy; sys.argv[1:] = {['--seconds', '4', '--results', folder, *options]!r}; "
        program += (
            f"sys.path.insert(0, {str(SOAK)!r}); sys.path.append({str(SOAK.parent / 'bench')!r}); import toolchain; "
        )
        program += "toolchain.step = lambda command: ''; toolchain.environment = lambda home: home; "
        program += f"runpy.run_path({str(SOAK / 'run')!r}, run_name='__main__')"
        return live.run(sys.executable, "-c", program, timeout=100)

    def test_short_run(self) -> None:
        """A short run passes, with all behaviours of the crowd and messages between the bystanders."""
        with tempfile.TemporaryDirectory() as folder:
            done = self.soak(folder)
            summary = json.loads((Path(folder) / "summary.json").read_text("utf-8"))

        self.assertEqual((done.returncode, summary["faults"]), (0, []), done.stdout)
        self.assertIn("Too short to say", done.stdout)
        self.assertGreater(sum(sample["heard"] for sample in summary["samples"]), 100)
        lived = {name.split(":")[0] for name in summary["outcomes"]}
        self.assertLessEqual({"talk", "garbage", "no handshake", "vanish", "storm"}, lived)

    def test_relay_options(self) -> None:
        """Options after -- go to the relay; an unknown one ends the run."""
        with tempfile.TemporaryDirectory() as folder:
            done = self.soak(folder, "--", "--no-such-option")

        self.assertEqual(done.returncode, 1)
        self.assertIn("FAILED: the server ended", done.stdout)
