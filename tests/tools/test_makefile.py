"""The Makefile's first steps: what somebody reads who has the wrong Python, no venv, or everything."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.harness.live import environment, require, run

ROOT = Path(__file__).resolve().parents[2]

#: An interpreter that answers like another: a shell script; `%s` is a real one.
TOO_OLD = '#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2 && exit\nexit 1\n'
NO_VENV = '#!/bin/sh\ncase "$2" in *ensurepip*) exit 1 ;; esac\nexec %s "$@"\n'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the Makefile, its sources for the time of a file, and a folder of programs."""
    (tmp_path / "wsrelay").mkdir()
    for name in ("Makefile", "setup.cfg", "setup.py", "wsrelay/_native.c"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "bin").mkdir()
    return tmp_path


def program(checkout: Path, name: str, text: str) -> Path:
    """Write a program into the folder of programs."""
    file = checkout / "bin" / name
    file.write_text(text)
    file.chmod(0o755)
    return file


def make(checkout: Path, *arguments: str) -> tuple[int, list[str]]:
    """Run make with the folder of programs first on PATH; return its status and the lines of its output."""
    environ = environment()
    environ["PATH"] = f"{checkout / 'bin'}:{environ['PATH']}"
    for name in ("MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "PYTHON", "ARGS", "COVERAGE", "DEMO", "LISTEN"):
        environ.pop(name, None)  # of the make that runs the tests
    ended = run(require("make"), "--no-print-directory", *arguments, cwd=checkout, env=environ)
    return ended.returncode, ended.stdout.splitlines()


def test_python_too_old(checkout: Path) -> None:
    """A Python that is too old is named, and so is the command to use another."""
    for version in ("", ".11", ".12", ".13", ".14"):
        program(checkout, f"python3{version}", TOO_OLD)
    status, lines = make(checkout, "relay")
    assert status == 2
    assert lines[:2] == [
        "wsrelay needs Python 3.11 or later; python3 is: Python 3.9.2",
        "Install one and name it: PYTHON=python3.12 make relay",
    ]


def test_no_venv(checkout: Path) -> None:
    """Without venv, Debian's package is named, and nothing is left."""
    python = program(checkout, "python3.12", NO_VENV % sys.executable)
    status, lines = make(checkout, "relay", f"PYTHON={python}")
    assert status == 2
    assert lines[0] == f"{python} has no venv; on Debian and Ubuntu: apt install python3.12-venv"
    assert not (checkout / ".venv").exists()


def test_progress(checkout: Path) -> None:
    """Each step is one line with its time, and the second run has none."""
    pip = '[ "$1" = -m ] && [ "$2" = venv ] && mkdir -p .venv/bin && cp "$0" .venv/bin/python\n'
    python = program(checkout, "python3", f"#!/bin/sh\n[ $1 = --version ] && echo Python 3.12.1\n{pip}exit 0\n")
    status, lines = make(checkout, ".venv/relay", f"PYTHON={python}")
    assert status == 0
    assert [line.rpartition(" ... ")[0] for line in lines] == [
        "creating .venv with Python 3.12.1",
        "installing the relay, a client and what they need into .venv",
    ]
    assert all(line.endswith(" s") for line in lines)
    assert make(checkout, "--silent", ".venv/relay", f"PYTHON={python}") == (0, [])
