"""docs/commands.md: each block typed as it is written and in order, from ``wsrelay init`` on, but for the ports."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.harness.live import LISTENING, Process
from tests.pages.page import ROOT, blocks, commands
from tests.pages.terminal import Terminal, any_port

pytestmark = pytest.mark.interop

PAGE = ROOT / "docs" / "commands.md"

#: A command that stays in its terminal → the log line of the relay that says that it does its work.
STAYING = {"wsrelay serve": LISTENING, "wsrelay tail": "joined 'chat' as 'anna'"}

#: All cases take minutes.
SHORT = {"wsrelay selftest\n": "wsrelay selftest --only delivery\n", "--only never-reader": ""}


def to_relay(relay: Process) -> dict[str, str]:
    """Return text of the page → the same with the ports of a relay."""
    plain, tls = relay.output.wait_for(LISTENING, 2)
    return {
        "wsrelay selftest --only": f"wsrelay selftest {plain} --only",
        "wss://localhost:8443/": tls.replace("127.0.0.1", "localhost"),
        **{f"wsrelay {name} chat": f"wsrelay {name} --url {plain} chat" for name in ("tail", "say")},
    }


def test_in_order(tmp_path: Path) -> None:
    """Each command ends with exit code 0, or stays, and does what the page says; each relay stops in the end."""
    terminal, exports, relay, stayed = Terminal(tmp_path), "", None, []
    with ExitStack() as stack:
        for command in [each for block in blocks(PAGE, "sh") for each in commands(block)]:
            text = f"{command.text}\n"
            for page, here in SHORT.items():
                text = text.replace(page, here)
            awaited = next((line for words, line in STAYING.items() if text.startswith(words)), None)
            if text.startswith("export "):
                exports += text
            elif awaited is None:
                ended = terminal.run(exports + text)
                assert ended.returncode == 0, f"{command}\n{ended.stdout}"
            else:
                stayed.append(stack.enter_context(terminal.start(any_port(exports + text))))
                relay = relay or stayed[0]
                relay.output.wait_for(awaited, 2 if relay is stayed[-1] else len(stayed) - 1)
                terminal.instead = to_relay(relay)
        _, *readers = stayed
        assert len(readers) == 2
        readers[0].output.wait_for("(?m)^hello$")
