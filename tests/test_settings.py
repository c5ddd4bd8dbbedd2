"""Tests of wsrelay.settings."""

import inspect
from dataclasses import FrozenInstanceError, asdict, fields

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.errors import SettingsError
from wsrelay.message import Message
from wsrelay.settings import RELOADABLE, Settings, check_value
from wsrelay.wire import frames


class SettingsTests(SynchronousTestCase):
    """The settings object."""

    def problems(self, **settings: object) -> tuple[str, ...]:
        error = self.assertRaises(SettingsError, Settings, **settings)
        return error.problems

    def test_defaults(self) -> None:
        """All defaults, at once: a new or changed one breaks this on purpose."""
        self.assertEqual(
            asdict(Settings()),
            {
                "listen": ("tcp:8080:interface=127.0.0.1",),
                "echo": False,
                "admin": "",
                "canary_seconds": 1.0,
                "validate": (),
                "http": False,
                "demo": False,
                "no_compress": False,
                "compress_min_bytes": 256,
                "max_message_bytes": 1_048_576,
                "max_fragments": 1024,
                "message_type": (),
                "max_frames_per_second": 10_000.0,
                "max_messages_per_second": 5_000.0,
                "max_bytes_per_second": 33_554_432,
                "burst_seconds": 5.0,
                "rate_grace_seconds": 30.0,
                "message_seconds": 30.0,
                "max_connections": 0,
                "max_connections_per_address": 1024,
                "max_handshakes": 8192,
                "max_handshakes_per_address": 256,
                "max_connects_per_second": 5_000.0,
                "max_connects_per_second_per_address": 200.0,
                "trusted_proxies": (),
                "max_rooms": 10_000,
                "max_room_members": 10_000,
                "memory_budget": 536_870_912,
                "room_log_bytes": 4_194_304,
                "slow_policy": (),
                "slow_seconds": 30.0,
                "handshake_seconds": 10.0,
                "validate_seconds": 5.0,
                "close_seconds": 3.0,
                "drain_seconds": 5.0,
                "ping_seconds": 20.0,
                "log_format": "text",
                "log_level": "info",
            },
        )

    def test_frozen(self) -> None:
        """Settings do not change under a running relay."""
        with self.assertRaises(FrozenInstanceError):
            Settings().echo = True  # type: ignore[misc]

    def test_every_field_is_explained(self) -> None:
        """Each field has its line in the docstring."""
        for field in fields(Settings):
            self.assertIn(f"\n    {field.name}: ", inspect.getdoc(Settings) or "")

    def test_all_problems_at_once(self) -> None:
        """Every wrong value is named, with what it should be and what it was."""
        self.assertEqual(
            self.problems(max_message_bytes=-5, close_seconds=0, echo="perhaps", listen=(), max_rooms=True),
            (
                "listen: expected a list of length >= 1, got ()",
                "echo: expected true or false, got 'perhaps'",
                "max_message_bytes: expected a whole number >= 1, got -5",
                "max_rooms: expected a whole number, got True",
                "close_seconds: expected a number > 0.0, got 0",
            ),
        )

    def test_no_number_is_without_bound(self) -> None:
        """NaN, infinity and zero are no limits."""
        for value in (float("nan"), float("inf"), 0, -1):
            self.assertEqual(len(self.problems(handshake_seconds=value)), 1)
        self.assertEqual(len(self.problems(max_bytes_per_second=10**400)), 1)
        for name in ("max_message_bytes", "room_log_bytes", "max_rooms", "max_room_members", "max_fragments"):
            self.assertEqual(len(self.problems(**{name: 0})), 1)

    def test_zero_that_means_something(self) -> None:
        """Zero turns pings off, and lets a relay stop at once; a day is the most."""
        for name in ("ping_seconds", "drain_seconds"):
            self.assertEqual(getattr(Settings(**{name: 0}), name), 0)
            self.assertEqual(getattr(Settings(**{name: 86400}), name), 86400)
            self.assertEqual(len(self.problems(**{name: 86401})), 1)

    def test_types_are_known(self) -> None:
        """A type of messages is one of three."""
        Settings(message_type=("text", "a/*=binary"))
        [problem] = self.problems(message_type=("a/*=image",))
        self.assertEqual(problem, "message_type: 'a/*=image': write NAME or PATTERN=NAME with one of any, text, binary")

    def test_proxies_are_addresses(self) -> None:
        """A trusted proxy is an address or a network; what is none is named."""
        Settings(trusted_proxies=("10.0.0.0/8", "::1", "unix"))
        for wrong in ("localhost", "10.0.0.1/8", ""):
            [problem] = self.problems(trusted_proxies=("::1", wrong))
            self.assertTrue(problem.startswith("trusted_proxies: "), problem)
            self.assertIn(repr(wrong), problem)

    def test_a_log_holds_a_message(self) -> None:
        """A log too small for the largest message is refused, with both numbers."""
        smallest = Message.of(frames.BINARY, bytes(70_000)).size_bytes
        Settings(max_message_bytes=70_000, room_log_bytes=smallest)
        [problem] = self.problems(max_message_bytes=70_000, room_log_bytes=smallest - 1)

        self.assertIn("room_log_bytes", problem)
        self.assertIn(f"got {smallest - 1} and 70000", problem)

    def test_somebody_must_end_a_pause(self) -> None:
        """Publishers are not held for as long as somebody likes: with that policy, slow_seconds may not be off."""
        Settings(slow_seconds=0, slow_policy=("latest",))
        Settings(slow_policy=("a=pause-publishers",))
        [problem] = self.problems(slow_seconds=0, slow_policy=("a=pause-publishers",))

        self.assertIn("slow_seconds: must not be 0 with the policy pause-publishers", problem)


