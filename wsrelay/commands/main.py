"""The entry point of ``wsrelay`` and ``python -m wsrelay``: finds the command, parses its arguments, runs it.

Must not live here: what a command does. Exit codes of all commands: 0 fine; 1 the answer is no (refused, wrong, a test
has failed), or input or output failed; 2 wrong usage; 130 ended by Ctrl-C, 143 by SIGTERM.
"""

import argparse
import shlex
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Final, NoReturn, Protocol, cast

from wsrelay import __version__
from wsrelay.cli.hints import nearest
from wsrelay.commands.streams import fill_closed, say_failed

__all__ = ["COMMANDS", "Command", "Module", "main", "program"]

#: Exit code after Ctrl-C, as of a shell: 128 and the number of the signal.
INTERRUPTED: Final = 130


@dataclass(frozen=True, slots=True)
class Command:
    """One row of the table.

    Attributes:
        module: its module, see :class:`Module`.
        help: what it does, for the list of commands.
        passes_on: whether options that it does not know are the relay's: they are in ``arguments.rest``. It has no
            ``--help`` of its own.
    """

    module: str
    help: str
    passes_on: bool = False


class Module(Protocol):
    """What the module of a command has.

    Attributes:
        SUMMARY: a paragraph for its ``--help``.
    """

    SUMMARY: str

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments of the command to its parser."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Run the command, and return the exit code.

        Args:
            arguments: as parsed; ``arguments.parser`` is the parser, for errors that need more than one argument.
        """


#: Name → command, in the order of the list.
COMMANDS: Final[Mapping[str, Command]] = {
    "serve": Command("wsrelay.commands.serve", "run the relay, in the foreground", passes_on=True),
    "check-config": Command("wsrelay.commands.check_config", "show the effective options, or what is wrong", True),
    "init": Command("wsrelay.commands.init", "make a folder with a config file, a key and a certificate"),
    "token": Command("wsrelay.commands.token", "sign a token for a client"),
    "check-token": Command("wsrelay.commands.check_token", "show what a token grants, or why it is refused"),
    "tail": Command("wsrelay.commands.tail", "print the messages of a room"),
    "say": Command("wsrelay.commands.say", "send messages to a room"),
    "selftest": Command("wsrelay.commands.selftest", "try a relay over the network, and print what it keeps"),
}


class _Parser(argparse.ArgumentParser):
    """Says what is wrong without all of the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def program() -> str:
    """Return the name of this program, as the user can type it again."""
    return "python3 -m wsrelay" if Path(sys.argv[0]).name == "__main__.py" else "wsrelay"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the command line behind the program's name; ``None`` is this process's own.

    Returns:
        The exit code.

    Raises:
        SystemExit: with an exit code, from the parsers and from twistd.
    """
    fill_closed()
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        try:
            return _command(words)
        finally:
            sys.stdout.flush()  # not at the exit, where a failure is a traceback
    except OSError as error:
        return say_failed(" ".join([program(), *(word for word in words[:1] if word in COMMANDS)]), error)


def _command(words: list[str]) -> int:
    if words[:1] == ["help"]:
        words = [*words[1:2], "--help"]
    if not words or words[0] in ("--help", "-h"):
        print(_overview(), end="")  # noqa: T201 - asked for
        return 0
    if words[0] == "--version":
        print(f"wsrelay {__version__}")  # noqa: T201 - asked for
        return 0
    if words[0] not in COMMANDS:
        print(f"{program()}: {_problem(words)}", file=sys.stderr)  # noqa: T201
        return 2
    return _run(words[0], words[1:])


def _run(name: str, words: Sequence[str]) -> int:
    command = COMMANDS[name]
    module = cast("Module", import_module(command.module))
    parser = _Parser(
        f"{program()} {name}", description=module.SUMMARY, add_help=not command.passes_on, allow_abbrev=False
    )
    module.configure(parser)
    arguments, rest = parser.parse_known_intermixed_args(words)
    if rest and not command.passes_on:
        parser.error(f"unknown: {' '.join(rest)}")
    arguments.parser, arguments.rest = parser, rest
    try:
        return module.run(arguments)
    except KeyboardInterrupt:
        return INTERRUPTED


def _overview() -> str:
    """Return the help: all commands, and how to see more."""
    width = max(map(len, COMMANDS)) + 2
    commands = "".join(f"  {name:{width}}{command.help}\n" for name, command in COMMANDS.items())
    about = textwrap.dedent(f"""\
        Usage: {program()} COMMAND [arguments]

        A WebSocket relay: the URL path is the room, and every message a client sends
        reaches everyone else in its room.

        Commands:
        """)
    return f"{about}{commands}\n{program()} COMMAND --help says more; {program()} --version prints the version.\n"


def _problem(words: Sequence[str]) -> str:
    """Return what is wrong with a first word that is no command, and what to write."""
    if words[0].startswith("-"):
        line = f"{program()} serve {shlex.join(words)}"
        return f"{words[0]} is not an option of this command; if the relay is to run, write: {line}"
    hint = nearest(words[0], COMMANDS) or f"; {program()} lists all"
    return f"there is no command {words[0]!r}{hint}"
