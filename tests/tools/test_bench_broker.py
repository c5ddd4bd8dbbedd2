"""The benchmark of relays with a broker: its figures, what costs fit measurements, and what nodes carry with them."""

import dataclasses
import os
import shutil
import subprocess
import sys
import unittest
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.harness.live import missing
from tests.tools.test_bench import (
    BENCH,
    RUN,
    SECONDS,
    TIMING,
    compiler,
    facts,
    load,
    measure,
    outcome,
    report,
    run,
    servers,
    toolchain,
    work,
)
from tests.tools.test_bench import samples as samples_module
from tests.tools.test_soak import SOAK

broker: Any = load("broker")
broker_report: Any = load("broker_report")
entry_path: Any = load("entry_path")
node_costs: Any = load("node_costs")
processes: Any = load("processes")
scale: Any = load("scale")

RELAYS = ["relay", "relay-redis", "relay-redis-2", "relay-redis-3"]


def load_outage() -> Any:
    """Import the script, which has no suffix."""
    loader = SourceFileLoader("soak_outage", str(SOAK / "outage"))
    spec = spec_from_loader("soak_outage", loader)
    assert spec is not None
    module = module_from_spec(spec)
    with mock.patch.object(sys, "path", [str(SOAK), str(BENCH), *sys.path]):
        loader.exec_module(module)
    return module


outage: Any = load_outage()


def sample(server: str, row: str, p50: float = 100, relay_us: float = 50, deliveries: int = 1000) -> Any:
    """Make a sample of a relay with a broker; it published 1000 messages."""
    changes = {
        "latency_us": {"p50": p50, "p99": 2 * p50, "max": 3 * p50},
        "messages": 1000,
        "deliveries_per_second": deliveries,
        "programs": ["python3", "redis-server", "twistd"],
        "server_cpus_seconds": [0.0, 0.02, relay_us / 1000],
    }
    return samples_module.Sample(server, row, 0, 2.0, outcome(**changes))


def written(*found: Any, names: list[str] | None = None) -> str:
    """Write the section of some samples."""
    chosen = [servers.BY_NAME[name] for name in names or RELAYS]
    with mock.patch.object(toolchain, "answer", return_value="1.2.3"):
        known = facts.gather(chosen, [work.BY_NAME["100x64"], *work.BROKER_ROWS], TIMING, {})
    text: str = broker_report.section(report.Report(known, samples_module.Results(found)))
    return text


