"""``wsrelay selftest``."""

import argparse
import contextlib
import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock

from tests.harness import live
from tests.harness.selftest import SelftestCase, finish
from tests.harness.support import Answer
from wsrelay.commands import selftest
from wsrelay.commands.main import main
from wsrelay.errors import Denied
from wsrelay.selftest.cases import chosen


class CommandTests(SelftestCase):
    """Arguments, output and exit codes."""

    def run_main(self, *words: str) -> tuple[int, str, str]:
        """Return exit code, output and errors of the command."""
        code, output, errors = 0, io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            try:
                code = main(["selftest", *words])
            except SystemExit as ended:
                code = int(ended.code or 0)
        return code, output.getvalue(), errors.getvalue()

    def tried(
        self, *words: str, validators: Any = None, changes: Mapping[str, Any] = MappingProxyType({}), **settings: Any
    ) -> tuple[int, str, str]:
        """Return the same of cases against a relay in memory."""
        parser = argparse.ArgumentParser("wsrelay selftest")
        selftest.configure(parser)
        arguments = parser.parse_args(words)
        arguments.parser = parser
        relay = self.relay(validators, **settings)
        output, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            code = finish(relay, selftest.tried(self.lab(relay, **changes), chosen(arguments.only), arguments))
        return code, output.getvalue(), errors.getvalue()

    def test_pass(self) -> None:
        """A pass is 0, a difference 1, unless it is allowed; no way in is 2."""
        only = ["--only", "others-only", "--only", "ping", "--timeout", "20", "--max-message-bytes", "9000"]
        code, output, errors = self.tried(*only)
        self.assertEqual((code, errors, "2 cases in" in output), (0, "", True))
        self.assertEqual(self.tried(*only, echo=True)[0], 1)
        self.assertEqual(self.tried(*only, "--allow", "others-only", echo=True)[0], 0)
        code, output, errors = self.tried(*only, validators=(Answer(Denied(401, "no token")),))
        self.assertEqual((code, output), (2, ""))
        self.assertEqual(
            errors,
            "wsrelay selftest: ws://relay.example:8080/: the handshake of the client got 401 no token;"
            " give a token with --token, or in WSRELAY_TOKEN\n",
        )

    def test_no_control_characters(self) -> None:
        """What a server says cannot control the terminal."""
        lines = {"down": lambda data: data.replace(b"no token", b"\x1b]0;a\x07\x9b") if b" 401 " in data else data}
        _, _, errors = self.tried(changes=lines, validators=(Answer(Denied(401, "no token")),))
        self.assertIn(r"got 401 \x1b]0;a\x07", errors)
        self.assertTrue(errors[:-1].isprintable(), errors)

    def test_json(self) -> None:
        """JSON and nothing else."""
        code, output, _ = self.tried("--only", "ping", "--json")
        self.assertEqual((code, len(json.loads(output)["results"])), (0, 1))

    def test_list(self) -> None:
        """The list of cases needs no relay."""
        code, output, _ = self.run_main("--list", "--only", "Delivery")
        self.assertEqual(code, 0)
        self.assertIn("  others-only ", output)
        self.assertNotIn("  ping ", output)

    def test_wrong_usage(self) -> None:
        """Wrong arguments are 2, and named."""
        for words, seen in (
            (["ftp://a/"], "write ws://HOST:PORT/ or wss://HOST/"),
            (["--only", "x"], "no case or group has the name x"),
            (["--allow", "x"], "no case or group has the name x"),
            (["--timeout", "0"], "must be a number above 0"),
            (["--max-message-bytes", "x"], "must be a number above 0"),
        ):
            code, _, errors = self.run_main(*words)
            self.assertEqual((code, seen in errors), (2, True), errors)

    def test_run(self) -> None:
        """All arguments arrive, and the exit code is that of the cases; 2 if the certificate cannot be read."""
        labs: list[Any] = []

        async def tried(lab: Any, cases: Any, _arguments: Any) -> int:
            labs.append((lab, [case.name for case in cases]))
            return 1

        def run_reactor(work: Any) -> int:
            code: int = self.successResultOf(Deferred.fromCoroutine(work(MemoryReactorClock())))
            return code

        self.patch(selftest, "tried", tried)
        self.patch(selftest, "run_reactor", run_reactor)
        words = ("--only", "ping", "--timeout", "9", "--max-message-bytes", "99", "--room", "r", "--token", "t")
        self.assertEqual(self.run_main("wss://localhost/a", *words)[0], 1)
        ((lab, cases),) = labs
        self.assertEqual((lab.room, lab.target.token, cases), ("/a/r", "t", ["ping"]))
        self.assertEqual((lab.bounds.seconds, lab.bounds.max_message_bytes), (9, 99))
        code, _, errors = self.run_main("wss://localhost/", "--ca", "/nowhere/at-all")
        self.assertEqual((code, "No such file" in errors), (2, True))

    def test_colours(self) -> None:
        """Colours on a terminal only, and not if NO_COLOR is set."""
        self.assertFalse(selftest._has_colours())
        terminal = io.StringIO()
        terminal.isatty = lambda: True  # type: ignore[method-assign]
        self.patch(sys, "stdout", terminal)
        environment: dict[str, str] = {}
        self.patch(selftest.os, "environ", environment)
        self.assertTrue(selftest._has_colours())
        environment["NO_COLOR"] = "1"
        self.assertFalse(selftest._has_colours())


_FAST = ("opening", "delivery", "sizes", "compression", "slow and broken members", "ends", "unmasked", "foreign-origin")


@pytest.mark.interop
def test_a_relay_on_sockets(tmp_path: Path) -> None:
    """A relay with default options passes over TCP and over TLS, and the command says so."""
    certificate = live.make_certificate(tmp_path)
    tls = f"ssl:0:interface=127.0.0.1:privateKey={certificate}:certKey={certificate}"
    with live.relay(listen=(live.LOOPBACK, tls)) as relay:
        for url, names, words in (
            (relay.addresses[0], _FAST, []),
            (relay.addresses[1], ["everyone-else", "largest", "never-reader"], ["--ca", str(certificate)]),
        ):
            only = [word for name in names for word in ("--only", name)]
            ran = live.run(sys.executable, "-m", "wsrelay", "selftest", url, *only, *words)
            assert (ran.returncode, " 0 differs, 0 fails, 0 skipped" in ran.stdout) == (0, True), ran.stdout
        untrusted = live.run(sys.executable, "-m", "wsrelay", "selftest", relay.addresses[1])
        assert (untrusted.returncode, "certificate verify failed" in untrusted.stdout) == (2, True), untrusted.stdout
