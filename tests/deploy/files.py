"""The files of deploy/, and copies of them in which places and times are the test's."""

import importlib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.harness.live import SCRIPTS, missing

#: The repository.
ROOT = Path(__file__).resolve().parent.parent.parent

DEPLOY = ROOT / "deploy"

#: What else than programs of Debian's the tests need.
EXTRA = "pip install -e '.[deploy]'"


def tool(name: str) -> str:
    """Return the path of a program that pip has installed beside the interpreter, from the extra ``deploy``."""
    return str(SCRIPTS / name) if (SCRIPTS / name).exists() else missing(name, EXTRA)


def package(name: str) -> ModuleType:
    """Import a package from the extra ``deploy``, which not every environment has that collects these tests."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        missing(f"the Python package {name}", EXTRA)


def documents(file: Path) -> list[Any]:
    """Return what a YAML file says."""
    return list(package("yaml").safe_load_all(file.read_text("utf-8")))


def rendered(name: str, replacements: Mapping[str, str]) -> str:
    """Return the text of a file with other words for some; each of these must be there."""
    text = (DEPLOY / name).read_text("utf-8")
    for old, new in replacements.items():
        assert old in text, f"{name} does not say {old!r}"
        text = text.replace(old, new)
    return text


def local(toml: str) -> str:
    """Return an options file whose admin port is on loopback, and of the kernel's choice."""
    found = re.sub(r"^admin = .*$", 'admin = "tcp:0:interface=127.0.0.1"', toml, count=1, flags=re.MULTILINE)
    assert found != toml
    return found


def options(toml: str) -> dict[str, Any]:
    """Return what an options file says."""
    return tomllib.loads(toml)