def cells(text: str, title: str) -> list[str]:
    """Return the cells of the first line with a title."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {title} |"))
    return [cell.strip() for cell in line.split("|")[2:-1]]


class BrokerTablesTests(unittest.TestCase):
    """Servers with a broker, and work for them."""

    def test_not_usual(self) -> None:
        """Relays with a broker are measured when they are named, and then at rows of their own too."""
        usual, rows = run.choose(run.parse_arguments([]))
        self.assertFalse(any(server.nodes for server in usual))
        self.assertFalse(set(work.BROKER_ROWS) & set(rows))
        _, rows = run.choose(run.parse_arguments(["--servers", "relay,relay-redis"]))
        self.assertEqual([*work.ROWS, *work.BROKER_ROWS], rows)

    def test_applies(self) -> None:
        """One node has all rows, several nodes only those about nodes, and other servers none of these."""
        applied = {
            name: {row.name for row in (*work.ROWS, *work.BROKER_ROWS) if measure.applies(servers.BY_NAME[name], row)}
            for name in (*RELAYS, "floor")
        }
        self.assertEqual(set(work.BY_NAME), applied["relay-redis"])
        self.assertEqual({"cross-10000", "nodes-200", "nodes-2000", "nodes-6x16"}, applied["relay-redis-2"])
        self.assertEqual(applied["relay-redis-2"], applied["relay-redis-3"])
        self.assertFalse(applied["floor"] & {row.name for row in work.BROKER_ROWS})

    def test_burst(self) -> None:
        """The load generator is told of bursts where there are any."""
        self.assertIn("--burst", work.BY_NAME["pairs-5000-bursts"].arguments())
        self.assertNotIn("--burst", work.BY_NAME["pairs-5000"].arguments())

    def test_command(self) -> None:
        """The command names the number of nodes, and a broker that is not there is named with its package."""
        command = servers.BY_NAME["relay-redis-2"].command_line(False, servers.NAMES)
        self.assertEqual(["python", "bench/peers/nodes.py", "2", "twistd"], command[:4])
        with mock.patch.object(toolchain.shutil, "which", return_value=None):
            absent = servers.missing([dataclasses.replace(servers.BY_NAME["relay-redis"], needs=(toolchain.redis,))])
        self.assertEqual({"relay-redis": "not installed: apt-get install redis-server"}, absent)

    def test_no_hiredis(self) -> None:
        """Without hiredis the way to get it is said."""
        with (
            mock.patch.object(toolchain, "importlib_finds", return_value=False),
            mock.patch.object(toolchain.interpreters, "chosen", return_value=None),
            self.assertRaisesRegex(toolchain.MissingError, r"pip install 'wsrelay\[redis\]'"),
        ):
            toolchain.hiredis()

    def test_ports(self) -> None:
        """Several nodes name their ports in one line."""
        self.assertEqual("4321,4322", processes.LISTENING.search("listening on 4321,4322\n")[1])

    def test_program(self) -> None:
        """The program of a process is known as long as it runs."""
        self.assertRegex(processes.program(os.getpid()), r"^[\w.-]+$")
        self.assertEqual("", processes.program(2**22 + 1))


class BrokerReportTests(unittest.TestCase):
    """The section with the figures that have a bar."""

    def test_cpu(self) -> None:
        """The CPU of the broker is not the relay's."""
        results = samples_module.Results([sample("relay-redis", "turns-2x1", relay_us=50)])
        self.assertAlmostEqual(50, results.median("relay-redis", "turns-2x1", "relay_cpu"))
        self.assertAlmostEqual(20, results.median("relay-redis", "turns-2x1", "broker_cpu"))
        without = samples_module.Results([samples_module.Sample("relay", "10x1", 0, 2.0, outcome())])
        self.assertIsNone(without.median("relay", "10x1", "relay_cpu"))

    def test_reached(self) -> None:
        """A figure is compared with the relay without a broker, and with its bar."""
        text = written(
            *(sample("relay", row, p50=100, relay_us=50) for row in ("one-200", "turns-2x1", "100x64")),
            sample("relay-redis", "one-200", p50=250),
            sample("relay-redis", "turns-2x1", relay_us=100),
            sample("relay-redis", "100x64", deliveries=900),
            sample("relay-redis-2", "cross-10000", p50=2100),
        )
        self.assertEqual(["≤ 500", "150", "yes"], cells(text, "added p50, 200 messages/s to 10 members, µs"))
        self.assertEqual(
            ["≤ 1.90", "2.00", "**no**"], cells(text, "relay CPU per message / local: one message per turn")
        )
        self.assertEqual(["≥ 0.85", "0.90", "yes"], cells(text, "deliveries/s / local: 100 members, window 64"))
        self.assertEqual(["≤ 2,000", "2,100", "**no**"], cells(text, "publish → other node, 10 000/s: p50, µs"))
        self.assertEqual(
            ["≤ 500", report.NOT_MEASURED, ""], cells(text, "added p50, 1000 messages/s to 10 members, µs")
        )

    def test_tables(self) -> None:
        """Each broker row has its figures, and rows that do not apply say so."""
        text = written(sample("relay-redis", "one-200", p50=250))
        self.assertEqual(
            [report.NOT_MEASURED, "250", report.NOT_APPLICABLE, report.NOT_APPLICABLE],
            cells(text, work.BY_NAME["one-200"].title),
        )

    def test_without(self) -> None:
        """A run without a broker has no such section."""
        self.assertEqual("", written(names=["relay", "floor"]))

    def test_full(self) -> None:
        """A report has the section, its own rows in no other table, and their failures."""
        chosen = [servers.BY_NAME[name] for name in RELAYS]
        with mock.patch.object(toolchain, "answer", return_value="1.2.3"):
            known = facts.gather(chosen, [work.BY_NAME["100x64"], *work.BROKER_ROWS], TIMING, {})
        failed = samples_module.Sample("relay-redis", "one-200", 0, 2.0, {}, "lost 3")
        text = report.full(known, samples_module.Results([failed]), [], ["## With a broker\n\nhere"])
        self.assertIn("## With a broker\n\nhere", text)
        self.assertEqual(1, text.count(work.BY_NAME["one-200"].title))
        self.assertIn("200 messages/s to 10 members: lost 3", text)