class ReloadTests(SynchronousTestCase):
    """Settings that change while a relay runs."""

    def test_differences(self) -> None:
        """The fields that differ are named, in their order."""
        self.assertEqual(Settings().differences(Settings()), [])
        self.assertEqual(Settings().differences(Settings(max_rooms=1, echo=True)), ["echo", "max_rooms"])

    def test_take_over(self) -> None:
        """The reloadable fields, and no others, become those of other settings, in the same object."""
        self.assertEqual(RELOADABLE, {"slow_policy", "validate"})
        settings = Settings(max_rooms=2)
        settings.take_over(Settings(validate=("rooms:a",), slow_policy=("latest",), max_rooms=1))

        self.assertEqual(settings, Settings(validate=("rooms:a",), slow_policy=("latest",), max_rooms=2))

    def test_take_over_nothing(self) -> None:
        """Fields that contradict the fields that stay are refused, and nothing changes."""
        settings = Settings(slow_seconds=0)
        other = Settings(validate=("rooms:a",), slow_policy=("pause-publishers",))
        error = self.assertRaises(SettingsError, settings.take_over, other)

        self.assertIn("slow_seconds", error.problems[0])
        self.assertEqual(settings, Settings(slow_seconds=0))


class CheckValueTests(SynchronousTestCase):
    """Single values from files, the environment and the command line."""

    def test_strings_for_numbers(self) -> None:
        """Where strings are all there is, they stand for numbers and booleans."""
        for name, text, value in [
            ("max_rooms", "12", 12),
            ("ping_seconds", "0.5", 0.5),
            ("echo", "true", True),
            ("echo", "0", False),
            ("listen", ["tcp:1"], ("tcp:1",)),
        ]:
            self.assertEqual(check_value(name, text, strict=False), (value, None))

    def test_strict(self) -> None:
        """In a TOML file a number is a number."""
        self.assertEqual(check_value("max_rooms", 12), (12, None))
        self.assertEqual(check_value("max_rooms", "12"), (None, "expected a whole number, got '12'"))

    def test_wrong(self) -> None:
        """The problem says what was expected and what was given."""
        for name, text, problem in [
            ("max_rooms", "x", "expected a whole number, got 'x'"),
            ("max_rooms", "1.5", "expected a whole number, got '1.5'"),
            ("ping_seconds", "nan", "expected a number >= 0.0, got 'nan'"),
            ("ping_seconds", "1e400", "expected a smaller number, got '1e400'"),
            ("echo", "maybe", "expected true or false, got 'maybe'"),
            ("listen", "tcp:1", "expected a list, got 'tcp:1'"),
            ("slow_policy", "latest", "expected a list, got 'latest'"),
        ]:
            self.assertEqual(check_value(name, text, strict=False), (None, problem))

    def test_slow_policies(self) -> None:
        """Policies are read, too: the problem says what to write."""
        self.assertEqual(check_value("slow_policy", ["latest", "a=disconnect"]), (("latest", "a=disconnect"), None))
        value, problem = check_value("slow_policy", ["newest", "b*b*=latest"])

        self.assertIs(value, None)
        self.assertIn("'newest': write NAME or PATTERN=NAME with one of disconnect, ", problem)
        self.assertIn("'b*b*=latest': 'b*b*' is no room pattern", problem)
