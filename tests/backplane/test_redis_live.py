"""Tests of wsrelay.backplane.redis_link with real brokers, Sentinels, clusters, and an HTTP server."""

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.harness.broker import LOADING, Broker, Sentinel, join_cluster, pack_command
from tests.harness.live import make_certificate, relay, run, taken_port

pytestmark = pytest.mark.interop

OPENER = Path(__file__).with_name("opener.py")

PASSWORD = "geheim-und-lang"

#: The rights that a node needs, as an ACL rule.
RIGHTS = (
    "resetchannels ~wsrelay:* -@all +xadd +xread +xrange +xrevrange +xinfo|stream +xtrim +ping +info "
    "+client|setname +client|no-evict +set +get +hset +hgetall +hdel"
)


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    """A file with the password."""
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n", "utf-8")
    return file


def open_at(url: str, *password_file: Path) -> dict[str, Any]:
    """Open a pair in a process of its own; the password must be seen nowhere."""
    ended = run(sys.executable, OPENER, url, *map(str, password_file))
    assert ended.returncode == 0, ended.stdout
    assert PASSWORD not in ended.stdout
    outcome, *log = ended.stdout.splitlines()
    assert [line for line in log if not line.endswith("Main loop terminated.")] == []
    found: dict[str, Any] = json.loads(outcome)
    return found


def assert_opens(url: str, *password_file: Path) -> dict[str, Any]:
    """Open a pair, which must succeed."""
    found = open_at(url, *password_file)
    assert "where" in found, found.get("text")
    return found


def assert_fails(reason: str, part: str, url: str, *password_file: Path) -> None:
    """Open a pair, which must fail, for one of some reasons that are separated by spaces."""
    found = open_at(url, *password_file)
    assert found.get("reason") in reason.split(), found
    assert part in found["text"], found


def test_broker() -> None:
    """By port and by unix socket; the connections have the node's name, and are not evicted."""
    with Broker() as broker:
        assert assert_opens(broker.url)["where"] == f"127.0.0.1:{broker.port}"
        found = assert_opens(f"{broker.unix_url}?db=2&shards=3")
        assert found["clients"].count("name=wsrelay-node ") == found["clients"].count(" flags=Ue db=2 ") == 2
        assert_fails("database", "no database of this number", f"{broker.url}/99")
        broker.command("SET", "x:{0}:log", "text")
        assert_fails("wrongtype", "?prefix=", f"{broker.url}?prefix=x")
        broker.stop()
        assert_fails("refused", "start the broker", broker.url)
        assert_fails("unreachable", "No such file", broker.unix_url)


def test_warnings() -> None:
    """A policy that evicts the log is warned of."""
    with Broker(maxmemory=2**30, maxmemory_policy="allkeys-lru") as broker:
        assert "allkeys-lru" in assert_opens(broker.url)["warnings"][0]


def test_passwords(password_file: Path, tmp_path: Path) -> None:
    """The default user's password: right, wrong, missing, and unneeded."""
    wrong = tmp_path / "wrong"
    wrong.write_text("falsch", "utf-8")
    with Broker(password=PASSWORD) as broker:
        assert_opens(broker.url, password_file)
        assert_fails("auth", "WRONGPASS", broker.url, wrong)
        assert_fails("auth", "NOAUTH", broker.url)
    with Broker() as broker:
        assert_fails("auth", "leave --backplane-password-file out", broker.url, password_file)


def test_renamed_auth(password_file: Path) -> None:
    """A broker that does not know AUTH quotes the password in its reply: nothing shows it."""
    with Broker(rename_command='AUTH ""') as broker:
        assert_fails("version", "it lacks a command", broker.url, password_file)


def test_acl(password_file: Path, tmp_path: Path) -> None:
    """The documented rights are enough; each user that lacks one is told."""
    acl = tmp_path / "users.acl"
    acl.write_text(
        f"user node on >{PASSWORD} {RIGHTS}\n"
        f"user open on nopass {RIGHTS}\n"
        f"user lame on nopass {RIGHTS} -xrange\n"
        f"user dumb on nopass {RIGHTS} -info\n",
        "utf-8",
    )
    with Broker(acl=acl) as broker:
        url = broker.url.replace("redis://", "redis://{}@")
        assert "NOPERM" in assert_opens(url.format("node"), password_file)["clients"]
        assert_opens(url.format("open"))
        for user, query in [("lame", ""), ("dumb", ""), ("node", "?prefix=other")]:
            assert_fails("noperm", "ACL", url.format(user) + query, password_file)
        assert_fails("auth", "WRONGPASS", url.format("nobody"), password_file)


