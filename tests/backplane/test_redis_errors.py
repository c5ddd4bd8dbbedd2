"""Tests of wsrelay.backplane.redis_errors."""

from OpenSSL.SSL import Error as TLSError
from service_identity import VerificationError
from twisted.internet import defer, error
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from wsrelay.backplane.redis_errors import NoBroker, NotRedis, RedisError, of_failure, of_reply, redacted

#: Error reply → reason, and a part of the text. Real ones of Redis 7.0, but for those of old versions and of clusters.
REPLIES = {
    "NOAUTH Authentication required.": ("auth", "--backplane-password-file"),
    "WRONGPASS invalid username-password pair or user is disabled.": ("auth", "mend the file"),
    "ERR AUTH <password> called without any password configured for the default user.": ("auth", "leave"),
    "ERR Client sent AUTH, but no password is set": ("auth", "leave"),
    "ERR invalid password": ("auth", "wrong password"),
    "ERR operation not permitted": ("auth", "wants a password"),
    "DENIED Redis is running in protected mode": ("auth", "protected mode"),
    "NOPERM this user has no permissions to run the 'xadd' command": ("noperm", "ACL"),
    "READONLY You can't write against a read only replica.": ("readonly", "name the master"),
    "MASTERDOWN Link with MASTER is down": ("replica", "name the master"),
    "LOADING Redis is loading the dataset in memory": ("loading", "wait"),
    "BUSY Redis is busy running a script.": ("busy", "SCRIPT KILL"),
    "MOVED 3999 127.0.0.1:6381": ("moved", "another node"),
    "ASK 3999 127.0.0.1:6381": ("moved", "wait"),
    "CLUSTERDOWN Hash slot not served": ("cluster", "CLUSTER INFO"),
    "OOM command not allowed when used memory > 'maxmemory'.": ("oom", "raise maxmemory"),
    "MISCONF Redis is configured to save RDB snapshots": ("misconf", "disk"),
    "NOREPLICAS Not enough good replicas to write.": ("noreplicas", "min-replicas"),
    "WRONGTYPE Operation against a key holding the wrong kind of value": ("wrongtype", "?prefix="),
    "ERR max number of clients reached": ("clients", "maxclients"),
    "ERR DB index is out of range": ("database", "--backplane"),
    "ERR SELECT is not allowed in cluster mode": ("database", "database 0"),
    "ERR unknown command 'xadd', with args beginning with: 'a'": ("version", "6.2"),
    "ERR syntax error": ("error", "refused a command"),
    "": ("error", "refused a command"),
}

#: Reason of a lost connection → reason, and a part of the text.
FAILURES = [
    (NotRedis("x"), "protocol", "write rediss://"),
    (VerificationError(errors=[]), "tls", "for another host"),
    (TLSError([("", "", "certificate verify failed")]), "tls", "ca="),
    (error.DNSLookupError("x"), "dns", "resolver"),
    (error.ConnectionRefusedError(), "refused", "start the broker"),
    (error.TimeoutError(), "timeout", "firewalls"),
    (defer.TimeoutError(), "timeout", "firewalls"),
    (error.NoRouteError(), "unreachable", "routes"),
    (error.ConnectError(2, "No such file"), "unreachable", "No such file"),
    (error.ConnectionLost(), "closed", "see its log"),
    (error.ConnectionDone(), "closed", "see its log"),
    (KeyError("x"), "error", "unexpected failure: see the traceback in the log ('x')"),
    (RuntimeError(), "error", "log (RuntimeError)"),
]


class NoBrokerTests(SynchronousTestCase):
    """Reasons and texts."""

    def test_str(self) -> None:
        """The text of the exception is the text for the log."""
        self.assertEqual(str(NoBroker("auth", "a: b")), "a: b")

    def test_of_reply(self) -> None:
        """Each error reply has its reason, and a text with the broker, what to do, and the reply."""
        for reply, (reason, part) in REPLIES.items():
            problem = of_reply(RedisError(reply), "a:1")
            self.assertEqual(problem.reason, reason, reply)
            self.assertRegex(problem.text, r"^a:1: ")
            self.assertIn(part, problem.text)
            self.assertIn(reply, problem.text)

    def test_of_reply_bounds(self) -> None:
        """Long replies are cut, and control characters escaped."""
        problem = of_reply(RedisError("ERR a\nb" + "x" * 1000), "a")
        self.assertIn(r"a\nb", problem.text)
        self.assertLess(len(problem.text), 300)

    def test_redacted(self) -> None:
        """Of a reply to AUTH, known words are left: the others may have the password."""
        for reply, left in [
            ("ERR unknown command 'AUTH', with args beginning with: 'geheim'", "ERR unknown command"),
            ("WRONGPASS geheim", "WRONGPASS"),
            ("ERR geheim", "ERR"),
            ("geheim", "ERR"),
        ]:
            self.assertEqual(str(redacted(RedisError(reply))), left)

    def test_of_failure(self) -> None:
        """Each failure has its reason, and a text with the broker and what to do."""
        for exception, reason, part in FAILURES:
            problem = of_failure(Failure(exception), "a:1")
            self.assertEqual(problem.reason, reason, repr(exception))
            self.assertRegex(problem.text, r"^a:1: ")
            self.assertIn(part, problem.text)
