"""The two implementations of parse and send_all, and where the compiled one is required."""

import importlib
import os
import shutil
import sysconfig
from pathlib import Path
from types import ModuleType
from unittest import mock

import pytest

from tests.harness.live import missing
from wsrelay.wire import pure

__all__ = ["IMPLEMENTATIONS", "can_compile", "compiled", "implementation"]

#: The names of both.
IMPLEMENTATIONS = ("compiled", "pure")


def can_compile() -> bool:
    """Return whether the extension can be built here: a compiler, and the headers of this Python."""
    return bool(shutil.which("cc")) and Path(sysconfig.get_path("include"), "Python.h").exists()


def compiled() -> ModuleType:
    """Return the extension module, also while WSRELAY_PURE is set.

    Without it the test fails in CI and wherever it can be built; elsewhere the test is skipped.
    """
    with mock.patch.dict(os.environ):
        os.environ.pop("WSRELAY_PURE", None)
        try:
            return importlib.import_module("wsrelay._native")
        except ImportError:
            how = "pip install -e . with a C compiler and Python's headers, or python setup.py build_ext --inplace"
            if can_compile():
                pytest.fail(f"wsrelay._native is not built: {how}")
            missing("wsrelay._native", how)


def implementation(name: str) -> ModuleType:
    """Return the module of one implementation."""
    return compiled() if name == "compiled" else pure
