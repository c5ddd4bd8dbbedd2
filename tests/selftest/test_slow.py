"""Cases of members that do not read, do not finish, or vanish."""

from dataclasses import replace

from tests.harness.selftest import BOUNDS, SelftestCase, replacing
from wsrelay.selftest import slow


class SlowTests(SelftestCase):
    """What becomes of the stalled member, and of the others."""

    def test_policies(self) -> None:
        """Each slow policy is recognised; one that holds the room fails the case."""
        for policy, verdict, seen in (
            ("disconnect", "pass", "closed with 1013 “too slow: read faster or ask for less”, after"),
            ("drop-oldest", "pass", "of them, and goes on"),
            ("pause-publishers", "fails", "it goes on when that member has gone"),
        ):
            self.assert_result(self.attempt("never-reader", slow_policy=(policy,)), verdict, seen)

    def test_speakers_closed(self) -> None:
        """Speakers that meet a rule or a limit of the server: that is said, not that a slow client stops its room."""
        for settings, seen in (
            ({"message_type": ("text",)}, "the speaker was closed with 1003"),
            ({"max_message_bytes": 1000}, "the speaker was closed with 1009"),
        ):
            result = self.attempt("never-reader", **settings)
            self.assert_result(result, "differs", seen)
            self.assertIn("not tried to its end", result.means)

    def test_few(self) -> None:
        """Few messages in the time there is, by a limit on rates, or many short ones, tell nothing; and end in time."""
        self.patch(slow, "_MOST_MESSAGES", 200)
        for bounds, settings, seen in (
            (
                BOUNDS,
                {"max_messages_per_second": 1, "room_log_bytes": 2**23},
                "are too few to tell; the listener got them all; --timeout SECONDS",
            ),
            (replace(BOUNDS, max_message_bytes=50), {}, "200 messages of 50 bytes"),
        ):
            result = self.attempt("never-reader", bounds=bounds, **settings)
            self.assert_result(result, "skipped", seen)
            self.assertLess(result.seconds, 25)

    def test_cut_later(self) -> None:
        """A stalled member that is cut after a long time may have missed its close frame."""
        result = self.attempt("never-reader", max_messages_per_second=1)
        self.assert_result(result, "pass", "was cut without a close frame")

    def test_rates(self) -> None:
        """A server that holds the speakers for another reason is not said to stop because of the slow client."""
        result = self.attempt("never-reader", max_bytes_per_second=1000, rate_grace_seconds=3600)
        self.assert_result(result, "differs", "nor when that member has gone")

    def test_held(self) -> None:
        """A server that keeps everything passes."""
        self.assert_result(self.attempt("never-reader", room_log_bytes=2**23), "pass", "the stalled one got all later")

    def test_cut(self) -> None:
        """A stalled member that is cut differs."""
        result = self.attempt("never-reader", down=lambda data: b"" if b"too slow" in data else data)
        self.assert_result(result, "differs", "was cut without a close frame")

    def test_no_more(self) -> None:
        """A stalled member that does not get the last message: what it has got is what counts."""
        for log_bytes, seen in ((2**23, "got all later"), (2**20, "of them, then nothing")):
            result = self.attempt(
                "never-reader",
                room_log_bytes=log_bytes,
                slow_policy=("drop-oldest",),
                down=replacing(b"\x82\4last", b""),
            )
            self.assert_result(result, "pass", seen)

    def test_lost(self) -> None:
        """A message that others miss meanwhile fails the case."""
        doubled = replacing(b"\0\0\0\0\0\0\0\7", b"\0\0\0\0\0\0\0\5")
        self.assert_result(
            self.attempt("never-reader", down=doubled), "fails", "got not each message once and in order"
        )

    def test_half(self) -> None:
        """What is relayed of half a message fails the case."""
        result = self.attempt("half-message", up=lambda data: b"\x82" + data[1:] if data[:1] == b"\2" else data)
        self.assert_result(result, "fails", "a first fragment was relayed")
