"""``wsrelay check-token``: says what the relay's ``token:`` validator says about a token, and why.

The validator itself decides; what is wrong is then found by looking at the unverified token. Must not live here: which
validator is meant (:mod:`wsrelay.commands.rule`), the rules (:mod:`wsrelay.validators.token`).
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import jwt

from wsrelay.commands.rule import ARGUMENTS, add_arguments, rule
from wsrelay.errors import BadRoomName, Denied
from wsrelay.grant import Grant
from wsrelay.names import check_room, usable_pattern
from wsrelay.request import HandshakeRequest
from wsrelay.validators.arguments import Arguments, parse
from wsrelay.validators.token import TokenValidator

__all__ = ["SUMMARY", "configure", "problems", "run"]

SUMMARY: Final = (
    "Print the claims of a token, and what the token: validator of --config or --validate grants for it; or why it"
    " refuses it, and what to do. Exit code 1: it refuses it."
)

#: Claims that must be there.
_REQUIRED: Final = ("exp", "aud", "iss")

#: What is wrong if neither header nor claims nor times are.
_OTHER_KEY: Final = "Claims and times are right: it is signed with another key than that of the relay, or was changed."

#: Reason of the validator → the same, for reasons that are not about the signature.
_REASONS: Final = {
    "the token does not allow this room": "Its room is the name of one, its rooms are patterns: chat/*, news/**.",
    "the token's claims are malformed": "sub is a text, room a name, rooms a list of patterns, can_publish and"
    ' can_subscribe are true or false, history is "none", "resume" or "all"; none of them is null.',
}

#: The farthest time that is told, on both sides of the epoch; a claim may be any number.
_FAR_SECONDS: Final = 1e12

#: Seconds → the name of the unit, the largest first.
_UNITS: Final = ((86400, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds"))


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the token and the validator."""
    parser.add_argument(
        "token",
        nargs="?",
        default=os.environ.get("WSRELAY_TOKEN", ""),
        metavar="TOKEN",
        help="the token; - reads it from standard input"
        " [default: WSRELAY_TOKEN of the environment, which other users cannot see]",
    )
    add_arguments(parser)
    parser.add_argument("--room", metavar="NAME", help="a room that it must allow [default: any that it names]")


def run(arguments: argparse.Namespace) -> int:
    """Print the claims and the decision."""
    if not arguments.token:
        arguments.parser.error("needed: TOKEN, or WSRELAY_TOKEN in the environment")
    text = rule(arguments) or arguments.parser.error("needed: --config FILE, or --validate token:…")
    try:
        validator = TokenValidator.from_arguments(text)
        room = None if arguments.room is None else check_room(arguments.room.removeprefix("/") or "/")
    except (ValueError, OSError, BadRoomName) as error:
        arguments.parser.error(str(error))
    token = (_read_input() if arguments.token == "-" else arguments.token).strip()  # noqa: S105 - not a password
    header, claims = _read(token)
    print(json.dumps({"header": header, "claims": claims}, indent=2))  # noqa: T201
    try:
        grant = validator.validate(_request(token), Grant(room or _room_of(claims)))
    except Denied as denied:
        print(f"\nThe relay refuses it: {denied.status} {denied.reason}")  # noqa: T201
        why = list(problems(header, claims, parse(text, ARGUMENTS), time.time()))
        why = why or [_REASONS.get(denied.reason) or _of_pyjwt(token, parse(text, ARGUMENTS)) or _OTHER_KEY]
        print("".join(f"  {line}\n" for line in why), end="")  # noqa: T201
        return 1
    print(f"\nThe relay takes it{_granted(grant, claims, time.time())}")  # noqa: T201
    return 0


def _read_input() -> str:
    return sys.stdin.buffer.read().decode(errors="replace")


