"""Read the files of deploy/ and make copies with other addresses, paths and timeouts."""

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

#: Installs the Python packages that the tests need.
EXTRA = "pip install -e '.[deploy]'"


def tool(name: str) -> str:
    """Return the path of a program of the extra ``deploy``, beside the interpreter; skip without it."""
    return str(SCRIPTS / name) if (SCRIPTS / name).exists() else missing(name, EXTRA)


def package(name: str) -> ModuleType:
    """Import a package of the extra ``deploy``; skip without it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        missing(f"the Python package {name}", EXTRA)


def documents(file: Path) -> list[Any]:
    """Return the documents of a YAML file."""
    return list(package("yaml").safe_load_all(file.read_text("utf-8")))


def rendered(name: str, replacements: Mapping[str, str]) -> str:
    """Return the text of a file after replacements; fails if one does not apply."""
    text = (DEPLOY / name).read_text("utf-8")
    for old, new in replacements.items():
        assert old in text, f"{name} does not say {old!r}"
        text = text.replace(old, new)
    return text


def local(toml: str) -> str:
    """Return an options file with the admin endpoint on a free port of 127.0.0.1."""
    found = re.sub(r"^admin = .*$", 'admin = "tcp:0:interface=127.0.0.1"', toml, count=1, flags=re.MULTILINE)
    assert found != toml
    return found


def options(toml: str) -> dict[str, Any]:
    """Return the options of an options file."""
    return tomllib.loads(toml)
