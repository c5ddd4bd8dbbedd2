"""Cases of delivery."""

from collections.abc import Callable
from dataclasses import replace

from tests.harness.selftest import BOUNDS, SelftestCase, replacing, same
from wsrelay.selftest.delivery import _difference
from wsrelay.selftest.frames import Message
from wsrelay.selftest.target import Target
from wsrelay.wire.frames import split


class DeliveryTests(SelftestCase):
    """Servers that do not deliver are found."""

    def test_lost(self) -> None:
        """A message that does not arrive fails the case."""
        self.assert_result(
            self.attempt("everyone-else", down=replacing(b"\x81\5hello", b"")), "fails", "nothing came to"
        )

    def test_changed(self) -> None:
        """Another payload or type fails the case."""
        for new in (b"\x81\5hellO", b"\x82\5hello"):
            result = self.attempt("everyone-else", down=replacing(b"\x81\5hello", new))
            self.assert_result(result, "fails", "the first listener got another message than was said")

    def test_echo(self) -> None:
        """A relay that echoes differs."""
        self.assert_result(self.attempt("others-only", echo=True), "differs", "the publisher got its own message")

    def test_one_room_for_all_paths(self) -> None:
        """A server that does not look at the path fails the case; with --room it is not tried."""
        result = self.attempt(
            "rooms", up=lambda data: b"GET /all" + data[data.index(b" HTTP") :] if data[:4] == b"GET " else data
        )
        self.assert_result(result, "fails", "reached the members of another path")
        target = Target.from_url("ws://relay.example/", room="one")
        self.assert_result(self.attempt("rooms", target=target), "skipped", "--room names one room")

    def test_unchanged(self) -> None:
        """Lost, doubled, retyped and changed messages fail the case and are named."""
        empty, nul = b"\x82\0", b"\x81\3\0a\0"
        for change, seen in (
            (_whole(empty, b""), "empty binary did not arrive"),
            (_whole(empty, b"\x81\0"), "empty binary arrived as text"),
            (_whole(nul, b"\x82\3\0a\0"), "NUL in text arrived as binary"),
            (_whole(nul, b"\x81\1a"), "NUL in text arrived changed"),
            (_whole(nul, nul + nul), "NUL in text arrived as 2 messages"),
        ):
            self.assert_result(self.attempt("unchanged", down=change), "fails", seen)
        self.assertEqual(_difference([Message(b"a", True, frames=3)], "a"), "")

    def test_order(self) -> None:
        """Reordered or doubled messages fail the case; two orders at two members differ."""
        first, second = b"\x81\7first 3", b"\x81\7first 4"
        swapped = _swapping(first, second)
        self.assert_result(
            self.attempt("order", down=swapped), "fails", "first publisher were reordered at the listener"
        )
        doubled = replacing(first, second)
        self.assert_result(self.attempt("order", down=doubled), "fails", "first publisher were lost or doubled at the")

    def test_two_orders(self) -> None:
        """Members that see two publishers in different orders differ."""
        late: list[bytes] = []

        def change(data: bytes) -> bytes:
            """Let what the first publisher says come last."""
            if data[:1] != b"\x81":
                return data
            frames = split(data)
            late.extend(frame for frame in frames if b"first" in frame)
            others = [frame for frame in frames if b"second" in frame]
            return b"".join(others + late if b"second 49" in data else others)

        result = self.attempt("order", bounds=replace(BOUNDS, batches=1), downs={4: change})
        self.assert_result(result, "differs", "100 messages of two publishers in different orders")

    def test_join_and_leave(self) -> None:
        """A newcomer that gets nothing fails the case."""
        result = self.attempt("join-and-leave", down=replacing(b"\x81\5after", b""))
        self.assert_result(result, "fails", "nothing came to the listener")

    def test_a_limit(self) -> None:
        """A server that closes for its rate limit is said to."""
        limits = {"max_messages_per_second": 1, "burst_seconds": 1, "rate_grace_seconds": 0}
        result = self.attempt("order", **limits)
        self.assert_result(result, "differs", "closed with 1008 “too fast: send less per second”")
        self.assertIn("was not tried to its end", result.means)


def _whole(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    """Return a change of a frame that a write begins with."""
    return lambda data: new + data[len(old) :] if data.startswith(old) else same(data)


def _swapping(first: bytes, second: bytes) -> Callable[[bytes], bytes]:
    """Return a change of the order of two messages."""
    return lambda data: data.replace(first, b"MARK").replace(second, first).replace(b"MARK", second)
