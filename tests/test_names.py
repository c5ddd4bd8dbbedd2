"""Tests of wsrelay.names."""

from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wsrelay.errors import BadRoomName
from wsrelay.names import MAX_ROOM_NAME_BYTES, ROOT, RoomPattern, canonical_room, check_room, usable_pattern


class CanonicalRoomTests(SynchronousTestCase):
    """Raw path to room name."""

    def test_canonical_room(self) -> None:
        """The room is the percent-decoded path without its first slash; "/" is the root room."""
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
            "/%252A": "%2A",
            "/a?[b]{c}": "a?[b]{c}",
            "/\uff0a/\u2217": "\uff0a/\u2217",
            "/...": "...",
            "/.a": ".a",
        }.items():
            self.assertEqual(canonical_room(path), room)

    def test_bad_room_names(self) -> None:
        """Invalid and ambiguous paths are refused, and the text names the fault."""
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
            "/*": "stands for many rooms",
            "/**": "stands for many rooms",
            "/docs/*": "stands for many rooms",
            "/docs/%2A": "stands for many rooms",
            "/docs/a%2ab": "stands for many rooms",
            "/" + "a" * (MAX_ROOM_NAME_BYTES + 1): "longer",
            "/" + "%C3%A9" * 128: "longer",
        }.items():
            error = self.assertRaises(BadRoomName, canonical_room, path)
            self.assertIn(reason, str(error), path)

    def test_max_room_name_bytes(self) -> None:
        """A name of the maximum length is accepted."""
        self.assertEqual(len(canonical_room("/" + "a" * MAX_ROOM_NAME_BYTES)), MAX_ROOM_NAME_BYTES)

    @given(st.text(min_size=1, max_size=60))
    def test_percent_encoding_round_trip(self, name: str) -> None:
        """A canonical name, percent-encoded as a path, gives itself; any other name is refused."""
        try:
            check_room(name)
        except BadRoomName:
            return
        path = "/" if name == ROOT else "/" + quote(name)
        self.assertEqual(canonical_room(path), name)

    @given(st.text(alphabet="/.%2eEfF0a", max_size=12))
    def test_no_dot_segments(self, path: str) -> None:
        """No result has an empty, "." or ".." segment."""
        try:
            room = canonical_room("/" + path)
        except BadRoomName:
            return
        self.assertTrue(room == ROOT or not {"", ".", ".."} & set(room.split("/")))


class CheckRoomTests(SynchronousTestCase):
    """Names from grants and claims."""

    def test_lone_surrogates(self) -> None:
        """A lone surrogate, possible in JSON, is refused."""
        self.assertRaises(BadRoomName, check_room, "\ud800")

    @given(st.text("a*/", min_size=1, max_size=8))
    def test_names_are_exact_patterns(self, name: str) -> None:
        """As a pattern, a room name matches only itself."""
        try:
            check_room(name)
        except BadRoomName:
            return
        pattern = RoomPattern(name)
        self.assertIn(name, pattern)
        for other in ("a", "aa", "a/a", "a/a/a", "b", "/", name + "a", f"{name}/a"):
            self.assertEqual(other in pattern, other == name)


class RoomPatternTests(SynchronousTestCase):
    """Room patterns."""

    def test_wildcards(self) -> None:
        """* matches within one segment, ** across segments, other characters themselves."""
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

    def test_not_a_string(self) -> None:
        """Nothing but strings matches."""
        self.assertNotIn(42, RoomPattern("**"))

    def test_bad_patterns(self) -> None:
        """An empty pattern, and one that needs backtracking, is refused."""
        for pattern in ("", "**/a", "a**", "*a*", "a/***"):
            self.assertRaises(ValueError, RoomPattern, pattern)

    def test_repr(self) -> None:
        """The repr shows the pattern."""
        self.assertEqual(repr(RoomPattern("a/*")), "RoomPattern('a/*')")

    def test_usable_pattern(self) -> None:
        """A pattern of an option is one that some room matches."""
        for text, room in (("/", "/"), ("**", "a"), ("/chat/*", "chat/1"), ("a/*b/**", "a/b/c")):
            self.assertIn(room, usable_pattern(text))
        for text in ("chat/", "//", "/chat/", "a//b", "a/../*", "."):
            self.assertIn(f"no room matches {text!r}: ", str(self.assertRaises(ValueError, usable_pattern, text)))
        self.assertIn("is not a room pattern", str(self.assertRaises(ValueError, usable_pattern, "a**/b")))
