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
        allowance.settle(1)

        self.assertEqual((rates.burst[2], allowance.bytes), (20, 20))


class AllowanceTests(SynchronousTestCase):
    """The allowance of one connection."""

    def rates(self, addresses: int = 0, **settings: Any) -> Rates:
        usual = {
            "max_messages_per_second": 10,
            "max_frames_per_second": 20,
            "max_bytes_per_second": 100,
            "max_control_frames_per_second": 5,
        }
        return Rates(Settings(**{**usual, "burst_seconds": 2, **settings}), addresses)

    def allowance(self, **settings: Any) -> Allowance:
        return Allowance(self.rates(**settings), now=50)

    def test_four_buckets(self) -> None:
        """One overdrawn bucket suffices: messages, frames, bytes or control frames."""
        for name, burst in (("messages", 20), ("frames", 40), ("bytes", 200), ("controls", 10)):
            allowance = self.allowance()
            setattr(allowance, name, getattr(allowance, name) - burst)
            self.assertFalse(allowance.is_overdrawn, name)
            setattr(allowance, name, getattr(allowance, name) - 1)
            self.assertTrue(allowance.is_overdrawn, name)

    def test_debt(self) -> None:
        """A debt is paid at the rate."""
        allowance = self.allowance()
        allowance.messages -= 25
        overdrawn = []
        for now in (50, 50.4, 50.5):
            allowance.settle(now)
            overdrawn.append(allowance.is_overdrawn)

        self.assertEqual(overdrawn, [True, True, False])

    def test_burst_after_a_pause(self) -> None:
        """After a long pause, one burst is allowed."""
        allowance = self.allowance()
        allowance.settle(1_000_000)
        allowance.bytes -= 201

        self.assertTrue(allowance.is_overdrawn)

    def test_burst_of_a_log(self) -> None:
        """The burst of a connection fills a room's log at most, half by its bytes and half by its messages."""
        settings = {"max_messages_per_second": 1e6, "max_bytes_per_second": 10**9, "room_log_bytes": 2**22}
        messages, _, size, _ = self.rates(**settings).burst
        self.assertEqual((messages * 256, size), (2**21, 2**21))

        self.assertEqual(self.rates(addresses=1, **settings).burst[2], 10**10)

    def test_address_factor(self) -> None:
        """The rates of an address are a multiple of those of a connection, and more for a network; 0 is no limit."""
        self.assertEqual(self.rates(addresses=1, address_rate_factor=3).per_second, (30, 60, 300, 15))
        self.assertEqual(self.rates(addresses=4, address_rate_factor=3).per_second, (120, 240, 1200, 60))

        self.assertEqual(min(self.rates(addresses=1, address_rate_factor=0).per_second), 1e15)

    def test_settle(self) -> None:
        """What was taken since the last refill is returned, whatever was refilled."""
        allowance = self.allowance()
        allowance.messages -= 3
        allowance.bytes -= 50
        self.assertEqual(allowance.settle(50.1), (3, 0, 50, 0))
        self.assertFalse(allowance.is_full)
        allowance.controls -= 1
        self.assertEqual(allowance.settle(60), (0, 0, 0, 1))

        self.assertEqual((allowance.is_full, allowance.settle(55)), (True, (0, 0, 0, 0)))

    def test_charge(self) -> None:
        """What connections have taken is charged to their address; its debt takes 10 s at most."""
        address = Allowance(self.rates(addresses=1, address_rate_factor=1), now=50)
        address.charge((15, 0, 0, 0), 50)
        self.assertFalse(address.is_overdrawn)
        address.charge((1e6, 1e6, 1e6, 1e6), 50)
        self.assertEqual(address.tokens, (-100, -200, -1000, -50))
        address.charge((0, 0, 0, 0), 60.1)

        self.assertFalse(address.is_overdrawn)

    def test_over_seconds(self) -> None:
        """The excess is measured from its beginning until the debt is paid; half full buckets end it."""
        allowance = self.allowance()
        allowance.messages -= 25
        self.assertEqual(allowance.over_seconds(50), 0.5)
        allowance.settle(51)
        self.assertFalse(allowance.is_overdrawn)
        allowance.messages -= 10
        self.assertEqual(allowance.over_seconds(51), 1.5)
        allowance.settle(53)
        allowance.messages -= 16

        self.assertEqual(allowance.over_seconds(53), 0.1)

    def test_over_seconds_of_several_debts(self) -> None:
        """The debt that takes longest to pay counts."""
        allowance = self.allowance()
        allowance.messages -= 30
        allowance.bytes -= 500

        self.assertEqual((allowance.over_seconds(50), allowance.wait_seconds()), (3, 3))

    def test_off(self) -> None:
        """0 is no limit for that bucket; the other buckets keep theirs."""
        allowance = self.allowance(max_messages_per_second=0)
        allowance.messages -= 10**9
        self.assertFalse(allowance.is_overdrawn)
        allowance.frames -= 41
        self.assertEqual((allowance.is_overdrawn, allowance.over_seconds(50)), (True, 0.05))
        allowance.settle(60)

        self.assertEqual((allowance.is_full, allowance.frames), (True, 40))
