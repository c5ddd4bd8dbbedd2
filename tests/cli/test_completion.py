"""Tests of wsrelay.cli.completion."""

import os
import pty
import re
import select
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.live import SCRIPTS, SECONDS, environment, require, run
from wsrelay.cli import completion
from wsrelay.cli.completion import completions
from wsrelay.cli.options import OPTIONS, REPEATABLE
from wsrelay.tap import Options


def action(name: str) -> str:
    """Return the zsh code that completes the value of an option."""
    made = completions().optActions[name]
    completer = made() if callable(made) else made
    code: str = completer._shellCode(name, usage._ZSH)
    return code


class CompletionsTests(SynchronousTestCase):
    """The completions given to Twisted."""

    def test_every_option(self) -> None:
        """Every option has a description, every value an action; repeatable options are offered again."""
        made = completions()

        self.assertEqual(set(made.descriptions), {option.name for option in OPTIONS})
        self.assertEqual(
            set(made.optActions), {option.name for option in OPTIONS if option.kind in ("value", "repeatable")}
        )
        self.assertEqual(made.multiUse, list(REPEATABLE))
        self.assertEqual(Options.compData.descriptions, made.descriptions)

    def test_choices(self) -> None:
        """Choices are offered as whole words."""
        self.assertEqual(
            action("log-level"),
            ':LEVEL, info by default:{compadd "$expl[@]" -S "" -- ; compadd "$expl[@]" -- debug info warn error}',
        )

    def test_beginnings(self) -> None:
        """Beginnings of endpoints are offered without a space behind them; colons are escaped."""
        self.assertIn(r'-S "" -- tcp\: tcp6\: ssl\:', action("listen"))
        self.assertTrue(action("listen").startswith(r":ENDPOINT, tcp\:8080\:interface=127.0.0.1 by default:{"))

    def test_validators(self) -> None:
        """The installed validators are offered: with a colon where they take arguments."""

        class Plain:
            name, usage = "plain", ""

        class Rich:
            name, usage = "rich", "ARGUMENT"

        self.patch(completion, "available", lambda: [Plain, Rich])
        self.assertTrue(
            action("validate").endswith(r':{compadd "$expl[@]" -S "" -- rich\:; compadd "$expl[@]" -- plain}')
        )

    def test_others(self) -> None:
        """A file is completed from the folder; for a number its unit and default are shown."""
        self.assertEqual(action("config"), ':config (*.toml):_files -g "*.toml"')
        self.assertEqual(action("ping-seconds"), ":SECONDS, 20 by default:")


@contextmanager
def typing(folder: str, keys: str) -> Iterator[int]:
    """Start zsh with its completions on a terminal, type something, and yield the terminal."""
    Path(folder, ".zshrc").write_text(
        f"autoload -U compinit && compinit -u -d {folder}/.zcompdump\nPATH={SCRIPTS}:$PATH\nPS1='ready'\n"
        "zstyle ':completion:*:descriptions' format '<%d>'\n"
    )
    ours, theirs = pty.openpty()
    environ = environment({"ZDOTDIR": folder, "TERM": "xterm", "LC_ALL": "C.UTF-8"})
    shell = subprocess.Popen(
        [require("zsh"), "-d", "-i"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=folder,
        env=environ,
        process_group=0,
    )
    try:
        shown(ours, "ready")
        os.write(ours, keys.encode())
        yield ours
    finally:
        shell.kill()
        shell.wait(SECONDS)
        os.close(ours)
        os.close(theirs)


def shown(terminal: int, pattern: str) -> str:
    """Wait until a terminal shows something, and return all that it shows."""
    text, end = "", time.monotonic() + SECONDS
    while not re.search(pattern, text):
        assert select.select([terminal], [], [], max(0, end - time.monotonic()))[0], text
        text += os.read(terminal, 65536).decode(errors="replace")
    return text


@pytest.mark.deploy
@pytest.mark.parametrize("program", ["twistd", "twist"])
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("--check", "-config"),
        ("--log-level=", "debug +error +info +warn"),
        ("--slow-policy=pau", "se-publishers"),
        ("--listen=sys", "temd:"),
        ("--validate=orig", "in:"),
        ("--config=re", "lay.toml"),
        ("--max-rooms=", "<NUMBER, 10000 by default>"),
    ],
)
def test_zsh(program: str, typed: str, offered: str) -> None:
    """In a real zsh, Tab behind an option completes it, or shows the choices."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "relay.toml").touch()
        Path(folder, "readme.md").touch()
        with typing(folder, f"{program} wsrelay {typed}\t") as terminal:
            shown(terminal, f"(?s){re.escape(typed)}.*{offered}")


@pytest.mark.deploy
@pytest.mark.parametrize("program", ["twistd", "twist"])
def test_shell_completion(program: str) -> None:
    """Both commands print the completions of all options, also when the typed options are wrong."""
    ended = run(SCRIPTS / program, "wsrelay", "--max-rooms=x", "--", "--_shell-completion", "zsh:4")
    assert ended.returncode == 0
    for option in OPTIONS:
        assert f"--{option.name}" in ended.stdout
    assert "'--log-format=[Format of the log: text for people, or json.]:FORMAT, text by default:" in ended.stdout