def test_replica() -> None:
    """A replica is refused, with the address of its master."""
    with Broker() as master, Broker(master=master) as replica:
        replica.await_replica()
        assert_fails("replica", f"its master is 127.0.0.1:{master.port}", replica.url)


def test_loading() -> None:
    """A broker that reads its data is told."""
    with Broker(aof=True, key_load_delay=50) as broker:  # microseconds; between 1024 commands it serves clients
        broker.command("SET", "a", 1)
        broker.kill()
        (file,) = broker.folder.glob("appendonlydir/*.incr.aof")
        with file.open("ab") as log:
            log.write(pack_command("SET", "a", 1) * 400_000)
        broker.start(LOADING)
        assert_fails("loading", "it reads its data from disk: wait", broker.url)


def test_max_clients() -> None:
    """A broker with too few connections is told; its text may be lost, as it closes before it reads."""
    with Broker(maxclients=1) as broker:
        assert_fails("clients closed", "maxclients", broker.url)


def test_not_redis(password_file: Path) -> None:
    """An HTTP server is told, and gets no password."""
    with relay() as server:
        url = server.addresses[0].replace("ws://", "redis://")
        assert_fails("protocol", "this is not Redis", url, password_file)
        assert PASSWORD not in server.output.text


def test_silence() -> None:
    """A peer that accepts connections and says nothing is given up."""
    with taken_port() as silent:
        assert_fails("timeout", "no answer in time", f"redis://127.0.0.1:{silent.getsockname()[1]}")


def test_tls(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Certificate and host name are checked, and each mistake is told."""
    certificate, other = (make_certificate(tmp_path_factory.mktemp("certificate")) for _ in range(2))
    with Broker(tls=certificate, bind="127.0.0.1 127.0.0.2") as broker:
        assert_opens(broker.url)
        assert_opens(broker.url.replace("127.0.0.1", "localhost"))
        assert_fails("tls", "certificate verify failed", broker.url.replace(str(certificate), str(other)))
        assert_fails("tls", "certificate verify failed", broker.url.partition("?")[0])
        assert_fails("tls", "for another host", broker.url.replace("127.0.0.1", "127.0.0.2"))
        assert_fails("closed", "rediss://", f"redis://127.0.0.1:{broker.port}")
    with Broker() as plain:
        assert_fails("timeout", "whether it speaks TLS", f"rediss://127.0.0.1:{plain.port}?ca={certificate}")


def test_client_certificate(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A broker that wants a certificate of its clients gets that of cert=."""
    certificate = make_certificate(tmp_path_factory.mktemp("certificate"))
    with Broker(tls=certificate) as broker:
        broker.command("CONFIG", "SET", "tls-auth-clients", "yes")
        assert_opens(f"{broker.url}&cert={certificate}")
        assert_fails("tls", "cert=", broker.url)


def test_sentinel(password_file: Path) -> None:
    """The master is asked for, also at a Sentinel with a password; a dead Sentinel is passed over."""
    with Broker(password=PASSWORD) as broker, Sentinel(broker) as sentinel, taken_port() as dead:
        assert assert_opens(sentinel.url, password_file)["where"] == f"127.0.0.1:{broker.port}"
        two = sentinel.url.replace("://", f"://127.0.0.1:{dead.getsockname()[1]},")
        assert_opens(two, password_file)
        assert_fails("sentinel", "it knows no master of this name", f"{sentinel.url}2", password_file)
        sentinel.command("ACL", "SETUSER", "default", "resetpass", f">{PASSWORD}")
        assert_opens(sentinel.url, password_file)
        assert_fails("sentinel", "NOAUTH", sentinel.url)


def test_cluster() -> None:
    """A shard is opened at the node of the cluster that has its slot."""
    with ExitStack() as stack:
        brokers = [stack.enter_context(Broker(slots=slots)) for slots in ((0, 8191), (8192, 16383))]
        join_cluster(*brokers)
        found = {assert_opens(broker.url)["where"] for broker in brokers}
        assert len(found) == 1
        assert found <= {f"127.0.0.1:{broker.port}" for broker in brokers}
        assert_fails("database", "database 0", f"{brokers[0].url}/1")
