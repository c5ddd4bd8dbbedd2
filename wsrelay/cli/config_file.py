"""The config file: TOML with options, in which ``{here}`` stands for the folder of the file. Pure.

Must not live here: reading the file (:mod:`wsrelay.tap`), checking options and values.
"""

import re
import tomllib
from typing import Final

from wsrelay.text import decode

__all__ = ["HERE", "parse"]

#: Stands for the folder of the file, so that it can name its neighbours wherever the relay is started.
HERE: Final = "{here}"

#: Option → the characters that its syntax gives a meaning, unless a backslash stands in front.
_SPECIAL: Final = {"listen": r"[\\:=]", "admin": r"[\\:=]", "validate": r"[\\,]"}


def parse(content: bytes, folder: str) -> dict[str, object]:
    """Return the options in a config file, with all folders filled in.

    Args:
        content: the file.
        folder: the absolute path of its folder.

    Raises:
        ValueError: not UTF-8, or not TOML.
    """
    return {name: _filled(value, _quoted(name, folder)) for name, value in tomllib.loads(decode(content)).items()}


def _quoted(name: str, folder: str) -> str:
    return re.sub(f"({_SPECIAL[name]})", r"\\\1", folder) if name in _SPECIAL else folder


def _filled(value: object, folder: str) -> object:
    if isinstance(value, list):
        return [_filled(each, folder) for each in value]
    return value.replace(HERE, folder) if isinstance(value, str) else value
