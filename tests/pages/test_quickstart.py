"""docs/quickstart.md, "TLS and tokens": followed line by line, as it is written, but for the port."""

import re
import stat
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.harness.clients import WebsocketsClient, tls_context
from tests.harness.live import Process, require, run
from tests.pages.page import ROOT, blocks
from tests.pages.terminal import Terminal, address, any_port

pytestmark = pytest.mark.interop

PAGE = ROOT / "docs" / "quickstart.md"

#: A token of the page's own code for Python, printed.
PRINT = "\nprint(token)\n"


def block(language: str, *words: str) -> str:
    """Return the block of the page that has these words."""
    (found,) = [each.text for each in blocks(PAGE, language) if all(word in each.text for word in words)]
    return found


@contextmanager
def relay(terminal: Terminal) -> Iterator[Process]:
    """Make the keys and start the relay, steps 1 and 2."""
    made = terminal.run(block("sh", "wsrelay init"))
    assert made.returncode == 0, made.stdout
    assert block("text", "relay/relay.key: ") in made.stdout
    with terminal.start(any_port(block("sh", "wsrelay serve --config"))) as started:
        terminal.instead = {"localhost:8443": address(started).replace("127.0.0.1", "localhost")}
        yield started


def test_tls_and_tokens(tmp_path: Path) -> None:
    """Keys, relay, reader and message: what the page says is what one sees."""
    terminal = Terminal(tmp_path)
    with relay(terminal) as started:
        with terminal.start(block("sh", "wsrelay tail")) as reader:
            started.output.wait_for("joined 'chat/42' as 'anna'")
            said = terminal.run(block("sh", "wsrelay say"))
            assert said.returncode == 0, said.stdout
            assert reader.output.wait_for("(?m)^hello$")
        tail = block("sh", "wsrelay tail").splitlines()[-1]
        refused = terminal.run(tail)
        assert refused.returncode == 1
        for word in ("401", "a token is needed"):
            assert word in refused.stdout, refused.stdout


def test_private_files(tmp_path: Path) -> None:
    """Keys are readable for their owner only, git ignores the folder, and a second ``init`` changes nothing."""
    terminal = Terminal(tmp_path)
    assert terminal.run(block("sh", "wsrelay init")).returncode == 0
    for name in ("relay.key", "key.pem"):
        assert stat.S_IMODE((tmp_path / "relay" / name).stat().st_mode) == 0o600, name
    before = {path.name: path.read_bytes() for path in (tmp_path / "relay").iterdir()}
    run("git", "init", "--quiet", str(tmp_path))
    assert "relay/" not in run("git", "status", "--porcelain", cwd=tmp_path).stdout
    assert terminal.run(block("sh", "wsrelay init")).returncode == 1
    assert {path.name: path.read_bytes() for path in (tmp_path / "relay").iterdir()} == before


def test_token_of_site(tmp_path: Path) -> None:
    """The page's code for a site makes a token, and its code for a page a subprotocol, with which one connects."""
    terminal = Terminal(tmp_path)
    with relay(terminal) as started:
        (tmp_path / "site.py").write_text(textwrap.dedent(block("python", "jwt.encode")) + PRINT, "utf-8")
        token = terminal.run("python3 site.py").stdout.strip()
        code = re.sub(r"const socket = .*", "console.log(bearer);", block("js", "bearer"))
        bearer = run(require("node"), "-e", f"const token = {token!r};\n{code}").stdout.strip()
        url = f"wss://{terminal.instead['localhost:8443']}/chat/42"
        trusted = tls_context(tmp_path / "relay" / "cert.pem")
        with WebsocketsClient(url, subprotocols=["chat", bearer], ssl=trusted):
            started.output.wait_for("joined 'chat/42' as 'anna'")
