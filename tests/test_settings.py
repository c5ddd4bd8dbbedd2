"""Tests of wsrelay.settings."""

import inspect
from dataclasses import FrozenInstanceError, fields, replace

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.errors import SettingsError
from wsrelay.message import Run
from wsrelay.settings import RELOADABLE, Settings, check_value


class SettingsTests(SynchronousTestCase):
    """The settings object."""

    def problems(self, **settings: object) -> tuple[str, ...]:
        error = self.assertRaises(SettingsError, Settings, **settings)
        return error.problems

    def test_frozen(self) -> None:
        """A field cannot be assigned."""
        with self.assertRaises(FrozenInstanceError):
            Settings().echo = True  # type: ignore[misc]

    def test_every_field_is_explained(self) -> None:
        """Each field has its line in the docstring, and nothing else has."""
        text = inspect.getdoc(Settings) or ""
        lines = text[text.index("Attributes:") :].splitlines()[1:]

        self.assertEqual([line.split(":")[0].strip() for line in lines], [field.name for field in fields(Settings)])
        self.assertIn("    max_fragments: Most frames of one message. Exceeded: close 1008.", lines)

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

    def test_unbounded_numbers(self) -> None:
        """NaN, infinity, zero and huge numbers are refused."""
        for value in (float("nan"), float("inf"), 0, -1):
            self.assertEqual(len(self.problems(handshake_seconds=value)), 1)
        self.assertEqual(len(self.problems(max_bytes_per_second=10**400)), 1)
        for name in ("max_message_bytes", "history_bytes", "max_rooms", "max_room_members", "max_fragments"):
            self.assertEqual(len(self.problems(**{name: 0})), 1)

    def test_zero_seconds(self) -> None:
        """Pings and drains may take 0 seconds, and at most a day."""
        for name in ("ping_seconds", "drain_seconds"):
            self.assertEqual(getattr(Settings(**{name: 0}), name), 0)
            self.assertEqual(getattr(Settings(**{name: 86400}), name), 86400)
            self.assertEqual(len(self.problems(**{name: 86401})), 1)

    def test_message_type(self) -> None:
        """A message type is any, text or binary."""
        Settings(message_type=("text", "a/*=binary"))
        [problem] = self.problems(message_type=("a/*=image",))
        self.assertEqual(problem, "message_type: 'a/*=image': write NAME or PATTERN=NAME with one of any, text, binary")

    def test_trusted_proxies(self) -> None:
        """A trusted proxy is an address, a network or unix; a wrong one is named."""
        Settings(trusted_proxies=("10.0.0.0/8", "::1", "unix"))
        for wrong in ("localhost", "10.0.0.1/8", ""):
            [problem] = self.problems(trusted_proxies=("::1", wrong))
            self.assertTrue(problem.startswith("trusted_proxies: "), problem)
            self.assertIn(repr(wrong), problem)

    def test_room_log_bytes(self) -> None:
        """A log that was set too small for the largest message is refused, with what it must be."""
        smallest = Run.binary(bytes(70_000)).size_bytes
        Settings(max_message_bytes=70_000, room_log_bytes=smallest)
        [problem] = self.problems(max_message_bytes=70_000, room_log_bytes=smallest - 1)

        self.assertTrue(
            problem.startswith(f"room_log_bytes: must be at least {smallest} with max_message_bytes=70000,")
        )
        self.assertTrue(problem.endswith(f"; got {smallest - 1}"), problem)

    def test_room_log_bytes_derived(self) -> None:
        """A log that was not set has 8 MiB, or holds four of the largest messages; 2 GiB are the most."""
        message = Run.binary(bytes(70_000)).size_bytes - 70_000
        for largest, log in (
            (1, 2**23),
            (2**21 - message, 2**23),
            (2**24, 4 * (2**24 + message)),
            (2**31 - message, 2**31),
        ):
            settings = Settings(max_message_bytes=largest, memory_budget=0)
            self.assertEqual(settings.room_log_bytes, log)
            self.assertEqual(Settings(max_message_bytes=largest, room_log_bytes=0, memory_budget=0), settings)
            self.assertEqual(replace(settings, echo=True).room_log_bytes, log)
        self.assertEqual(len(self.problems(max_message_bytes=2**31, memory_budget=0)), 1)

    def test_room_log_bytes_in_budget(self) -> None:
        """A log that was not set takes half of the memory budget at most for large messages, but holds one."""
        message = Run.binary(bytes(70_000)).size_bytes - 70_000
        for largest, budget, log in (
            (2 * 10**8, 2**29, 2**28),
            (2**26, 2**27 + 2 * message, 2**26 + message),
            (1000, 2**20, 2**23),
        ):
            self.assertEqual(Settings(max_message_bytes=largest, memory_budget=budget).room_log_bytes, log)

    def test_largest_message_fits(self) -> None:
        """Each limit in which the largest message must have room is refused if it has too little."""
        message = Run.binary(bytes(70_000)).size_bytes
        for name, least, more in (
            ("memory_budget", 2 * message, {}),
            ("max_unfinished_bytes_per_address", 70_000 + 1024, {"max_request_bytes": 1024}),
            ("backplane_log_bytes", 70_000, {"backplane": "redis://broker"}),
        ):
            Settings(max_message_bytes=70_000, **{name: least}, **more)
            [problem] = self.problems(max_message_bytes=70_000, **{name: least - 1}, **more)
            self.assertTrue(problem.startswith(f"{name}: must be at least {least} with max_message_bytes=70000, "))
        Settings(backplane_log_bytes=1)  # without a backplane it has no meaning

    def test_pause_publishers_needs_slow_seconds(self) -> None:
        """With the policy pause-publishers, slow_seconds must not be 0, or a room could be held for good."""
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

    def test_differences_derived(self) -> None:
        """A field that only follows another one has not changed; one that was set has."""
        large = Settings(max_message_bytes=2**24)
        self.assertEqual(Settings().differences(large), ["max_message_bytes"])
        self.assertEqual(Settings(room_log_bytes=2**25).differences(Settings()), ["room_log_bytes"])

    def test_take_over(self) -> None:
        """The reloadable fields, and no others, become those of other settings, in the same object."""
        self.assertLessEqual({"slow_policy", "validate"}, RELOADABLE)
        settings = Settings(max_rooms=2)
        number = hash(settings)
        settings.take_over(Settings(validate=("rooms:a",), slow_policy=("latest",), max_rooms=1))

        self.assertEqual(settings, Settings(validate=("rooms:a",), slow_policy=("latest",), max_rooms=2))
        self.assertEqual(hash(settings), number)

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
        """A string can stand for a number or a boolean, unless strict."""
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
        self.assertEqual(check_value("max_rooms", "12"), (None, "expected a whole number, got '12'; write 12"))
        self.assertEqual(check_value("listen", "tcp:1"), (None, "expected a list, got 'tcp:1'; write [\"tcp:1\"]"))

    def test_wrong(self) -> None:
        """The problem says what was expected and what was given."""
        for name, text, problem in [
            ("max_rooms", "x", "expected a whole number, got 'x'"),
            ("max_rooms", "1.5", "expected a whole number, got '1.5'"),
            ("max_message_bytes", "10M", "expected a whole number, got '10M'; write 10485760"),
            ("max_message_bytes", "99999G", "expected a whole number, got '99999G'"),
            ("max_message_bytes", "64 KiB", "expected a whole number, got '64 KiB'; write 65536"),
            ("ping_seconds", "nan", "expected a number >= 0.0, got 'nan'"),
            ("ping_seconds", "1e400", "expected a smaller number, got '1e400'"),
            ("echo", "maybe", "expected true or false, got 'maybe'"),
            ("listen", "tcp:1", "expected a list, got 'tcp:1'"),
            ("slow_policy", "latest", "expected a list, got 'latest'"),
            ("max_rooms", ["1"], "expected a whole number, got ['1']"),
        ]:
            self.assertEqual(check_value(name, text, strict=False), (None, problem))

    def test_slow_policies(self) -> None:
        """Slow policies are checked by name and pattern; the problem says what to write."""
        self.assertEqual(check_value("slow_policy", ["latest", "a=disconnect"]), (("latest", "a=disconnect"), None))
        value, problem = check_value("slow_policy", ["newest", "b*b*=latest"])

        self.assertIs(value, None)
        self.assertIn("'newest': write NAME or PATTERN=NAME with one of disconnect, ", problem)
        self.assertIn("'b*b*=latest': 'b*b*' is not a room pattern", problem)
