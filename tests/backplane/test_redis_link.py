"""Tests of wsrelay.backplane.redis_link, with brokers in memory."""

import sys
import tempfile
from pathlib import Path
from unittest import mock

import pytest
from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.live import make_certificate
from wsrelay.backplane.redis_errors import NoBroker
from wsrelay.backplane.redis_info import Incarnation
from wsrelay.backplane.redis_link import OPEN_SECONDS, SENTINEL_SECONDS, Pair, check
from wsrelay.backplane.url import parse

from .brokers import Answer, Network, Server, info

#: Deprecated pyOpenSSL functions that Twisted calls.
pytestmark = pytest.mark.filterwarnings("ignore:.*You should use.*cryptography:DeprecationWarning")

#: What a Sentinel says about a master at port 6379.
MASTER = b"*2\r\n$8\r\n10.0.0.1\r\n$4\r\n6379\r\n"

SENTINEL = "redis+sentinel://s1:1,s2:2/mymaster"


def commands(server: Server) -> list[str]:
    """Return the commands that a server has got, as text."""
    return [b" ".join(words).decode() for words in server.received]


def sentinel(answer: Answer = MASTER) -> Server:
    """Return a Sentinel."""
    return Server(SENTINEL=answer)


class LinkTestCase(SynchronousTestCase):
    """Assertions about failures."""

    def problem(self, opening: "Deferred[Pair]") -> tuple[str, str]:
        """Return reason and text."""
        failure = self.failureResultOf(opening, NoBroker)
        return failure.value.reason, failure.value.text

    def assert_problem(self, network: Network, url: str, reason: str, part: str, password: bytes | None = None) -> None:
        """Check how opening fails, and that it leaves nothing open."""
        found, text = self.problem(network.open(url, password))
        self.assertEqual(found, reason)
        self.assertIn(part, text)
        self.assert_closed(network)

    def assert_closed(self, network: Network) -> None:
        """Check that no connection and no timer is left."""
        self.assertEqual([transport for transport in network.transports if not transport.disconnecting], [])
        self.assertEqual(network.reactor.getDelayedCalls(), [])