class ScaleTests(unittest.TestCase):
    """The arithmetic of nodes, shards and a broker."""

    COSTS = scale.COSTS

    def layout(self, nodes: int, shards: int = 1, affinity: bool = False, **changes: Any) -> Any:
        """Make a layout."""
        return scale.Layout(nodes, shards, affinity, **changes)

    def test_tailing(self) -> None:
        """Without affinity every node tails every shard; with it, no more than it has to."""
        found = [
            (one.tailing, one.tailed)
            for one in (self.layout(8, 4), self.layout(8, 4, True), self.layout(4, 8, True), self.layout(1, 8, True))
        ]
        self.assertEqual([(8, 4), (2, 1), (1, 2), (1, 8)], found)

    def test_linger(self) -> None:
        """Readers that wait for more entries spare the broker replies, and so carry more with many nodes."""
        rates = [scale.most(self.layout(50, linger=linger), self.COSTS)[0] for linger in (0, 0.001, 0.005)]
        self.assertEqual(sorted(set(rates)), rates)

    def test_guest(self) -> None:
        """The shard of a node's readiness probe is one that it tails anyway, or one more."""
        found = [one.guest for one in (self.layout(8, 4), self.layout(8, 4, True), self.layout(1, 8, True))]
        self.assertEqual([0, 0.75, 0], found)

    def test_here(self) -> None:
        """A room on one node has no members elsewhere, and one of many members has them everywhere."""
        self.assertEqual(0, scale.Layout(1).here - 1)
        self.assertAlmostEqual(0.5, self.layout(2, members=2).here)
        self.assertLess(0.99, self.layout(10, members=100).here)

    def test_entries(self) -> None:
        """A node writes a heartbeat at least, one entry per round trip at most, and as many as their size asks for."""
        one = self.layout(1, round_trip=0.001)
        self.assertEqual(1, scale.entries(one, self.COSTS, 0))
        self.assertAlmostEqual(100, scale.entries(one, self.COSTS, 111.1), delta=1)
        self.assertAlmostEqual(1000, scale.entries(one, self.COSTS, 1e5), delta=11)
        self.assertLess(1e5, scale.entries(one, self.COSTS, 1e8))

    def test_more_costs_more(self) -> None:
        """Every resource is used more at a higher rate."""
        for layout in (self.layout(1), self.layout(20, 16), self.layout(20, 16, True)):
            low, high = (scale.use(layout, self.COSTS, rate) for rate in (1e4, 1e5))
            for name in low:
                self.assertLess(low[name], high[name], name)

    def test_most(self) -> None:
        """The highest rate is where a resource is full, and just above it is too much."""
        layout = self.layout(5)
        rate, name = scale.most(layout, self.COSTS)
        self.assertLessEqual(scale.use(layout, self.COSTS, rate)[name], scale.FULL)
        self.assertGreater(scale.use(layout, self.COSTS, rate * 1.01)[name], scale.FULL)

    def test_heartbeats(self) -> None:
        """With too many nodes on one shard, heartbeats alone are too much for the broker."""
        self.assertEqual((0.0, "broker CPU"), scale.most(self.layout(3000), self.COSTS))

    def test_least(self) -> None:
        """The first layout that carries a rate is found, or none."""
        layouts = [self.layout(nodes, 16, True) for nodes in (1, 16, 64)]
        self.assertEqual(layouts[0], scale.least(layouts, self.COSTS, 100))
        self.assertIsNone(scale.least(layouts, self.COSTS, 1e9))

    def test_short(self) -> None:
        """Numbers have two digits."""
        found = [scale.short(number) for number in (0, 640, 6440, 64_400, 999_999, 6.44e6, 1e8)]
        self.assertEqual(["0", "640", "6.4 k", "64 k", "1.0 M", "6.4 M", "100 M"], found)

    def test_tables(self) -> None:
        """The command prints a table by nodes, one by rate, and one for each column."""
        with mock.patch("builtins.print") as printed:
            self.assertEqual(0, scale.main(["--members", "2"]))
        text = "\n".join(str(call.args[0]) for call in printed.call_args_list)
        self.assertEqual(2 + len(scale.COLUMNS), text.count("| --- |"))
        for nodes in scale.NODES:
            self.assertIn(f"| {nodes} |", text)


