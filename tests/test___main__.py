"""Tests of wsrelay.__main__."""

import io
import os
import runpy
import sys
import tempfile
from contextlib import redirect_stdout
from types import SimpleNamespace

from twisted.trial.unittest import SynchronousTestCase

import wsrelay
from wsrelay import __version__


class MainTests(SynchronousTestCase):
    """The program."""

    def run_module(self, *words: str) -> str:
        """Run it, and return what it prints."""
        self.patch(sys, "argv", ["/somewhere/wsrelay/__main__.py", *words])
        with redirect_stdout(io.StringIO()) as said:
            end = self.assertRaises(SystemExit, runpy.run_module, "wsrelay.__main__", run_name="__main__")
        self.assertEqual(end.code, 0)
        return said.getvalue()

    def test_module(self) -> None:
        """``python -m wsrelay`` is the command, and says so in its help."""
        self.assertEqual(self.run_module("--version"), f"wsrelay {__version__}\n")
        self.assertTrue(self.run_module().startswith("Usage: python3 -m wsrelay "))

    def test_current_folder(self) -> None:
        """The current folder, which Python puts first, is not looked in; any other folder is, and that of wsrelay."""
        folder = self.enterContext(tempfile.TemporaryDirectory())
        other = self.enterContext(tempfile.TemporaryDirectory())
        here = os.path.dirname(os.path.dirname(wsrelay.__file__))
        self.addCleanup(os.chdir, os.getcwd())
        usual = {name: getattr(sys.flags, name) for name in dir(sys.flags) if not name.startswith("_")}
        unsafe, safe = (SimpleNamespace(**usual | {"safe_path": is_safe}) for is_safe in (False, True))
        for current, first, flags, is_left in (
            (folder, folder, unsafe, True),
            (folder, "", unsafe, True),
            (folder, folder, safe, False),
            (folder, other, unsafe, False),
            (folder, "/nowhere", unsafe, False),
            (here, here, unsafe, False),
        ):
            os.chdir(current)
            path = [first, *sys.path]
            with self.subTest(current=current, first=first):
                self.patch(sys, "path", path)
                self.patch(sys, "flags", flags)
                self.run_module("--version")
                self.assertEqual(len(path), len(sys.path))
                self.assertEqual(path[0] != first, is_left)

    def test_import(self) -> None:
        """An import runs nothing."""
        runpy.run_module("wsrelay.__main__", run_name="wsrelay.__main__")
