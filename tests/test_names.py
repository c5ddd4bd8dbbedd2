"""Tests of wsrelay.names."""

from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wsrelay.errors import BadRoomName
from wsrelay.names import MAX_ROOM_NAME_BYTES, ROOT, RoomPattern, canonical_room, check_room


class CanonicalRoomTests(SynchronousTestCase):
    """From a raw path to a room."""

    def test_rooms(self) -> None:
        """The path without its first slash, percent-decoded, is the room; / is the room of that name."""
        for path, room in {
            "/chat/42": "chat/42",
            "/": "/",
            "/a": "a",
            "/caf%C3%A9": "café",
            "/a%2Fb": "a/b",
            "/a;b=1/c": "a;b=1/c",
            "/a+b": "a+b",
            "/100%25": "100%",
            "/%252e%252e": "%2e%2e",
            "/...": "...",
            "/.a": ".a",
        }.items():
            self.assertEqual(canonical_room(path), room)

    def test_refused(self) -> None:
        """What is no path, or has two readings, is no room; the reason says what is wrong."""
        for path, reason in {
            "": "must be a path",
            "*": "must be a path",
            "chat": "must be a path",
            "http://relay.example/chat": "must be a path",
            "//": "segment",
            "//a": "segment",
            "/a//b": "segment",
            "/a/": "segment",
            "/.": "segment",
            "/..": "segment",
            "/a/../b": "segment",
            "/a/%2e%2E/b": "segment",
            "/%2F": "segment",
            "/a%2F": "segment",
            "/%zz": "escape",
            "/%4": "escape",
            "/%": "escape",
            "/%ff": "UTF-8",
            "/%ed%a0%80": "UTF-8",
            "/a%00": "control",
            "/a%0d%0ab": "control",
            "/%1b[2J": "control",
            "/%7f": "control",
            "/%c2%85": "control",
            "/%e2%80%a8": "control",
            "/" + "a" * (MAX_ROOM_NAME_BYTES + 1): "longer",
            "/" + "%C3%A9" * 128: "longer",
        }.items():
            error = self.assertRaises(BadRoomName, canonical_room, path)
            self.assertIn(reason, str(error), path)

    def test_longest(self) -> None:
        """A name of just the longest length is a room."""
        self.assertEqual(len(canonical_room("/" + "a" * MAX_ROOM_NAME_BYTES)), MAX_ROOM_NAME_BYTES)

    @given(st.text(min_size=1, max_size=60))
    def test_quoting_a_room_gives_the_room(self, name: str) -> None:
        """Any canonical name, percent-encoded as a path, names itself; any other name is refused."""
        try:
            check_room(name)
        except BadRoomName:
            return
        path = "/" if name == ROOT else "/" + quote(name)
        self.assertEqual(canonical_room(path), name)

    @given(st.text(alphabet="/.%2eEfF0a", max_size=12))
    def test_never_a_segment_that_climbs(self, path: str) -> None:
        """Whatever comes out has no empty, "." or ".." segment."""
        try:
            room = canonical_room("/" + path)
        except BadRoomName:
            return
        self.assertTrue(room == ROOT or not {"", ".", ".."} & set(room.split("/")))


class CheckRoomTests(SynchronousTestCase):
    """Names that do not come from a path: grants, claims."""

    def test_surrogates_are_refused(self) -> None:
        """A lone surrogate, as JSON can carry it, is no room name."""
        self.assertRaises(BadRoomName, check_room, "\ud800")


class RoomPatternTests(SynchronousTestCase):
    """Sets of rooms."""

    def test_matching(self) -> None:
        """* stays within a segment, ** does not, everything else is itself."""
        for pattern, inside, outside in [
            ("chat/42", ["chat/42"], ["chat/4", "chat/421", "a/chat/42", "Chat/42"]),
            ("/chat/42", ["chat/42"], ["chat/43"]),
            ("chat/*", ["chat/42", "chat/a.b"], ["chat", "chat/42/admin", "chat/42\nx/y"]),
            ("chat/**", ["chat/42", "chat/42/admin"], ["chat", "chats/1"]),
            ("chat/room-*", ["chat/room-1", "chat/room-"], ["chat/room", "chat/room-1/2"]),
            ("*", ["a", "42"], ["a/b", "/"]),
            ("**", ["a", "a/b", "/"], []),
            ("/", ["/"], ["a"]),
            ("/**", ["/", "a/b"], []),
            ("*/**", ["a/b"], ["/", "a"]),
            ("*/*", ["a/b"], ["/"]),
            ("a.c", ["a.c"], ["abc"]),
            ("a[b]", ["a[b]"], ["ab"]),
            ("a*b/c", ["ab/c", "axb/c"], ["a/c", "ab/d", "b/c"]),
            ("ab*ba", ["abba", "abxba"], ["aba"]),
            ("a/**", ["a/b", "a/b/c"], ["a", "b/c"]),
            ("*/x/**", ["a/x/b"], ["a/y/b", "a/x"]),
        ]:
            for room in inside:
                self.assertIn(room, RoomPattern(pattern), pattern)
            for room in outside:
                self.assertNotIn(room, RoomPattern(pattern), pattern)

    def test_only_names_are_inside(self) -> None:
        """What is no string is in no set of rooms."""
        self.assertNotIn(42, RoomPattern("**"))

    def test_wrong(self) -> None:
        """An empty pattern, and one that would have to backtrack, is a mistake, not a set of no rooms."""
        for pattern in ("", "**/a", "a**", "*a*", "a/***"):
            self.assertRaises(ValueError, RoomPattern, pattern)

    def test_repr(self) -> None:
        """A pattern shows what was written."""
        self.assertEqual(repr(RoomPattern("a/*")), "RoomPattern('a/*')")
