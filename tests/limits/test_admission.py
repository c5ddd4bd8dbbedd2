"""Tests of wsrelay.limits.admission."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wsrelay.errors import Denied
from wsrelay.limits.admission import Admission, Visit
from wsrelay.settings import Settings


class AdmissionTests(SynchronousTestCase):
    """Limits on connections."""

    def admission(self, max_connections: int = 100, **settings: Any) -> Admission:
        return Admission(Settings(**settings), max_connections, now=0)

    def denied(self, admission: Admission, host: str | None = None, now: float = 0) -> tuple[int, str]:
        """Check that a connection is refused; return the status and Retry-After."""
        visit = admission.arrive(now) if host else None
        before = admission.connections
        with self.assertRaises(Denied) as caught:
            if visit is None:
                admission.arrive(now)
            else:
                visit.identify(host or "", now)
        self.assertEqual(admission.connections, before)
        if visit is not None:
            visit.end()
        [(name, value)] = caught.exception.headers
        self.assertEqual(name, "Retry-After")
        return caught.exception.status, value

    def arrive(self, admission: Admission, host: str = "192.0.2.1", now: float = 0) -> Visit:
        visit = admission.arrive(now)
        visit.identify(host, now)
        return visit

    def test_expects(self) -> None:
        """A source is expected once for each entry."""
        admission = self.admission()
        self.assertFalse(admission.expects(None))
        admission.expected += [7, ("127.0.0.1", 5), 7]
        sources = (("127.0.0.1", 6), ("127.0.0.1", 5), ("127.0.0.1", 5), 7, 7, 7)
        answers = [admission.expects(source) for source in sources]
        self.assertEqual(answers, [False, True, False, True, True, False])

    def test_full_by(self) -> None:
        """The limits that refuse all are named; those on handshakes, rates or one address are not among them."""
        admission = self.admission(2, max_handshakes=1, max_connects_per_second=2, max_connections_per_address=1)
        self.arrive(admission)
        self.assertEqual(admission.full_by, [])
        self.denied(admission)
        admission.connections += 1
        self.assertEqual(admission.full_by, ["max_connections"])
        admission.overloaded = True
        self.assertEqual(admission.full_by, ["max_connections", "memory_budget"])

    def test_connections(self) -> None:
        """Over max_connections: 503; a connection that ends frees its place."""
        admission = self.admission(2)
        first = self.arrive(admission)
        self.arrive(admission).opened()
        self.assertEqual(self.denied(admission), (503, "10"))
        first.end()
        self.arrive(admission)

    def test_closed(self) -> None:
        """A closed admission refuses every connection."""
        admission = self.admission()
        admission.is_closed = True
        self.assertEqual(self.denied(admission), (503, "10"))

    def test_memory(self) -> None:
        """An overloaded admission refuses every connection."""
        admission = self.admission()
        admission.overloaded = True
        self.assertEqual(self.denied(admission), (503, "10"))

    def test_handshakes(self) -> None:
        """Over max_handshakes: 503; a handshake that succeeds or ends frees its place."""
        admission = self.admission(max_handshakes=2)
        first, second = self.arrive(admission), self.arrive(admission)
        self.assertEqual(self.denied(admission), (503, "10"))
        first.opened()
        self.arrive(admission)
        self.assertEqual(self.denied(admission), (503, "10"))
        second.end()
        self.arrive(admission)

    def test_connects(self) -> None:
        """Over max_connects_per_second: 503, with the time until the next token as Retry-After."""
        admission = self.admission(max_connects_per_second=0.4, burst_seconds=5)
        visits = [self.arrive(admission, now=0), self.arrive(admission, now=0)]
        for visit in visits:
            visit.end()
        self.assertEqual(self.denied(admission), (503, "3"))
        self.arrive(admission, now=2.5)

    def test_one_address(self) -> None:
        """Over max_connections_per_address: 429; other addresses are admitted."""
        admission = self.admission(max_connections_per_address=2)
        first = self.arrive(admission)
        self.arrive(admission).opened()
        self.assertEqual(self.denied(admission, "192.0.2.1"), (429, "10"))
        self.arrive(admission, "192.0.2.2")
        first.end()
        self.arrive(admission)

    def test_handshakes_of_one_address(self) -> None:
        """Over max_handshakes_per_address: 429; other addresses are admitted."""
        admission = self.admission(max_handshakes_per_address=1)
        first = self.arrive(admission)
        self.assertEqual(self.denied(admission, "192.0.2.1"), (429, "10"))
        self.arrive(admission, "192.0.2.2")
        first.opened()
        self.arrive(admission)

    def test_connects_of_one_address(self) -> None:
        """Over max_connects_per_second_per_address: 429, also when the earlier connections have ended."""
        admission = self.admission(max_connects_per_second_per_address=1, burst_seconds=1)
        self.arrive(admission).end()
        self.assertEqual(self.denied(admission, "192.0.2.1"), (429, "1"))
        admission.tick(0.5)
        self.assertEqual(self.denied(admission, "192.0.2.1", now=0.5), (429, "1"))
        self.arrive(admission, "192.0.2.2", now=0.5)
        self.arrive(admission, now=1)

    def test_changed_settings(self) -> None:
        """Buckets that exist see changed rates after a refresh."""
        settings = Settings(max_connects_per_second=1, max_connects_per_second_per_address=1, burst_seconds=1)
        admission = Admission(settings, 100, now=0)
        self.arrive(admission)
        self.assertEqual(self.denied(admission), (503, "1"))
        for name in ("max_connects_per_second", "max_connects_per_second_per_address"):
            object.__setattr__(settings, name, 2)
        admission.refresh()
        for now in (1, 1, 2, 2):
            self.arrive(admission, now=now)

    def test_refused_address_takes_no_token(self) -> None:
        """An address that connects too often does not use up the connects of others, known at once or later."""
        admission = self.admission(max_connects_per_second=3, max_connects_per_second_per_address=1, burst_seconds=1)
        admission.arrive(0, "192.0.2.1").end()
        for _ in range(10):
            self.assertRaises(Denied, admission.arrive, 0, "192.0.2.1")
            self.assertEqual(self.denied(admission, "192.0.2.1"), (429, "1"))
        admission.arrive(0, "192.0.2.2")
        admission.arrive(0, "192.0.2.3")
        self.assertEqual(self.denied(admission), (503, "1"))

    def test_longest_retry_after(self) -> None:
        """Retry-After is at most an hour, however small the rate."""
        admission = self.admission(max_connects_per_second=1e-300, burst_seconds=1)
        admission.arrive(0)
        self.assertEqual(self.denied(admission), (503, "3600"))

    def test_ipv6_prefix(self) -> None:
        """All addresses of an IPv6 /64 are counted as one."""
        admission = self.admission(max_connections_per_address=1)
        self.arrive(admission, "2001:db8::1")
        self.assertEqual(self.denied(admission, "2001:db8::2"), (429, "10"))
        self.arrive(admission, "2001:db8:0:1::1")

    def test_ipv6_networks(self) -> None:
        """A /56 has four times the limits of an address, a /48 sixteen times; other networks are not affected."""
        for limit in ("max_connections_per_address", "max_handshakes_per_address"):
            for address, share in (
                ("2001:db8:0:{0:x}::1", 4),
                ("2001:db8:0:{0:x}00::1", 16),
                ("2001:db8:{0:x}::1", 99),
            ):
                admission = self.admission(10_000, **{limit: 2})
                visits = [self.visit(admission, address.format(number // 2)) for number in range(50)]
                self.assertEqual(sum(visit is not None for visit in visits), min(50, 2 * share), (limit, address))
                self.assertIsNotNone(self.visit(admission, "2001:db9::1"))
                self.assertIsNotNone(self.visit(admission, "192.0.2.1"))
                for visit in visits:
                    if visit is not None:
                        visit.end()
                self.assertIsNotNone(self.visit(admission, address.format(40)))

    def test_ipv6_networks_connects(self) -> None:
        """So it is with connects per second; a refusal takes no token from the narrower networks."""
        admission = self.admission(10_000, max_connects_per_second_per_address=1, burst_seconds=2)
        for number in range(20):
            host = f"2001:db8:0:{number:x}::1"
            self.assertEqual(self.visit(admission, host) is not None, number < 8, number)
        self.assertEqual(self.denied(admission, "2001:db8:0:1::1"), (429, "1"))
        # The address and its /56 have a token at the same time: none was lost by refusals.
        self.assertIsNotNone(self.visit(admission, "2001:db8:0:20::1", now=0.25))

        admission = self.admission(10_000, max_connects_per_second_per_address=0.1, burst_seconds=1)
        self.assertEqual(
            [self.visit(admission, f"2001:db8:0:{n:x}::1") is not None for n in range(5)], [True] * 4 + [False]
        )

    def test_ipv6_networks_reload(self) -> None:
        """A reload changes the rates of networks, too."""
        settings = Settings(max_connects_per_second_per_address=1, burst_seconds=1)
        admission = Admission(settings, 10_000, 0)
        object.__setattr__(settings, "max_connects_per_second_per_address", 2)
        admission.refresh()
        admitted = [self.visit(admission, f"2001:db8:0:{number:x}::1") for number in range(20)]

        self.assertEqual(sum(visit is not None for visit in admitted), 8)

    def test_ipv6_networks_forgotten(self) -> None:
        """A network is forgotten after the addresses within it."""
        admission = self.admission(max_connects_per_second_per_address=1, burst_seconds=2)
        visits = [self.arrive(admission, f"2001:db8:0:{number}::1") for number in (1, 2)]
        self.assertEqual(len(admission), 4)
        visits[0].end()
        for now, known in ((10, 3), (20, 3)):
            admission.tick(now)
            self.assertEqual(len(admission), known)
        visits[1].end()
        for now in (30, 31, 32):
            admission.tick(now)
        self.assertEqual((len(admission), len(admission._deserted)), (0, 0))

    def test_no_address(self) -> None:
        """Any other text, from a PROXY header, is counted for itself, also if it looks like a network."""
        for host in ("a/64", "192.0.2.1/56", "x:y/64", "a/b"):
            admission = self.admission(max_connections_per_address=1)
            visit = self.arrive(admission, host)
            self.assertEqual((visit.address, len(admission)), (host, 1))

    def visit(self, admission: Admission, host: str, now: float = 0) -> Visit | None:
        """Connect; ``None`` if refused."""
        try:
            return admission.arrive(now, host)
        except Denied:
            return None

    def test_off(self) -> None:
        """0 is no limit."""
        off = dict.fromkeys(
            [
                "max_connections_per_address",
                "max_handshakes",
                "max_handshakes_per_address",
                "max_connects_per_second",
                "max_connects_per_second_per_address",
            ],
            0,
        )
        admission = self.admission(10_000, **off)
        for _ in range(3000):
            self.arrive(admission)
        self.assertEqual((admission.connections, admission.handshakes), (3000, 3000))

    def test_behind_a_proxy(self) -> None:
        """A visit without an address is counted in all; once identified, for its address, too."""
        admission = self.admission()
        visit = admission.arrive(0)
        self.assertEqual((visit.address, admission.connections, len(admission)), (None, 1, 0))
        visit.identify("192.0.2.1", 0)
        visit.identify("192.0.2.2", 0)
        self.assertEqual((visit.address, admission.connections, len(admission)), ("192.0.2.1", 1, 1))
        visit.end()
        visit.identify("192.0.2.3", 0)
        self.assertIsNone(visit.address)

    def test_unidentified_behind_a_proxy(self) -> None:
        """Half of max_handshakes is for unidentified connections of one proxy: others have the rest, also proxies."""
        admission = self.admission(max_handshakes=6)
        silent = [admission.arrive(0, proxy="10.0.0.1") for _ in range(3)]
        with self.assertRaises(Denied) as caught:
            admission.arrive(0, proxy="10.0.0.1")
        self.assertEqual((caught.exception.status, caught.exception.cause), (503, "max_handshakes"))
        self.assertEqual({visit.address for visit in silent}, {None})
        other = admission.arrive(0, proxy="10.0.0.2")
        direct = admission.arrive(0, "10.0.0.1")
        for visit in (silent[0], other, direct):
            visit.end()
        silent[1].identify("192.0.2.1", 0)  # counts for its own address from now on
        visits = [admission.arrive(0, proxy="10.0.0.1") for _ in range(2)]
        self.assertRaises(Denied, admission.arrive, 0, proxy="10.0.0.1")

        for visit in (*silent, *visits):
            visit.end()
        admission.tick(1)
        self.assertEqual((len(admission), admission.connections, admission.handshakes), (0, 0, 0))

    def test_connects_of_a_proxy(self) -> None:
        """Half of max_connects_per_second may end unidentified; the connects of identified clients do not count."""
        admission = self.admission(max_connects_per_second=4, burst_seconds=1)
        for _ in range(2):
            admission.arrive(0, proxy="10.0.0.1").end()
        with self.assertRaises(Denied) as caught:
            admission.arrive(0, proxy="10.0.0.1")
        self.assertEqual((caught.exception.cause, caught.exception.status), ("max_connects_per_second", 503))
        self.assertEqual(dict(caught.exception.headers), {"Retry-After": "1"})
        admission.arrive(0, proxy="10.0.0.2")
        for number in range(4):
            admission.arrive(1, proxy="10.0.0.1").identify(f"192.0.2.{number}", 1)

    def test_refused_client_of_a_proxy(self) -> None:
        """A client over the limit of its own address does not count for its proxy any more."""
        admission = self.admission(max_handshakes=4, max_connections_per_address=1)
        admission.arrive(0, proxy="10.0.0.1").identify("192.0.2.1", 0)
        for _ in range(20):
            visit = admission.arrive(0, proxy="10.0.0.1")
            self.assertRaises(Denied, visit.identify, "192.0.2.1", 0)
            visit.end()
        admission.arrive(0, proxy="10.0.0.1")

    def test_networks_leave_half(self) -> None:
        """An IPv6 network has at most half of the connections and handshakes of all; an address is not bounded so."""
        for limits in ({}, {"max_handshakes": 20}):
            admission = self.admission(20, **limits)
            admitted = [self.visit(admission, f"2001:db8:0:{number:x}::1") for number in range(30)]
            self.assertEqual(sum(visit is not None for visit in admitted), 10)
            self.assertIsNotNone(self.visit(admission, "2001:db9::1"))
        admission = self.admission(20)
        admitted = [self.visit(admission, "192.0.2.1") for _ in range(30)]
        self.assertEqual(sum(visit is not None for visit in admitted), 20)

    def test_forgotten(self) -> None:
        """An address is forgotten when it has no connections and its bucket is full."""
        admission = self.admission(max_connects_per_second_per_address=1, burst_seconds=2)
        visit = self.arrive(admission)
        admission.tick(100)
        self.assertEqual(len(admission), 1)
        visit.end()
        self.arrive(admission, now=100).end()
        admission.tick(100.5)
        self.assertEqual(len(admission), 1)
        admission.tick(101)
        self.assertEqual((len(admission), admission.connections, admission.handshakes), (0, 0, 0))

    def test_refused_addresses_are_forgotten(self) -> None:
        """An address whose connections were all refused is forgotten."""
        admission = self.admission(max_connections_per_address=1)
        visit = self.arrive(admission)
        self.denied(admission, "192.0.2.1")
        visit.end()
        admission.tick(10)
        self.assertEqual(len(admission), 0)

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["a", "2001:db8::1", "2001:db8:0:1::1", "2001:db8:1::1"]),
                st.sampled_from(["arrive", "arrive behind a proxy", "identify", "open", "end"]),
            )
        )
    )
    def test_counted_once(self, steps: list[tuple[str, str]]) -> None:
        """After any sequence of events, ended visits leave all counts at 0."""
        admission = self.admission(5, max_connections_per_address=2)
        visits: list[tuple[Visit, str]] = []
        for host, step in steps:
            try:
                if step.startswith("arrive"):
                    visits.append((admission.arrive(0, proxy=None if step == "arrive" else "10.0.0.1"), host))
                for visit in [visit for visit, whose in visits if whose == host]:
                    if step == "identify":
                        visit.identify(host, 0)
                    elif not step.startswith("arrive"):
                        {"open": visit.opened, "end": visit.end}[step]()
            except Denied:
                pass
            self.assertLessEqual(admission.connections, 5)
        for visit, _ in visits:
            visit.end()
        for now in (1000, 1001, 1002):  # a network after its parts
            admission.tick(now)

        self.assertEqual((admission.connections, admission.handshakes, len(admission)), (0, 0, 0))
