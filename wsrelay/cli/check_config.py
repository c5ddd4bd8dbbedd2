"""What ``--check-config`` prints: the settings that hold, as a file for ``--config``."""

import json
from collections.abc import Mapping

from wsrelay.cli.option import Option
from wsrelay.cli.options import OPTIONS
from wsrelay.cli.reference import default
from wsrelay.logs.failures import printable
from wsrelay.settings import Settings

__all__ = ["as_toml"]


def as_toml(settings: Settings, sources: Mapping[str, str], most_connections: int) -> str:
    """Return settings as TOML, each with a comment that says where it comes from.

    Args:
        settings: what holds.
        sources: field → what has set it; the other fields are the defaults.
        most_connections: how many there may be where the settings do not say.
    """
    parts: list[str] = []
    group = ""
    for option in OPTIONS:
        if not hasattr(settings, option.field):
            continue
        if option.group != group:
            group = option.group
            parts += ["", f"# {group}"]
        value: object = getattr(settings, option.field)
        comment = _source(option, value, sources.get(option.field))
        if option.field == "max_connections" and not value:
            comment += f"; {most_connections} by the limit on open files"
        parts.append(f"{option.name} = {_toml(value)}  # {comment}")
    return "\n".join(parts[1:])


def _source(option: Option, value: object, source: str | None) -> str:
    if source is not None:
        return printable(source)
    return f"default: {default(option)}" if value == () else "default"


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    # The strings of JSON are strings of TOML, but for this one.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
