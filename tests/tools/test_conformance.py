"""The conformance gate passes only on exactly the right report of a real run."""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from types import ModuleType
from typing import Any

CONFORMANCE = Path(__file__).resolve().parents[2] / "conformance"
RUN = CONFORMANCE / "run"

#: Bound on all processes.
SECONDS = 60


def load(name: str) -> ModuleType:
    """Load a module of the conformance folder, which is not a package, under a name of its own."""
    spec = importlib.util.spec_from_file_location(f"conformance_{name}", CONFORMANCE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


gate: Any = load("gate")
python27: Any = load("python27")
relay: Any = load("relay")
wstest: Any = load("wstest")

CASES = gate.parse_cases((CONFORMANCE / "cases.txt").read_text(encoding="utf-8"))
QUICK = gate.quick(CASES)


def entry(case: str) -> dict[str, str]:
    """Make the entry that an index must have for a case."""
    verdict = "INFORMATIONAL" if case in ("7.1.6", "7.13.1", "7.13.2") else "OK"
    report = f"wsrelay_case_{case.replace('.', '_')}.json"
    return {"behavior": verdict, "behaviorClose": verdict, "reportfile": report}


def index(cases: list[str], **changes: dict[str, str]) -> dict[str, dict[str, dict[str, str]]]:
    """Make an index with the right entry for each case, but for changes: ``c7_1_6={"behavior": "OK"}``."""
    changed = {name.removeprefix("c").replace("_", "."): change for name, change in changes.items()}
    return {"wsrelay": {case: entry(case) | changed.get(case, {}) for case in cases}}


class CasesTests(unittest.TestCase):
    """The list of cases."""

    def test_full(self) -> None:
        """The list has 517 different cases."""
        self.assertEqual((517, 517), (len(CASES), len(set(CASES))))

    def test_quick(self) -> None:
        """A quick run has 301 cases, without compression."""
        self.assertEqual(301, len(QUICK))
        self.assertEqual(set("12345679") | {"10"}, {case.split(".")[0] for case in QUICK})

    def test_informational(self) -> None:
        """Informational cases are part of a quick run."""
        self.assertLess(gate.INFORMATIONAL_CASES, set(QUICK))

    def test_select(self) -> None:
        """A pattern matches whole ids: section 1 does not match 10, 12 or 13."""
        self.assertEqual(16, len(gate.select(CASES, "1.*")))
        self.assertEqual(["7.1.6"], gate.select(CASES, "7.1.6"))
        self.assertEqual([], gate.select(CASES, "8.*"))

    def test_comments(self) -> None:
        """Comments and empty lines are skipped."""
        self.assertEqual(["1.1.1", "2.1"], gate.parse_cases("# ids\n\n1.1.1\n 2.1 \n"))


class GateTests(unittest.TestCase):
    """The gate passes only on the exact set of cases with the exact verdicts."""

    def assert_fails(self, index: Any, cases: list[str], *words: str) -> None:
        """Assert that the gate fails with all these words."""
        result = gate.check(index, cases)
        text = "\n".join([result.summary(), *result.faults(Path("reports"))])

        self.assertFalse(result.passed)
        for word in words:
            self.assertIn(word, text)

    def test_full(self) -> None:
        """The exact set passes."""
        result = gate.check(index(CASES), CASES)

        self.assertTrue(result.passed)
        self.assertEqual("514 OK, 3 INFORMATIONAL of 517", result.summary())
        self.assertEqual([], result.faults(Path("reports")))

    def test_quick(self) -> None:
        """The exact set of a quick run passes as a quick run."""
        result = gate.check(index(QUICK), QUICK)

        self.assertTrue(result.passed)
        self.assertEqual("298 OK, 3 INFORMATIONAL of 301", result.summary())

    def test_quick_is_not_full(self) -> None:
        """A quick report fails a full run, and a full report fails a quick run."""
        self.assert_fails(index(QUICK), CASES, "216 missing", "12.1.1")
        self.assert_fails(index(CASES), QUICK, "216 extra", "12.1.1")

    def test_empty(self) -> None:
        """An index without a server or without cases fails, as when no server listens."""
        self.assert_fails({}, CASES, "0 OK", "517 missing of 517")
        self.assert_fails({"wsrelay": {}}, QUICK, "301 missing of 301")

    def test_nothing_expected(self) -> None:
        """An empty report fails even if no case is expected."""
        self.assert_fails({}, [])

    def test_missing(self) -> None:
        """A missing case fails, with its id."""
        self.assert_fails(index(CASES[:-1]), CASES, "missing: 13.7.18", "513 OK")

    def test_cut_short(self) -> None:
        """A truncated report fails, as when the server dies."""
        self.assert_fails(index(QUICK[:63]), QUICK, "238 missing of 301")

    def test_extra(self) -> None:
        """An extra case fails, with its id, although all others are right."""
        self.assert_fails(index([*CASES, "14.1.1"]), CASES, "extra: 14.1.1", "514 OK")

    def test_bad_behavior(self) -> None:
        """Each other verdict on a case fails, with the path of the case's report."""
        path = str(Path("reports") / "wsrelay_case_5_3.json")
        for verdict in ("FAILED", "NON-STRICT", "UNCLEAN", "UNIMPLEMENTED", "WRONG CODE", "ok", ""):
            with self.subTest(verdict):
                report = index(QUICK, c5_3={"behavior": verdict})
                self.assert_fails(report, QUICK, f"wrong 5.3: behavior {verdict}", "1 wrong of 301", path)

    def test_bad_close(self) -> None:
        """Each other verdict on the close fails, although the behavior is OK."""
        for verdict in ("FAILED", "NON-STRICT", "UNCLEAN", "WRONG CODE", "FAILED BY CLIENT", "INFORMATIONAL"):
            with self.subTest(verdict):
                report = index(QUICK, c7_3_1={"behaviorClose": verdict})
                self.assert_fails(report, QUICK, f"wrong 7.3.1: behavior OK, behaviorClose {verdict}")

    def test_informational_elsewhere(self) -> None:
        """INFORMATIONAL fails, except on the three cases."""
        verdicts = {"behavior": "INFORMATIONAL", "behaviorClose": "INFORMATIONAL"}

        self.assert_fails(index(QUICK, c7_1_5=verdicts), QUICK, "wrong 7.1.5: behavior INFORMATIONAL")

    def test_informational_missed(self) -> None:
        """Other verdicts on the three cases fail: the suite never gives one."""
        for case in ("c7_1_6", "c7_13_1", "c7_13_2"):
            for key in ("behavior", "behaviorClose"):
                for verdict in ("OK", "FAILED"):
                    with self.subTest(case=case, key=key, verdict=verdict):
                        self.assert_fails(index(QUICK, **{case: {key: verdict}}), QUICK, "1 wrong of 301")

    def test_incomplete_entry(self) -> None:
        """An entry without a verdict fails."""
        self.assert_fails({"wsrelay": {"1.1.1": {}}}, ["1.1.1"], "wrong 1.1.1: behavior absent")

    def test_two_servers(self) -> None:
        """A report about two servers is refused."""
        report = {"one": index(QUICK)["wsrelay"], "two": index(QUICK)["wsrelay"]}

        with self.assertRaisesRegex(ValueError, "2 servers"):
            gate.check(report, QUICK)


class IndexTests(unittest.TestCase):
    """The index of a report."""

    def setUp(self) -> None:
        """Make an empty folder."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def test_read(self) -> None:
        """The index is read from the file."""
        path = self.folder / "index.json"
        path.write_text(json.dumps(index(QUICK)), encoding="utf-8")

        self.assertTrue(gate.check(gate.read_index(path), QUICK).passed)

    def test_no_file(self) -> None:
        """A missing file is a report without cases."""
        self.assertEqual({}, gate.read_index(self.folder / "index.json"))

    def test_half_a_file(self) -> None:
        """A truncated file is refused."""
        path = self.folder / "index.json"
        path.write_text(json.dumps(index(QUICK))[:-10], encoding="utf-8")

        with self.assertRaises(ValueError):
            gate.read_index(path)

    def test_forget(self) -> None:
        """An old report is removed before a run; other files stay."""
        reports = ("wsrelay_case_1_1_1.json", "wsrelay_case_1_1_1.html")
        for name in ("index.json", "index.html", *reports, "notes"):
            (self.folder / name).touch()

        wstest.forget(self.folder)

        self.assertEqual(["notes"], [path.name for path in self.folder.iterdir()])


class WstestTests(unittest.TestCase):
    """A run of wstest: timeout, progress, exit code."""

    def setUp(self) -> None:
        """Make a place for the log."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.log = Path(folder.name) / "wstest.log"
        self.shown: list[str] = []

    def run_program(self, program: str, seconds: float = SECONDS) -> list[str]:
        """Run a program in place of wstest."""
        command = [sys.executable, "-u", "-c", program]
        faults: list[str] = wstest.run(command, dict(os.environ), self.log, seconds, self.shown.append)
        return faults

    def test_progress(self) -> None:
        """The id of each case is shown at its start."""
        program = "for case in '1.1.1', '2.10': print('Running test case ID', case, 'for agent x')"

        self.assertEqual([], self.run_program(program))
        self.assertEqual(["1.1.1", "2.10"], self.shown)

    def test_timeout(self) -> None:
        """A run above its timeout is stopped, and is a fault."""
        faults = self.run_program("import signal; signal.pause()", seconds=0.5)

        self.assertEqual(1, len(faults))
        self.assertIn("was stopped", faults[0])

    def test_crash(self) -> None:
        """A run that ends with an error is a fault."""
        self.assertIn("wstest ended with 7", self.run_program("raise SystemExit(7)")[0])

    def test_specification(self) -> None:
        """The specification has one server, the folder of the report, and the excluded cases."""
        text = wstest.specification("ws://127.0.0.1:9/room", self.log.parent, ["*"], ["12.*", "13.*"])
        spec = json.loads(text)

        self.assertEqual([{"url": "ws://127.0.0.1:9/room", "agent": "wsrelay"}], spec["servers"])
        self.assertEqual((["*"], ["12.*", "13.*"]), (spec["cases"], spec["exclude-cases"]))
        self.assertEqual(str(self.log.parent), spec["outdir"])


class RelayTests(unittest.TestCase):
    """Start and stop of the relay under test."""

    def setUp(self) -> None:
        """Make a place for the log."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.log = Path(folder.name) / "relay.log"

    def start_program(self, program: str, ready: str = "") -> Any:
        """Start a program in place of twistd, and wait until its log has a text."""
        with self.log.open("wb") as output:
            command = [sys.executable, "-u", "-c", program]
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        self.addCleanup(process.wait, SECONDS)
        self.addCleanup(process.kill)
        under_test = relay.Relay(process, self.log)
        deadline = time.monotonic() + SECONDS
        while ready not in self.log.read_text(encoding="utf-8") and time.monotonic() < deadline:
            time.sleep(0.01)  # polls a file
        return under_test

    def test_port(self) -> None:
        """The port is read from the start-up line, not from a partial line or port 0."""
        self.assertIsNone(relay.LISTENING.search("relaying on ws://127.0.0.1:0/\nrelaying on ws://127.0.0.1:43"))
        program = "import signal\nprint('on ws://127.0.0.1:0/')\nprint('on ws://127.0.0.1:4321/')\nsignal.pause()"

        self.assertEqual("ws://127.0.0.1:4321/conformance", self.start_program(program).url())

    def test_dies_at_start(self) -> None:
        """A relay that ends at its start is reported with the end of its log."""
        under_test = self.start_program("raise SystemExit('Unknown command: wsrelay')")

        with self.assertRaisesRegex(relay.NotListeningError, "(?s)ended with 1 .*Unknown command: wsrelay"):
            under_test.url()

    def test_regular_stop(self) -> None:
        """A relay that exits with 0 on SIGTERM is no fault."""
        program = "import os, signal\nsignal.signal(15, lambda *_: os._exit(0))\nprint('ready')\nsignal.pause()"

        self.assertEqual([], self.start_program(program, "ready").stop())

    def test_irregular_stop(self) -> None:
        """A relay killed by SIGTERM, or with another exit code, is a fault."""
        wait = "import os, signal\n{}\nprint('ready')\nsignal.pause()"
        for code, line in ((-signal.SIGTERM, ""), (1, "signal.signal(15, lambda *_: os._exit(1))")):
            with self.subTest(line):
                faults = self.start_program(wait.format(line), "ready").stop()

                self.assertIn(f"ended with {int(code)} on SIGTERM", faults[0])

    def test_deaf_to_sigterm(self) -> None:
        """A relay that ignores SIGTERM is killed, and is a fault."""
        program = "import signal; signal.signal(15, signal.SIG_IGN); print('ready'); signal.pause()"
        bound, relay.STOP_SECONDS = relay.STOP_SECONDS, 0.3
        self.addCleanup(setattr, relay, "STOP_SECONDS", bound)
        under_test = self.start_program(program, "ready")

        self.assertIn("was killed", under_test.stop()[0])
        self.assertEqual(-signal.SIGKILL, under_test.process.returncode)

    def test_died_during_the_run(self) -> None:
        """A relay that ended before its stop is a fault."""
        under_test = self.start_program("pass")
        under_test.process.wait(SECONDS)

        self.assertIn("ended with 0 before it was stopped", under_test.stop()[0])

    def test_nothing_listens(self) -> None:
        """An address without a listener is refused before the first case."""
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            url = f"ws://127.0.0.1:{bound.getsockname()[1]}/"

            with self.assertRaisesRegex(relay.NotListeningError, f"nothing listens at {url}"):
                relay.await_port(url)


class Python27Tests(unittest.TestCase):
    """Without a working Python 2.7, the gate fails and says how to get one."""

    def setUp(self) -> None:
        """Make an empty folder."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.environ = {"PATH": self.folder, "HOME": self.folder, "PYENV_ROOT": self.folder}

    def run_gate(self, *arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        """Run the gate in an environment without Python 2.7."""
        return subprocess.run(
            [sys.executable, str(RUN), "--reports", self.folder, *arguments],
            env=self.environ | environ,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def executable(self, name: str, *lines: str) -> Path:
        """Write a shell script into the folder."""
        path = Path(self.folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(["#!/bin/sh", *lines, ""]), encoding="utf-8")
        path.chmod(0o755)
        return path

    def assert_refused(self, done: "subprocess.CompletedProcess[str]", *words: str) -> None:
        """Assert that no case ran, and that the message has all these words and no traceback."""
        self.assertEqual(2, done.returncode)
        self.assertNotIn("Traceback", done.stderr)
        self.assertNotIn("PASSED", done.stdout)
        for word in words:
            self.assertIn(word, done.stderr)

    def test_none(self) -> None:
        """The message names both ways to get a Python 2.7."""
        for arguments in ([], ["--quick"], ["--url", "ws://127.0.0.1:1/"]):
            with self.subTest(arguments):
                self.assert_refused(self.run_gate(*arguments), "pyenv install 2.7", "WSRELAY_PYTHON27=")

    def test_shim(self) -> None:
        """A python2.7 on PATH that does not run, such as a pyenv shim, is skipped."""
        self.executable("python2.7", "echo 'pyenv: python2.7: command not found' >&2", "exit 127")

        self.assert_refused(self.run_gate("--quick"), "pyenv install 2.7")

    def test_named_but_wrong(self) -> None:
        """WSRELAY_PYTHON27 must be a Python 2.7."""
        for named in (sys.executable, f"{self.folder}/nowhere"):
            with self.subTest(named):
                done = self.run_gate("--quick", WSRELAY_PYTHON27=named)

                self.assert_refused(done, "WSRELAY_PYTHON27", "does not run as a Python 2.7")

    def test_found(self) -> None:
        """A Python 2.7 is found on PATH after a shim, in pyenv, and by WSRELAY_PYTHON27."""
        shim = self.executable("shims/python2.7", "exit 127")
        on_path = self.executable("bin/python2.7", "printf 2.7")
        older = self.executable("pyenv/versions/2.7.9/bin/python2.7", "printf 2.7")
        newer = self.executable("pyenv/versions/2.7.18/bin/python2.7", "printf 2.7")
        pyenv = f"{self.folder}/pyenv"
        path = os.pathsep.join([str(shim.parent), str(on_path.parent)])

        self.assertEqual(on_path, python27.find({"PATH": path}))
        self.assertEqual(newer, python27.find({"PATH": str(shim.parent), "PYENV_ROOT": pyenv}))
        self.assertEqual(older, python27.find({"PATH": path, "WSRELAY_PYTHON27": str(older)}))

    def test_pyenv_root(self) -> None:
        """Without PYENV_ROOT, pyenv is asked for its root."""
        python = self.executable("root/versions/2.7.18/bin/python2.7", "printf 2.7")
        self.executable("bin/pyenv", f"echo {self.folder}/root")

        self.assertEqual(python, python27.find({"PATH": f"{self.folder}/bin"}))

    def test_half_made_environment(self) -> None:
        """An environment is complete only with the marker of the same inputs."""
        python = self.executable("env/bin/python", "printf 2.7")
        marker = Path(self.folder) / "env" / python27.MARKER

        self.assertFalse(python27._complete(python, marker, "now"))
        marker.write_text("before", encoding="ascii")
        self.assertFalse(python27._complete(python, marker, "now"))
        marker.write_text("now", encoding="ascii")
        self.assertTrue(python27._complete(python, marker, "now"))
        python.unlink()
        self.assertFalse(python27._complete(python, marker, "now"))

    def test_no_such_case(self) -> None:
        """A pattern that matches no case is refused."""
        self.assert_refused(self.run_gate("--cases", "8.*"), "no case matches 8.*")


if __name__ == "__main__":
    unittest.main()
