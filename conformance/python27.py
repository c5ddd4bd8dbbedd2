"""Find a Python 2.7 and keep an environment with the Autobahn testsuite.

Lives here: everything needed only because the suite requires Python 2.7. Must not live here: cases, reports, the relay.

Sequence: ``find(os.environ)`` gives an interpreter; ``environment(interpreter, folder)`` makes the environment if
needed and gives its interpreter.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements-py27.txt"
SPEED_REQUIREMENTS = HERE / "requirements-py27-speed.txt"

#: The last virtualenv without dependencies; from 20.22 on virtualenv does not support Python 2.7.
VIRTUALENV = "virtualenv==16.7.12"

#: Written last, so only a complete environment has it. Contains the hash of the environment's inputs.
MARKER = "complete"

#: Bounds in seconds: a query of an interpreter, and a step of making the environment.
ASK_SECONDS = 30
STEP_SECONDS = 900

#: Printed lines of a failed step's output.
TAIL_LINES = 15

HOW_TO_GET_ONE = """\
No Python 2.7 was found, and the Autobahn testsuite needs one. To get one:
  pyenv install 2.7.18              found automatically, also when not activated
  WSRELAY_PYTHON27=/path/python2.7  its path otherwise"""


class NoPython27Error(Exception):
    """No working Python 2.7 was found; the message says how to get one."""


class StepError(Exception):
    """A step of making the environment failed; the message has the end of its output."""


def find(environ: Mapping[str, str]) -> Path:
    """Find a working Python 2.7.

    Args:
        environ: has ``WSRELAY_PYTHON27``, ``PATH`` and ``PYENV_ROOT``. The first, if set, is the only candidate.

    Raises:
        NoPython27Error: no candidate works.
    """
    named = environ.get("WSRELAY_PYTHON27")
    if named:
        if _is_python27(Path(named)):
            return Path(named)
        raise NoPython27Error(f"WSRELAY_PYTHON27 is {named}, which does not run as a Python 2.7.")
    for candidate in (*_on_path(environ), *_of_pyenv(environ)):
        if _is_python27(candidate):
            return candidate
    raise NoPython27Error(HOW_TO_GET_ONE)


def _on_path(environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield all ``python2.7`` on PATH: the first may be a pyenv shim that does not run."""
    for folder in os.get_exec_path(environ):
        yield Path(folder) / "python2.7"


def _of_pyenv(environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield pyenv's Python 2.7 versions, activated or not, newest first."""
    root = environ.get("PYENV_ROOT") or _pyenv_root(environ)
    if root:
        found = Path(root).glob("versions/2.7.*/bin/python2.7")
        yield from sorted(found, key=lambda path: _release(path.parts[-3]), reverse=True)


def _release(version: str) -> int:
    """Return 18 for 2.7.18, so that 2.7.9 sorts below it."""
    last = version.rpartition(".")[2]
    return int(last) if last.isdigit() else 0


def _pyenv_root(environ: Mapping[str, str]) -> str:
    """Return pyenv's root; empty without pyenv."""
    pyenv = shutil.which("pyenv", path=environ.get("PATH", os.defpath))
    return _answer([pyenv, "root"], environ) if pyenv else ""


def _is_python27(python: Path) -> bool:
    """Return whether an interpreter runs and is version 2.7."""
    question = "import sys; sys.stdout.write('%d.%d' % sys.version_info[:2])"
    return python.is_file() and _answer([str(python), "-c", question], os.environ) == "2.7"


def _answer(command: list[str], environ: Mapping[str, str]) -> str:
    """Return the output of a command; empty if it fails, is missing or times out."""
    try:
        done = subprocess.run(
            command, env=clean(environ), capture_output=True, text=True, timeout=ASK_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def clean(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables without those of the running Python."""
    return {key: value for key, value in environ.items() if not key.startswith(("PYTHON", "__PYVENV"))}


def environment(python27: Path, folder: Path) -> Path:
    """Return the interpreter of an environment with the testsuite; make the environment if needed.

    An environment without its marker, from other requirements or by another Python 2.7 is made again. Of two concurrent
    runs, the second waits for the first.

    Args:
        python27: interpreter of the environment; must stay in place.
        folder: of the environment.

    Raises:
        StepError: a step failed.
    """
    python = folder / "bin" / "python"
    digest = _digest(python27)
    with _alone(folder.parent):
        if not _complete(python, folder / MARKER, digest):
            print(f"making a Python 2.7 environment in {folder} (once, about a minute)", flush=True)
            _make(python27, folder)
            (folder / MARKER).write_text(digest, encoding="ascii")
    return python


def _digest(python27: Path) -> str:
    """Return the hash of the environment's inputs."""
    files = [path.read_text(encoding="utf-8") for path in (REQUIREMENTS, SPEED_REQUIREMENTS)]
    return hashlib.sha256("\0".join([str(python27), VIRTUALENV, *files]).encode()).hexdigest()


def _complete(python: Path, marker: Path, digest: str) -> bool:
    """Return whether the environment is complete, from the same inputs, and its interpreter runs."""
    return marker.is_file() and marker.read_text(encoding="ascii") == digest and _is_python27(python)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a lock on the folder itself; no lock file is needed. The steps bound its duration."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _make(python27: Path, folder: Path) -> None:
    """Make the environment from scratch.

    Raises:
        StepError: a required step failed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as bootstrap:
        _install_virtualenv(python27, bootstrap)
        _step([str(python27), f"{bootstrap}/virtualenv.py", "--no-download", str(folder)])
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--no-deps"]
    _step([*pip, "-r", str(REQUIREMENTS)])
    try:
        # No build isolation: pip would fetch a Cython that the build does not use.
        _step([*pip, "--no-build-isolation", "-r", str(SPEED_REQUIREMENTS)])
    except StepError:
        print("wsaccel does not build here (no C compiler?): wstest will be slower, no less exact")


def _install_virtualenv(python27: Path, target: str) -> None:
    """Install virtualenv into a folder, with the pip of Python 2.7 or else of the running Python.

    Raises:
        StepError: both failed.
    """
    command = ["-m", "pip", "install", "--no-deps", "--target", target, VIRTUALENV]
    try:
        _step([str(python27), *command])
    except StepError:
        _step([sys.executable, *command])


def _step(command: list[str]) -> None:
    """Run one step of making the environment, without output.

    Raises:
        StepError: the step failed or timed out.
    """
    # Either setting makes pip refuse to install into a folder.
    environ = clean(os.environ) | {"PIP_REQUIRE_VIRTUALENV": "0", "PIP_USER": "0"}
    try:
        subprocess.run(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=STEP_SECONDS,
            check=True,
        )
    except subprocess.CalledProcessError as failure:
        raise StepError("\n".join([str(failure), *failure.stdout.splitlines()[-TAIL_LINES:]])) from failure
    except (OSError, subprocess.TimeoutExpired) as failure:
        raise StepError(str(failure)) from failure
