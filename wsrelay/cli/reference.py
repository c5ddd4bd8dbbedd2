"""The table of options as text: ``--help``, the man page, docs/options.md. Pure.

The last two are checked in, and have this between two markers; ``make reference`` writes it there.
"""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import fields
from typing import Final

from wsrelay.cli.option import GROUPS, Option
from wsrelay.cli.options import OPTIONS
from wsrelay.settings import Settings

__all__ = ["default", "help_text", "man_page", "markdown", "spliced"]

#: Where the text of an option begins in ``--help``: on the same line, if there is room.
_COLUMN: Final = 24

#: The most and the least columns that ``--help`` takes.
_WIDEST, _NARROWEST = 80, 40

#: What stands around what is generated, in Markdown and in roff.
_BEGIN, _END = "made from wsrelay/cli/options.py by make reference", "end of what is made"


def default(option: Option) -> str:
    """Return what is said of an option's default: the setting's own, or what its row says."""
    if option.kind == "action":
        return ""
    if option.default:
        return option.default
    value = {field.name: field.default for field in fields(Settings)}[option.field]
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:.16g}" if isinstance(value, float) else str(value)


def help_text(about: str, width: int) -> str:
    """Return what ``--help`` says: what it is all about, and the options under their headings.

    Args:
        about: a paragraph.
        width: the columns of the terminal; no line is longer, unless it is very narrow.
    """
    columns = min(max(width, _NARROWEST), _WIDEST)
    groups = (
        f"{group}:\n" + "".join(_help(option, columns) for option in OPTIONS if option.group == group)
        for group in GROUPS
    )
    return "\n".join([textwrap.fill(about, columns) + "\n", *groups])


def _help(option: Option, columns: int) -> str:
    said = [option.help]
    if option.beyond:
        said.append(f"Beyond: {option.beyond}.")
    if option.kind in ("value", "repeatable"):
        said.append("Repeatable." if option.kind == "repeatable" else "")
        said.append(f"[default:\xa0{default(option)}]")  # no line break there
    wrapped = textwrap.wrap(" ".join(filter(None, said)), columns - _COLUMN, break_on_hyphens=False)
    text = [line.replace("\xa0", " ") for line in wrapped]
    name = f"  {option.spelling}"
    lines = [f"{name:{_COLUMN}}{text[0]}", *text[1:]] if len(name) < _COLUMN - 1 else [name, *text]
    return lines[0] + "\n" + "".join(f"{'':{_COLUMN}}{line}\n" for line in lines[1:])


def markdown() -> str:
    """Return the reference of the options: one table per heading."""
    return "\n".join(
        f"### {group}\n\n| option | default | meaning | beyond it |\n| --- | --- | --- | --- |\n"
        + "".join(_row(option) for option in OPTIONS if option.group == group)
        for group in GROUPS
    )


def _row(option: Option) -> str:
    meaning = " ".join(filter(None, (option.help, option.detail, "Repeatable." * (option.kind == "repeatable"))))
    cells = [f"`--{option.name}`", default(option) or "–", meaning, option.beyond]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells).rstrip() + " |\n"


def man_page() -> str:
    """Return the options part of the man page, in roff with man(7)'s macros."""
    return "".join(
        f'.SS "{group}"\n' + "".join(_paragraph(option) for option in OPTIONS if option.group == group)
        for group in GROUPS
    )


def _paragraph(option: Option) -> str:
    name, _, value = option.spelling.partition("=")
    lines = [".TP", f"\\fB{_roff(name)}\\fR" + (f"=\\fI{_roff(value)}\\fR" if value else "")]
    lines += _sentences(option.help)
    lines += _sentences(option.detail)
    if option.beyond:
        lines += _sentences(f"Beyond: {option.beyond}.")
    if option.kind == "repeatable":
        lines.append("Repeatable.")
    if option.kind in ("value", "repeatable"):
        lines += _sentences(f"Default: {default(option)}.")
    return "\n".join(lines) + "\n"


def _sentences(text: str) -> Iterator[str]:
    """Yield roff lines; troff wants each sentence on one of its own."""
    for sentence in re.split(r"(?<=[.;]) ", text):
        if sentence:
            linked = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", _roff(sentence))
            yield re.sub("`([^`]*)`", r"\\fB\1\\fR", linked)


def _roff(text: str) -> str:
    """Escape what roff would take for something else: a hyphen for a typographic one, a dot for a command."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def spliced(page: str, made: str) -> str:
    """Return a page with something else between its markers: what :func:`markdown` or :func:`man_page` makes now.

    Raises:
        ValueError: it has no markers.
    """
    found = re.search(f"(?s)^([^\n]*{_BEGIN}[^\n]*\n).*?^([^\n]*{_END})", page, re.MULTILINE)
    if not found:
        raise ValueError(f"no line with {_BEGIN!r} and one with {_END!r} behind it")
    return page[: found.end(1)] + made + page[found.start(2) :]
