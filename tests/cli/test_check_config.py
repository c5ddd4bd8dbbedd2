"""Tests of wsrelay.cli.check_config."""

import tomllib
from dataclasses import fields

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.cli.check_config import as_toml, encodable
from wsrelay.settings import Settings


class TomlTests(SynchronousTestCase):
    """Settings as TOML."""

    def again(self, **given: object) -> Settings:
        """Write settings as TOML, read them again, and return the result."""
        read = tomllib.loads(as_toml(Settings(**given), {}, 7))  # type: ignore[arg-type]
        self.assertEqual(len(read), len(fields(Settings)))
        return Settings(
            **{
                name.replace("-", "_"): tuple(value) if isinstance(value, list) else value
                for name, value in read.items()
            }
        )

    def test_read_again(self) -> None:
        """Written settings are read as the same settings, with any characters in strings."""
        self.assertEqual(self.again(), Settings())
        given = {
            "listen": ("tcp:80", 'unix:/run/"a" \\b\n\t\x7f\x00é\u2028😀'),
            "echo": True,
            "max_rooms": 2**62,
            "ping_seconds": 0.1,
            "max_frames_per_second": 1e12,
            "drain_seconds": 1e-9,
            "log_format": "json",
        }
        self.assertEqual(self.again(**given), Settings(**given))  # type: ignore[arg-type]

    def test_sources(self) -> None:
        """Each value has its source as a comment; line breaks in a source are escaped."""
        sources = {"max_rooms": "--max-rooms", "echo": "WSRELAY_ECHO", "max_fragments": "a\nb.toml"}
        lines = as_toml(Settings(echo=True), sources, 7).splitlines()

        for line in (
            "max-rooms = 10000  # --max-rooms",
            "echo = true  # WSRELAY_ECHO",
            "max-fragments = 1024  # a\\nb.toml",
            "max-connections = 0  # default; 7 by the limit on open files",
            "validate = []  # default: origin:same-host",
            'log-level = "info"  # default',
            "room-log-bytes = 8388608  # default, by max-message-bytes and memory-budget",
            "ping-seconds = 20  # default",
        ):
            self.assertIn(line, lines)

    def test_connections(self) -> None:
        """The limit on connections by open files is shown only if max_connections is 0."""
        text = as_toml(Settings(max_connections=5), {"max_connections": "--max-connections"}, 7)

        self.assertIn("max-connections = 5  # --max-connections\n", text)

    def test_derived(self) -> None:
        """A value that follows another option is shown as it is in force."""
        for settings, sources, line in (
            (
                Settings(max_message_bytes=2**24),
                {},
                "room-log-bytes = 67109888  # default, by max-message-bytes and memory-budget",
            ),
            (Settings(room_log_bytes=2**25), {"room_log_bytes": "a.toml"}, "room-log-bytes = 33554432  # a.toml"),
        ):
            self.assertIn(line, as_toml(settings, sources, 7).splitlines())

    def test_headings(self) -> None:
        """The options stand under their headings."""
        text = as_toml(Settings(), {}, 7)

        self.assertTrue(text.startswith("# Listening\nlisten = "))
        self.assertIn("\n\n# Rooms and slow subscribers\n", text)

    def test_encodable(self) -> None:
        """In an encoding that lacks characters, the file is the same when read again."""
        settings = Settings(validate=("rooms:é/€/\U0001f600/\\xe9",))
        toml = as_toml(settings, {}, 7)
        self.assertEqual(encodable(toml, None), toml)
        self.assertIn("é/\\u20ac/\\U0001f600", encodable(toml, "latin-1"))
        ascii_only = encodable(toml, "ascii")
        self.assertTrue(ascii_only.isascii())
        self.assertEqual(tomllib.loads(ascii_only), tomllib.loads(toml))
