"""The text of the config file that ``wsrelay init`` writes: all options, made from their table. Pure.

Must not live here: the other files of the folder (:mod:`wsrelay.commands.init`).
"""

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Final

from wsrelay.cli.check_config import toml_value
from wsrelay.cli.config_file import HERE
from wsrelay.option import GROUPS, Option
from wsrelay.settings import OPTIONS, Settings

__all__ = ["relay_toml"]

#: Field → its default: one that follows other options is 0 here, and follows them still without its "# ".
_DEFAULTS: Final = {field.name: field.default for field in fields(Settings)}

#: The most columns of a comment.
_COLUMNS: Final = 120

_HEAD: Final = f"""\
# The options of a relay. A line that begins with "# NAME = " is a default: remove the "# ", and change it.
# The command line and the environment (WSRELAY_MAX_ROOMS=7) win over this file.
# {HERE} stands for the folder of this file; other relative paths are those of the folder where the relay is started.
# After a change: wsrelay check-config relay.toml
"""

_TOKEN: Final = f"token:key={HERE}/relay.key,algorithm=HS256,audience=relay,issuer=wsrelay"
_TLS: Final = f"ssl:8443:interface=127.0.0.1:privateKey={HERE}/key.pem:certKey={HERE}/cert.pem"

#: Option → its value here, and remarks, of which those that begin with the option's name can be used as they are.
_CHOSEN: Final = {
    "listen": (
        ("127.0.0.1:8080",),
        "This machine only. All: *:8080. With TLS as well (wss://localhost:8443), with the certificate in this folder:",
        f"listen = {toml_value(('127.0.0.1:8080', _TLS))}",
    ),
    "http": (True,),
    "validate": (
        ("origin:same-host", _TOKEN),
        "Programs, and pages of the relay's own host, with a token that the key in this folder has signed.",
        "A page of another site needs its origin; none is programs:",
        f"validate = {toml_value(('origin:https://app.example,none', _TOKEN))}",
    ),
    "history": (("100",), "So that a client can see what was said before it came: wsrelay tail ROOM --last 10"),
}


def relay_toml() -> str:
    """Return the text of a config file."""
    parts = [_HEAD]
    for group in GROUPS:
        rows = [_row(field, option) for field, option in OPTIONS.items() if option.group == group]
        parts += [f"\n# {f' {group} ':-^{_COLUMNS - 2}}\n", *rows] if rows else []
    return "".join(parts)


def _row(field: str, option: Option) -> str:
    default = _DEFAULTS[field]
    said = [option.help, option.detail, option.exceeded and f"Exceeded: {option.exceeded}."]
    said.append(f"Default: {option.default}." if default in ((), "") else "")  # not to be seen in the value
    text = re.sub(r"\[([^]]*)\]\([^)]*\)|`([^`]*)`", r"\1\2", " ".join(filter(None, said)))
    value, *remarks = _CHOSEN.get(option.name, (None,))
    line = f"# {option.name} = {toml_value(default)}" if value is None else f"{option.name} = {toml_value(value)}"
    return f"\n{_comment(text)}{''.join(_remarks(option.name, remarks))}{line}\n"


def _remarks(name: str, remarks: Sequence[object]) -> Iterator[str]:
    for remark in map(str, remarks):
        yield f"# {remark}\n" if remark.startswith(f"{name} = ") else _comment(remark)


def _comment(text: str) -> str:
    lines = textwrap.wrap(text, _COLUMNS - 2, break_on_hyphens=False, break_long_words=False)
    return "".join(f"# {line}\n" for line in lines)
