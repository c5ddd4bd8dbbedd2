"""``wsrelay init [DIR]``: a folder with all that a first relay needs.

A config file, a secret that signs tokens, and a self-signed certificate with its key. Secrets are for their owner only,
and nothing is in git. Must not live here: what is in the files (relay_toml, certificate).
"""

import argparse
import datetime
import errno
import os
import secrets
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from wsrelay.commands.certificate import DAYS, LOCAL, self_signed
from wsrelay.commands.relay_toml import relay_toml

__all__ = ["SUMMARY", "configure", "run"]

SUMMARY: Final = (
    "Make a folder with a commented config file, a secret that signs tokens, and a self-signed certificate with its"
    " key. A folder with files in it is not changed."
)

#: Files that others may read; a secret is for its owner only.
_PUBLIC: Final = frozenset([".gitignore", "cert.pem", "relay.toml"])

#: Bytes of random data in the secret: twice what HS256 needs at least (RFC 7518 section 3.2) as text.
_SECRET_BYTES: Final = 48


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the folder and the names of the certificate."""
    parser.add_argument("folder", nargs="?", default="relay", metavar="DIR", help="the folder [default: relay]")
    parser.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="NAME",
        help="another name or IP address for the certificate, beside localhost; repeatable",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the files, and say what to do next; exit code 1 if the folder is not empty."""
    folder = Path(arguments.folder)
    try:
        files = _contents(arguments.host)
    except ValueError as error:
        arguments.parser.error(f"--host: {error}")
    try:
        _write_all(folder, files)
    except OSError as error:
        print(f"{arguments.parser.prog}: {error.filename}: {error.strerror}", file=sys.stderr)  # noqa: T201
        return 1
    print(_next(arguments.parser.prog.rpartition(" ")[0], folder), end="")  # noqa: T201
    return 0


def _contents(hosts: list[str]) -> Mapping[str, bytes]:
    made = self_signed([*LOCAL, *hosts], datetime.datetime.now(datetime.UTC))
    return {
        ".gitignore": b"*\n",
        "relay.key": secrets.token_urlsafe(_SECRET_BYTES).encode() + b"\n",
        "key.pem": made.key,
        "cert.pem": made.certificate,
        "relay.toml": relay_toml().encode(),
    }


def _write_all(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write new files.

    Raises:
        OSError: the folder has files already, and nothing was written; or it cannot be written to.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(errno.ENOTEMPTY, "the folder is not empty; nothing was changed", str(folder))
    for name, content in files.items():
        mode = 0o644 if name in _PUBLIC else 0o600
        with open(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)


def _next(program: str, folder: Path) -> str:
    quoted = {name: shlex.quote(str(folder / name)) for name in ("relay.toml", "relay.key", "key.pem", "cert.pem")}
    config = quoted["relay.toml"]
    return f"""\
{config}: all options, with what they mean
{quoted["relay.key"]}: the secret that signs tokens; whoever has it can make one
{quoted["cert.pem"]}, {quoted["key.pem"]}: for wss://, valid for {DAYS} days; see listen in the config file

Run the relay:
    {program} serve --config {config}
In another terminal, with a token for an hour, read a room:
    export WSRELAY_TOKEN=$({program} token --config {config} --subject anna)
    {program} tail chat --last 10
And in a third one, with a token as well, write to it:
    export WSRELAY_TOKEN=$({program} token --config {config} --subject ben)
    {program} say chat hello
"""
