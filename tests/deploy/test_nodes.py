"""Two relays that share a real Redis, behind nginx, HAProxy and Caddy as deploy/ configures them."""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.deploy.proxies import LISTEN, PROXIES, Place, Proxy
from tests.deploy.redis import PASSWORD, GuardedBroker
from tests.deploy.stacks import OPTIONS, RESTARTING, admin_port, exchange
from tests.deploy.test_proxies import SPELLINGS
from tests.harness.clients import WebsocketsClient, text
from tests.harness.live import Relay, relay, until
from wsrelay.backplane.redis import shard_of

pytestmark = pytest.mark.deploy

#: Clients of one room: enough for both relays to have some, wherever a proxy sends each.
CLIENTS = 12


@dataclass
class Nodes:
    """Two relays that share a broker, behind a proxy."""

    broker: GuardedBroker
    one: Relay
    two: Relay
    proxy: Proxy

    def joined(self, room: str) -> list[int]:
        """Return how many clients have joined a room at each relay."""
        line = re.compile(rf"joined {re.escape(repr(room))}")
        return [len(line.findall(server.output.text)) for server in (self.one, self.two)]

    def await_join(self, room: str, before: list[int]) -> None:
        """Wait until a client more has joined a room than :meth:`joined` said before."""
        until(lambda: self.joined(room) != before)


def node(broker: GuardedBroker, folder: Path, name: str, *options: str) -> list[str]:
    """Return the options of a relay at a broker."""
    file = folder / "backplane.password"
    file.write_text(PASSWORD)
    url = f"redis://wsrelay@127.0.0.1:{broker.port}/0"
    shared = ["--backplane", url, "--backplane-password-file", str(file), "--node-name", name]
    return [*OPTIONS, *shared, "--admin", "tcp:0", *options]


@contextmanager
def nodes(name: str, group: str, certificate: Path, folder: Path, *options: str) -> Iterator[Nodes]:
    """Run two relays and a Redis with the users of deploy/, behind a proxy."""
    with (
        GuardedBroker(folder) as broker,
        relay(*node(broker, folder, "one", *options), listen=LISTEN) as one,
        relay(*node(broker, folder, "two", *options), listen=LISTEN) as two,
    ):
        place = Place(one, admin_port(one), certificate, folder, other=two, shared=group, other_admin=admin_port(two))
        with PROXIES[name](place) as proxy:
            yield Nodes(broker, one, two, proxy)


@contextmanager
def crowd(running: Nodes, room: str = "room") -> Iterator[tuple[list[WebsocketsClient], list[WebsocketsClient]]]:
    """Connect :data:`CLIENTS` clients; give those at the one relay and those at the other."""
    found: tuple[list[WebsocketsClient], list[WebsocketsClient]] = ([], [])
    with ExitStack() as entered:
        for _ in range(CLIENTS):
            before = running.joined(room)
            client = entered.enter_context(running.proxy.client(f"/{room}"))
            running.await_join(room, before)
            found[running.joined(room)[0] == before[0]].append(client)
        yield found


def converse(clients: list[WebsocketsClient], what: str) -> None:
    """Let each client speak, one after the other; all others hear it."""
    for number, speaker in enumerate(clients):
        said = f"{what} {number}"
        speaker.say(text(said))
        for listener in clients:
            if listener is not speaker:
                assert listener.hear() == said


@pytest.mark.parametrize("name", sorted(PROXIES))
def test_nodes_behind_proxy(name: str, certificate: Path, tmp_path: Path) -> None:
    """Members of a room at both relays hear each other; when one relay stops, new clients are at the other."""
    with nodes(name, "nodes", certificate, tmp_path, "--drain-seconds", "0") as running:
        with crowd(running) as (ones, others):
            assert ones
            assert others
            converse([*ones, *others], "hello")
            running.one.stop()
            assert [client.closed() for client in ones] == [RESTARTING] * len(ones)
            converse(others, "still here")
            with running.proxy.client() as late:
                converse([*others, late], "again")
        assert running.broker.command("ACL", "LOG") == []


@pytest.mark.parametrize("name", ["haproxy", "nginx"])
def test_broker_killed_behind_proxy(name: str, certificate: Path, tmp_path: Path) -> None:
    """When Redis is killed and comes back with nothing, clients stay and lose nothing."""
    with nodes(name, "nodes", certificate, tmp_path) as running, crowd(running) as (ones, others):
        clients = [*ones, *others]
        converse(clients, "before")
        running.broker.kill()
        said = {f"meanwhile {number}" for number in range(CLIENTS)}
        for number, speaker in enumerate(clients):
            speaker.say(text(f"meanwhile {number}"))
        running.broker.start()
        for number, listener in enumerate(clients):
            heard = sorted(str(listener.hear()) for _ in range(CLIENTS - 1))
            assert heard == sorted(said - {f"meanwhile {number}"})
        converse(clients, "after")


@pytest.mark.parametrize("name", ["haproxy", "nginx"])
def test_room_affinity(name: str, certificate: Path, tmp_path: Path) -> None:
    """Members of a room are at the same relay, in any spelling; the rooms use both; a stopped relay's rooms move."""
    with nodes(name, "rooms", certificate, tmp_path, "--drain-seconds", "0") as running:
        for number in range(10):
            with ExitStack() as entered:
                clients = [
                    entered.enter_context(running.proxy.client(path.format(number), additional_headers=fields))
                    for path, fields in SPELLINGS
                ]
                converse(clients, "hello")
            assert sorted(running.joined(f"räum/{number}")) == [0, len(SPELLINGS)]
        assert all("joined" in server.output.text for server in (running.one, running.two))
        running.one.stop()
        for number in range(10):
            with (
                running.proxy.client(f"/room/{number}") as speaker,
                running.proxy.client(f"/room/{number}") as listener,
            ):
                exchange(speaker, listener)


def test_shard_affinity(certificate: Path, tmp_path: Path) -> None:
    """HAProxy sends all rooms of a shard to the same relay, which computes the same shard."""
    with nodes("haproxy", "rooms", certificate, tmp_path) as running:
        places: dict[int, set[str]] = {}
        for room in (f"{name}/{number}" for number in range(30) for name in ("a+b", "räum", "x")):
            before = running.joined(room)
            with running.proxy.client("/" + quote(room)):
                running.await_join(room, before)
            places.setdefault(shard_of(room, 64), set()).add(str(running.joined(room)))
        assert len(places) > 30
        assert all(len(found) == 1 for found in places.values())
        assert len(set.union(*places.values())) == 2
