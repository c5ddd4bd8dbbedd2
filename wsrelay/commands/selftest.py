"""``wsrelay selftest [URL]``: tries a relay over the network and prints a table.

Must not live here: the cases (:mod:`wsrelay.selftest`).
"""

import argparse
import contextlib
import math
import os
import sys
from collections.abc import Sequence
from typing import Any, Final

from wsrelay.commands.client import run_reactor
from wsrelay.commands.target import Target as Server
from wsrelay.logs.failures import printable
from wsrelay.selftest.case import Case
from wsrelay.selftest.cases import chosen
from wsrelay.selftest.lab import Bounds, Lab
from wsrelay.selftest.report import Table, as_json, bad, listed
from wsrelay.selftest.runner import Unreachable, probe, try_all
from wsrelay.selftest.target import Target

__all__ = ["SUMMARY", "configure", "run"]

SUMMARY: Final = (
    "Try a relay over the network, as deployed: what it delivers, what it refuses, and whether wrong clients disturb"
    " others. It opens a few connections at a time in rooms of its own, and sends some tens of MB in all."
    " Exit code: 0 all passed; 1 a case differs or fails that --allow does not name; 2 nothing to try, or wrong usage."
)

_DEFAULTS: Final = Bounds()

_DEFAULT_URL: Final = "ws://127.0.0.1:8080/"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add = parser.add_argument
    add("url", nargs="?", default=_DEFAULT_URL, metavar="URL", help=f"ws:, wss: or HOST:PORT (default: {_DEFAULT_URL})")
    add(
        "--room",
        help="the one room for all cases; nobody else may be in it (default: new ones, selftest-…, below the URL)",
    )
    add(
        "--token",
        default=os.environ.get("WSRELAY_TOKEN", ""),
        help="sent as Authorization: Bearer (default: WSRELAY_TOKEN of the environment, which other users cannot see)",
    )
    add("--origin", help="sent as Origin (default: none, as programs do)")
    add("--subprotocol", metavar="NAME", help="offered by all clients")
    add("--ca", metavar="FILE", help="PEM certificate to trust, such as that of wsrelay init")
    add("--insecure", action="store_true", help="accept any certificate")
    add(
        "--max-message-bytes",
        type=_size,
        metavar="BYTES",
        default=_DEFAULTS.max_message_bytes,
        help="the relay's (default: 1 MiB)",
    )
    add("--timeout", type=_positive, default=_DEFAULTS.seconds, metavar="SECONDS", help="for each case (default: 30)")
    add("--only", action="append", default=[], metavar="NAME", help="a case or a group; may be repeated")
    add("--allow", action="append", default=[], metavar="NAME", help="a case that may differ or fail; may be repeated")
    add("--json", action="store_true", help="print JSON instead of a table")
    add("--list", action="store_true", help="print all cases and try none")


def run(arguments: argparse.Namespace) -> int:
    """Try the relay and return the exit code."""
    try:
        cases = chosen(arguments.only)
        chosen(arguments.allow)
        target = Target.from_url(
            arguments.url,
            room=arguments.room,
            token=arguments.token or None,
            origin=arguments.origin,
            subprotocol=arguments.subprotocol,
        )
    except ValueError as error:
        arguments.parser.error(str(error))
    if arguments.list:
        sys.stdout.write(listed(cases))
        return 0
    bounds = Bounds(seconds=arguments.timeout, max_message_bytes=arguments.max_message_bytes)
    server = Server(target.url, ca=arguments.ca, insecure=arguments.insecure)

    async def work(reactor: Any) -> int:  # Any: several interfaces at once
        try:
            lab = Lab(server.endpoint(reactor), target, bounds, reactor)
        except (OSError, ValueError) as error:  # the certificate
            return _say(arguments, error)
        return await tried(lab, cases, arguments)

    return run_reactor(work)


async def tried(lab: Lab, cases: Sequence[Case], arguments: argparse.Namespace) -> int:
    """Try cases, print the results, and return the exit code."""
    table = Table(_shown if not arguments.json else _dropped, arguments.allow, is_coloured=_has_colours())
    try:
        await probe(lab)
    except Unreachable as error:
        return _say(arguments, error)
    table.begin(lab.target.url, lab.target.rooms)
    results = await try_all(lab, cases, table.add)
    table.end(results)
    if arguments.json:
        _shown(as_json(lab.target.url, results))
    return 1 if bad(results, arguments.allow) else 0


def _say(arguments: argparse.Namespace, error: Exception) -> int:
    print(f"{arguments.parser.prog}: {printable(str(error))}", file=sys.stderr)  # noqa: T201
    return 2


def _size(text: str) -> int:
    """Return a number of bytes. Errors are those of :func:`_positive`."""
    return int(_positive(text))


def _positive(text: str) -> float:
    """Return a positive number.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    with contextlib.suppress(ValueError):
        if 0 < (number := float(text)) < math.inf:
            return number
    raise argparse.ArgumentTypeError(f"must be a number above 0, not {text!r}")


def _has_colours() -> bool:
    """Whether the output is a terminal that wants colours (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _shown(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _dropped(text: str) -> None:
    """Print nothing: JSON comes at the end."""
