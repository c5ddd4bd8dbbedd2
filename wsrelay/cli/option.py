"""One row of the table of options, and the headings. The rows are in :mod:`wsrelay.cli.options`."""

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["GROUPS", "Option"]

#: The headings, in their order.
GROUPS: Final = (
    "Listening",
    "Who comes in",
    "Messages",
    "Rooms and slow readers",
    "Rates",
    "Connections",
    "Times",
    "Observing",
    "Process",
)

#: The end of a name → what stands for the value.
_UNITS: Final = {"bytes": "BYTES", "budget": "BYTES", "seconds": "SECONDS"}


@dataclass(frozen=True, slots=True)
class Option:
    """One row of the table. Its texts may have `code` and [links](to.md), as in Markdown.

    Attributes:
        name: without ``--``.
        group: the heading under which it stands.
        help: what it is, in a sentence or two.
        beyond: what happens beyond it, where it is a limit.
        detail: more about it, for the man page and the reference, where it follows ``help``.
        kind: ``value``, ``flag``, ``repeatable`` for a value that can be given more than once, or ``action`` for what
            does something else instead of running the relay, and has no setting.
        value: what stands for its value; made from the name where it is empty.
        default: what is said of the default; the setting's own where it is empty.
        choices: what its value may be, or begin with, for completion.
    """

    name: str
    group: str
    help: str
    beyond: str = ""
    detail: str = ""
    kind: Literal["value", "flag", "repeatable", "action"] = "value"
    value: str = ""
    default: str = ""
    choices: tuple[str, ...] = ()

    @property
    def field(self) -> str:
        """The name of its field in the settings."""
        return self.name.replace("-", "_")

    @property
    def spelling(self) -> str:
        """How it is typed, with what stands for its value."""
        if self.kind in ("flag", "action"):
            return f"--{self.name}"
        return f"--{self.name}={self.value or _UNITS.get(self.name.rpartition('-')[2], 'NUMBER')}"
