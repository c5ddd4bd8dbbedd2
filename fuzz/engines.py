"""Explore one target for some seconds, in a process of its own. `fuzz/run` starts it.

Usage: ``engines.py ENGINE TARGET SECONDS FINDS CORPUS``, with the folders for failing inputs and for inputs with new
coverage. Prints the number of inputs, see `TRIED`.

Exit codes: 0 no finds; anything else: an input failed, and is in FINDS.
"""

import hashlib
import os
import random
import re
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

from target import Target

#: site-packages of atheris; last on sys.path, so that the relay under test is that of the running Python.
ENGINE_PATH = "WSRELAY_FUZZ_ENGINE"

#: Bounds on the time of one input and on memory; beyond them is a find.
INPUT_SECONDS = 10
MEMORY_MIB = 1024

#: Inputs by Hypothesis between two checks of the clock.
EXAMPLES = 200

#: The number of inputs in the output of either engine.
TRIED = re.compile(r"(?:inputs tried|number_of_executed_units): +(\d+)")


def keep(folder: Path, octets: bytes) -> Path:
    """Save a failing input."""
    file = folder / f"crash-{hashlib.sha1(octets, usedforsecurity=False).hexdigest()}"
    file.write_bytes(octets)
    return file


def escaped(word: bytes) -> str:
    """Return a word in the syntax of libFuzzer's dictionaries."""
    return "".join(f"\\x{octet:02x}" for octet in word)


def quiet_targets() -> Mapping[str, Target]:
    """Import the targets, and discard the relay's log.

    Not imported at the top: atheris instruments later imports only.
    """
    import memory  # noqa: PLC0415 - late, so that atheris can instrument it
    from targets import TARGETS  # noqa: PLC0415 - the same

    memory.quiet()
    return TARGETS


def hypothesis(name: str, seconds: float, finds: Path, _corpus: Path) -> int:
    """Explore with Hypothesis, which also shrinks finds."""
    from hypothesis import HealthCheck, given, seed, settings  # noqa: PLC0415 - only this engine needs it

    target = quiet_targets()[name]
    deadline = time.monotonic() + seconds
    tried, failing = 0, b""

    def check(octets: bytes) -> None:
        nonlocal tried, failing
        tried += 1
        try:
            target.check(octets)
        except Exception:
            failing = octets
            raise

    limits = {"max_examples": EXAMPLES, "deadline": None, "database": None, "report_multiple_bugs": False}
    explore = settings(**limits, suppress_health_check=list(HealthCheck))(given(target.inputs)(check))  # type: ignore[arg-type]
    try:
        for octets in target.seeds.values():
            check(octets)
        while time.monotonic() < deadline:
            seed(random.getrandbits(64))(explore)()
    except Exception:  # noqa: BLE001 - any exception is a find
        traceback.print_exc()
        keep(finds, failing)
        return 1
    finally:
        print(f"inputs tried: {tried}", flush=True)
    return 0


def atheris(name: str, seconds: float, finds: Path, corpus: Path) -> int:
    """Explore with atheris, guided by branch coverage. Does not return."""
    sys.path.append(os.environ[ENGINE_PATH])
    import atheris as engine  # noqa: PLC0415 - installed in another environment

    with engine.instrument_imports(include=["wsrelay", "autobahn.websocket.protocol"]):
        target = quiet_targets()[name]
    start = corpus / "seeds"
    start.mkdir(exist_ok=True)
    for known, octets in target.seeds.items():
        (start / known).write_bytes(octets)
    words = corpus.parent / f"{name}.words"
    words.write_text("".join(f'"{escaped(word)}"\n' for word in target.words), encoding="ascii")
    found = corpus / "found"
    found.mkdir(exist_ok=True)
    options = {
        "max_total_time": max(1, round(seconds)),
        "timeout": INPUT_SECONDS,
        "rss_limit_mb": MEMORY_MIB,
        "max_len": target.max_bytes,
        "artifact_prefix": f"{finds}/",
        "dict": words,
        "verbosity": 0,
        "print_final_stats": 1,
    }
    engine.Setup(
        [sys.argv[0], *(f"-{option}={value}" for option, value in options.items()), str(found), str(start)],
        target.check,
    )
    engine.Fuzz()
    return 0


ENGINES: dict[str, Callable[[str, float, Path, Path], int]] = {"atheris": atheris, "hypothesis": hypothesis}


def main(arguments: list[str]) -> int:
    """Explore and return the exit code."""
    engine, name, seconds, finds, corpus = arguments
    return ENGINES[engine](name, float(seconds), Path(finds), Path(corpus))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
