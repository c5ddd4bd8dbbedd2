"""Option: one row of the command line's table; how a setting is declared with its row, and its values checked.

Pure. Must not live here: the rows (:mod:`wsrelay.settings`; those without a setting: :mod:`wsrelay.cli.options`),
how rows are shown (:mod:`wsrelay.cli.reference`).
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeVar, get_args

import msgspec

__all__ = ["GROUPS", "Group", "Kind", "Option", "attributes", "checked", "file_path", "listed", "one_of", "setting"]

#: The headings.
Group = Literal[
    "Listening",
    "Access control",
    "Messages",
    "Rooms and slow subscribers",
    "History",
    "Rate limits",
    "Connection limits",
    "Timeouts",
    "Observability",
    "Several nodes",
    "Process",
]

#: The headings, in their order.
GROUPS: Final[tuple[Group, ...]] = get_args(Group)

#: ``repeatable`` is a value that can be given more than once; ``action`` does something else instead of running the
#: relay, and has no setting.
Kind = Literal["value", "flag", "repeatable", "action"]

#: The end of a name → placeholder of the value.
_UNITS: Final = {"bytes": "BYTES", "budget": "BYTES", "seconds": "SECONDS"}

#: msgspec's words → an operator's: no backticks, no Python types.
_WORDS: Final = (
    ("`", ""),
    (r", got \w+", ""),
    ("^Expected int", "expected a whole number"),
    ("^Expected float", "expected a number"),
    ("^Expected bool", "expected true or false"),
    ("^Expected array", "expected a list"),
    ("^Expected str", "expected a string"),
    ("^Number out of range", "expected a smaller number"),
)

#: Suffixes of numbers that no option takes → their meaning.
_MULTIPLES: Final = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Option:
    """One row of the table. Its texts may have `code` and [links](to.md), as in Markdown; ``help`` is plain.

    Attributes:
        name: without ``--``.
        group: the heading.
        help: the meaning, in a sentence or two.
        exceeded: what the peer sees beyond the limit: a status, a close code, or words. Empty: not a limit.
        detail: more about it, behind ``help`` in the man page and the reference.
        kind: see :data:`Kind`.
        value: placeholder of the value; empty: the unit at the end of the name, or ``NUMBER``.
        default: the default, as text; empty for actions.
        choices: values, or beginnings that end with ``:``, for completion.
        reloadable: whether SIGHUP applies it to a running relay.
    """

    name: str
    group: Group
    help: str
    exceeded: str = ""
    detail: str = ""
    kind: Kind = "value"
    value: str = ""
    default: str = ""
    choices: tuple[str, ...] = ()
    reloadable: bool = False

    @property
    def spelling(self) -> str:
        """The option as it is typed, with the placeholder of its value."""
        if self.kind in ("flag", "action"):
            return f"--{self.name}"
        return f"--{self.name}={self.value or _UNITS.get(self.name.rpartition('-')[2], 'NUMBER')}"


def setting(
    default: _Value,
    group: Group,
    meaning: str,
    *,
    exceeded: str = "",
    detail: str = "",
    value: str = "",
    shown_default: str = "",
    choices: tuple[str, ...] = (),
    reloadable: bool = False,
    check: Callable[[_Value], object] | None = None,
    derived: tuple[tuple[str, ...], Callable[..., _Value]] | None = None,
) -> _Value:
    """Declare a field of a dataclass together with its :class:`Option`.

    Args:
        default: the value of the field; its type is the kind of the option.
        group: and the others, but for those below: see :class:`Option`.
        meaning: the option's ``help``.
        exceeded: see :class:`Option`.
        detail: see :class:`Option`.
        value: see :class:`Option`.
        shown_default: the default as text; needed where ``default`` is empty.
        choices: see :class:`Option`.
        reloadable: see :class:`Option`.
        check: raises ``ValueError`` for a value of the right type that is wrong.
        derived: other fields, and what makes the value of this one out of theirs where this one is ``default``.

    Returns:
        A dataclass field whose metadata has ``option``, still without its name, ``check`` and ``derived``.
    """
    shown = shown_default or _shown(default)
    option = Option("", group, meaning, exceeded, detail, _kind(default), value, shown, choices, reloadable)
    # Fields that change take no part in the hash.
    return field(default=default, hash=not reloadable, metadata={"option": option, "check": check, "derived": derived})


def _kind(default: object) -> Kind:
    if isinstance(default, bool):
        return "flag"
    return "repeatable" if isinstance(default, tuple) else "value"


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, tuple):
        return " ".join(default)
    return f"{default:.16g}" if isinstance(default, float) else str(default)


def listed(names: Iterable[str]) -> str:
    """Return names as a sentence has them: "a, b or c"."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def one_of(choices: tuple[str, ...]) -> Callable[[str], None]:
    """Return a check that refuses a value other than these."""

    def check(value: str) -> None:
        if value not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}, got {value!r}")

    return check


def file_path(path: str) -> None:
    """Check the path of a log file."""
    if path == "-":
        raise ValueError("not a file; without this option the log of a process in the foreground goes to stdout")
    if "\0" in path:
        raise ValueError(f"expected a path, got {path!r}")


def checked(
    value: object, type_: object, check: Callable[[object], object] | None, *, strict: bool
) -> tuple[object, str | None]:
    """Convert a value to the type of a setting and check it.

    Args:
        value: the value.
        type_: the type, with its range as ``msgspec.Meta``.
        check: the setting's own check, see :func:`setting`.
        strict: whether a string may not stand for a number or a boolean.

    Returns:
        The converted value and ``None``, or ``None`` and the problem in a few words.
    """
    try:
        converted = msgspec.convert(value, type_, strict=strict)
        if check is not None:
            check(converted)
    except msgspec.ValidationError as error:
        text = str(error)
        for theirs, ours in _WORDS:
            text = re.sub(theirs, ours, text)
        return None, f"{text}, got {value!r}{_hint(value, text, type_, strict=strict)}"
    except ValueError as error:
        return None, str(error)
    return converted, None


def _hint(value: object, problem: str, type_: object, *, strict: bool) -> str:
    """Return what to write instead of a value of the wrong type; empty: nothing is known. Lists: in a file only."""
    if not isinstance(value, str):
        return ""
    if problem == "expected a list" and strict:
        return f"; write [{json.dumps(value, ensure_ascii=False)}]"
    number = re.fullmatch(r"([0-9]+) ?(?:([kKmMgG])i?[bB]?)?", value) if problem == "expected a whole number" else None
    if number is None:
        return ""
    meant = int(number[1]) * _MULTIPLES[(number[2] or "").lower()]
    return "" if checked(meant, type_, None, strict=True)[1] else f"; write {meant}"


def attributes(options: Mapping[str, Option]) -> str:
    """Return the "Attributes" part of a class's docstring, from the options of its fields."""
    lines = ["Attributes:"]
    for name, option in options.items():
        text = " ".join(filter(None, (option.help, option.detail, option.exceeded and f"Exceeded: {option.exceeded}.")))
        lines.append(f"    {name}: " + re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text).replace("`", "``"))
    return "\n".join(lines)
