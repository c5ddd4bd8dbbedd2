"""Tests of wsrelay.backplane.redis_info."""

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.backplane.redis_info import Incarnation, incarnation, parse, refusal, warnings

INFO = (
    b"# Server\r\nredis_version:7.0.15\r\nrun_id:a\r\n\r\n"
    b"# Replication\r\nrole:master\r\nmaster_replid:b\r\nloading:0\r\n"
)


def said(**changes: str) -> tuple[str, str] | None:
    """Return the refusal of INFO with changed fields, as reason and text."""
    problem = refusal({**parse(INFO), **changes}, "a:1")
    return problem and (problem.reason, problem.text)


class InfoTests(SynchronousTestCase):
    """Fields of INFO."""

    def test_incarnation(self) -> None:
        """Process and history of writes identify an incarnation."""
        self.assertEqual(incarnation(parse(INFO)), Incarnation("a", "b"))
        self.assertEqual(incarnation({}), Incarnation("", ""))

    def test_version(self) -> None:
        """Redis 6.2 and later, and any Valkey, can serve; others are told what is needed."""
        for version in ("6.2.0", "7.0.15", "10.0.1"):
            self.assertIs(said(redis_version=version), None)
        self.assertIs(said(redis_version="0.1", valkey_version="7.2.5"), None)
        for version in ("6.0.16", "5.0.14", "", "x"):
            text = f"a:1: version {version or 'unknown'}: Redis 6.2 or later, or Valkey, is needed"
            self.assertEqual(said(redis_version=version), ("version", text))

    def test_loading(self) -> None:
        """While it loads, it cannot serve."""
        self.assertEqual(
            said(loading="1", loading_eta_seconds="4"), ("loading", "a:1: it reads its data from disk: wait 4 s")
        )

    def test_replica(self) -> None:
        """A replica cannot serve; the text has the address of its master if that is known."""
        text = "a:1: it is a replica; its master is b:2: name that, or Sentinels by redis+sentinel://"
        self.assertEqual(said(role="slave", master_host="b", master_port="2"), ("replica", text))
        self.assertEqual(said(role=""), ("replica", text.replace("b:2", "unknown")))

    def test_eviction(self) -> None:
        """Only a policy that may evict the log, with a limit of memory, is warned of."""
        policy = "allkeys-lru"
        self.assertRegex(warnings({"maxmemory": "5", "maxmemory_policy": policy})[0], f"{policy}.*set noeviction")
        self.assertEqual(warnings({"maxmemory": "0", "maxmemory_policy": policy}), ())
        self.assertEqual(warnings({"maxmemory": "5", "maxmemory_policy": "volatile-lru"}), ())
        self.assertEqual(warnings({}), ())
