"""``wsrelay token``: signs a token that the ``token:`` validator of a relay takes.

Must not live here: which validator is meant (:mod:`wsrelay.commands.rule`), checking tokens
(:mod:`wsrelay.commands.check_token`).
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Final

import jwt

from wsrelay.commands.rule import add_arguments, rule_arguments
from wsrelay.grant import HISTORY_RIGHTS, check_identity
from wsrelay.names import usable_pattern
from wsrelay.validators.arguments import Arguments
from wsrelay.validators.keys import ALGORITHMS, read_key

__all__ = ["SUMMARY", "configure", "run"]

SUMMARY: Final = (
    "Print a signed token (JWT) for a client. Key, algorithm, audience and issuer are those of the token: validator in"
    " --config; for RS256 and ES256 name the private key with --key."
)

#: The arguments of the validator that stand for options of this command.
_OF_RULE: Final = ("key", "algorithm", "audience", "issuer")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the validator, and the claims."""
    add_arguments(parser)
    parser.add_argument("--key", metavar="FILE", help="file with the secret (HS256) or the private key")
    parser.add_argument("--algorithm", choices=ALGORITHMS, help="[default: HS256]")
    parser.add_argument("--audience", metavar="TEXT", help="claim aud")
    parser.add_argument("--issuer", metavar="TEXT", help="claim iss")
    parser.add_argument("--kid", metavar="TEXT", help="name of the key in the relay's key set (jwks=)")
    parser.add_argument("--subject", metavar="NAME", help="claim sub: who the client is, for the log")
    parser.add_argument(
        "--room", action="append", default=[], metavar="PATTERN", help="allowed rooms; repeatable [default: all]"
    )
    parser.add_argument("--seconds", type=_seconds, default=3600, help="time until it expires [default: 3600]")
    parser.add_argument("--history", choices=HISTORY_RIGHTS, help="right to old messages [default: all]")
    parser.add_argument("--no-publish", action="store_true", help="the client may only read")
    parser.add_argument("--no-subscribe", action="store_true", help="the client may only write")


def run(arguments: argparse.Namespace) -> int:
    """Print the token."""
    given = _settings(arguments, rule_arguments(arguments))
    try:
        token = jwt.encode(
            _claims(arguments, given, int(time.time())),
            _signing_key(Path(given["key"]), given["algorithm"]),
            given["algorithm"],
            {"kid": arguments.kid} if arguments.kid else None,
        )
    except OSError as error:
        arguments.parser.error(f"{given['key']}: {error.strerror}")
    except (ValueError, TypeError, jwt.PyJWTError) as error:
        arguments.parser.error(str(error))
    if _is_readable_by_others(Path(given["key"])):
        print(f"warning: others can read {given['key']}; run: chmod 600 {given['key']}", file=sys.stderr)  # noqa: T201
    print(token)  # noqa: T201 - asked for
    return 0


def _settings(arguments: argparse.Namespace, rule: Arguments) -> dict[str, str]:
    """Return the key file, algorithm, audience and issuer; ends the process (2) if one is missing."""
    given = {name: getattr(arguments, name) or rule.options.get(name, ("",))[0] for name in _OF_RULE}
    given["algorithm"] = given["algorithm"] or "HS256"
    missing = [f"--{name}" for name, value in given.items() if not value]
    if missing:
        arguments.parser.error(
            f"needed: {', '.join(missing)}; or --config FILE, which has them in its token: validator"
        )
    return given


def _claims(arguments: argparse.Namespace, given: dict[str, str], now: int) -> dict[str, object]:
    """Return the claims.

    Raises:
        ValueError: a room or subject that the relay would refuse.
    """
    check_identity(arguments.subject)
    claims = {
        "aud": given["audience"],
        "iss": given["issuer"],
        "iat": now,
        "exp": now + arguments.seconds,
        "sub": arguments.subject,
        "rooms": [usable_pattern(room).pattern for room in arguments.room],
        "history": arguments.history,
    }
    rights = {"can_publish": not arguments.no_publish, "can_subscribe": not arguments.no_subscribe}
    return {name: value for name, value in claims.items() if value} | {name: v for name, v in rights.items() if not v}


def _signing_key(path: Path, algorithm: str) -> bytes:
    """Return the secret or the private key.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is a public key, or no secret.
    """
    if algorithm == "HS256":
        return bytes(read_key(path, algorithm)[None, algorithm])  # type: ignore[arg-type]  # of HS256
    content = path.read_bytes()
    if b"PRIVATE KEY" not in content:
        raise ValueError(f"{path} is no private key; the relay has the public one, name the other with --key")
    return content


def _is_readable_by_others(path: Path) -> bool:
    return bool(path.stat().st_mode & 0o077)


def _seconds(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of seconds")
    return int(text)
