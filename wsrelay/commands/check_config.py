"""``wsrelay check-config [FILE]``: the same as ``wsrelay serve --check-config --config FILE``."""

import argparse
from typing import Final

from wsrelay.commands.serve import twistd

__all__ = ["SUMMARY", "configure", "run"]

SUMMARY: Final = "Print the effective options as a file for --config, or all that is wrong with them."


def configure(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the file is the first word, or it could be the value of an option of the relay."""


def run(arguments: argparse.Namespace) -> int:
    """Check, print and return the exit code."""
    rest = list(arguments.rest)
    if rest and not rest[0].startswith("-"):
        rest.insert(0, "--config")
    return twistd(arguments.parser.prog, [], ["--check-config", *rest])
