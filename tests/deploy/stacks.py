"""A relay with a proxy in front of it, as deploy/ says that both are started."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.health import Health, health
from tests.deploy.proxies import IDLE, LISTEN, PROXIES, Place, Proxy
from tests.harness.clients import Client, WebsocketsClient, binary, text
from tests.harness.live import Relay, relay

#: The relay's options that go with the configurations.
OPTIONS = ["--trusted-proxies", "127.0.0.1", "--validate", "origin:same-host"]

#: What a client sees when the relay is stopped.
RESTARTING = (1012, "the relay is restarting: reconnect with back-off")


def admin_port(server: Relay) -> int:
    """Return where a relay's admin endpoint is."""
    (port,) = server.output.wait_for(r"admin endpoint on http://127\.0\.0\.1:(\d+)/")
    return int(port)


@dataclass
class Stack:
    """A relay with a proxy in front of it, and its health, where that is not the relay's own word."""

    relay: Relay
    proxy: Proxy
    health: Health


@contextmanager
def started(name: str, certificate: Path, folder: Path, *options: str, idle: str = IDLE) -> Iterator[Stack]:
    """Run a relay, and a proxy in front of it, which asks the relay's own admin endpoint if the options name one."""
    with relay(*OPTIONS, *options, listen=LISTEN) as server, health() as admin:
        asked = admin_port(server) if "--admin" in options else admin.port
        place = Place(server, asked, certificate, folder, idle)
        with PROXIES[name](place) as proxy:
            try:
                yield Stack(server, proxy, admin)
            except Exception as error:
                error.add_note(f"{name} said:\n{proxy.process.output.text}")
                raise


def exchange(one: Client, other: Client) -> None:
    """Let each say something and the other hear it."""
    for speaker, listener in ((one, other), (other, one)):
        for said in (text("grüße"), binary(bytes(range(256)) * 400)):
            speaker.say(said)
            assert listener.hear() == said.heard


def silent_pairs(
    entered: ExitStack, names: list[str], folder: Path, certificate: Path, *options: str, idle: str = IDLE
) -> list[list[WebsocketsClient]]:
    """Return two clients behind each of these proxies, all of which wait for so long for who is silent."""
    pairs = []
    for name in names:
        (folder / name).mkdir()
        stack = entered.enter_context(started(name, certificate, folder / name, *options, idle=idle))
        pairs.append([entered.enter_context(stack.proxy.client()) for _ in range(2)])
    return pairs
