"""The files of deploy/, and copies of them in which places and times are the test's."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.live import SCRIPTS

#: The repository.
ROOT = Path(__file__).resolve().parent.parent.parent

DEPLOY = ROOT / "deploy"


def tool(name: str) -> str:
    """Return the path of a program that pip has installed beside the interpreter, from the extra ``deploy``."""
    return str(SCRIPTS / name)


def rendered(name: str, replacements: Mapping[str, str]) -> str:
    """Return the text of a file with other words for some; each of these must be there."""
    text = (DEPLOY / name).read_text("utf-8")
    for old, new in replacements.items():
        assert old in text, f"{name} does not say {old!r}"
        text = text.replace(old, new)
    return text


def options(toml: str) -> dict[str, Any]:
    """Return what an options file says."""
    return tomllib.loads(toml)
