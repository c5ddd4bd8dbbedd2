"""Brokers start and fail as the tests of the backplane expect."""

import pytest

from tests.harness.broker import LOADING, Broker, BrokerError, Sentinel
from tests.harness.live import make_certificate, until

pytestmark = pytest.mark.deploy


def test_broker_does_not_start() -> None:
    """A broker that does not start fails at once, with its log."""
    with pytest.raises(AssertionError, match="Bad directive"), Broker(nonsense=1):
        pass


def test_broker_truncated_aof() -> None:
    """The append-only file survives a kill, and what is cut off it is lost."""
    with Broker(aof=True) as broker:
        broker.command("SET", "kept", 1)
        size = broker.aof_bytes()
        broker.command("SET", "lost", 1)
        broker.kill()
        broker.start()
        assert broker.command("MGET", "kept", "lost") == [b"1", b"1"]
        broker.kill()
        broker.truncate_aof(size)
        broker.start()
        assert broker.command("MGET", "kept", "lost") == [b"1", None]


def test_broker_restart() -> None:
    """A broker keeps its port, and without a file no data."""
    with Broker(password="secret") as broker:
        port = broker.port
        broker.command("SET", "key", 1)
        broker.stop()
        broker.start(LOADING)
        assert (broker.port, broker.command("GET", "key")) == (port, None)
        with pytest.raises(BrokerError, match="ERR wrong number"):
            broker.command("GET")


def test_broker_tls(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A broker with TLS starts, and names its certificate in its URL."""
    certificate = make_certificate(tmp_path_factory.mktemp("certificate"))
    with Broker(tls=certificate) as broker:
        assert broker.command("PING") == b"PONG"
        assert broker.url == f"rediss://127.0.0.1:{broker.port}/?ca={certificate}"


def test_broker_failover() -> None:
    """Sentinel promotes the replica of a killed master."""
    with Broker() as master, Broker(master=master) as replica:
        master.command("SET", "key", 1)
        replica.await_replica()
        with Sentinel(master) as sentinel:
            sentinel.await_replicas()
            master.kill()
            until(lambda: sentinel.master_port() == replica.port)
            assert (replica.info("replication")["role"], replica.command("GET", "key")) == ("master", b"1")