class NodeCostsTests(unittest.TestCase):
    """What costs are taken from measurements."""

    def test_fit(self) -> None:
        """Factors that fit all points are found, and none is below 0."""
        points = [((1.0, 10.0), 52.0), ((2.0, 5.0), 29.0), ((7.0, 1.0), 19.0)]
        found = node_costs.fit(points)
        self.assertAlmostEqual(2, found[0])
        self.assertAlmostEqual(5, found[1])
        self.assertAlmostEqual(0, node_costs.error(points, found))
        self.assertEqual(0, node_costs.fit([((1.0, 1.0), 1.0), ((2.0, 1.0), 1.9), ((1.0, 3.0), 0.5)])[1])

    def spent(self, nodes: int, messages: float, entries: float) -> Any:
        """Make a run of nodes whose costs are known."""
        own = messages * (10 + 2 + 3) + entries * 40
        others = [messages * 0.5 + entries * 30] * (nodes - 1)
        brokers = messages * 0.2 + entries * 12 + nodes * (messages * 0.1 + entries * 8)
        return node_costs.Spent(nodes, messages, entries, brokers, (own, *others))

    def test_costs(self) -> None:
        """Known costs are found again."""
        local = {
            "pairs": node_costs.Spent(0, 1000, 0, 0, (12_000,)),
            "tens": node_costs.Spent(0, 1000, 0, 0, (28_000,)),
        }
        pairs = [
            self.spent(nodes, messages, entries)
            for nodes in (1, 2, 3)
            for messages, entries in ((1000, 1000), (4000, 900), (9000, 400), (30_000, 300))
        ]
        # Each node publishes 500 messages, and 500 come from the other one, which cost 4 each.
        cross = node_costs.Spent(2, 1000, 200, 0, (500 * 15 + 100 * 40 + 100 * 30 + 500 * 4,) * 2)
        with mock.patch.object(entry_path, "caught_up_us", return_value=1.0):
            found = node_costs.costs(node_costs.Measured(local, pairs, cross))
        known = {
            "receive": 10, "deliver": 2, "own_message": 3, "own_entry": 40, "other_entry": 30, "other_message": 0.5,
            "other_here": 4, "add_entry": 12, "add_message": 0.2, "reply": 7, "read_entry": 1, "read_message": 0.1,
        }  # fmt: skip
        for name, value in known.items():
            self.assertAlmostEqual(value, found[name][0], msg=name)
            self.assertAlmostEqual(0, found[name][1], msg=name)
        fields = {field.name for field in dataclasses.fields(scale.Costs)}
        self.assertEqual(fields - {"entry_bytes", "message_bytes"}, set(found))

    def test_spent(self) -> None:
        """The CPU of nodes and broker is told apart, per second; a lost message is a failure."""
        printed = {**outcome(messages=2000, seconds=2.0), "server_cpus_seconds": [0.0, 0.2, 1.0, 0.5]}
        programs = ["python3", "redis-server", "twistd", "twistd"]
        found = node_costs.spent(2, 50.0, programs, printed)
        self.assertEqual((1000, 50, 100_000), (found.messages, found.entries, round(found.broker_us)))
        self.assertEqual((500_000, 250_000), found.nodes_us)
        with self.assertRaisesRegex(processes.FailedError, "lost 3"):
            node_costs.spent(2, 50.0, programs, {**printed, "ok": False, "lost": 3})


class OutageTests(unittest.TestCase):
    """The verdict of the tool that takes the broker away."""

    def faults(self, printed: str, code: int = 0, pinger: str = "", max_ms: float = 10.0) -> str:
        """Return the faults of a run."""
        with mock.patch("builtins.print"), mock.patch.object(outage.Path, "read_text", return_value=printed):
            found = [{"what": "kill", "max_ms": max_ms}]
            return "\n".join(outage.faults(found, Path("/nowhere"), code, pinger))

    GOOD = '{"ok": true, "connections": 10, "deliveries": 90, "lost": 0}'

    def test_passed(self) -> None:
        """All messages and a short lag are a pass."""
        self.assertEqual("", self.faults(self.GOOD))

    def test_failed(self) -> None:
        """A long lag, a lost message, a closed connection and a closed pinger are failures."""
        self.assertIn("lag 50.0 ms", self.faults(self.GOOD, max_ms=50.0))
        self.assertIn("lost 2, closed 1", self.faults('{"deliveries": 90, "lost": 2, "closed": 1}', code=1))
        self.assertIn("connections and messages", self.faults("", code=2))
        self.assertIn("1013", self.faults(self.GOOD, pinger="the pinger's connection: 1013"))

    def test_lags(self) -> None:
        """The percentiles are of pings sent in the time, and none at all is no pass."""
        pinger = mock.Mock(waits=[(1.0, 0.002), (2.0, 0.001), (9.0, 0.5)])
        found = outage.Pinger.lags(pinger, 0.5, 3.0)
        self.assertEqual({"p50_ms": 1.0, "p99_ms": 1.0, "max_ms": 2.0, "max_at_s": 0.5}, found)
        self.assertTrue(outage.late(outage.Pinger.lags(pinger, 3.0, 4.0)))

    def test_arguments(self) -> None:
        """An outage longer than the grace, or of an unknown kind, is refused."""
        for wrong in (["--away", "15"], ["--how", "melt"]):
            with self.assertRaises(SystemExit), mock.patch("sys.stderr"):
                outage.parse_arguments(wrong)
        options = outage.parse_arguments(["--times", "1", "--how", "freeze", "--", "--slow-policy", "latest"])
        self.assertEqual((1, ["freeze"], ["--slow-policy", "latest"]), (options.times, options.how, options.relay))


