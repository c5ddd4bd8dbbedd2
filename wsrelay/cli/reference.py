"""The table of options as text: ``--help``, the man page, docs/options.md, the limits in docs/reliability.md. Pure.

All but ``--help`` are checked in, between two markers; ``make reference`` writes them there.
"""

import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Final

from wsrelay.cli.options import OPTIONS
from wsrelay.option import GROUPS, Option

__all__ = ["help_text", "limits", "man_page", "markdown", "spliced"]

#: Column of an option's text in ``--help``, on the line of its name if there is room.
_COLUMN: Final = 24

#: The most and the least columns of ``--help``.
_WIDEST, _NARROWEST = 80, 40

#: The markers around generated text, within a comment of Markdown or roff.
_BEGIN, _END = "generated from wsrelay/settings.py by make reference", "end of the generated part"


def help_text(about: str, width: int) -> str:
    """Return the text of ``--help``: a paragraph, then the options under their headings.

    Args:
        about: the paragraph.
        width: columns of the terminal; no line is longer, unless it has fewer than 40.
    """
    columns = min(max(width, _NARROWEST), _WIDEST)
    groups = _by_group(lambda group: f"{group}:\n", lambda option: _help(option, columns))
    return "\n".join([textwrap.fill(about, columns) + "\n", *groups])


def _by_group(heading: Callable[[str], str], row: Callable[[Option], str]) -> Iterator[str]:
    """Yield the text of each group: its heading and rows."""
    for group in GROUPS:
        yield heading(group) + "".join(row(option) for option in OPTIONS if option.group == group)


def _help(option: Option, columns: int) -> str:
    said = [option.help]
    if option.exceeded:
        said.append(f"Exceeded: {option.exceeded}.")
    if option.kind in ("value", "repeatable"):
        said.append("Repeatable." if option.kind == "repeatable" else "")
        said.append(f"[default:\xa0{option.default}]")  # no line break there
    wrapped = textwrap.wrap(" ".join(filter(None, said)), columns - _COLUMN, break_on_hyphens=False)
    text = [line.replace("\xa0", " ") for line in wrapped]
    name = f"  {option.spelling}"
    lines = [f"{name:{_COLUMN}}{text[0]}", *text[1:]] if len(name) < _COLUMN - 1 else [name, *text]
    return lines[0] + "\n" + "".join(f"{'':{_COLUMN}}{line}\n" for line in lines[1:])


def _remarks(option: Option) -> str:
    """Return the generated sentences about an option."""
    said = ("Repeatable." * (option.kind == "repeatable"), "Reloaded by SIGHUP." * option.reloadable)
    return " ".join(filter(None, said))


def markdown() -> str:
    """Return the reference of the options in Markdown: one table per heading."""
    return "\n".join(
        _by_group(
            lambda group: f"### {group}\n\n| option | default | meaning | exceeded |\n| --- | --- | --- | --- |\n",
            _markdown_row,
        )
    )


def _markdown_row(option: Option) -> str:
    meaning = " ".join(filter(None, (option.help, option.detail, _remarks(option))))
    return _row(f"`--{option.name}`", option.default or "–", meaning, option.exceeded)


def limits() -> str:
    """Return the options that are limits in Markdown: one table, without details."""
    rows = _by_group(lambda group: _row(f"**{group}**", "", "", ""), _limit_row)
    tables = [group for group in rows if group.count("\n") > 1]
    return "| limit | option | default | exceeded |\n| --- | --- | --- | --- |\n" + "".join(tables)


def _limit_row(option: Option) -> str:
    if not option.exceeded:
        return ""
    return _row(option.help, f"`--{option.name}`", option.default, option.exceeded)


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells).rstrip() + " |\n"


def man_page() -> str:
    """Return the options part of the man page, in roff with man(7)'s macros."""
    return "".join(_by_group(lambda group: f'.SS "{group}"\n', _paragraph))


def _paragraph(option: Option) -> str:
    name, _, value = option.spelling.partition("=")
    lines = [".TP", f"\\fB{_roff(name)}\\fR" + (f"=\\fI{_roff(value)}\\fR" if value else "")]
    lines += _sentences(option.help)
    lines += _sentences(option.detail)
    if option.exceeded:
        lines += _sentences(f"Exceeded: {option.exceeded}.")
    lines += _sentences(_remarks(option))
    if option.kind in ("value", "repeatable"):
        lines += _sentences(f"Default: {option.default}.")
    return "\n".join(lines) + "\n"


def _sentences(text: str) -> Iterator[str]:
    """Yield roff lines; troff wants each sentence on one of its own."""
    for sentence in re.split(r"(?<=[.;]) ", text):
        if sentence:
            linked = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", _roff(sentence))
            yield re.sub("`([^`]*)`", r"\\fB\1\\fR", linked)


def _roff(text: str) -> str:
    """Escape what roff would change: a hyphen is typographic, a leading dot or quote begins a command."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def spliced(page: str, generated: str) -> str:
    """Return a page with another text between its markers.

    Raises:
        ValueError: the page has no markers.
    """
    found = re.search(f"(?s)^([^\n]*{_BEGIN}[^\n]*\n).*?^([^\n]*{_END})", page, re.MULTILINE)
    if not found:
        raise ValueError(f"no line with {_BEGIN!r} and one with {_END!r} behind it")
    return page[: found.end(1)] + generated + page[found.start(2) :]
