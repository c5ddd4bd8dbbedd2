"""Tests of examples/embedding.py: a relay embedded in another program."""

import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.harness.clients import WebsocketsClient, text
from tests.harness.live import LISTENING, LOOPBACK, SCRIPTS, SECONDS, Process, require, run

pytestmark = pytest.mark.deploy

PROGRAM = Path(__file__).resolve().parent.parent.parent / "examples" / "embedding.py"

#: Log line of twisted.web with the site's port.
SITE = r"Site starting on (\d+)"


class Program(Process):
    """The program, run by twistd.

    Attributes:
        relay: the URL of its relay.
        site: the URL of its web site.
    """

    def __init__(self, folder: str) -> None:
        super().__init__(
            [str(SCRIPTS / "twistd"), "--nodaemon", "--pidfile=", "--python", str(PROGRAM)],
            folder,
            {"RELAY": LOOPBACK, "SITE": LOOPBACK},
        )
        (self.relay,) = self.output.wait_for(LISTENING)
        (port,) = self.output.wait_for(SITE)
        self.site = f"http://127.0.0.1:{port}/"

    def post(self, body: bytes) -> tuple[str, str]:
        """Post the news with curl, and return status and body of the response."""
        posted = run(
            require("curl"), "--silent", "--show-error", "--noproxy", "*", "--max-time", str(SECONDS),
            "--header", "Expect:", "--data-binary", "@-", "--write-out", "%{http_code}", self.site + "news",
            input=body.decode("latin-1"), stdin=None, encoding="latin-1",
        )  # fmt: skip
        assert posted.returncode == 0, posted.stdout
        return posted.stdout[-3:], posted.stdout[:-3]


@pytest.fixture
def program() -> Iterator[Program]:
    """The program, in an empty folder."""
    with TemporaryDirectory() as folder, Program(folder) as started:
        yield started


def test_publish_from_site(program: Program) -> None:
    """A POST to the site reaches all subscribers of the room; other rooms are unaffected."""
    with ExitStack() as stack:
        readers = [stack.enter_context(WebsocketsClient(program.relay + "news")) for _ in range(2)]
        talkers = [stack.enter_context(WebsocketsClient(program.relay + "chat")) for _ in range(2)]
        assert program.post("grüß".encode()) == ("202", "published\n")
        for reader in readers:
            assert reader.hear() == "grüß"
        talkers[0].say(text("hello"))
        assert talkers[1].hear() == "hello"
        for client in (*readers, *talkers):
            client.hears_nothing()


def test_publish_to_empty_room(program: Program) -> None:
    """A POST without subscribers is accepted."""
    assert program.post(b"nobody hears this") == ("202", "published\n")


def test_read_only(program: Program) -> None:
    """A client that publishes to the read-only room is closed, and its message is dropped."""
    with WebsocketsClient(program.relay + "news") as forger, WebsocketsClient(program.relay + "news") as reader:
        forger.say(text("the moon is out"))
        assert forger.closed() == (1008, "this connection may not publish")
        reader.hears_nothing()


def test_publish_validation(program: Program) -> None:
    """Messages that are invalid or too large are refused, as from clients."""
    with WebsocketsClient(program.relay + "news") as reader:
        assert program.post(b"\xff") == ("400", "not UTF-8\n")
        assert program.post(b"x" * (2**20 + 1)) == ("413", "too long\n")
        reader.hears_nothing()


def test_page(program: Program) -> None:
    """The site serves a page that connects to the relay."""
    page = run(require("curl"), "--silent", "--noproxy", "*", program.site)
    assert "new WebSocket(url)" in page.stdout


def test_stop(program: Program) -> None:
    """SIGTERM closes the clients with 1012; then twistd ends by the signal."""
    with WebsocketsClient(program.relay + "news") as reader:
        program.signal(signal.SIGTERM)
        assert reader.closed() == (1012, "the relay is restarting: reconnect with back-off")
    assert program.wait() == -signal.SIGTERM, program.output.text
    assert not re.search("Traceback|Unhandled", program.output.text)
