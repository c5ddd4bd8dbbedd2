"""A client that hears and says what it is told to."""

from twisted.internet.defer import Deferred

from tests.harness.selftest import SelftestCase, finish, replacing
from wsrelay.closecodes import NORMAL
from wsrelay.selftest.frames import Close, Message, masked
from wsrelay.selftest.outcome import BrokenRule, Ended


class MemberTests(SelftestCase):
    """With a relay in memory."""

    def test_hear(self) -> None:
        """Messages in order, and those before another one."""
        relay = self.relay()
        one, two = finish(relay, self.lab(relay).joined("one", "two"))
        for payload in ("a", b"b", "c"):
            one.say(payload)
        self.assertEqual(finish(relay, two.hear()), Message(b"a", True))
        self.assertEqual(finish(relay, two.hear_until("c")), [Message(b"b", False)])
        one.send(masked(0x89))
        one.say("d")
        relay.settle()
        self.assertEqual(finish(relay, one.pong(one.ping())), [])
        self.assertEqual(finish(relay, two.pong(two.ping())), [Message(b"d", True)])

    def test_hear_skips_the_rest(self) -> None:
        """Pongs and pings are no messages."""
        relay = self.relay()
        one, two = finish(relay, self.lab(relay).joined("one", "two"))
        two.ping()
        relay.settle()
        one.say("a")
        self.assertEqual(finish(relay, two.hear()), Message(b"a", True))

    def test_ping(self) -> None:
        """Pings are answered, also while nothing is awaited, but not while it is held."""
        relay = self.relay(ping_seconds=1)
        (client,) = finish(relay, self.lab(relay).joined("client"))
        relay.wait(30)
        self.assertEqual(dict(relay.stats.closes_sent), {})
        draining = Deferred.fromCoroutine(client.drain())
        relay.wait(30)
        self.assertNoResult(draining)
        self.assertEqual(dict(relay.stats.closes_sent), {})
        draining.cancel()
        self.failureResultOf(draining)
        client.hold()
        relay.wait(30)
        self.assertEqual(len(relay.stats.closes_sent), 1)

    def test_closed_by_the_server(self) -> None:
        """A close is answered, recorded once, and ends what is awaited."""
        for wait in ("hear", "pong"):
            relay = self.relay()
            lab = self.lab(relay)
            (client,) = finish(relay, lab.joined("client"))
            client.send(masked(0x83))
            relay.settle()
            with self.assertRaises(Ended):
                finish(relay, client.hear() if wait == "hear" else client.pong(b"x"))
            self.assertEqual((client.has_ended, client.close and client.close.code), (True, 1002))
            self.assertEqual(finish(relay, client.end()), client.close)
            self.assertEqual(lab.ends, [("client", client.close)])

    def test_cut(self) -> None:
        """An end without a close frame is recorded, too."""
        relay = self.relay(handshake_seconds=1)
        lab = self.lab(relay)
        (client,) = finish(relay, lab.joined("client"))
        for connection in list(relay.factory.connections):
            connection.transport.abortConnection()
        self.assertIsNone(finish(relay, client.end()))
        self.assertEqual(lab.ends, [("client", None)])

    def test_own_close(self) -> None:
        """The answer to an own close is no end by the server, and neither is an abort."""
        relay = self.relay()
        lab = self.lab(relay)
        one, two = finish(relay, lab.joined("one", "two"))
        one.begin_close(NORMAL)
        self.assertEqual(finish(relay, one.end()), Close(NORMAL))
        two.abort()
        self.assertIsNone(finish(relay, two.end()))
        self.assertEqual(lab.ends, [])

    def test_broken_rule(self) -> None:
        """A broken rule says who got it."""
        relay = self.relay()
        lab = self.lab(relay, down=replacing(b"\x81\1a", b"\x81\1\xff"))
        one, two = finish(relay, lab.joined("one", "two"))
        one.say("a")
        for _ in range(2):
            with self.assertRaisesRegex(BrokenRule, "the two got a text message that is not UTF-8"):
                finish(relay, two.hear())
