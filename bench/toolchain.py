"""Make what the servers need: compiled C, an environment of Python packages, ws for Node; other tools have one, too.

Lives here: all that is made once and kept beside this file, where git ignores it. Must not live here: which
server needs what.

Every function gives what it has made, or raises `MissingError`, whose text says what is missing and how to
get it. A second run finds what the first has made.
"""

import functools
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import interpreters

HERE = Path(__file__).resolve().parent
BUILD = HERE / ".build"
PEERS = HERE / "peers"
REQUIREMENTS = "requirements.txt"

#: The load generator with TLS, which needs OpenSSL.
LOAD_TLS = "load-tls"

#: Certificate and key of the TLS rows.
CERTIFICATE, KEY = "certificate.pem", "key.pem"

#: Written last, so that only what is complete has it. Holds the hash of what it was made from.
MARKER = ".complete"

#: Program → the Debian packages that have it.
PACKAGES = {
    "cc": "gcc libc6-dev zlib1g-dev libssl-dev",
    "nats-server": "nats-server",
    "nginx": "nginx libnginx-mod-nchan",
    "node": "nodejs",
    "npm": "npm",
    "openssl": "openssl",
    "redis-server": "redis-server",
    "valgrind": "valgrind",
}

#: Libraries and options of our C programs; one of these is a library itself.
LIBRARIES = {"load": ["-lz"], LOAD_TLS: ["-DTLS", "-lz", "-lssl", "-lcrypto"], "callgrind": ["-shared", "-fPIC"]}

#: Sources of a program, where it has others than the file of its name.
SOURCES = {LOAD_TLS: ("load.c", "load_tls.c", "load_tls.h")}

NCHAN = "ngx_nchan_module.so"

#: Bounds: one step of making something, and one question to a program.
STEP_SECONDS = 600
ASK_SECONDS = 30

TAIL_LINES = 8


class MissingError(Exception):
    """Something is not there, and could not be made; the text says what, and how to get it."""


def program(name: str) -> str:
    """Find a program that nobody here wrote.

    Raises:
        MissingError: it is not installed.
    """
    path = shutil.which(name)
    if path is None:
        raise MissingError(f"not installed: apt-get install {PACKAGES[name]}")
    return path


def relay() -> None:
    """Make sure that the servers' Python has the relay: the chosen one gets that of this checkout.

    Raises:
        MissingError: it has not.
    """
    if interpreters.chosen():
        python()
        return
    if importlib_finds("wsrelay"):
        return
    raise MissingError("not installed: run this with the Python of an environment that has wsrelay, as make bench does")


def hiredis() -> None:
    """Make sure that the servers' Python has hiredis, as a relay with a Redis needs it.

    Raises:
        MissingError: it has not.
    """
    if not interpreters.chosen() and not importlib_finds("hiredis"):
        raise MissingError("hiredis is not installed: pip install 'wsrelay[redis]'")


def redis() -> str:
    """Find the broker's program.

    Raises:
        MissingError: it is not installed.
    """
    return program("redis-server")


def importlib_finds(name: str) -> bool:
    """Whether the Python that runs us has a package; in a process of its own, where this folder is not on the path."""
    question = f"import importlib.util as u, sys; sys.exit(u.find_spec({name!r}) is None)"
    return subprocess.run([sys.executable, "-I", "-c", question], check=False, timeout=ASK_SECONDS).returncode == 0


@functools.cache
def compiled(name: str) -> Path:
    """Compile one of our C programs, where its source is newer than what is there.

    Raises:
        MissingError: there is no compiler, or it has something to say.
    """
    sources, target = [HERE / file for file in SOURCES.get(name, (f"{name}.c",))], BUILD / name
    if not target.exists() or target.stat().st_mtime < max(source.stat().st_mtime for source in sources):
        compiler = program("cc")
        BUILD.mkdir(exist_ok=True)
        # Renamed when it is complete: another run may be using the old one, or making it, too.
        fresh = target.with_suffix(f".{os.getpid()}")
        try:
            files = [str(source) for source in sources if source.suffix == ".c"]
            step([compiler, "-O2", "-o", str(fresh), *files, *LIBRARIES.get(name, ())])
        except MissingError as failure:
            needed = f"{PACKAGES['cc']} {PACKAGES['valgrind']}"
            raise MissingError(f"{failure}\n(if a header is missing: apt-get install {needed})") from failure
        fresh.replace(target)
    return target


@functools.cache
def certificate() -> Path:
    """Give a certificate (ECDSA P-256) with its key beside it; made first where it is not there.

    Raises:
        MissingError: there is no openssl, or it has something to say.
    """
    target = BUILD / CERTIFICATE
    if not target.exists():
        BUILD.mkdir(exist_ok=True)
        kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-days", "3650"]
        files = ["-keyout", str(BUILD / KEY), "-out", str(target)]
        step([program("openssl"), "req", "-x509", *kind, "-subj", "/CN=127.0.0.1", *files])
    return target


def tls() -> None:
    """Make what TLS rows need.

    Raises:
        MissingError: there is no OpenSSL.
    """
    compiled(LOAD_TLS)
    certificate()


