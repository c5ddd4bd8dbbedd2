"""Room names and room patterns: the one canonicalisation, shared by validators and hub. Pure.

The URL path names the room: ``/chat/42`` is the room ``chat/42``, ``/`` is the room ``/``. Must not live here: parsing
requests (:mod:`wsrelay.http.head`).
"""

import re
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

from wsrelay.errors import BadRoomName

__all__ = ["MAX_ROOM_NAME_BYTES", "PROBE_ROOM", "ROOT", "RoomPattern", "canonical_room", "check_room", "usable_pattern"]

#: The maximum length of a canonical name in bytes of UTF-8: names are keys in the hub and fields in the log.
MAX_ROOM_NAME_BYTES: Final = 255

#: The name of the room at ``/``.
ROOT: Final = "/"

#: The wildcard of :class:`RoomPattern`; in no room name, so that a site can refuse it in names that its users choose.
WILDCARD: Final = "*"

#: The room of the readiness probe. No path, token or validator can name it, because it has an empty segment.
PROBE_ROOM: Final = "/canary"

#: "%" that does not start an escape (RFC 3986 section 2.1).
_BAD_ESCAPE: Final = re.compile("%(?![0-9A-Fa-f]{2})")

#: C0, DEL, C1, the Unicode line breaks, and lone surrogates: they break logs and terminals.
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


#: The most paths and grants that are remembered: clients of a room share one string and one grant, 0.1 KiB each.
SHARED: Final = 1024


@lru_cache(SHARED)
def canonical_room(path: str) -> str:
    """Return the room name of a raw URL path.

    The path is percent-decoded once, as a whole: ``/a%2Fb`` is the room ``a/b`` whether or not a proxy
    decodes slashes on the way, so that validators in a proxy and the hub read the same name.

    Args:
        path: the raw path of the request target, without the query.

    Raises:
        BadRoomName: no "/" at the start, a broken escape, not UTF-8, or refused by :func:`check_room`.

    Peer sees:
        400 with the exception's text.

    Source: RFC 3986 sections 2.1 and 3.3; trap 20 (Autobahn neither decodes the path nor keeps ``;params``).
    """
    if not path.startswith("/"):
        raise BadRoomName("the request target must be a path that starts with /")
    decoded = _decode(path) if "%" in path else path
    # Not check_room(decoded[1:]): "//" would pass for the root.
    return ROOT if decoded == ROOT else _check_segments(decoded[1:])


def _decode(path: str) -> str:
    if _BAD_ESCAPE.search(path):
        raise BadRoomName("the path has a broken percent escape")
    try:
        return unquote_to_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        raise BadRoomName("the path is not UTF-8") from None


def check_room(name: str) -> str:
    """Return ``name`` if it is a canonical room name.

    Raises:
        BadRoomName: longer than :data:`MAX_ROOM_NAME_BYTES`, a control character, an empty, "." or ".." segment, or the
            wildcard of patterns: a pattern is then never the name of a room.
    """
    return name if name == ROOT else _check_segments(name)


def _check_segments(name: str) -> str:
    if _CONTROL.search(name):
        raise BadRoomName("the room name has a control character")
    if len(name.encode("utf-8")) > MAX_ROOM_NAME_BYTES:
        raise BadRoomName(f"the room name is longer than {MAX_ROOM_NAME_BYTES} bytes")
    segments = name.split("/")
    if "" in segments or "." in segments or ".." in segments:
        raise BadRoomName('the room name has an empty, "." or ".." segment: no "//", and no "/" at the end')
    if WILDCARD in name:
        raise BadRoomName(f"the room name has a {WILDCARD}, which stands for many rooms in patterns")
    return name


class RoomPattern:
    """A set of rooms, written as a path with wildcards.

    ``*``, which no room name has, matches any characters within one segment and may stand once per segment; ``**`` as
    the last segment matches one or more segments; every other character matches itself. ``chat/*`` matches ``chat/42``
    but not ``chat/42/admin``, ``chat/**`` matches both, ``**`` every room, ``/`` only the root. A leading "/" is
    optional.

    Args:
        pattern: the pattern.

    Raises:
        ValueError: an empty pattern, or a misplaced wildcard.

    Complexity:
        Linear in the length of the room name, without backtracking: clients choose the names.
    """

    def __init__(self, pattern: str) -> None:
        if not pattern:
            raise ValueError("a room pattern may not be empty")
        self.pattern = pattern
        *self._segments, last = (pattern if pattern == ROOT else pattern.removeprefix("/")).split("/")
        self._open_ended = last == "**"
        if not self._open_ended:
            self._segments.append(last)
        if any(segment.count("*") > 1 for segment in self._segments):
            raise ValueError(f"{pattern!r} is not a room pattern: use * once per segment, ** as the last segment only")

    def __contains__(self, room: object) -> bool:
        """Whether a canonical room name matches."""
        if not isinstance(room, str):
            return False
        if room == ROOT:
            return self.pattern in (ROOT, "**", "/**")
        segments = room.split("/")
        if len(segments) <= len(self._segments) if self._open_ended else len(segments) != len(self._segments):
            return False
        return all(map(_segment_matches, self._segments, segments))

    def __repr__(self) -> str:
        return f"RoomPattern({self.pattern!r})"


def usable_pattern(text: str) -> RoomPattern:
    """Return the pattern of an option.

    Raises:
        ValueError: it is no pattern, or no room can match it, as with a "/" at its end.
    """
    pattern = RoomPattern(text)
    if text != ROOT:
        try:
            _check_segments(text.removeprefix("/").replace(WILDCARD, "x"))
        except BadRoomName as error:
            raise ValueError(f"no room matches {text!r}: {error}") from None
    return pattern


def _segment_matches(pattern: str, segment: str) -> bool:
    before, star, after = pattern.partition("*")
    if not star:
        return segment == pattern
    return len(segment) >= len(before) + len(after) and segment.startswith(before) and segment.endswith(after)