class OpenPairTests(LinkTestCase):
    """One broker."""

    def test_pair(self) -> None:
        """Both connections are introduced and examined."""
        server = Server()
        network = Network(at_6379=server)
        pair = self.successResultOf(network.open("redis://a", name="my n\xf6de"))
        self.assertEqual((pair.incarnation, pair.where, pair.warnings), (Incarnation("r", "m"), "a:6379", ()))
        self.assertIsNot(pair.writer, pair.reader)
        one = [
            "PING",
            "CLIENT SETNAME wsrelay-my_n_de",
            "CLIENT NO-EVICT on",
            "INFO",
            "XRANGE wsrelay:{0}:log 1-0 0-1 COUNT 1",
        ]
        self.assertEqual(commands(server), one * 2)
        self.assertEqual([transport.disconnecting for transport in server.transports], [False, False])

        pair.abort()
        self.assert_closed(network)

    def test_unix_socket(self) -> None:
        """A unix socket, with a database; the place is its path."""
        server = Server()
        pair = self.successResultOf(Network(**{"/s": server}).open("redis+unix:///s?db=3"))
        self.assertEqual(pair.where, "/s")
        self.assertIn("SELECT 3", commands(server))

    def test_shards(self) -> None:
        """A shard is on its broker, under its key; its end after opening is the owner's matter."""
        server = Server()
        network = Network(at_2=server)
        pair = self.successResultOf(network.open("redis://a:1,b:2?prefix=x&shards=2", shard=1))
        self.assertEqual(pair.where, "b:2")
        self.assertIn("XRANGE x:{1}:log 1-0 0-1 COUNT 1", commands(server))
        network.end_connections()
        self.assertIsNot(pair.writer.ended, None)

    def test_warnings(self) -> None:
        """Settings that endanger messages are told with the pair."""
        server = Server(INFO=info(maxmemory="1", maxmemory_policy="allkeys-lru"))
        pair = self.successResultOf(Network(at_6379=server).open("redis://a"))
        self.assertIn("allkeys-lru", pair.warnings[0])

    def test_conveniences(self) -> None:
        """An ACL or an old version may refuse the name of the connection and NO-EVICT."""
        server = Server(CLIENT=b"-NOPERM no\r\n")
        self.successResultOf(Network(at_6379=server).open("redis://a"))

    def test_connecting_fails(self) -> None:
        """Failures of endpoints have their reasons."""
        refused = Network(at_6379=error.ConnectionRefusedError())
        self.assert_problem(refused, "redis://a", "refused", "a:6379: nothing listens there")
        missing = Network(**{"/s": error.ConnectError(2, "No such file")})
        self.assert_problem(missing, "redis+unix:///s", "unreachable", "/s: it cannot be reached")

    def test_unexpected_failure(self) -> None:
        """An unknown failure has its reason, and is in the log with its traceback."""
        self.assert_problem(
            Network(at_6379=KeyError("x")),
            "redis://a",
            "error",
            "a:6379: unexpected failure: see the traceback in the log ('x')",
        )
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_connecting_takes_too_long(self) -> None:
        """Connecting is bounded."""
        network = Network()
        opening = network.open("redis://a")
        network.reactor.advance(OPEN_SECONDS - 0.1)
        self.assertNoResult(opening)
        network.reactor.advance(0.1)
        reason, text = self.problem(opening)
        self.assertEqual(reason, "timeout")
        self.assertRegex(text, r"a:6379: no answer in time.*\(3 s\)$")
        self.assert_closed(network)

    def test_answering_takes_too_long(self) -> None:
        """A broker that accepts connections and does not reply to a command is given up."""
        for name in ("PING", "AUTH", "INFO"):
            network = Network(at_6379=Server(**{name: None}))
            opening = network.open("redis://a", b"x")
            network.reactor.advance(OPEN_SECONDS)
            self.assertEqual(self.problem(opening)[0], "timeout")
            self.assert_closed(network)

    def test_connection_ends(self) -> None:
        """A connection that ends before a reply is told."""
        for name in ("PING", "AUTH", "INFO"):
            network = Network(at_6379=Server(**{name: error.ConnectionLost()}))
            self.assert_problem(network, "redis://a", "closed", "a:6379: it closed the connection", b"x")

    def test_writer_ends(self) -> None:
        """The writer may end while the reader is opened."""
        server = Server()

        def second(words: list[bytes]) -> Answer:
            if len(server.transports) == 2:
                network.end_connections(1)
            return info()

        server.answers["INFO"] = second
        network = Network(at_6379=server)
        self.assert_problem(network, "redis://a", "closed", "a:6379: it closed")

    def test_cancel(self) -> None:
        """Cancelling ends connections and attempts."""
        for network in (Network(), Network(at_6379=Server(INFO=None))):
            opening = network.open("redis://a")
            opening.cancel()
            self.failureResultOf(opening, CancelledError)
            self.assert_closed(network)

    def test_not_redis(self) -> None:
        """HTTP servers, and strange answers, are found before the password is sent."""
        for answers in (
            {"PING": b"HTTP/1.1 400 Bad Request\r\n\r\n"},
            {"PING": b"+OK\r\n"},
            {"INFO": b":1\r\n"},
            {"XRANGE": b"-MOVED 1 nowhere\r\n"},
        ):
            server = Server(**answers)
            self.assert_problem(Network(at_6379=server), "redis://a", "protocol", "a:6379: this is not Redis", b"x")
            self.assertEqual("AUTH x" in commands(server), "PING" not in answers)

    def test_refusals(self) -> None:
        """Error replies, and what INFO says, have their reasons."""
        for answers, reason, part in [
            ({"PING": b"-DENIED Redis is running in protected mode\r\n"}, "auth", "protected mode"),
            ({"PING": b"-ERR max number of clients reached\r\n"}, "clients", "maxclients"),
            ({"PING": b"-NOAUTH no\r\n", "INFO": b"-NOAUTH no\r\n"}, "auth", "--backplane-password-file"),
            ({"INFO": b"-NOPERM no\r\n"}, "noperm", "ACL"),
            ({"INFO": info(redis_version="6.0.16")}, "version", "6.2"),
            ({"PING": b"-LOADING no\r\n", "INFO": info(loading="1")}, "loading", "wait"),
            ({"INFO": info(role="slave")}, "replica", "replica"),
            ({"SELECT": b"-ERR DB index is out of range\r\n"}, "database", "no database"),
            ({"XRANGE": b"-NOPERM no\r\n"}, "noperm", "ACL"),
            ({"XRANGE": b"-WRONGTYPE no\r\n"}, "wrongtype", "?prefix="),
        ]:
            self.assert_problem(Network(at_6379=Server(**answers)), "redis://a/1", reason, part)

    def test_different_servers(self) -> None:
        """Two connections that reach two servers, as behind a load balancer, are no pair."""
        numbers = iter("ab")
        server = Server(INFO=lambda words: info(run_id=next(numbers)))
        self.assert_problem(Network(at_6379=server), "redis://a", "servers", "no load balancer")


