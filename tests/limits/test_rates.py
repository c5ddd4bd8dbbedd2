"""Tests of wsrelay.limits.rates."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wsrelay.limits.rates import Allowance, Rate, Rates, TokenBucket
from wsrelay.settings import Settings


class TokenBucketTests(SynchronousTestCase):
    """Token buckets."""

    def test_burst(self) -> None:
        """A burst of tokens is available at once, then one whenever one is refilled."""
        bucket = TokenBucket(Rate(2, 3), now=100)

        self.assertEqual([bucket.take(100) for _ in range(7)], [True] * 6 + [False])
        self.assertEqual(bucket.wait_seconds(), 0.5)
        self.assertEqual([bucket.take(100.5), bucket.take(100.5)], [True, False])

    def test_fractions(self) -> None:
        """Frequent calls get the full rate: fractions of tokens are kept."""
        bucket = TokenBucket(Rate(1, 1), now=0)
        bucket.take(0)

        self.assertEqual(sum(bucket.take(tick / 10) for tick in range(1, 101)), 10)

    def test_burst_after_a_pause(self) -> None:
        """A bucket holds one burst at most, however long the pause."""
        bucket = TokenBucket(Rate(10, 2), now=0)
        bucket.take(0)

        self.assertEqual(sum(bucket.take(1_000_000) for _ in range(100)), 20)

    def test_full(self) -> None:
        """It is full until a token is taken, and after that is refilled."""
        bucket = TokenBucket(Rate(2, 1), now=0)
        self.assertTrue(bucket.is_full(0))
        bucket.take(0)

        self.assertEqual([bucket.is_full(0.25), bucket.is_full(0.5)], [False, True])

    def test_less_than_one(self) -> None:
        """A burst is at least one token."""
        bucket = TokenBucket(Rate(0.1, 1), now=0)

        self.assertEqual([bucket.take(0), bucket.take(9), bucket.take(10)], [True, False, True])

    def test_give_back(self) -> None:
        """A returned token can be taken again; the bucket never holds more than a burst."""
        bucket = TokenBucket(Rate(1, 1), now=0)
        bucket.give_back()
        self.assertEqual([bucket.take(0), bucket.take(0)], [True, False])
        bucket.give_back()
        self.assertTrue(bucket.take(0))

    def test_off(self) -> None:
        """0 is no limit."""
        bucket = TokenBucket(Rate(0, 1), now=0)

        self.assertTrue(all(bucket.take(0) for _ in range(1000)))
        self.assertEqual((bucket.wait_seconds(), bucket.is_full(0)), (0, True))

    def test_clock_that_stands_still_or_goes_back(self) -> None:
        """Without progress of the clock, nothing is refilled."""
        bucket = TokenBucket(Rate(1, 1), now=10)
        bucket.take(10)

        self.assertEqual([bucket.take(10), bucket.take(5), bucket.take(11)], [False, False, True])

    @given(st.lists(st.floats(0, 5), max_size=50))
    def test_rate_bound(self, pauses: list[float]) -> None:
        """Over any time, at most a burst and the refill of that time are taken."""
        bucket, now, taken = TokenBucket(Rate(3, 2), now=0), 0.0, 0
        for pause in pauses:
            now += pause
            while bucket.take(now):
                taken += 1
            self.assertLessEqual(taken, 6 + 3 * now + 1e-6)


class RateTests(SynchronousTestCase):
    """Rates that many share."""

    def test_changed_rate(self) -> None:
        """All buckets of a rate see a change: the next tokens are refilled at the new rate, up to the new burst."""
        rate = Rate(1, 2)
        bucket = TokenBucket(rate, now=0)
        rate.change(10, 1)
        self.assertEqual(sum(bucket.take(0) for _ in range(20)), 2)
        self.assertEqual(sum(bucket.take(5) for _ in range(20)), 10)
        rate.change(0, 1)
        self.assertTrue(all(bucket.take(6) for _ in range(1000)))

    def test_changed_settings(self) -> None:
        """Allowances that exist see changed settings after a refresh."""
        settings = Settings(max_bytes_per_second=100, burst_seconds=2)
        rates = Rates(settings)
        allowance = Allowance(rates, now=0)
        object.__setattr__(settings, "max_bytes_per_second", 10)
        rates.refresh()
        allowance.is_overdrawn(1)

        self.assertEqual((rates.burst[2], allowance.bytes), (20, 20))


class AllowanceTests(SynchronousTestCase):
    """The allowance of one connection."""

    def allowance(self, **settings: Any) -> Allowance:
        usual = {"max_messages_per_second": 10, "max_frames_per_second": 20, "max_bytes_per_second": 100}
        return Allowance(Rates(Settings(**{**usual, "burst_seconds": 2, **settings})), now=50)

    def test_three_buckets(self) -> None:
        """One overdrawn bucket suffices: messages, frames or bytes."""
        for name, burst in (("messages", 20), ("frames", 40), ("bytes", 200)):
            allowance = self.allowance()
            setattr(allowance, name, getattr(allowance, name) - burst)
            self.assertFalse(allowance.is_overdrawn(50), name)
            setattr(allowance, name, getattr(allowance, name) - 1)
            self.assertTrue(allowance.is_overdrawn(50), name)

    def test_debt(self) -> None:
        """A debt is paid at the rate."""
        allowance = self.allowance()
        allowance.messages -= 25

        self.assertEqual([allowance.is_overdrawn(now) for now in (50, 50.4, 50.5)], [True, True, False])

    def test_burst_after_a_pause(self) -> None:
        """After a long pause, one burst is allowed."""
        allowance = self.allowance()
        allowance.is_overdrawn(1_000_000)
        allowance.bytes -= 201

        self.assertTrue(allowance.is_overdrawn(1_000_000))

    def test_over_seconds(self) -> None:
        """The excess is measured from its beginning until the debt is paid; half full buckets end it."""
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

    def test_over_seconds_of_several_debts(self) -> None:
        """The debt that takes longest to pay counts."""
        allowance = self.allowance()
        allowance.messages -= 30
        allowance.bytes -= 500

        self.assertEqual(allowance.over_seconds(50), 3)

    def test_off(self) -> None:
        """0 is no limit for that bucket; the other buckets keep theirs."""
        allowance = self.allowance(max_messages_per_second=0)
        allowance.messages -= 10**9
        self.assertFalse(allowance.is_overdrawn(50))
        allowance.frames -= 41
        self.assertTrue(allowance.is_overdrawn(50))
        self.assertEqual(allowance.over_seconds(50), 0.05)
        allowance.is_overdrawn(60)
        self.assertEqual(allowance.frames, 40)
