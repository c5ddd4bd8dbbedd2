"""Say whether the relay has become slower or larger: instructions per message, and KiB per idle connection.

Instructions are counted by callgrind, and do not depend on what else the machine does; see `instructions.py`. What they
may be is in `limits.toml`, for each minor version of Python: another one takes others, and so does another build.

Lives here: counting them, the limits, and the comparison. Must not live here: the work, which is `work.GUARDED`.
"""

import importlib.metadata
import json
import os
import platform
import re
import sys
import sysconfig
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import idle
import processes
import toolchain
import work

HERE: Final = Path(__file__).resolve().parent
LIMITS: Final = HERE / "limits.toml"

#: The name and the title of the one figure that is not instructions.
MEMORY: Final = "idle-kib"
MEMORY_TITLE: Final = "KiB per idle connection that has had pongs"

#: What a limit is, as a multiple of what was measured.
ROOM: Final = 1.05

#: A bound on counting, which takes less than a minute.
COUNT_SECONDS: Final = 600

#: Packages whose instructions are counted with the relay's.
PACKAGES: Final = ("twisted", "autobahn")

#: Variables without which the interpreter may not find itself, or the relay. There are no others while it is counted.
KEPT_VARIABLES: Final = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")

HEAD: Final = f"""\
# What bench/run --guard allows, for each minor version of Python: instructions per message, or per handshake, and
# KiB per idle connection. Written by bench/run --guard --write-limits: what was measured, times {ROOM}.
"""


@dataclass(frozen=True)
class Limits:
    """What is allowed on one minor version of Python.

    Attributes:
        build: of the interpreter that it was measured with.
        packages: with which versions of others' packages.
        figures: name → the highest that it may be.
    """

    build: str
    packages: str
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """One comparison.

    Attributes:
        text: what was compared, with which outcome.
        passed: whether it is within the limit.
    """

    text: str
    passed: bool


def interpreter() -> str:
    """Name the tables of this interpreter: its minor version."""
    return f"python-{sys.version_info.major}.{sys.version_info.minor}"


def build() -> str:
    """Describe this interpreter as far as it changes the instructions: version, compiler, optimisation, options."""
    configured = re.findall(r"--(?:enable|with)[\w-]*(?:=[\w,-]*)?(?=')", sysconfig.get_config_var("CONFIG_ARGS") or "")
    levels = re.findall(r"-O\w+", sysconfig.get_config_var("PY_CFLAGS") or "")[-1:]
    words = [platform.python_version(), platform.python_compiler(), *levels, *configured]
    return ", ".join([*words, "PGO" if "--enable-optimizations" in configured else "no PGO"])