class LoginTests(LinkTestCase):
    """Passwords."""

    def test_password(self) -> None:
        """AUTH comes after PING, with the user if there is one."""
        for url, sent in [("redis://a", "AUTH geheim"), ("redis://me@a", "AUTH me geheim")]:
            server = Server(PING=b"-NOAUTH no\r\n")
            self.successResultOf(Network(at_6379=server).open(url, b"geheim"))
            self.assertEqual(commands(server)[:2], ["PING", sent])

    def test_user_without_password(self) -> None:
        """A user without a password is sent with an empty one, which ``nopass`` accepts."""
        server = Server()
        self.successResultOf(Network(at_6379=server).open("redis://me@a"))
        self.assertEqual(commands(server)[1], "AUTH me ")

    def test_wrong_password(self) -> None:
        """A wrong password is told, but nowhere shown: not in text, repr, nor a traceback with variables."""
        for reply in (b"-WRONGPASS geheim\r\n", b"-ERR unknown command 'AUTH', with args beginning with: 'geheim'\r\n"):
            with mock.patch("twisted.python.failure.Failure.__init__", captured_init()):
                opening = Network(at_6379=Server(AUTH=reply)).open("redis://me@a", b"geheim")
                failure = self.failureResultOf(opening, NoBroker)
            self.assertIn(failure.value.reason, ("auth", "version"))
            told = [str(failure.value), repr(failure.value), failure.getTraceback(detail="verbose"), repr(opening)]
            self.assertNotIn("geheim", "".join(told))
            self.assertIn("[ Locals ]", told[2])


def captured_init() -> "object":
    """Return Failure's constructor with variables captured, as in Deferred's debug mode."""
    init = Failure.__init__
    return lambda self, *arguments, **options: init(self, *arguments, **{**options, "captureVars": True})


class ClusterTests(LinkTestCase):
    """Redirections of a cluster."""

    def test_moved(self) -> None:
        """MOVED is followed with both connections, also without a host, and from a replica."""
        for target, url in [
            ("b:7", "redis://a"),
            (":7", "redis://b"),
            ("?:7", "redis://b"),
            ("b:7", "redis+unix:///s"),
        ]:
            first = Server(XRANGE=f"-MOVED 5 {target}\r\n".encode(), INFO=info(role="slave"))
            second = Server()
            network = Network(at_6379=first, at_7=second, **{"/s": first})
            pair = self.successResultOf(network.open(url))
            self.assertEqual(pair.where, "b:7")
            self.assertEqual([transport.disconnecting for transport in first.transports], [True])
            self.assertEqual([transport.disconnecting for transport in second.transports], [False, False])

    def test_moved_in_a_circle(self) -> None:
        """Slots that move just now are given up after three nodes."""
        network = Network(at_1=Server(XRANGE=b"-MOVED 5 a:2\r\n"), at_2=Server(XRANGE=b"-MOVED 5 a:1\r\n"))
        self.assert_problem(network, "redis://a:1", "moved", "a:2: the shard is moving")

    def test_cluster_down(self) -> None:
        """A cluster that does not serve the slot is told."""
        self.assert_problem(
            Network(at_6379=Server(XRANGE=b"-CLUSTERDOWN no\r\n")), "redis://a", "cluster", "CLUSTER INFO"
        )