def python() -> Path:
    """Give the interpreter of the environment of the servers on Python: the peers, the plots, and the relay if chosen.

    Raises:
        MissingError: it could not be made.
    """
    chosen = interpreters.chosen()
    return environment(HERE, chosen.path, with_relay=True) if chosen else environment(HERE)


def has_python() -> bool:
    """Whether that environment is there already."""
    chosen = interpreters.chosen()
    if chosen:
        return is_complete(
            environment_folder(HERE, chosen.path), environment_digest(HERE, chosen.path, with_relay=True)
        )
    return is_complete(environment_folder(HERE), environment_digest(HERE))


@functools.cache
def environment(home: Path, base: str = sys.executable, with_relay: bool = False) -> Path:
    """Give the interpreter of the environment that has what a tool needs; made first where it is not there.

    Args:
        home: the tool's folder, with its `requirements.txt`.
        base: the interpreter that it is made from.
        with_relay: with the relay of this checkout, editable.

    Raises:
        MissingError: it could not be made.
    """
    folder, digest = environment_folder(home, base), environment_digest(home, base, with_relay)
    interpreter = folder / "bin" / "python"
    if not is_complete(folder, digest):
        print(f"making {home.name}/.env (once, about a minute)", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        # Debian's Python has no ensurepip without another package: the pip of the Python that runs us does it.
        step([base, "-m", "venv", "--without-pip", str(folder)])
        pip = [sys.executable, "-m", "pip", "--python", str(interpreter), "--quiet", "--disable-pip-version-check"]
        relay = ["--editable", str(HERE.parent)] if with_relay else []
        step([*pip, "install", "--requirement", str(home / REQUIREMENTS), *relay])
        (folder / MARKER).write_text(digest, encoding="ascii")
    return interpreter


def packages(home: Path) -> Path:
    """Give the folder with the packages of that environment, for a Python of the same version to find them in.

    Raises:
        MissingError: it could not be made.
    """
    return Path(step([str(environment(home)), "-c", "import sysconfig; print(sysconfig.get_path('platlib'))"]).strip())


def environment_folder(home: Path, base: str = sys.executable) -> Path:
    """Give where a tool's environment is: one for each Python that has run us, and for each that was chosen."""
    if base == sys.executable:
        return home / ".env" / f"{sys.version_info.major}.{sys.version_info.minor}"
    known = interpreters.ask(base)
    return home / ".env" / f"{known.version}-{hashlib.sha256(base.encode()).hexdigest()[:8]}"


def environment_digest(home: Path, base: str = sys.executable, with_relay: bool = False) -> str:
    """Hash all that decides what a tool's environment holds."""
    version = sys.version if base == sys.executable else repr(interpreters.ask(base))
    relay = b"".join(file.read_bytes() for file in relay_build_files()) if with_relay else b""
    return hashlib.sha256(version.encode() + (home / REQUIREMENTS).read_bytes() + relay).hexdigest()


def relay_build_files() -> list[Path]:
    """Give the files that decide how the relay is installed: its metadata, and the sources of compiled parts."""
    root = HERE.parent
    named = [root / name for name in ("setup.cfg", "setup.py", "pyproject.toml")]
    return [*(file for file in named if file.exists()), *sorted((root / "wsrelay").rglob("*.[ch]"))]


@functools.cache
def node_modules() -> Path:
    """Give the folder with ws for Node; filled first where it is not there.

    Raises:
        MissingError: there is no Node, or it could not be filled.
    """
    folder = PEERS / "node_modules"
    program("node")
    digest = hashlib.sha256((PEERS / "package-lock.json").read_bytes()).hexdigest()
    if not is_complete(folder, digest):
        step([program("npm"), "ci", "--silent", "--ignore-scripts", "--prefix", str(PEERS)])
        (folder / MARKER).write_text(digest, encoding="ascii")
    return folder


@functools.cache
def nchan() -> Path:
    """Find the module that makes nginx a relay.

    Raises:
        MissingError: there is no nginx, or it has no such module.
    """
    options = answer([program("nginx"), "-V"]).split()
    folders = [word.partition("=")[2] for word in options if word.startswith("--modules-path=")]
    for folder in folders:
        if (Path(folder) / NCHAN).exists():
            return Path(folder) / NCHAN
    raise MissingError(f"not installed: apt-get install {PACKAGES['nginx']}")


def is_complete(folder: Path, digest: str) -> bool:
    """Whether a folder was made to its end, from the same things."""
    marker = folder / MARKER
    return marker.is_file() and marker.read_text(encoding="ascii") == digest


def answer(command: Sequence[str | Path], folder: Path = HERE) -> str:
    """Give what a program prints, both streams in one; empty where it is not there or fails."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=ASK_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def step(command: Sequence[str]) -> str:
    """Run one step of making something, and give what it printed, both streams in one.

    Raises:
        MissingError: it failed or took too long.
    """
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=STEP_SECONDS,
            check=True,
        )
    except subprocess.CalledProcessError as failure:
        said = failure.stdout.splitlines()[-TAIL_LINES:]
        raise MissingError("\n".join([f"{Path(command[0]).name} failed:", *said])) from failure
    except (OSError, subprocess.TimeoutExpired) as failure:
        raise MissingError(f"{Path(command[0]).name} failed: {failure}") from failure
    return done.stdout
