"""Which ``token:`` validator a command is about: from command line, environment or config file, the first one wins.

Must not live here: tokens (:mod:`wsrelay.commands.token`, :mod:`wsrelay.commands.check_token`).
"""

import argparse
import os
import shlex
from collections.abc import Sequence
from typing import Final

from wsrelay.tap import config_file
from wsrelay.validators.arguments import Arguments, parse

__all__ = ["ARGUMENTS", "add_arguments", "rule", "rule_arguments"]

#: What a validator of this kind begins with in ``--validate``.
_PREFIX: Final = "token:"

#: The names of its arguments.
ARGUMENTS: Final = ("key", "jwks", "algorithm", "audience", "issuer", "leeway", "cookie", "query")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which validator is meant."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="config file with it, unless WSRELAY_VALIDATE has one [default: WSRELAY_CONFIG]",
    )
    parser.add_argument("--validate", metavar="token:ARGUMENTS", help="the validator, as the relay's --validate has it")


def rule(arguments: argparse.Namespace) -> str:
    """Return the arguments of the validator, behind ``token:``; ``""`` if none was named.

    Ends the process (2) if the one that was named is no such validator, or its file has none.
    """
    given = arguments.validate
    if given is not None:
        if not given.startswith(_PREFIX):
            arguments.parser.error(f"--validate: it must begin with {_PREFIX}")
        return str(given.removeprefix(_PREFIX))
    try:
        if found := _first(shlex.split(os.environ.get("WSRELAY_VALIDATE", ""))):
            return found
    except ValueError as error:
        arguments.parser.error(f"WSRELAY_VALIDATE: {error}")
    path: str = arguments.config or os.environ.get("WSRELAY_CONFIG", "")
    if not path:
        return ""
    try:
        validators = config_file(path).get("validate", ())
    except (OSError, ValueError) as error:
        arguments.parser.error(f"{path}: {error}")
    found = _first([str(each) for each in validators] if isinstance(validators, list) else [])
    return found or arguments.parser.error(f"{path}: validate has no token: validator")


def rule_arguments(arguments: argparse.Namespace) -> Arguments:
    """Return the parsed arguments of the validator; none, if none was named. Ends the process (2) if they are wrong."""
    try:
        return parse(rule(arguments), ARGUMENTS)
    except ValueError as error:
        raise SystemExit(arguments.parser.error(f"token: {error}")) from None


def _first(validators: Sequence[str]) -> str:
    return next((each.removeprefix(_PREFIX) for each in validators if each.startswith(_PREFIX)), "")