class SentinelTests(LinkTestCase):
    """Sentinels."""

    def test_first_answers(self) -> None:
        """The first Sentinel that knows the master is enough; it gets no password that it does not want."""
        asked = sentinel()
        network = Network(at_1=error.ConnectionRefusedError(), at_2=asked, at_6379=Server())
        pair = self.successResultOf(network.open(SENTINEL, b"geheim"))
        self.assertEqual(pair.where, "10.0.0.1:6379")
        self.assertEqual(commands(asked), ["PING", "SENTINEL GET-MASTER-ADDR-BY-NAME mymaster"])
        self.assertTrue(asked.transports[0].disconnecting)

    def test_password(self) -> None:
        """A Sentinel that wants a password gets that of the broker."""
        asked = sentinel()
        asked.answers["PING"] = b"-NOAUTH no\r\n"
        network = Network(at_1=asked, at_6379=Server())
        self.successResultOf(network.open(SENTINEL.replace("s1", "me@s1"), b"geheim"))
        self.assertEqual(commands(asked)[1], "AUTH me geheim")

    def test_next_is_asked(self) -> None:
        """A Sentinel that does not know the master, does not answer, or fails, is passed over."""
        for answer in (b"*-1\r\n", b"-IDONTKNOW no\r\n", b"*1\r\n$1\r\na\r\n", b"*2\r\n:1\r\n:2\r\n", b"+OK\r\n", None):
            network = Network(at_1=sentinel(answer), at_2=sentinel(), at_6379=Server())
            opening = network.open(SENTINEL)
            if answer is None:
                network.reactor.advance(SENTINEL_SECONDS)
                network.run()
            self.successResultOf(opening)

    def test_old_master(self) -> None:
        """A Sentinel that is cut off may name an old master, which is a replica or gone: the next one is asked."""
        for old in (Server(INFO=info(role="slave")), error.ConnectionRefusedError()):
            old_master = sentinel(MASTER.replace(b"6379", b"6378"))
            network = Network(at_1=old_master, at_2=sentinel(), at_6378=old, at_6379=Server())
            self.assertEqual(self.successResultOf(network.open(SENTINEL)).where, "10.0.0.1:6379")

    def test_same_master(self) -> None:
        """A master that cannot serve is tried once, whatever other Sentinels say."""
        master = Server(INFO=info(role="slave"))
        network = Network(at_1=sentinel(), at_2=sentinel(), at_6379=master)
        self.assert_problem(network, SENTINEL, "replica", "10.0.0.1:6379: it is a replica")
        self.assertEqual(len(master.transports), 1)

    def test_no_sentinel_knows(self) -> None:
        """If none knows the master, the text has what each said."""
        network = Network(at_1=error.ConnectionRefusedError(), at_2=sentinel(b"*-1\r\n"))
        reason, text = self.problem(network.open(SENTINEL))
        self.assertEqual(reason, "sentinel")
        self.assertRegex(
            text, "^no Sentinel knows .* mymaster .*Sentinel s1:1: nothing listens.*Sentinel s2:2: .*no master"
        )

    def test_cancel(self) -> None:
        """Cancelling ends the question, and asks no other."""
        network = Network(at_1=sentinel(None), at_2=sentinel())
        opening = network.open(SENTINEL)
        opening.cancel()
        self.failureResultOf(opening, CancelledError)
        self.assert_closed(network)


class TlsTests(LinkTestCase):
    """TLS, as far as it is ours; handshakes are in test_redis_live."""

    def test_files(self) -> None:
        """Wrong files are told at the start and at each attempt."""
        self.assertRaisesRegex(ValueError, "^ca=/nowhere: ", check, parse("rediss://a?ca=/nowhere"))
        self.assert_problem(Network(), "rediss://a?ca=/nowhere", "tls", "ca=/nowhere: No such file")

    def test_handshake(self) -> None:
        """The first bytes are a TLS handshake; a peer without TLS is told."""
        with tempfile.TemporaryDirectory() as folder:
            url = f"rediss://localhost?ca={make_certificate(Path(folder))}"
            check(parse(url))
            network = Network(at_6379=Server())
            network.talks = False
            opening = network.open(url)
        (transport,) = network.transports
        self.assertEqual(transport.value()[:2], b"\x16\x03")
        network.deliver(b"-ERR unknown command\r\n")
        reason, text = self.problem(opening)
        self.assertEqual(reason, "tls")
        self.assertIn("localhost:6379: TLS failed", text)


class CheckTests(SynchronousTestCase):
    """Checks at the start."""

    def test_hiredis(self) -> None:
        """Without hiredis the text says how to install it."""
        check(parse("redis://a"))
        with mock.patch.dict(sys.modules, {"hiredis": None}):
            self.assertRaisesRegex(ValueError, r"pip install 'wsrelay\[redis\]'$", check, parse("redis://a"))
