"""Find a Python 2.7 and keep an environment of it that holds the Autobahn testsuite.

Lives here: everything that is only needed because the suite never left Python 2.7. Must not live here:
anything about cases, reports or the relay.

Sequence: ``find(os.environ)`` gives an interpreter, ``environment(interpreter, folder)`` the interpreter of
the environment, which it makes first when it is not there or not complete.
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

#: The last virtualenv that is one file of pure Python without dependencies; from 20.22 on it makes no
#: Python 2.7.
VIRTUALENV = "virtualenv==16.7.12"

#: Written last, so that only a complete environment has it. Holds the hash of what the environment was made
#: from.
MARKER = "complete"

#: Bounds: one question to an interpreter, and one step of making the environment.
ASK_SECONDS = 30
STEP_SECONDS = 900

#: How many lines of a failed step's output are shown.
TAIL_LINES = 15

HOW_TO_GET_ONE = """\
No Python 2.7 was found, and the Autobahn testsuite runs on nothing else. To get one:
  pyenv install 2.7.18              it is then found by itself; it need not be activated
  WSRELAY_PYTHON27=/path/python2.7  names one that is somewhere else"""


class NoPython27Error(Exception):
    """There is no Python 2.7 here that runs; the text says how to get one."""


class StepError(Exception):
    """A step of making the environment failed; the text has the end of its output."""


def find(environ: Mapping[str, str]) -> Path:
    """Find a Python 2.7 that really runs.

    Args:
        environ: where ``WSRELAY_PYTHON27``, ``PATH`` and ``PYENV_ROOT`` are looked up. The first, when set,
            is the only one that is tried.

    Raises:
        NoPython27Error: none of the candidates runs as a Python 2.7.
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
    """Yield every ``python2.7`` on PATH: the first may be a shim of pyenv, which exists but does not run."""
    for folder in os.get_exec_path(environ):
        yield Path(folder) / "python2.7"


def _of_pyenv(environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield the Python 2.7 versions that pyenv has installed, activated or not, newest first."""
    root = environ.get("PYENV_ROOT") or _pyenv_root(environ)
    if root:
        found = Path(root).glob("versions/2.7.*/bin/python2.7")
        yield from sorted(found, key=lambda path: _release(path.parts[-3]), reverse=True)


def _release(version: str) -> int:
    """Take 18 from 2.7.18, so that 2.7.9 sorts below it."""
    last = version.rpartition(".")[2]
    return int(last) if last.isdigit() else 0


def _pyenv_root(environ: Mapping[str, str]) -> str:
    """Ask pyenv where its versions are; empty when there is no pyenv."""
    pyenv = shutil.which("pyenv", path=environ.get("PATH", os.defpath))
    return _answer([pyenv, "root"], environ) if pyenv else ""


def _is_python27(python: Path) -> bool:
    """Whether it runs and says that it is version 2.7."""
    question = "import sys; sys.stdout.write('%d.%d' % sys.version_info[:2])"
    return python.is_file() and _answer([str(python), "-c", question], os.environ) == "2.7"


def _answer(command: list[str], environ: Mapping[str, str]) -> str:
    """Run a command and take what it prints; empty when it fails, is not there or takes too long."""
    try:
        done = subprocess.run(
            command, env=clean(environ), capture_output=True, text=True, timeout=ASK_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def clean(environ: Mapping[str, str]) -> dict[str, str]:
    """Copy the environment variables without those that are meant for the Python that runs us."""
    return {key: value for key, value in environ.items() if not key.startswith(("PYTHON", "__PYVENV"))}


def environment(python27: Path, folder: Path) -> Path:
    """Give the interpreter of an environment that holds the testsuite; make the environment when needed.

    An environment without its marker is a half-made one: it is thrown away and made anew, and so is one
    made from other requirements or by another Python 2.7. Two runs at once make it once: the second waits
    for the first.

    Args:
        python27: makes the environment, and must stay where it is for as long as that is used.
        folder: where the environment is or will be.

    Raises:
        StepError: it could not be made.
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
    """Hash all that decides what an environment holds."""
    files = [path.read_text(encoding="utf-8") for path in (REQUIREMENTS, SPEED_REQUIREMENTS)]
    return hashlib.sha256("\0".join([str(python27), VIRTUALENV, *files]).encode()).hexdigest()


def _complete(python: Path, marker: Path, digest: str) -> bool:
    """Whether the environment was made to its end, from the same things, and its interpreter still runs."""
    return marker.is_file() and marker.read_text(encoding="ascii") == digest and _is_python27(python)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a lock on the folder itself, which leaves no file behind. Every holder is bounded by its steps."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _make(python27: Path, folder: Path) -> None:
    """Make the environment from nothing.

    Raises:
        StepError: a step other than the optional one failed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as bootstrap:
        _install_virtualenv(python27, bootstrap)
        _step([str(python27), f"{bootstrap}/virtualenv.py", "--no-download", str(folder)])
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--no-deps"]
    _step([*pip, "-r", str(REQUIREMENTS)])
    try:
        # Without build isolation, or pip first fetches a Cython that the build does not use.
        _step([*pip, "--no-build-isolation", "-r", str(SPEED_REQUIREMENTS)])
    except StepError:
        print("wsaccel does not build here (no C compiler?): wstest will be slower, no less exact")


def _install_virtualenv(python27: Path, target: str) -> None:
    """Put virtualenv into a folder, with Python 2.7's pip or, where it has none, ours.

    Raises:
        StepError: neither could do it.
    """
    command = ["-m", "pip", "install", "--no-deps", "--target", target, VIRTUALENV]
    try:
        _step([str(python27), *command])
    except StepError:
        _step([sys.executable, *command])


def _step(command: list[str]) -> None:
    """Run one step of making the environment, quietly.

    Raises:
        StepError: it failed or took too long.
    """
    # Either setting would refuse an installation into a folder.
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