def packages() -> str:
    """Give the versions of the packages that are counted with the relay."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)


def titles() -> dict[str, str]:
    """Give what is compared, by name, for people."""
    return {row.name: f"instructions: {row.title}" for row in work.GUARDED.values()} | {MEMORY: MEMORY_TITLE}


# --- limits -----------------------------------------------------------------------------------------------------------


def read_limits(path: Path = LIMITS) -> dict[str, Limits]:
    """Read the limits of all interpreters."""
    if not path.exists():
        return {}
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    return {name: Limits(table["build"], table["packages"], table["limits"]) for name, table in tables.items()}


def write_limits(figures: Mapping[str, float], path: Path = LIMITS) -> None:
    """Allow what was measured and a little more on this interpreter; the limits of the others stay."""
    allowed = {name: rounded(figure * ROOM) for name, figure in figures.items()}
    limits = read_limits(path) | {interpreter(): Limits(build(), packages(), allowed)}
    versions = sorted(limits, key=lambda name: [int(part) for part in name.removeprefix("python-").split(".")])
    path.write_text(HEAD + "".join(_table(name, limits[name]) for name in versions), encoding="utf-8")


def rounded(figure: float) -> float:
    """Round a figure: instructions to whole ones, KiB to hundredths."""
    return round(figure) if figure >= 1000 else round(figure, 2)


def _table(name: str, limits: Limits) -> str:
    """Write the limits of one interpreter."""
    lines = [f'["{name}"]', f"build = {json.dumps(limits.build)}", f"packages = {json.dumps(limits.packages)}"]
    lines += ["", f'["{name}".limits]', *(f"{row} = {limit}" for row, limit in limits.figures.items())]
    return "\n" + "\n".join(lines) + "\n"


# --- the comparison ---------------------------------------------------------------------------------------------------


def differences(limits: Limits) -> list[str]:
    """Say where this interpreter is another one than the one that the limits were measured with."""
    pairs = ((limits.build, build()), (limits.packages, packages()))
    return [f"note: the limits were measured with {theirs}; this is {ours}" for theirs, ours in pairs if theirs != ours]


def verdicts(figures: Mapping[str, float], limits: Limits) -> list[Verdict]:
    """Compare all that is measured or limited. What has no figure, or no limit, has not passed."""
    names = list(dict.fromkeys([*titles(), *figures, *limits.figures]))
    return [_verdict(name, figures.get(name), limits.figures.get(name)) for name in names]


def _verdict(name: str, figure: float | None, limit: float | None) -> Verdict:
    """Compare one figure."""
    what = f"{name:13} {titles().get(name, 'no such work'):66}"
    if figure is None or limit is None:
        missing = "was not measured" if figure is None else "has no limit: bench/run --guard --write-limits"
        return Verdict(f"{what} {missing}", False)
    said = "ok" if figure <= limit else "SLIPPED BACK"
    change = figure / limit * ROOM - 1
    return Verdict(f"{what} {shown(figure):>9}, at most {shown(limit):>9} ({change:+6.1%}): {said}", figure <= limit)


def shown(figure: float) -> str:
    """Show a figure as it is rounded."""
    return f"{rounded(figure):,}"


# --- measuring --------------------------------------------------------------------------------------------------------


def prepare() -> Path:
    """Make what counting needs, and give the library that `instructions.py` loads.

    Raises:
        toolchain.MissingError: something is missing.
    """
    toolchain.program("valgrind")
    toolchain.relay()
    return toolchain.compiled("callgrind")


def measure(library: Path, say: Callable[[str], None]) -> dict[str, float]:
    """Measure all figures.

    Raises:
        processes.FailedError: something that the relay should have done was not done.
    """
    say("counting instructions, about a minute")
    figures = count(library)
    say("measuring idle connections, some seconds")
    return figures | {MEMORY: idle.kib_per_connection()}


def count(library: Path) -> dict[str, float]:
    """Count the instructions per message of each row.

    Raises:
        processes.FailedError: a row was not done to its end.
    """
    with tempfile.TemporaryDirectory() as folder:
        code, printed, errors = processes.output_of(
            command(library, Path(folder)), processes.cores()[0], Path(folder), COUNT_SECONDS
        )
        if code:
            raise processes.FailedError(f"instructions.py ended with {code}:\n{errors}")
        done = [json.loads(line) for line in printed.splitlines()]
        counted = instructions(Path(folder))
    return {row: least / messages for row, messages, least in _least(done, counted)}


def command(library: Path, folder: Path) -> list[str]:
    """Give what counts: with a fixed seed of hashes, and no variables that would move what is in memory."""
    kept = [f"{name}={os.environ[name]}" for name in KEPT_VARIABLES if name in os.environ]
    options = ["--quiet", "--tool=callgrind", "--instr-atstart=no", "--collect-atstart=no"]
    counting = ["valgrind", *options, f"--callgrind-out-file={folder}/callgrind.%p"]
    return [
        *("env", "-i", "PYTHONHASHSEED=0", *kept),
        *(*counting, sys.executable, "-B", str(HERE / "instructions.py"), "--library", str(library)),
    ]


def instructions(folder: Path) -> dict[str, list[int]]:
    """Read callgrind's files: name of the row → the counts, one for each time that it was done."""
    found: dict[str, list[int]] = {}
    for file in folder.glob("callgrind.*"):
        text = file.read_text(encoding="utf-8", errors="replace")
        name = re.search(r"^desc: Trigger: Client Request: (.*)$", text, re.MULTILINE)
        total = re.search(r"^totals: (\d+)$", text, re.MULTILINE)
        if name and total:
            found.setdefault(name[1], []).append(int(total[1]))
    return found


def _least(done: list[dict], counted: Mapping[str, list[int]]) -> list[tuple[str, int, int]]:
    """Give each row with its messages and the least of its counts.

    Raises:
        processes.FailedError: a row was done, and not counted as often.
    """
    messages = {row["row"]: row["messages"] for row in done}
    times = {name: sum(row["row"] == name for row in done) for name in messages}
    if times != {name: sum(count > 0 for count in counts) for name, counts in counted.items()}:
        raise processes.FailedError("callgrind has not counted what was done: its files do not fit")
    return [(name, messages[name], min(counted[name])) for name in messages]
