"""deploy/redis: a real Redis with its configuration and its users, and with relays."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.deploy.files import rendered
from tests.deploy.redis import FOLDER, PASSWORD, GuardedBroker, users
from tests.harness.broker import READY, Broker, BrokerError, Server
from tests.harness.clients import WebsocketsClient, text
from tests.harness.live import relay, require, run, until

pytestmark = pytest.mark.deploy

#: What the user of the relays may do: the command, and what it answers where the key does not exist.
ALLOWED: dict[tuple[str | int, ...], object] = {
    ("XADD", "wsrelay:{0}:log", "MINID", "~", "1-0", "5-1", "n", "node", "s", 1, "m", "blob"): b"5-1",
    ("XREAD", "COUNT", 1, "STREAMS", "wsrelay:{7}:log", "0-0"): None,
    ("XRANGE", "wsrelay:{7}:log", "5-1", "5-1"): [],
    ("XREVRANGE", "wsrelay:{7}:log", "+", "-", "COUNT", 1): [],
    ("XTRIM", "wsrelay:{7}:log", "MAXLEN", 0): 0,
    ("HSET", "wsrelay:{0}:nodes", "node", "{}"): 1,
    ("HGETALL", "wsrelay:{0}:nodes"): [b"node", b"{}"],
    ("HDEL", "wsrelay:{0}:nodes", "node"): 1,
    ("SELECT", 0): b"OK",
    ("PING",): b"PONG",
    ("CLIENT", "SETNAME", "wsrelay-one"): b"OK",
    ("CLIENT", "NO-EVICT", "on"): b"OK",
}

#: What it may not: other commands, and other keys.
REFUSED: list[tuple[str | int, ...]] = [
    *[("GET", "wsrelay:a"), ("SET", "wsrelay:a", 1), ("DEL", "wsrelay:{0}:log"), ("KEYS", "*"), ("FLUSHALL",)],
    *[("CONFIG", "GET", "*"), ("CLIENT", "LIST"), ("CLIENT", "KILL", "TYPE", "normal"), ("DEBUG", "SLEEP", 0)],
    *[("EVAL", "return 1", 0), ("SUBSCRIBE", "wsrelay:a"), ("PUBLISH", "wsrelay:a", 1), ("ACL", "LIST")],
    *[("SHUTDOWN",), ("REPLICAOF", "NO", "ONE"), ("MONITOR",), ("SCRIPT", "FLUSH"), ("MODULE", "LIST")],
    *[("HGETALL", "other"), ("XADD", "other", "*", "a", "b"), ("XREAD", "STREAMS", "other", "0-0")],
]


class NamedSentinel(Server):
    """A Sentinel that logs in to a broker and its replica as the user "sentinel", and has found the replica."""

    def __init__(self, master: Broker) -> None:
        lines = {
            "sentinel monitor": f"wsrelay 127.0.0.1 {master.port} 1",
            "sentinel auth-user": "wsrelay sentinel",
            "sentinel auth-pass": f'wsrelay "{PASSWORD}"',
            "sentinel down-after-milliseconds": "wsrelay 500",
            "sentinel failover-timeout": "wsrelay 3000",
        }
        super().__init__("redis-sentinel", lines)

    def start(self, line: str = r"\+slave slave") -> None:
        """Start it, and wait until it knows the replica."""
        super().start(line)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[GuardedBroker]:
    """A Redis with users.acl."""
    with GuardedBroker(tmp_path) as running:
        yield running


def test_redis_configuration(tmp_path: Path) -> None:
    """Redis starts with redis.conf, and says nothing about its lines; INFO shows the file of appends."""
    file = tmp_path / "wsrelay.conf"
    places = {"/etc/redis/users.acl": str(users(tmp_path)), "port 6379\n": ""}
    file.write_text(rendered("redis/redis.conf", places))
    with Server("redis-server", {"include": file}) as server:
        assert re.search(READY, server.log)
        assert "redis.conf" not in server.log
        assert "onfiguration loaded" in server.log
        assert list(server.folder.glob("appendonlydir/*.incr.aof"))


def test_unchanged_password(tmp_path: Path) -> None:
    """Redis does not start with the files of users as they are: they have no password."""
    for file in FOLDER.glob("*.acl"):
        ended = run(require("redis-server"), "--port", "0", "--unixsocket", "s", "--aclfile", str(file), cwd=tmp_path)
        assert ended.returncode == 1
        assert re.search("ACL errors.*password hash must be exactly 64 characters", ended.stdout), ended.stdout


def test_relays_user(broker: GuardedBroker) -> None:
    """The user of the relays may do what they do, on their keys, and nothing else; there is no default user."""
    assert {command: broker.as_relay(*command) for command in ALLOWED} == ALLOWED
    info = broker.as_relay("INFO", "server")
    assert isinstance(info, bytes)
    assert b"run_id" in info
    for command in REFUSED:
        with pytest.raises(BrokerError, match=r"^NOPERM"):
            broker.as_relay(*command)
    with pytest.raises(BrokerError, match=r"^WRONGPASS"):
        broker.command("AUTH", PASSWORD)


def used(broker: GuardedBroker) -> set[str]:
    """Return the commands that a broker has executed since its start."""
    return {name.removeprefix("cmdstat_") for name in broker.info("commandstats")}


def test_relays_use_their_user(broker: GuardedBroker, tmp_path: Path) -> None:
    """Relays need each command of their user but SELECT, and no other, also when Redis was restarted."""
    (tmp_path / "password").write_text(PASSWORD)
    url = f"redis://wsrelay@127.0.0.1:{broker.port}/0"
    options = ["--backplane", url, "--backplane-password-file", str(tmp_path / "password"), "--admin", "tcp:0"]
    with relay(*options) as one, relay(*options) as two, ExitStack() as stack:
        speaker, listener = (stack.enter_context(WebsocketsClient(server.url("/room"))) for server in (one, two))
        speaker.say(text("before"))
        assert listener.hear() == "before"
        assert len(one.ask("/nodes")[1]["items"]) >= 1
        found = used(broker)
        broker.kill()
        broker.start()
        speaker.say(text("after"))
        assert listener.hear() == "after"
        until(lambda: {"hset", "xtrim"} <= used(broker))
        one.stop()
        found |= used(broker)
        assert broker.command("ACL", "LOG") == []
    (_, user, *_) = (FOLDER / "users.acl").read_text("utf-8").splitlines()
    assert set(re.findall(r" \+(\S+)", user)) - found <= {"select"}


def test_same_user_with_sentinel() -> None:
    """The files of users have the same user for the relays."""
    one, other = ((FOLDER / name).read_text("utf-8").splitlines() for name in ("users.acl", "users-sentinel.acl"))
    assert one == other[: len(one)]


def test_sentinel_users(tmp_path: Path) -> None:
    """With the users of users-sentinel.acl a replica follows, and Sentinel promotes it when the primary is killed."""
    with ExitStack() as stack:
        name = "users-sentinel.acl"
        primary, replica = tmp_path / "primary", tmp_path / "replica"
        primary.mkdir()
        replica.mkdir()
        master = {"masteruser": "replica", "masterauth": f'"{PASSWORD}"'}
        first = stack.enter_context(GuardedBroker(primary, name, **master))
        second = stack.enter_context(GuardedBroker(replica, name, first, **master))
        second.await_replica()
        stack.enter_context(NamedSentinel(first))
        first.kill()
        until(lambda: second.info("replication")["role"] == "master")
        assert second.command("ACL", "LOG") == []


def check_rooms(url: str) -> None:
    """Check that members of rooms in many shards hear each other at two relays."""
    with relay("--backplane", url) as one, relay("--backplane", url) as two:
        for number in range(20):
            path = f"/room/{number}"
            with WebsocketsClient(one.url(path)) as speaker, WebsocketsClient(two.url(path)) as listener:
                speaker.say(text("hello"))
                assert listener.hear() == "hello"


def test_several_brokers() -> None:
    """Shards take turns on several brokers."""
    with Broker() as one, Broker() as two:
        check_rooms(f"redis://127.0.0.1:{one.port},127.0.0.1:{two.port}/0?shards=8")
        assert keys(one)
        assert keys(two)
        assert not set(keys(one)) & set(keys(two))


def test_cluster() -> None:
    """In a cluster, of which one server is named, each shard is at the server of its slot."""
    lines: dict[str, object] = {"cluster-enabled": "yes", "save": '""'}
    with Server("redis-server", lines) as one, Server("redis-server", lines) as two:
        one.command("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
        two.command("CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
        one.command("CLUSTER", "MEET", "127.0.0.1", two.port)
        until(lambda: all(b"cluster_state:ok" in each.command("CLUSTER", "INFO") for each in (one, two)))
        check_rooms(f"redis://127.0.0.1:{one.port}?shards=8")
        assert all(keys(each) for each in (one, two))


def keys(server: Server) -> list[object]:
    """Return the keys of a broker."""
    found = server.command("KEYS", "wsrelay:*")
    assert isinstance(found, list)
    return list(found)
