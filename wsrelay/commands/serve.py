"""``wsrelay serve``: runs the relay as ``twistd -n --pidfile= wsrelay`` does, in this process.

So twistd need not be on PATH (pipx, uvx), and signals, exit codes and log are twistd's. Must not live here: options of
the relay (:mod:`wsrelay.tap`).
"""

import argparse
import sys
from typing import Final

from twisted.python import usage
from twisted.scripts.twistd import ServerOptions, runApp  # type: ignore[attr-defined]  # not in its __all__

from wsrelay.tap import Options

__all__ = ["SUMMARY", "configure", "run", "twistd"]

SUMMARY: Final = "Run the relay in the foreground, as `twistd -n --pidfile= wsrelay` does."


def configure(parser: argparse.ArgumentParser) -> None:
    """Add twistd's one option that matters in the foreground; all others are the relay's."""
    parser.add_argument("--reactor", metavar="NAME")


def run(arguments: argparse.Namespace) -> int:
    """Run the relay until it is stopped."""
    reactor = [f"--reactor={arguments.reactor}"] if arguments.reactor else []
    return twistd(arguments.parser.prog, reactor, arguments.rest, " [--reactor NAME]")


def twistd(name: str, options: list[str], relay_options: list[str], usage_of_options: str = "") -> int:
    """Run twistd with the relay in the foreground, without a PID file.

    Args:
        name: the command as the user has typed it, for texts.
        options: twistd's own.
        relay_options: of the relay.
        usage_of_options: twistd's own that may be given, for the first line of the help.

    Returns:
        The exit code: 0, or 1 after wrong options, as twistd has it.

    Raises:
        SystemExit: from the relay and from twistd.
    """
    Options.command = f"{name}{usage_of_options}"
    config = ServerOptions()
    try:
        config.parseOptions(["--nodaemon", "--pidfile=", *options, "wsrelay", *relay_options])
    except usage.UsageError as error:
        print(f"{name}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    runApp(config)
    return 0
