"""Tests of wsrelay.limits.rates."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wsrelay.limits.rates import Allowance, Rates, TokenBucket
from wsrelay.settings import Settings


class TokenBucketTests(SynchronousTestCase):
    """A rate with bursts."""

    def test_burst(self) -> None:
        """As many as a burst may be at once, and then one whenever one has come back."""
        bucket = TokenBucket(2, 3, now=100)

        self.assertEqual([bucket.take(100) for _ in range(7)], [True] * 6 + [False])
        self.assertEqual(bucket.wait_seconds(), 0.5)
        self.assertEqual([bucket.take(100.5), bucket.take(100.5)], [True, False])

    def test_asking_in_vain_is_free(self) -> None:
        """Whoever asks ten times as often as it may gets as much as whoever asks just as often: fractions are kept."""
        bucket = TokenBucket(1, 1, now=0)
        bucket.take(0)

        self.assertEqual(sum(bucket.take(tick / 10) for tick in range(1, 101)), 10)

    def test_no_more_than_a_burst_is_saved(self) -> None:
        """However long nobody came, no more than a burst comes at once."""
        bucket = TokenBucket(10, 2, now=0)
        bucket.take(0)

        self.assertEqual(sum(bucket.take(1_000_000) for _ in range(100)), 20)

    def test_full(self) -> None:
        """It is full when it is as if nobody had ever come."""
        bucket = TokenBucket(2, 1, now=0)
        self.assertTrue(bucket.is_full(0))
        bucket.take(0)

        self.assertEqual([bucket.is_full(0.25), bucket.is_full(0.5)], [False, True])

    def test_less_than_one(self) -> None:
        """A rate of which a burst is less than one lets one through all the same."""
        bucket = TokenBucket(0.1, 1, now=0)

        self.assertEqual([bucket.take(0), bucket.take(9), bucket.take(10)], [True, False, True])

    def test_given_back(self) -> None:
        """A token that is given back can be taken again; there are never more than a burst."""
        bucket = TokenBucket(1, 1, now=0)
        bucket.give_back()
        self.assertEqual([bucket.take(0), bucket.take(0)], [True, False])
        bucket.give_back()
        self.assertTrue(bucket.take(0))

    def test_off(self) -> None:
        """0 is no limit."""
        bucket = TokenBucket(0, 1, now=0)

        self.assertTrue(all(bucket.take(0) for _ in range(1000)))
        self.assertEqual((bucket.wait_seconds(), bucket.is_full(0)), (0, True))

    def test_a_clock_that_stands_still_or_goes_back(self) -> None:
        """Nothing comes back then."""
        bucket = TokenBucket(1, 1, now=10)
        bucket.take(10)

        self.assertEqual([bucket.take(10), bucket.take(5), bucket.take(11)], [False, False, True])

    @given(st.lists(st.floats(0, 5), max_size=50))
    def test_never_more_than_the_rate(self, pauses: list[float]) -> None:
        """In any stretch of time no more is given than a burst and what has come back."""
        bucket, now, taken = TokenBucket(3, 2, now=0), 0.0, 0
        for pause in pauses:
            now += pause
            while bucket.take(now):
                taken += 1
            self.assertLessEqual(taken, 6 + 3 * now + 1e-6)


class AllowanceTests(SynchronousTestCase):
    """What one connection may send."""

    def allowance(self, **settings: Any) -> Allowance:
        usual = {"max_messages_per_second": 10, "max_frames_per_second": 20, "max_bytes_per_second": 100}
        return Allowance(Rates(Settings(**{**usual, "burst_seconds": 2, **settings})), now=50)

    def test_each_for_itself(self) -> None:
        """Messages, frames and bytes: whichever is too much is too much."""
        for name, burst in (("messages", 20), ("frames", 40), ("bytes", 200)):
            allowance = self.allowance()
            setattr(allowance, name, getattr(allowance, name) - burst)
            self.assertFalse(allowance.is_overdrawn(50), name)
            setattr(allowance, name, getattr(allowance, name) - 1)
            self.assertTrue(allowance.is_overdrawn(50), name)

    def test_paid_by_waiting(self) -> None:
        """What was too much is paid at the rate."""
        allowance = self.allowance()
        allowance.messages -= 25

        self.assertEqual([allowance.is_overdrawn(now) for now in (50, 50.4, 50.5)], [True, True, False])

    def test_no_more_than_a_burst_is_saved(self) -> None:
        """A long silence allows for one burst."""
        allowance = self.allowance()
        allowance.is_overdrawn(1_000_000)
        allowance.bytes -= 201

        self.assertTrue(allowance.is_overdrawn(1_000_000))

    def test_how_long(self) -> None:
        """Who is overdrawn again and again is so from the first time on; half a burst saved, and that is forgotten."""
        allowance = self.allowance()
        allowance.messages -= 25
        self.assertEqual(allowance.over_seconds(50), 0.5)
        self.assertFalse(allowance.is_overdrawn(51))
        allowance.messages -= 10
        self.assertTrue(allowance.is_overdrawn(51))
        self.assertEqual(allowance.over_seconds(51), 1.5)

        allowance.is_overdrawn(53)
        allowance.messages -= 16
        self.assertTrue(allowance.is_overdrawn(53))
        self.assertEqual(allowance.over_seconds(53), 0.1)

    def test_the_longest_debt(self) -> None:
        """What takes longest to be paid counts."""
        allowance = self.allowance()
        allowance.messages -= 30
        allowance.bytes -= 500

        self.assertEqual(allowance.over_seconds(50), 3)

    def test_off(self) -> None:
        """0 is no limit, beside others that are."""
        allowance = self.allowance(max_messages_per_second=0)
        allowance.messages -= 10**9
        self.assertFalse(allowance.is_overdrawn(50))
        allowance.frames -= 41
        self.assertTrue(allowance.is_overdrawn(50))
        self.assertEqual(allowance.over_seconds(50), 0.05)
        allowance.is_overdrawn(60)
        self.assertEqual(allowance.frames, 40)