def _read(token: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return header and claims of a token without checking it; empty ones if it is none."""
    try:
        read = jwt.decode_complete(token, options={"verify_signature": False})
    except Exception:  # noqa: BLE001 - the parser may raise anything
        return {}, {}
    return read["header"], read["payload"]


def _request(token: str) -> HandshakeRequest:
    return HandshakeRequest("/", "/", {}, {"authorization": f"Bearer {token}"}, "relay", None, (), (), None)


def _room_of(claims: Mapping[str, Any]) -> str:
    """Return a room that the claims name, so that the validator has one to allow."""
    return next((room for text in _named(claims) if (room := _room_in(text))), "x")


def _named(claims: Mapping[str, Any]) -> list[str]:
    """Return the room and the patterns of the claims."""
    patterns = claims.get("rooms")
    named = [claims.get("room"), *(patterns if isinstance(patterns, list) else [])]
    return [each for each in named if isinstance(each, str)]


def _room_in(pattern: str) -> str | None:
    """Return a room that a pattern allows; ``None``: there is none."""
    try:
        usable_pattern(pattern)
    except ValueError:
        return None
    return pattern.removeprefix("/").replace("*", "x") or "/"


def _granted(grant: Grant, claims: Mapping[str, Any], now: float) -> str:
    rooms = claims.get("rooms", claims.get("room", "all"))
    rows = {
        "identity": grant.identity or "none",
        "rooms": ", ".join(rooms) if isinstance(rooms, list) else rooms,
        "publish": "yes" if grant.can_publish else "no",
        "subscribe": "yes" if grant.can_subscribe else "no",
        "history": grant.history,
        "expires": _when(grant.expires_at or 0, now),
    }
    return ":\n" + "\n".join(
        f"  {name:10} {json.dumps(value, ensure_ascii=False)[1:-1]}" for name, value in rows.items()
    )


def _when(seconds: float, now: float) -> str:
    """Return a time as people read it: how far away, and the date."""
    away = abs(max(-_FAR_SECONDS, min(seconds, _FAR_SECONDS)) - now)
    unit, name = next((each for each in _UNITS if away >= 2 * each[0]), _UNITS[-1])
    far = f"{away / unit:.0f} {name}"
    date = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC" if away < 1e10 else "a time far away"
    return f"{f'in {far}' if seconds > now else f'{far} ago'} ({date})"


def problems(header: Mapping[str, Any], claims: Mapping[str, Any], validator: Arguments, now: float) -> Iterator[str]:
    """Yield what is wrong with a token that was refused, and what to do.

    Args:
        header: of the token, unverified; empty if it is no token.
        claims: of the token, unverified.
        validator: its arguments.
        now: seconds since the epoch.
    """
    found = [*_of_header(header, validator), *_of_claims(claims, validator), *_of_times(claims, validator, now)]
    if not header:
        yield "It is no JWT: three parts in base64url with dots between them. Was it cut, or is it in quotes?"
    yield from found


def _of_header(header: Mapping[str, Any], validator: Arguments) -> Iterator[str]:
    allowed = validator.options.get("algorithm", ())
    if header and header.get("alg") not in allowed:
        yield f"It is signed with {header.get('alg')!r}; the relay takes {', '.join(allowed)}: change one of them."


def _of_claims(claims: Mapping[str, Any], validator: Arguments) -> Iterator[str]:
    for name in _REQUIRED:
        if claims and name not in claims:
            yield f"It has no {name}, which the relay needs: add it where the token is made."
    for name, argument in (("aud", "audience"), ("iss", "issuer")):
        wanted, got = validator.one(argument), claims.get(name)
        if got is not None and wanted not in (got if isinstance(got, list) and name == "aud" else [got]):
            yield f"Its {name} is {got!r}, the relay's {argument}= is {wanted!r}: change one of them."

    for text in _named(claims):
        if _room_in(text) is None:
            yield f"No room can match {text!r}: write chat, chat/* or news/**, without a / at the end."


def _of_pyjwt(token: str, validator: Arguments) -> str | None:
    """Return what PyJWT says about claims of wrong types, such as a time that is no number; it checks no key."""
    checked = {f"verify_{name}": True for name in ("aud", "exp", "iat", "iss", "jti", "nbf")}
    options: Any = {**checked, "verify_signature": False, "verify_sub": False, "require": [*_REQUIRED]}
    try:
        jwt.decode(
            token,
            audience=validator.one("audience"),
            issuer=validator.one("issuer"),
            leeway=int(validator.one("leeway") or 0),
            options=options,
        )
    except Exception as error:  # noqa: BLE001 - the parser may raise anything
        return f"Its claims are wrong: {error}"
    return None


def _of_times(claims: Mapping[str, Any], validator: Arguments, now: float) -> Iterator[str]:
    leeway = int(validator.one("leeway") or 0)
    times = {name: claims[name] for name in ("exp", "nbf", "iat") if isinstance(claims.get(name), (int, float))}
    if times.get("exp", now + 1) + leeway <= now:
        yield f"It expired {_when(times['exp'], now)}: get a new one."
    for name in ("nbf", "iat"):
        if times.get(name, now) > now + leeway:
            yield f"It is valid only {_when(times[name], now)}, by its {name}: compare the clocks, or add leeway=30."
