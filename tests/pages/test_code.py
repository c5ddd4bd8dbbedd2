"""The blocks of Python and JavaScript on the pages: whole programs are run, all others are compiled or defined."""

import json
import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest
import twisted.internet
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.live import require, run
from tests.pages.page import PAGES, blocks

#: What the reactor of a page's program is here: it listens nowhere, and returns at once.
REACTOR = "twisted.internet.reactor"

#: Parses each of a list of scripts, in which ``await`` may stand at the top, and prints the problems.
PARSE = """
const AsyncFunction = (async () => {}).constructor;
for (const [where, code] of JSON.parse(require("fs").readFileSync(0, "utf-8"))) {
  try { new AsyncFunction(code); } catch (error) { console.log(`${where}: ${error.message}`); }
}
"""


class Gate:
    """The validator that validators.md tests."""

    def __init__(self, arguments: str) -> None:
        self.rooms = arguments.split(",")

    def validate(self, request: Any, grant: Any) -> Any:
        return grant.narrowed(identity="anna") if grant.room in self.rooms else grant


def restore(name: str, module: Any) -> None:
    """Put a module back, or none."""
    sys.modules.pop(name)
    if module is not None:
        sys.modules[name] = module


class PythonTests(SynchronousTestCase):
    """Python."""

    def setUp(self) -> None:
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(folder)
        (folder / "relay").mkdir()
        (folder / "relay" / "relay.key").write_text("a secret of at least thirty-two bytes\n", "utf-8")
        gate: Any = ModuleType("mysite.gate")
        gate.Gate = Gate
        clock = MemoryReactorClock()
        self.enterContext(mock.patch.object(twisted.internet, "reactor", clock, create=True))
        # Not mock.patch.dict, which would forget what the blocks import.
        for name, module in ((REACTOR, clock), ("mysite", ModuleType("mysite")), ("mysite.gate", gate)):
            self.addCleanup(restore, name, sys.modules.get(name))
            sys.modules[name] = module

    def test_blocks(self) -> None:
        """Each block runs without an exception; one that needs a package of others is compiled only."""
        ran = 0
        for block in (block for page in PAGES for block in blocks(page, "python")):
            code = compile(block.text, str(block), "exec")
            if "reactor.install()" in block.text:  # this process has its reactor
                continue
            try:
                exec(code, {"__name__": "program"})  # noqa: S102 - that is the test
            except ModuleNotFoundError as error:
                self.assertFalse(str(error.name).startswith(("wsrelay", "twisted", "jwt")), f"{block}: {error}")
            else:
                ran += 1
        self.assertGreater(ran, 6)


@pytest.mark.interop
def test_javascript() -> None:
    """Node parses each block of JavaScript."""
    found = [(str(block), block.text) for page in PAGES for block in blocks(page, "js")]
    assert len(found) > 5
    assert run(require("node"), "-e", PARSE, input=json.dumps(found), stdin=None).stdout == ""