@pytest.fixture
def redis() -> Iterator[tuple[int, Path]]:
    """A broker: its process id and its socket."""
    if shutil.which("redis-server") is None:
        missing("redis-server", "apt-get install redis-server")
    pytest.importorskip("hiredis")
    with processes.uninterrupted(), broker.running(processes.cores()[0]) as started:
        yield started


@pytest.mark.interop
def test_broker(redis: tuple[int, Path]) -> None:
    """A broker answers, names its errors, and keeps nothing on disk."""
    pid, path = redis
    client = broker.Client(path)
    assert client("PING") == b"PONG"
    assert client("XADD", "log", "*", "m", b"x")
    assert client("CONFIG", "GET", "save") == [b"save", b""]
    with pytest.raises(processes.FailedError, match="the broker replied: WRONGTYPE"):
        client("INCR", "log")
    client.close()
    assert processes.program(pid) == samples_module.BROKER_PROGRAM


@pytest.mark.interop
def test_entry_path(redis: tuple[int, Path]) -> None:
    """Each node reads what all nodes write."""
    found = entry_path.measure(16, ("wr", "r"), 0.2)
    assert min(found.per_second, found.broker_us, found.read_us) > 0
    assert entry_path.caught_up_us(0.05) > 0


@pytest.mark.interop
def test_node_fails() -> None:
    """A node that fails is a failure, and its process is gone."""
    with pytest.raises(processes.FailedError, match="a node failed"), mock.patch.object(os, "write"):
        entry_path.in_processes([lambda: {"cpu": 1.0}], SECONDS)


@pytest.mark.interop
def test_nodes(redis: tuple[int, Path], tmp_path: Path) -> None:
    """A node that cannot start is named with the end of its log, and the broker is stopped."""
    command = [sys.executable, BENCH / "peers" / "nodes.py", "1", sys.executable, "-c", "raise SystemExit('no relay')"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert (done.returncode, "no relay" in done.stdout) == (1, True)
    assert not (tmp_path / broker.SOCKET).exists()


@pytest.mark.interop
def test_nodes_stop(redis: tuple[int, Path], tmp_path: Path) -> None:
    """All programs listen before the ports are named, and are stopped with it."""
    server = "import socket, signal; s = socket.create_server(('127.0.0.1', 0)); "
    server += "print('listening on', s.getsockname()[1], flush=True); signal.pause()"
    command = [sys.executable, str(BENCH / "peers" / "nodes.py"), "2", sys.executable, "-c", server]
    with processes.listening_nodes(command, processes.cores()[0], tmp_path, {}) as (pid, ports):
        family = processes.tree(pid)
        assert (len(set(ports)), len(family)) == (2, 4)
    assert not [one for one in family if processes.is_alive(one)]


@pytest.mark.interop
def test_end_to_end(redis: tuple[int, Path], tmp_path: Path) -> None:
    """Relays of one and two nodes are measured, every message arrived as it should, and the report has the figures."""
    pytest.importorskip("wsrelay.backplane.redis")
    compiler()
    command = [sys.executable, RUN, "--servers", "relay,relay-redis,relay-redis-2", "--rows", "one-200,cross-10000"]
    command += ["--repeats", "1", "--seconds", "0.3", "--python", sys.executable, "--results", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    text = (tmp_path / "results.md").read_text("utf-8")
    assert "Nothing." in text
    assert cells(text, "publish → other node, 10 000/s: p50, µs")[1] != report.NOT_MEASURED
    _, nodes, *_ = cells(text[text.index("CPU of the broker") :], work.BY_NAME["cross-10000"].title)
    assert float(nodes) > 0


@pytest.mark.interop
def test_outage(redis: tuple[int, Path], tmp_path: Path) -> None:
    """The broker goes away and comes back in both ways, and no message or connection is lost."""
    pytest.importorskip("wsrelay.backplane.redis")
    compiler()
    options = outage.parse_arguments(["--connections", "50", "--away", "0.5", "--times", "1"])
    with mock.patch.multiple(outage, STEADY_SECONDS=0.2, AFTER_SECONDS=0.2, OPEN_SECONDS=20):
        found, wrong = outage.run(options, tmp_path)
    assert [one["what"] for one in found] == ["before", "kill", "freeze"]
    assert not [fault for fault in wrong if "lag" not in fault]
