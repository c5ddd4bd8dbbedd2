"""The benchmark: its tables are consistent, its figures are the measured ones, and failures are shown."""

import dataclasses
import importlib
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.harness.live import missing
from wsrelay.tap import Options
from wsrelay.wire import frames

BENCH = Path(__file__).resolve().parents[2] / "bench"
RUN = BENCH / "run"

#: A bound on every process that is started here.
SECONDS = 60


def load(name: str) -> Any:
    """Import a module of the bench folder, which is not a package, only on the path of ``bench/run``."""
    with mock.patch.object(sys, "path", [str(BENCH), *sys.path]):
        return importlib.import_module(name)


def load_run() -> Any:
    """Import the command-line tool, which has no suffix."""
    loader = SourceFileLoader("bench_run", str(RUN))
    spec = importlib.util.spec_from_loader("bench_run", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    with mock.patch.object(sys, "path", [str(BENCH), *sys.path]):
        loader.exec_module(module)
    return module


facts: Any = load("facts")
guard: Any = load("guard")
interpreters: Any = load("interpreters")
history_report: Any = load("history_report")
idle: Any = load("idle")
lockstep: Any = load("lockstep")
measure: Any = load("measure")
processes: Any = load("processes")
report: Any = load("report")
samples: Any = load("samples")
servers: Any = load("servers")
summary: Any = load("summary")
toolchain: Any = load("toolchain")
work: Any = load("work")
run: Any = load_run()

CHOSEN = [servers.BY_NAME[name] for name in ("relay", "floor", "ws", "picows")]
ROWS = work.select("100x16,1000x64,paced-100,deflate-100,idle-9000")
TIMING = measure.Timing(1.0, 0.2, 3)

OUTCOME = {
    "ok": True,
    "connections": 100,
    "handshakes_per_second": 5000,
    "seconds": 1.0,
    "messages": 10_000,
    "deliveries": 990_000,
    "deliveries_per_second": 990_000,
    "latency_us": {"p50": 100, "p99": 900, "max": 5000},
    "lost": 0,
    "doubled": 0,
    "disordered": 0,
    "changed": 0,
    "unexpected": 0,
    "closed": 0,
    "generator_cpu_share": 0.5,
    "server_cpu_us_per_delivery": 0.4,
    "open_server_cpu_seconds": 0.02,
    "rss_before_kib": 50_000,
    "rss_after_kib": 50_800,
    "deflate": False,
    "bytes_received": 65_340_000,
}


def outcome(**changes: Any) -> dict[str, Any]:
    """Make what the load generator prints, but for changes."""
    return {**OUTCOME, **changes}


def sample(server: str, row: str, repeat: int = 0, fault: str = "", **changes: Any) -> Any:
    """Make a sample, with changes to its outcome."""
    return samples.Sample(server, row, repeat, 2.0, {} if fault else outcome(**changes), fault)


def known(absent: dict[str, str] | None = None) -> dict[str, Any]:
    """Make the facts of a run."""
    with mock.patch.object(toolchain, "answer", return_value="1.2.3"):
        gathered: dict[str, Any] = facts.gather(CHOSEN, ROWS, TIMING, absent or {})
    return gathered


def full_report(*found: Any, absent: dict[str, str] | None = None) -> str:
    """Write the report of some samples."""
    text: str = report.full(known(absent), samples.Results(found), ["deliveries.png"])
    return text


def line(text: str, title: str) -> list[str]:
    """Give the cells of the first line of a table that has a title."""
    found = re.search(rf"^\| {re.escape(title)} \|(.*)\|$", text, re.MULTILINE)
    assert found is not None, f"no line {title!r} in:\n{text}"
    return [cell.strip() for cell in found[1].split("|")]


class TablesTests(unittest.TestCase):
    """The tables of servers and work agree with each other and with the files beside them."""

    def test_names(self) -> None:
        """Every server and every row has its own name and title, without the separators of the command line."""
        for table in (servers.SERVERS, work.ROWS, list(work.GUARDED.values())):
            names = [entry.name for entry in table]
            self.assertEqual(len(table), len(set(names)))
            self.assertEqual(len(table), len({entry.title for entry in table}))
            for name in names:
                self.assertRegex(name, r"^[a-z0-9-]+$")

    def test_places(self) -> None:
        """Every place in a command has a name for reports and a value for running."""
        self.assertEqual(set(servers.NAMES), set(servers.places()))
        for server in servers.SERVERS:
            for where in (servers.NAMES, servers.places()):
                for deflate, tls in ((False, False), (True, False), (False, True)):
                    self.assertNotIn("{", " ".join(server.command_line(deflate, where, tls)))

    def test_peers(self) -> None:
        """Every file in peers/ that a command names is there."""
        for server in servers.SERVERS:
            for word in server.command:
                if word.startswith("{peers}/"):
                    self.assertTrue((BENCH / word.format(peers="peers")).is_file(), word)

    def test_deflate(self) -> None:
        """Compression is on in its row only, without servers that lack it."""
        row = work.BY_NAME["deflate-100"]
        self.assertIn("--deflate", servers.BY_NAME["ws"].command_line(True, servers.NAMES))
        self.assertNotIn("--deflate", servers.BY_NAME["ws"].command_line(False, servers.NAMES))
        self.assertFalse(measure.applies(servers.BY_NAME["picows"], row))
        self.assertTrue(measure.applies(servers.BY_NAME["relay"], row))

    def test_tls(self) -> None:
        """TLS is on in its rows only, without servers that lack it, and the load generator is told."""
        row = work.BY_NAME["100x16-tls"]
        self.assertIn("--tls", row.arguments())
        self.assertEqual(
            ["relay", "relay-pure", "websockets", "ws"], [s.name for s in servers.USUAL if measure.applies(s, row)]
        )
        plain, secure = (
            " ".join(servers.BY_NAME["relay"].command_line(False, servers.NAMES, tls)) for tls in (False, True)
        )
        self.assertIn("--listen tcp:", plain)
        self.assertNotIn("ssl:", plain)
        self.assertIn("--listen ssl:", secure)
        self.assertNotIn("tcp:", secure)

    def test_pure(self) -> None:
        """The relay without its compiled parts is the relay, but for one variable."""
        relay, pure = servers.BY_NAME["relay"], servers.BY_NAME["relay-pure"]
        self.assertEqual({"WSRELAY_PURE": "1"}, pure.environ)
        self.assertEqual(relay, dataclasses.replace(pure, name=relay.name, title=relay.title, environ={}))

    def test_rows_of_a_server(self) -> None:
        """A server with patterns of rows is measured at these, all of which are there."""
        watched = servers.BY_NAME["watched"]
        self.assertTrue(measure.applies(watched, work.BY_NAME["10x1"]))
        self.assertFalse(measure.applies(watched, work.BY_NAME["10x64"]))
        self.assertLessEqual(set(watched.rows.split(",")), set(work.BY_NAME))

    def test_history(self) -> None:
        """The relay with history is the relay, but for one option and the rows of fan-out."""
        relay, history = servers.BY_NAME["relay"], servers.BY_NAME["relay-history"]
        self.assertEqual((*relay.command, "--history", "**=100"), history.command)
        same = {"name": relay.name, "title": relay.title, "command": relay.command, "rows": relay.rows}
        self.assertEqual(relay, dataclasses.replace(history, **same))
        self.assertLessEqual(set(history.rows.split(",")), set(work.BY_NAME))
        self.assertTrue(measure.applies(history, work.BY_NAME["100x64"]))
        self.assertFalse(measure.applies(history, work.BY_NAME["idle-9000"]))

    def test_work(self) -> None:
        """All combinations of members and windows are there, and the row that compares with published figures."""
        names = {row.name for row in work.ROWS}
        self.assertLess({f"{n}x{window}" for n in (10, 100, 1000, 9000) for window in (1, 16, 64)}, names)
        self.assertIn("9000x4", names)

    def test_arguments(self) -> None:
        """The load generator's arguments have a window or a rate, and the row's flags."""
        self.assertIn("--window 64", " ".join(work.BY_NAME["10x64"].arguments()))
        paced = " ".join(work.BY_NAME["paced-100"].arguments())
        self.assertIn("--rate 200", paced)
        self.assertNotIn("--window", paced)
        self.assertIn("--deflate", work.BY_NAME["deflate-100"].arguments())
        self.assertIn("--idle", work.BY_NAME["idle-9000"].arguments())
        self.assertIn("--echoes", measure.load_arguments(servers.BY_NAME["nchan"], ROWS[0], TIMING))

    def test_select(self) -> None:
        """Rows are chosen by patterns, and come in the order of the table."""
        self.assertEqual(["10x1", "10x16", "10x64"], [row.name for row in work.select("10x*")])
        self.assertEqual(["10x1", "idle-9000"], [row.name for row in work.select("idle-9*,10x1")])
        self.assertEqual([], work.select("nothing"))

    def test_rows_of_others(self) -> None:
        """Every row that the summary, a quick run and the tables name is there."""
        named = {row for _, row, _ in summary.LINES}
        named |= set(run.QUICK_ROWS.split(",")) | {row for table in report.TABLES for row in table.only}
        self.assertLessEqual(named, set(work.BY_NAME))

    def test_metrics(self) -> None:
        """Every metric that a table, a format or the summary names is there."""
        named = {table.metric for table in report.TABLES} | {metric for _, _, metric in summary.LINES}
        named |= set(report.FORMATS)
        self.assertLessEqual(named, set(samples.METRICS))

    def test_colours(self) -> None:
        """Every server has a colour of its own in the plots."""
        for name in servers.BY_NAME:
            self.assertRegex((BENCH / "plots.py").read_text("utf-8"), rf'"{name}": "#[0-9a-f]{{6}}"')

    def test_lock(self) -> None:
        """What npm installs is pinned, with hashes and from wherever npm is configured to look."""
        lock = json.loads((BENCH / "peers" / "package-lock.json").read_text("utf-8"))
        for name, package in lock["packages"].items():
            self.assertNotIn("resolved", package)
            self.assertEqual(bool(name), "integrity" in package)

    def test_requirements(self) -> None:
        """What pip installs is pinned."""
        for requirement in (BENCH / "requirements.txt").read_text("utf-8").splitlines():
            self.assertRegex(requirement, r"^(#.*|[a-z0-9]+==[0-9.]+)$")


class InterpreterTests(unittest.TestCase):
    """The interpreter of all servers is one that was built with profiles, if there is one."""

    def setUp(self) -> None:
        """Choose nothing for longer than a test."""
        self.addCleanup(interpreters._chosen.clear)

    def made(self, path: str, config_args: str, version: str = "3.11.2") -> Any:
        """Make an interpreter."""
        return interpreters.Interpreter(path, version, "GCC 12.2.0", config_args, "-O2")

    def found(self, *there: Any) -> Any:
        """Find one among these."""
        known = {one.path: one for one in there}
        with mock.patch.object(interpreters, "ask", known.__getitem__):
            return interpreters.find(known)

    def test_optimised(self) -> None:
        """The option for profiles counts, and so does a distribution's prefix; another prefix does not."""
        for arguments, expected in (
            ("'--enable-optimizations' '--with-lto'", True),
            ("'--enable-shared' '--prefix=/usr' '--with-dtrace'", True),
            ("'--prefix=/usr/local' '--enable-shared'", False),
            ("'--prefix=/home/me/.pyenv/versions/3.11.7'", False),
            ("", False),
        ):
            self.assertEqual(expected, self.made("python", arguments).optimised, arguments)

    def test_find(self) -> None:
        """The first with profiles is found, without those too old for the relay; else the first of all."""
        slow, old = self.made("slow", ""), self.made("old", "--prefix=/usr", "3.9.2")
        fast, other = self.made("fast", "--prefix=/usr"), self.made("other", "--enable-optimizations")
        self.assertIs(fast, self.found(slow, old, fast, other))
        self.assertIs(slow, self.found(slow, old))

    def test_facts(self) -> None:
        """The report says version, compiler, CONFIG_ARGS and flags, and plainly so if there are no profiles."""
        told = self.made("slow", "'--enable-shared'").facts()
        self.assertIn("3.11.2, GCC 12.2.0, built WITHOUT profiles", told["Python of all servers"])
        self.assertEqual(["--enable-shared", "-O2"], [told["its CONFIG_ARGS"], told["its flags"]])
        self.assertTrue(any("Python of all servers" in name for name in known()["tools"]))

    def test_ask(self) -> None:
        """An interpreter tells its own version; what is none is refused."""
        self.assertEqual(platform.python_version(), interpreters.ask(sys.executable).version)
        with self.assertRaisesRegex(interpreters.AbsentError, "/nowhere is no Python"):
            interpreters.ask("/nowhere")

    def test_choose(self) -> None:
        """Only another interpreter than ours gets an environment for the relay."""
        interpreters.choose(sys.executable, has_relay=True)
        self.assertIsNone(interpreters.chosen())
        self.assertEqual(sys.executable, servers.places()["own_python"])
        with mock.patch.object(interpreters, "ask", lambda path: self.made(path, "")):
            interpreters.choose("/other/python", has_relay=True)
            places = servers.places()
        for place in ("own_python", "python", "twistd"):
            self.assertIn("/.env/3.11.2-", places[place])
        with (
            mock.patch.object(interpreters, "ask", lambda path: self.made(path, "", "3.9.2")),
            self.assertRaisesRegex(interpreters.AbsentError, "needs 3.11"),
        ):
            interpreters.choose("/old")

    def test_python_option(self) -> None:
        """A path without a Python is wrong usage."""
        with self.assertRaisesRegex(run.UsageError, "/nowhere is no Python"):
            run.choose_python("/nowhere")

    def test_without_openssl(self) -> None:
        """Without OpenSSL, rows over TLS are left out, and the report says so."""
        rows = work.select("100x16,100x16-tls")
        with mock.patch.object(toolchain, "compiled", side_effect=toolchain.MissingError("no ssl.h")):
            able, left_out = run.able_rows(rows)
        self.assertEqual((["100x16"], {"100x16-tls": "no ssl.h"}), ([row.name for row in able], left_out))
        facts_known = {**known(), "left out": left_out}
        text = report.full(facts_known, samples.Results([]), [])
        self.assertIn("* 1 KiB messages over TLS, 100 members, window 16: no ssl.h", text)


class PlanTests(unittest.TestCase):
    """The order and the duration of measurements."""

    def test_order(self) -> None:
        """The servers of a row are measured next to each other, and the repeats are far apart."""
        steps = [(repeat, row.name, server.name) for repeat, row, server in measure.plan(CHOSEN[:2], ROWS[:2], 2)]
        pairs = [("100x16", "relay"), ("100x16", "floor"), ("1000x64", "relay"), ("1000x64", "floor")]
        self.assertEqual([(repeat, *pair) for repeat in (0, 1) for pair in pairs], steps)

    def test_under_way(self) -> None:
        """A window of every publisher is under way, to all others in its room."""
        expected = {"10x64": 64 * 9, "all-100": 100 * 99, "rooms-500x2": 500 * 2, "16k-100": 16 * 99}
        self.assertEqual(expected, {name: measure.under_way(work.BY_NAME[name]) for name in expected})

    def test_enough_seconds(self) -> None:
        """A slow server gets the time for two windows, within a bound; a fast one and other work do not."""
        row = work.BY_NAME["9000x64"]
        for rate, least, most in ((100_000, 11.5, 15), (1_000, 15, 15), (0, 15, 15), (5_000_000, 1, 1)):
            seconds = measure.enough_seconds(row, outcome(deliveries=rate, deliveries_per_second=rate), 1.0)
            self.assertTrue(least <= seconds <= most, (rate, seconds))
        for name in ("paced-100", "idle-9000"):
            self.assertEqual(1.0, measure.enough_seconds(work.BY_NAME[name], outcome(deliveries=0), 1.0))
        self.assertEqual(1.0, measure.enough_seconds(row, {}, 1.0))

    def run_with(self, *results: Any) -> tuple[list[Any], list[str]]:
        """Run the relay at one row three times, with these results instead of measurements."""
        shown: list[str] = []
        kept: list[Any] = []
        with mock.patch.object(measure, "measure", mock.Mock(side_effect=results)):
            found = measure.Run(CHOSEN[:1], ROWS[:1], TIMING, kept.append, shown.append)()
        self.assertEqual(found, kept)
        return found, shown

    def test_repeats(self) -> None:
        """Every repeat is kept and shown as it comes."""
        found, shown = self.run_with(*(sample("relay", "100x16", repeat) for repeat in range(3)))
        self.assertEqual([0, 1, 2], [one.repeat for one in found])
        self.assertRegex(shown[0], r"relay +100x16 +990,000 deliveries/s, p99 900 µs")

    def test_failed_is_not_repeated(self) -> None:
        """A failed row is shown, kept, and not measured again."""
        found, shown = self.run_with(sample("relay", "100x16", fault="did not end within 62 s"))
        self.assertEqual(["did not end within 62 s"], [one.fault for one in found])
        self.assertIn("FAILED: did not end within 62 s", shown[0])

    def test_longer(self) -> None:
        """A measurement that was too short is repeated at once with more time, as are the other repeats."""
        short = sample("relay", "100x16", deliveries=100, deliveries_per_second=100)
        good = [sample("relay", "100x16", repeat) for repeat in range(3)]
        with mock.patch.object(measure, "measure", mock.Mock(side_effect=[short, *good])) as measured:
            found = measure.Run(CHOSEN[:1], ROWS[:1], TIMING, lambda _: None, lambda _: None)()
        self.assertEqual(good, found)
        self.assertEqual([1, 15, 15, 15], [call.args[3].seconds for call in measured.call_args_list])


class JudgeTests(unittest.TestCase):
    """Results of the load generator count only without a fault."""

    def judge(self, code: int = 0, row: str = "100x16", **changes: Any) -> str:
        """Judge an outcome, and give the fault."""
        judged, fault = measure.judge(work.BY_NAME[row], code, json.dumps(outcome(**changes)), "what it said")
        self.assertEqual(outcome(**changes), judged)
        return str(fault)

    def test_good(self) -> None:
        """An outcome without violations is good."""
        self.assertEqual("", self.judge())

    def test_violations(self) -> None:
        """A violation is named, with its count."""
        self.assertEqual("lost 3, closed 1", self.judge(1, ok=False, lost=3, closed=1))
        self.assertEqual("lost 3", self.judge(1, "paced-100", ok=False, lost=3))
        self.assertEqual("lost 5000", self.judge(1, ok=False, lost=5000))

    def test_still_under_way(self) -> None:
        """If at most a window is missing, and nothing else is wrong, the server may only be slow."""
        self.assertIn("lost, or not delivered when", self.judge(1, ok=False, lost=1584))
        self.assertIn("1,584 of the 1,584 of a window", self.judge(1, ok=False, lost=1584))

    def test_unknown_violation(self) -> None:
        """An outcome that is not ok without a violation is a fault with the output."""
        self.assertIn("what it said", self.judge(1, ok=False))
        self.assertIn("what it said", self.judge(1))

    def test_nothing_delivered(self) -> None:
        """An outcome without deliveries is a fault, except for idle connections."""
        self.assertIn("nothing was delivered", self.judge(deliveries=0))
        self.assertEqual("", self.judge(row="idle-9000", deliveries=0))

    def test_not_compressed(self) -> None:
        """A row with compression that went without it is a fault."""
        self.assertIn("without compression", self.judge(row="deflate-100"))
        self.assertEqual("", self.judge(row="deflate-100", deflate=True))

    def test_no_outcome(self) -> None:
        """Without an outcome the fault is the output."""
        for printed in ("", "{", "usage"):
            with self.assertRaisesRegex(processes.FailedError, "ended with 2: no such option"):
                measure.judge(ROWS[0], 2, printed, "no such option")


class ResultsTests(unittest.TestCase):
    """Medians and ratios of samples."""

    def setUp(self) -> None:
        """Make some samples."""
        rates = {"relay": [30, 10, 20], "floor": [40, 40, 50], "ws": [1, 2, 3], "picows": [5]}
        self.results = samples.Results(
            sample(server, "100x16", repeat, deliveries_per_second=rate, server_cpu_us_per_delivery=None)
            for server, found in rates.items()
            for repeat, rate in enumerate(found)
        )

    def test_median(self) -> None:
        """The median is over the repeats of a server and a row."""
        self.assertEqual(20, self.results.median("relay", "100x16", "deliveries"))
        self.assertIsNone(self.results.median("relay", "100x1", "deliveries"))

    def test_none(self) -> None:
        """A figure that could not be measured is none, not zero."""
        self.assertIsNone(self.results.median("relay", "100x16", "cpu"))
        self.assertIsNone(self.results.ratio("relay", "floor", "100x16", "cpu"))

    def test_ratio(self) -> None:
        """A ratio is one of medians."""
        self.assertEqual(0.5, self.results.ratio("relay", "floor", "100x16", "deliveries"))

    def test_pairs(self) -> None:
        """Ratios of pairs are of the same repeat, where both have been measured."""
        self.assertEqual([0.75, 0.25, 0.4], self.results.pairs("relay", "floor", "100x16", "deliveries"))
        self.assertEqual([6.0], self.results.pairs("relay", "picows", "100x16", "deliveries"))
        self.assertEqual([], self.results.pairs("relay", "nats", "100x16", "deliveries"))

    def test_best(self) -> None:
        """The best server has the highest median; there is none without measurements."""
        self.assertEqual("picows", self.results.best(["ws", "picows", "nats"], "100x16", "deliveries"))
        self.assertIsNone(self.results.best(["nats"], "100x16", "deliveries"))
        self.assertIsNone(self.results.best([], "100x16", "deliveries"))

    def test_spread(self) -> None:
        """The spread is a share of the median."""
        self.assertEqual(1.0, self.results.spread("relay", "100x16", "deliveries"))

    def test_faults(self) -> None:
        """A sample with a fault counts for no median, and its fault is there once."""
        bad = [sample("relay", "100x16", repeat, fault="lost 1") for repeat in (3, 4)]
        results = samples.Results([*self.results.samples, *bad])
        self.assertEqual(20, results.median("relay", "100x16", "deliveries"))
        self.assertEqual(["lost 1"], results.faults("relay", "100x16"))

    def test_metrics(self) -> None:
        """Every metric comes from an outcome, with its unit."""
        expected = {"kib": 8, "handshake_cpu": 200, "p99": 900, "wire": 66, "generator": 0.5}
        for metric, value in expected.items():
            self.assertAlmostEqual(value, samples.METRICS[metric](OUTCOME))

    def test_file(self) -> None:
        """Facts and samples are read as they were written, but for a last line that was cut off."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "samples.jsonl"
            samples.begin(path, {"date": "today"})
            for one in self.results.samples:
                samples.keep(path, one)
            whole = path.read_text("utf-8")
            self.assertEqual(({"date": "today"}, self.results.samples), samples.read(path))

            path.write_text(whole[:-5], "utf-8")
            self.assertEqual(self.results.samples[:-1], samples.read(path)[1])


class ReportTests(unittest.TestCase):
    """The report has every figure, and every failed or missing one."""

    def test_main(self) -> None:
        """The main table has millions per second, and the relay beside the floor and the best peer."""
        text = full_report(
            sample("relay", "100x16", deliveries_per_second=2_000_000),
            sample("floor", "100x16", deliveries_per_second=4_000_000),
            sample("ws", "100x16", deliveries_per_second=100_000),
            sample("picows", "100x16", deliveries_per_second=250_000),
        )
        cells = line(text, work.BY_NAME["100x16"].title)
        self.assertEqual(["2.00", "4.00", "0.100", "0.250", "0.50", "8.00 (picows)"], cells)

    def test_not_measured(self) -> None:
        """A missing measurement is a dash; a server that cannot do the work is named."""
        cells = line(full_report(), work.BY_NAME["deflate-100"].title)
        self.assertEqual(["–", "n/a", "–", "n/a", "–", "–"], cells)

    def test_failed(self) -> None:
        """A failed server has no figure, and its fault is told in one line."""
        text = full_report(sample("ws", "100x16", fault="the server ended with 1:\nout of memory"))
        self.assertEqual("FAILED", line(text, work.BY_NAME["100x16"].title)[2])
        self.assertIn(
            f"* **ws (Node)**, {work.BY_NAME['100x16'].title}: the server ended with 1: / out of memory\n", text
        )

    def test_failed_sometimes(self) -> None:
        """A figure with a failed repeat is marked, and the fault is told."""
        text = full_report(sample("ws", "100x16"), sample("ws", "100x16", 1, fault="lost 7"))
        self.assertEqual("0.990 (!)", line(text, work.BY_NAME["100x16"].title)[2])
        self.assertIn("lost 7", text)

    def test_not_installed(self) -> None:
        """A missing server keeps its column, and the way to install it is told."""
        text = full_report(absent={"ws": "not installed: apt-get install nodejs"})
        self.assertEqual("not installed", line(text, work.BY_NAME["100x16"].title)[2])
        self.assertIn("* **ws (Node)**, not installed: apt-get install nodejs\n", text)

    def test_other_tables(self) -> None:
        """Latencies, CPU, memory and handshakes have tables of their own."""
        text = full_report(*(sample("relay", row.name, connections=9000) for row in ROWS)).partition("## More")[2]
        idle = re.findall(rf"^\| {work.BY_NAME['idle-9000'].title} \| (\S+) ", text, re.MULTILINE)
        self.assertEqual(["0.1", "5,000", "2"], idle)
        paced = re.findall(rf"^\| {work.BY_NAME['paced-100'].title} \| (\S+) ", text, re.MULTILINE)
        self.assertEqual(["100", "900", "5,000", "0.990", "0.40", "50%"], paced)

    def test_conditions(self) -> None:
        """Machine, versions and commands are told, without paths of this machine."""
        text = full_report(absent={"ws": "not installed"})
        for told in (
            "kernel: Linux",
            "`twistd -n --pidfile= wsrelay --max-",
            "--listen tcp:0:interface=127.0.0.1 [ssl:0:interface=127.0.0.1:",
            "`node bench/peers/ws_peer.mjs [--deflate] [--tls bench/.build/certificate.pem bench/.build/key.pem]`",
            "| picows | 1.2.3 | `bench/.env/bin/python bench/peers/picows_peer.py`",
            "`load --rooms 1 --members 100 --publishers 1 --size 64 --window 16`",
            "--seconds 1 --warmup 0.2",
            "![deliveries.png](deliveries.png)",
        ):
            self.assertIn(told, text)
        self.assertNotIn(str(BENCH.parent), text)
        self.assertNotIn(sys.prefix, text)

    def test_limitations(self) -> None:
        """The limitations are told."""
        for told in ("What this does not show", "loopback", "closed loop", "Two programs on one machine"):
            self.assertIn(told, full_report())

    def test_tables_are_tables(self) -> None:
        """All lines of a table have as many cells."""
        text = full_report(*(sample("relay", row.name, repeat) for row in ROWS for repeat in range(3)))
        for table in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
            self.assertEqual(1, len({row.count("|") for row in table.splitlines()}), table)

    def test_summary(self) -> None:
        """The summary has the rows that were measured."""
        text = summary.compact(known(), samples.Results([sample("relay", "idle-9000"), sample("floor", "1000x64")]))
        self.assertEqual(["5,000", "–", "–", "–"], line(text, "handshakes/s"))
        self.assertNotIn("16 KiB", text)

    def test_facts_are_json(self) -> None:
        """The facts survive a file."""
        facts = known()
        self.assertEqual(facts, json.loads(json.dumps(facts)))


class RatioTests(unittest.TestCase):
    """The table of ratios."""

    def test_window(self) -> None:
        """Rows with a window compare deliveries with the floor, peers that were measured, and the best one."""
        rates = {"relay": 60, "floor": 120, "ws": 30, "picows": 40}
        text = full_report(*(sample(name, "100x16", deliveries_per_second=rate) for name, rate in rates.items()))
        ratios = text[text.index("## Ratios") :]
        cells = ["deliveries", "0.50", "1.50", "2.00", "1.50 (picows)"]
        self.assertEqual(cells, line(ratios, "1 publisher, 100 members, window 16"))

    def test_paced(self) -> None:
        """At a rate the ratio is of latencies, and the best peer has the lowest."""
        medians = {"relay": 60, "floor": 50, "ws": 40, "picows": 30}
        text = full_report(
            *(sample(name, "paced-100", latency_us={"p50": m, "p99": m, "max": m}) for name, m in medians.items())
        )
        ratios = text[text.index("## Ratios") : text.index("## Failed")]
        cells = ["p50", "1.20", "2.00", "1.50", "2.00 (picows)"]
        self.assertEqual(cells, line(ratios, "200 messages/s to 100 members"))

    def test_idle(self) -> None:
        """Idle connections compare handshakes; what was not measured has no ratio."""
        text = full_report(sample("relay", "idle-9000", handshakes_per_second=50))
        ratios = text[text.index("## Ratios") :]
        self.assertEqual(["handshakes", "–", "–", "–", "–"], line(ratios, "9000 idle connections"))


class HistoryReportTests(unittest.TestCase):
    """The section about history."""

    def written(self, rates: list[tuple[int, int]], row: str = "100x64", names: str = "relay,relay-history") -> str:
        """Write the section; the rates are of pairs, without history and with it."""
        chosen = [servers.BY_NAME[name] for name in names.split(",")]
        with mock.patch.object(toolchain, "answer", return_value="1.2.3"):
            gathered = facts.gather(chosen, work.select("100x64,paced-100,idle-9000,deflate-100"), TIMING, {})
        found = [
            sample(name, row, repeat, deliveries_per_second=rate, latency_us={"p50": rate, "p99": 1, "max": 1})
            for repeat, pair in enumerate(rates)
            for name, rate in zip(("relay", "relay-history"), pair, strict=True)
        ]
        text: str = history_report.section(report.Report(gathered, samples.Results(found)))
        return text

    def test_reached(self) -> None:
        """The median ratio of the pairs is compared with the bar, whatever changes from repeat to repeat."""
        title = work.BY_NAME["100x64"].title
        text = self.written([(1000, 980), (2000, 2020), (100, 90)])
        self.assertEqual(["deliveries", "0.980", "0.900", "1.010", "yes", "1.000"], line(text, title))
        text = self.written([(1000, 960)])
        self.assertEqual(["deliveries", "0.960", "0.960", "0.960", "**no**", "1.000"], line(text, title))

    def test_latency(self) -> None:
        """At a rate the median latencies are compared, without a bar."""
        text = self.written([(100, 110)], "paced-100")
        cells = ["p50", "1.100", "1.100", "1.100", "", "1.000"]
        self.assertEqual(cells, line(text, work.BY_NAME["paced-100"].title))

    def test_rows(self) -> None:
        """What was not measured is a dash; rows that are not for history are left out."""
        text = self.written([])
        self.assertEqual(["deliveries", "–", "–", "–", "", "–"], line(text, work.BY_NAME["100x64"].title))
        for name in ("idle-9000", "deflate-100"):
            self.assertNotIn(work.BY_NAME[name].title, text)

    def test_without(self) -> None:
        """A run without both relays has no such section."""
        self.assertEqual("", self.written([], names="relay,floor"))


class GuardTests(unittest.TestCase):
    """The guard passes within the limits, and only on measured figures."""

    FIGURES = dict.fromkeys(guard.titles(), 1000.0)
    LIMITS = guard.Limits(guard.build(), guard.packages(), dict.fromkeys(guard.titles(), 1050))

    def verdicts(self, **changes: float | None) -> dict[str, Any]:
        """Give the verdicts on figures with these changes; ``None`` for one that is missing."""
        figures = {name: figure for name, figure in {**self.FIGURES, **changes}.items() if figure is not None}
        found = guard.verdicts(figures, self.LIMITS)
        return {verdict.text.split()[0]: verdict for verdict in found}

    def test_passed(self) -> None:
        """A figure up to its limit passes, and its distance to the reference is told."""
        found = self.verdicts(pairs=1050.0)
        self.assertEqual(list(guard.titles()), list(found))
        self.assertTrue(all(verdict.passed for verdict in found.values()))
        self.assertRegex(found["pairs"].text, r"50 rooms of 2.* 1,050, at most +1,050 \( \+5\.0%\): ok")
        self.assertRegex(found["10x1"].text, r" 1,000, at most +1,050 \( \+0\.0%\): ok")

    def test_slipped_back(self) -> None:
        """Beyond its limit one figure fails, and no other."""
        found = self.verdicts(pairs=1051.0)
        self.assertEqual(["pairs"], [name for name, verdict in found.items() if not verdict.passed])
        self.assertIn("SLIPPED BACK", found["pairs"].text)

    def test_not_measured(self) -> None:
        """A figure that was not measured fails, as does one without a limit."""
        found = self.verdicts(handshake=None, another=5.0)
        self.assertEqual(["handshake", "another"], [name for name, verdict in found.items() if not verdict.passed])
        self.assertIn("was not measured", found["handshake"].text)
        self.assertIn("has no limit: bench/run --guard --write-limits", found["another"].text)

    def test_exit_codes(self) -> None:
        """The exit code says whether all figures are within the limits, and whether all work was done."""
        slower = {**self.FIGURES, "10x1": 2000.0}
        failure = processes.FailedError("a client has got other messages")
        for outcome, code, said in ((self.FIGURES, 0, "PASSED"), (slower, 1, "FAILED"), (failure, 1, "other messages")):
            with (
                mock.patch.object(run.guard, "prepare"),
                mock.patch.object(run.guard, "read_limits", return_value={guard.interpreter(): self.LIMITS}),
                mock.patch.object(run.guard, "measure", mock.Mock(side_effect=[outcome])),
                mock.patch("builtins.print") as printed,
            ):
                self.assertEqual(code, run.run_guard(write=False))
            self.assertIn(said, printed.call_args.args[0])

    def test_no_limits(self) -> None:
        """Without limits for this Python it does not run, and says how to make them."""
        with (
            mock.patch.object(run.guard, "read_limits", return_value={"python-3.1": self.LIMITS}),
            mock.patch.object(run, "say") as said,
        ):
            self.assertEqual(2, run.main(["--guard"]))
        self.assertRegex(said.call_args.args[0], r"no limits for python-3\.\d+ .*--guard --write-limits")

    def test_no_valgrind(self) -> None:
        """Without valgrind it does not run, and says how to install it."""
        with (
            mock.patch.object(run.guard, "read_limits", return_value={guard.interpreter(): self.LIMITS}),
            mock.patch.dict(os.environ, {"PATH": ""}),
            mock.patch.object(run, "say") as said,
        ):
            self.assertEqual(2, run.main(["--guard"]))
        self.assertEqual("not installed: apt-get install valgrind", said.call_args.args[0])

    def test_other_build(self) -> None:
        """Limits of another interpreter, or of other packages, are reported."""
        self.assertEqual([], guard.differences(self.LIMITS))
        other = guard.Limits("3.0.0, PGO", guard.packages(), {})
        (note,) = guard.differences(other)
        self.assertEqual(f"note: the limits were measured with 3.0.0, PGO; this is {guard.build()}", note)

    def test_build(self) -> None:
        """A build is described by its effects on instructions, without paths of a machine."""
        configured = "'--prefix=/opt/python' '--enable-optimizations' '--with-lto=full' '--with-openssl=/opt/ssl'"
        variables = {"CONFIG_ARGS": configured, "PY_CFLAGS": "-Wall -O3 -g"}
        with mock.patch.object(guard.sysconfig, "get_config_var", side_effect=variables.get):
            described = guard.build()
        self.assertTrue(described.endswith("-O3, --enable-optimizations, --with-lto=full, PGO"), described)


class LimitsTests(unittest.TestCase):
    """The file of limits."""

    def setUp(self) -> None:
        """Make a folder."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = Path(folder.name) / "limits.toml"

    def test_written(self) -> None:
        """Written limits are 5 % above the measured figures, for this Python."""
        self.assertEqual({}, guard.read_limits(self.file))
        guard.write_limits({"10x1": 100_000.4, guard.MEMORY: 2.0}, self.file)
        limits = guard.read_limits(self.file)
        figures = {"10x1": 105_000, guard.MEMORY: 2.1}
        self.assertEqual({guard.interpreter(): guard.Limits(guard.build(), guard.packages(), figures)}, limits)

    def test_others_stay(self) -> None:
        """The limits of other versions stay as they are, in the order of versions."""
        for name, figure in (("python-3.100", 100.0), ("python-3.2", 200.0), ("python-3.100", 300.0)):
            with mock.patch.object(guard, "interpreter", return_value=name):
                guard.write_limits({"10x1": figure}, self.file)
        found = guard.read_limits(self.file)
        self.assertEqual(
            [("python-3.2", 210.0), ("python-3.100", 315.0)],
            [(name, limits.figures["10x1"]) for name, limits in found.items()],
        )

    def test_ours(self) -> None:
        """There is a limit for each figure on each Python that the relay is tested on, and the file is as written."""
        limits = guard.read_limits()
        self.assertEqual({"python-3.11", "python-3.12", "python-3.13"}, set(limits))
        for table in limits.values():
            self.assertEqual(set(guard.titles()), set(table.figures))
        tables = "".join(guard._table(name, limits[name]) for name in limits)
        self.assertEqual(guard.HEAD + tables, guard.LIMITS.read_text("utf-8"))


class CountTests(unittest.TestCase):
    """Instructions are read from callgrind's files, per message."""

    def setUp(self) -> None:
        """Make a folder with callgrind's files."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        for number, (trigger, total) in enumerate(
            [("Client Request: 10x1", 7000), ("Client Request: 10x1", 5000), ("Program termination", 0)]
        ):
            text = f"version: 1\ndesc: Trigger: {trigger}\nevents: Ir\nsummary: {total}\n\ntotals: {total}\n"
            (self.folder / f"callgrind.{number}.1").write_text(text, "utf-8")

    def count(self, *rows: tuple[str, int], code: int = 0) -> Any:
        """Count, with these rows and numbers of messages done."""
        printed = "".join(json.dumps({"row": row, "messages": messages}) + "\n" for row, messages in rows)
        with (
            mock.patch.object(guard.processes, "output_of", return_value=(code, printed, "what it said")),
            mock.patch.object(guard.tempfile, "TemporaryDirectory") as folder,
        ):
            folder.return_value.__enter__.return_value = str(self.folder)
            return guard.count(Path("library"))

    def test_least(self) -> None:
        """A row's figure is the least of its counts, for one message."""
        self.assertEqual({"10x1": 50.0}, self.count(("10x1", 100), ("10x1", 100)))

    def test_not_counted(self) -> None:
        """A row that was done more often than it was counted is a failure."""
        for rows in ([("10x1", 100)], [("10x1", 100), ("10x1", 100), ("pairs", 100)]):
            with self.assertRaisesRegex(processes.FailedError, "has not counted"):
                self.count(*rows)

    def test_failed(self) -> None:
        """A failure is told with the end of the output."""
        with self.assertRaisesRegex(processes.FailedError, "ended with 1:\nwhat it said"):
            self.count(code=1)

    def test_environment(self) -> None:
        """The hash seed is fixed, and the caller's variables do not change the memory layout."""
        with mock.patch.dict(os.environ, {"LS_COLORS": "x" * 1000, "PYTHONPATH": "/somewhere"}):
            command = guard.command(Path("library"), Path("folder"))
        self.assertEqual(["env", "-i", "PYTHONHASHSEED=0"], command[:3])
        self.assertIn("PYTHONPATH=/somewhere", command)
        self.assertNotIn("LS_COLORS", " ".join(command))


class LockstepTests(unittest.TestCase):
    """The guard's clients send valid messages, and detect wrong ones."""

    def setUp(self) -> None:
        """Make a client whose relay is this test."""
        self.relay, ours = socket.socketpair()
        self.addCleanup(self.relay.close)
        self.addCleanup(ours.close)
        self.client = lockstep.Client.__new__(lockstep.Client)
        self.client._socket = ours
        self.windows = [self.window(publisher, 2) for publisher in (3, 5)]

    @staticmethod
    def window(publisher: int, count: int) -> bytes:
        """Return the frames of one publisher for its members."""
        return b"".join(frames.encode(frames.TEXT, lockstep.payload(publisher, n, 20)) for n in range(count))

    def test_frames(self) -> None:
        """The relay reads a client's frames of any length in the tables."""
        for size in (12, 125, 126, 4000):
            payload = lockstep.payload(7, 1234, size)
            self.assertEqual(size, len(payload))
            sent = lockstep.masked(payload)
            self.assertEqual(
                (frames.encode(frames.TEXT, payload), 1, len(sent)), frames.parse(sent, 2**20, frames.TEXT)
            )

    def test_expected(self) -> None:
        """Messages may come in any order of their publishers."""
        for order in (self.windows, self.windows[::-1]):
            self.relay.sendall(b"".join(order))
            self.client.expect(self.windows)
        self.client.expect([])

    def test_wrong(self) -> None:
        """A changed, reordered, repeated or additional message is detected."""
        first, second = self.windows
        half = len(first) // 2
        for data in (first.replace(b"x", b"y", 1) + second, first[half:] + first[:half] + second, first + first):
            self.relay.sendall(data)
            with self.assertRaisesRegex(lockstep.FailedError, "other messages"):
                self.client.expect(self.windows)
        self.relay.sendall(first + second + b"!")
        with self.assertRaisesRegex(lockstep.FailedError, "more than was sent"):
            self.client.expect(self.windows)

    def test_closed(self) -> None:
        """A closed relay is detected."""
        self.relay.close()
        with self.assertRaisesRegex(lockstep.FailedError, "closed"):
            self.client.expect(self.windows)

    def test_limits(self) -> None:
        """The relay has the options of the benchmark."""
        options = Options()
        options.parseOptions(["--listen", "tcp:0:interface=127.0.0.1", *servers.ONE_BIG_CLIENT])
        self.assertEqual(lockstep.SETTINGS, options.settings)

    def test_pongs(self) -> None:
        """An idle client answers each ping with its payload, and nothing else."""
        self.assertEqual([b"\x8a\x82\0\0\0\x0042"], idle.pongs_to(b"\x89\x0242\x81\x01x"))


class OptionsTests(unittest.TestCase):
    """The command line."""

    def test_defaults(self) -> None:
        """Without options, all servers but those with a broker do all the work."""
        options = run.parse_arguments([])
        chosen, rows = run.choose(options)
        self.assertEqual((servers.USUAL, work.ROWS), (chosen, rows))
        self.assertEqual((1.0, 5, BENCH / "results"), (options.seconds, options.repeats, options.results))

    def test_quick(self) -> None:
        """A quick run is of the relay, also with history, and the floor, and leaves the results of a full one alone."""
        options = run.parse_arguments(["--quick"])
        self.assertEqual(["relay", "relay-history", "floor"], [server.name for server in run.choose(options)[0]])
        self.assertEqual(BENCH / "results" / "quick", options.results)

    def test_given(self) -> None:
        """Given options hold, also in a quick run."""
        for mode in ([], ["--quick"]):
            options = run.parse_arguments(
                [*mode, "--servers", "ws", "--rows", "10x1", "--seconds", "9", "--results", "/x"]
            )
            chosen, rows = run.choose(options)
            self.assertEqual((["ws"], ["10x1"]), ([one.name for one in chosen], [one.name for one in rows]))
            self.assertEqual((9.0, Path("/x")), (options.seconds, options.results))

    def test_unknown(self) -> None:
        """Unknown names are refused, with the known ones."""
        for arguments, known_name in ((["--servers", "relay,nobody"], "floor"), (["--rows", "nothing"], "10x64")):
            with self.assertRaisesRegex(run.UsageError, f"nobody.*{known_name}|nothing.*{known_name}"):
                run.choose(run.parse_arguments(arguments))

    def test_nothing_measured(self) -> None:
        """A report without a run is refused."""
        with tempfile.TemporaryDirectory() as folder, self.assertRaisesRegex(run.UsageError, "nothing was measured"):
            run.write_report(Path(folder), make=False)

    def test_interrupted(self) -> None:
        """The report of an interrupted run has all figures until then, and the final files agree."""
        with tempfile.TemporaryDirectory() as name, mock.patch.object(run, "draw", return_value=[]):
            folder = Path(name)
            samples.begin(folder / run.SAMPLES, known())
            samples.keep(folder / run.SAMPLES, sample("relay", "100x16"))
            with mock.patch("builtins.print"):
                run.write_report(folder, make=False)

            self.assertEqual("0.990", line((folder / "results.md").read_text("utf-8"), work.BY_NAME["100x16"].title)[0])
            whole = json.loads((folder / run.WHOLE).read_text("utf-8"))
            self.assertEqual(990_000, whole["medians"]["relay"]["100x16"]["deliveries"])
            before = run.read_results(folder)
            (folder / run.SAMPLES).unlink()
            after = run.read_results(folder)
            self.assertEqual((before[0], before[1].samples), (after[0], after[1].samples))


class MissingTests(unittest.TestCase):
    """A server with a missing program is named with the way to get it, and the others are measured."""

    def test_programs(self) -> None:
        """Without programs on PATH, their servers are missing, each with a Debian package."""
        names = ["ws", "nchan", "nats"]
        toolchain.nchan.cache_clear()
        toolchain.node_modules.cache_clear()
        with mock.patch.dict(os.environ, {"PATH": ""}):
            absent = servers.missing([servers.BY_NAME[name] for name in names])
        self.assertEqual(names, list(absent))
        for name in names:
            self.assertRegex(absent[name], r"^not installed: apt-get install \w+")

    def test_one_of_many(self) -> None:
        """One missing server hides no other."""
        there = servers.Server("there", "There", ("there",))
        gone = servers.Server("gone", "Gone", ("gone",), (lambda: toolchain.program("node"),))
        with mock.patch.object(toolchain.shutil, "which", return_value=None):
            self.assertEqual({"gone": "not installed: apt-get install nodejs"}, servers.missing([gone, there]))

    def test_step(self) -> None:
        """A step that fails is told with the end of its output."""
        program = "print('reason'); raise SystemExit(3)"
        with self.assertRaisesRegex(toolchain.MissingError, "failed:\nreason"):
            toolchain.step([sys.executable, "-c", program])


class ProcessesTests(unittest.TestCase):
    """Programs run on one core, are watched, and are always stopped."""

    def setUp(self) -> None:
        """Make a folder for logs."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    @contextmanager
    def listening(self, program: str) -> Iterator[tuple[int, int]]:
        """Run a program in the place of a server."""
        core = processes.cores()[0]
        with processes.listening([sys.executable, "-u", "-c", program], core, self.folder, {}) as started:
            yield started

    SERVER = "import socket; s = socket.create_server(('127.0.0.1', 0)); print('listening on', s.getsockname()[1]); "

    def test_ports(self) -> None:
        """The port is read from what a server says, in any of three ways, and not from half a line."""
        for said in ("listening on 4321\n", "relaying on ws://127.0.0.1:4321/\n", "clients on ws://127.0.0.1:4321\n"):
            self.assertEqual("4321", processes.LISTENING.search(said)[1])
        self.assertIsNone(processes.LISTENING.search("listening on 0\nlistening on 43"))

    def test_one_core(self) -> None:
        """A server has one core, and is gone after the block."""
        with self.listening(self.SERVER + "import signal; signal.pause()") as (pid, port):
            self.assertEqual({processes.cores()[0]}, os.sched_getaffinity(pid))
            self.assertGreater(port, 0)
            self.assertEqual([pid], processes.tree(pid))
        self.assertFalse(Path(f"/proc/{pid}").exists())

    def test_failure(self) -> None:
        """A server is stopped also when the block fails."""
        with (
            self.assertRaises(KeyboardInterrupt),
            self.listening(self.SERVER + "import signal; signal.pause()") as (pid, _),
        ):
            raise KeyboardInterrupt
        self.assertFalse(Path(f"/proc/{pid}").exists())

    def test_uninterrupted(self) -> None:
        """A signal during a start or a stop waits until that is done."""
        done = []
        # A shell starts background processes with the signal ignored.
        self.addCleanup(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, signal.default_int_handler))
        with self.assertRaises(KeyboardInterrupt), processes.uninterrupted():
            signal.raise_signal(signal.SIGINT)
            done.append("all of it")
        self.assertEqual(["all of it"], done)

    def test_children(self) -> None:
        """The children of a server that does not stop are stopped as well."""
        fork = "import os, signal; signal.signal(15, signal.SIG_IGN); os.fork(); signal.pause()"
        with mock.patch.object(processes, "STOP_SECONDS", 0.2), self.listening(self.SERVER + fork) as (pid, _):
            deadline = time.monotonic() + SECONDS
            while len(processes.tree(pid)) < 2 and time.monotonic() < deadline:
                time.sleep(0.01)  # a fork cannot be waited for otherwise
            family = processes.tree(pid)
        self.assertEqual(2, len(family))
        for one in family:
            self.assertFalse(processes.is_alive(one))

    def test_dies(self) -> None:
        """A server that ends at its start is reported with the end of its log."""
        with (
            self.assertRaisesRegex(processes.FailedError, "ended with 1 at its start:\n(?s:.*)no such option"),
            self.listening("raise SystemExit('no such option')"),
        ):
            self.fail("it has started")

    def test_too_long(self) -> None:
        """A load generator that does not end is stopped, and is a failure."""
        command = [sys.executable, "-c", "import signal; signal.pause()"]
        with self.assertRaisesRegex(processes.FailedError, "did not end within"):
            processes.output_of(command, processes.cores()[1], self.folder, 0.3)


def compiler() -> None:
    """Make sure that there is a C compiler."""
    if shutil.which("cc") is None:
        missing("a C compiler", "apt-get install gcc libc6-dev zlib1g-dev")


@pytest.mark.interop
def test_end_to_end(tmp_path: Path) -> None:
    """The relay and the floor are measured, and every message arrived as it should."""
    compiler()
    command = [sys.executable, RUN, "--servers", "relay,floor", "--rows", "10x16", "--repeats", "1", "--seconds", "0.3"]
    command += ["--python", sys.executable]
    done = subprocess.run(
        [*command, "--results", tmp_path], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    text = (tmp_path / "results.md").read_text("utf-8")
    assert "Nothing." in text
    relay, floor, *_ = line(text, work.BY_NAME["10x16"].title)
    assert float(relay) > 0
    assert float(floor) > 0

    again = subprocess.run([sys.executable, RUN, "--summary", "--results", tmp_path], capture_output=True, check=True)
    assert b"wsrelay" in again.stdout


@pytest.mark.interop
def test_lockstep() -> None:
    """All work of the guard is done and checked, in as many turns as it should take; without valgrind, uncounted."""
    done = subprocess.run([sys.executable, BENCH / "instructions.py"], capture_output=True, timeout=SECONDS, check=True)
    found = [json.loads(printed) for printed in done.stdout.splitlines()]
    # One turn per window of all publishers; two per handshake: accept and request.
    turns = {"pairs": 6, "10x1": 100, "10x64": 6, "all-100": 6, "small-in": 6, "handshake": 200}
    messages = {"pairs": 600, "10x1": 100, "10x64": 384, "all-100": 600, "small-in": 3072, "handshake": 100}
    for counts in (turns, messages):
        counts.update({f"{name}-history": counts[name] for name in ("10x1", "10x64", "pairs")})
    assert turns == {row["row"]: row["turns"] for row in found}
    assert messages == {row["row"]: row["messages"] for row in found}
    assert not done.stderr


@pytest.mark.interop
def test_idle() -> None:
    """Idle connections live until they have answered their pings, and the relay grows by something for each."""
    with mock.patch.multiple(idle, CROWDS=(10, 210), PONGS=1, PING_SECONDS=1):
        assert 0 < idle.kib_per_connection() < 100


@pytest.mark.interop
def test_interrupted(tmp_path: Path) -> None:
    """Ctrl-C stops the server and the load generator; measured samples stay."""
    compiler()
    command = [sys.executable, RUN, "--servers", "floor", "--rows", "10x1", "--repeats", "99", "--seconds", "0.3"]
    process = subprocess.Popen([*command, "--results", tmp_path], stderr=subprocess.PIPE, text=True)
    killer = threading.Timer(SECONDS, process.kill)
    killer.start()
    assert process.stderr is not None
    with process.stderr:
        assert any("10x1" in line for line in process.stderr)
        family = processes.tree(process.pid)
        process.send_signal(signal.SIGINT)
        process.stderr.read()
    assert process.wait(SECONDS) == 128 + signal.SIGINT
    killer.cancel()
    assert not [pid for pid in family if processes.is_alive(pid)]
    assert samples.read(tmp_path / "samples.jsonl")[1][0].server == "floor"
