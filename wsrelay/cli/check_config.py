"""The output of ``--check-config``: the effective settings, as a file for ``--config``.

Must not live here: reading and checking options (:mod:`wsrelay.tap`).
"""

import json
from collections.abc import Mapping

from wsrelay.logs.failures import printable
from wsrelay.option import GROUPS, Option
from wsrelay.settings import DERIVED, OPTIONS, Settings

__all__ = ["as_toml", "encodable", "toml_value"]


def as_toml(settings: Settings, sources: Mapping[str, str], most_connections: int) -> str:
    """Return settings as TOML, each with its source as a comment.

    Args:
        settings: the effective settings.
        sources: field → source of its value; missing fields are defaults.
        most_connections: the limit where ``max_connections`` is 0.
    """
    parts: list[str] = []
    for group in GROUPS:
        lines = [
            _line(field, option, settings, sources.get(field), most_connections)
            for field, option in OPTIONS.items()
            if option.group == group
        ]
        if lines:
            parts += [f"# {group}", *lines, ""]
    return "\n".join(parts[:-1])


def _line(field: str, option: Option, settings: Settings, source: str | None, most_connections: int) -> str:
    value: object = getattr(settings, field)
    comment = _default(field, option, value) if source is None else printable(source)
    if field == "max_connections" and not value:
        comment += f"; {most_connections} by the limit on open files"
    return f"{option.name} = {toml_value(value)}  # {comment}"


def _default(field: str, option: Option, value: object) -> str:
    if field in DERIVED:
        return f"default, by {' and '.join(OPTIONS[source].name for source in DERIVED[field][0])}"
    return f"default: {option.default}" if value == () else "default"


def toml_value(value: object) -> str:
    """Return the value of a setting as TOML."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    # A JSON string is a TOML string, except for DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def encodable(toml: str, encoding: str | None) -> str:
    r"""Return TOML with the characters that an encoding lacks as TOML's escapes, such as ``\u00e9``.

    Args:
        toml: the text.
        encoding: of the output; ``None`` is UTF-8.
    """
    return "".join(_escaped(character, encoding or "utf-8") for character in toml)


def _escaped(character: str, encoding: str) -> str:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return f"\\U{ord(character):08x}" if ord(character) > 0xFFFF else f"\\u{ord(character):04x}"
    return character
