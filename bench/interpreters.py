"""The interpreter that all servers on Python run on: found once, the same for all, built with profiles (PGO).

Lives here: finding it, and facts about it. Must not live here: its environment (toolchain.py).

A build without profiles (pyenv's default) is 15-25 % slower than what users have: Debian, docker.io/python.
"""

import functools
import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

ASK_SECONDS: Final = 30

#: Runs in the interpreter that is asked.
QUESTION: Final = """
import json, platform, sys, sysconfig
print(json.dumps({
    "version": platform.python_version(),
    "compiler": platform.python_compiler(),
    "config_args": sysconfig.get_config_var("CONFIG_ARGS") or "",
    "flags": sysconfig.get_config_var("PY_CFLAGS") or "",
}))
"""

#: Where to look, after the interpreter that runs us: the same minor version of the distribution or of
#: docker.io/python, then the default one of each.
NAMES: Final = (f"python{sys.version_info.major}.{sys.version_info.minor}", "python3")
FOLDERS: Final = ("/usr/bin", "/usr/local/bin")

#: The relay's.
LEAST_VERSION: Final = (3, 11)


@dataclass(frozen=True)
class Interpreter:
    """One interpreter.

    Attributes:
        path: the executable.
        version: such as "3.11.2".
        compiler: that built it.
        config_args: CONFIG_ARGS of sysconfig.
        flags: PY_CFLAGS of sysconfig.
    """

    path: str
    version: str
    compiler: str
    config_args: str
    flags: str

    @property
    def optimised(self) -> bool:
        """Whether it was built with profiles.

        ``--enable-optimizations`` says so. Distributions ask for profiles in their own rules (Debian: ``make
        profile-opt``), which CONFIG_ARGS does not show; they are known by the prefix ``/usr``.
        """
        words = self.config_args.replace("'", "").split()
        return "--enable-optimizations" in words or "--prefix=/usr" in words

    @property
    def recent(self) -> bool:
        """Whether the relay runs on it."""
        return tuple(int(part) for part in self.version.split(".")[:2]) >= LEAST_VERSION

    def facts(self) -> dict[str, str]:
        """Give what a report says of it."""
        built = "with profiles (PGO)" if self.optimised else "WITHOUT profiles: slower than what users have"
        return {
            "Python of all servers": f"{self.version}, {self.compiler}, built {built}",
            "its CONFIG_ARGS": self.config_args.replace("'", "") or "none",
            "its flags": " ".join(self.flags.split()),
        }


class AbsentError(Exception):
    """There is no interpreter at a path; the text says so."""


@functools.cache
def ask(path: str) -> Interpreter:
    """Ask an interpreter for its facts.

    Raises:
        AbsentError: it is not there, or is none.
    """
    try:
        done = subprocess.run(
            [path, "-I", "-c", QUESTION], capture_output=True, text=True, timeout=ASK_SECONDS, check=True
        )
        return Interpreter(path, **json.loads(done.stdout))
    except (OSError, ValueError, subprocess.SubprocessError) as failure:
        raise AbsentError(f"{path} is no Python: {failure}") from failure


def candidates() -> list[str]:
    """Give where to look, best first."""
    return [sys.executable, *(f"{folder}/{name}" for name in NAMES for folder in FOLDERS)]


def find(paths: Iterable[str]) -> Interpreter:
    """Give the first one that is optimised; the first of all where none is."""
    found = []
    for path in paths:
        try:
            found.append(ask(path))
        except AbsentError:
            continue
    fitting = [one for one in found if one.recent and one.optimised]
    return (fitting or found)[0]


#: Empty until `choose`: servers then run on the interpreter that runs us, which has the relay.
_chosen: list[Interpreter] = []


def choose(path: str | None = None, has_relay: bool = False) -> Interpreter:
    """Choose the interpreter of all servers: the one at a path, or the best there is.

    Args:
        path: of the interpreter.
        has_relay: whether the interpreter that runs us has the relay: if it is the best, it is used as it is.

    Raises:
        AbsentError: there is none at the path, or the relay does not run on it.
    """
    interpreter = ask(path) if path else find(candidates())
    if not interpreter.recent:
        raise AbsentError(
            f"{path} is Python {interpreter.version}; the relay needs {LEAST_VERSION[0]}.{LEAST_VERSION[1]}"
        )
    _chosen[:] = [] if has_relay and interpreter.path == sys.executable else [interpreter]
    return interpreter


def chosen() -> Interpreter | None:
    """Give the one that was chosen; None for the one that runs us."""
    return _chosen[0] if _chosen else None
