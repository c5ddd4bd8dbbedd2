"""How each command on the pages is checked: a table of patterns, of which the first that fits counts.

A command that none fits fails :mod:`tests.pages.test_commands`: write a row for it, or a rule of another kind.
"""

import ast
import io
import re
import shlex
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from unittest import mock

from twisted.python.usage import UsageError

from tests.pages.page import ROOT, Command
from wsrelay.commands.main import COMMANDS, main
from wsrelay.tap import Options

#: What curl has, of what the pages use.
CURL = (
    *("--data", "--data-binary", "--fail", "--header", "--http1.1", "--include", "--max-time", "--no-buffer"),
    *("--request", "--retry", "--retry-all-errors", "-s"),
)

#: A relay in a command line: what stands behind it are its options.
RELAY = re.compile(r"(?:^|[ /])(?:twistd(?: -\S+)* wsrelay|twist(?: -\S+)* wsrelay|wsrelay serve)(?= |$)(.*)")

#: Another command of ``wsrelay``, to the end of its last word.
OTHER = re.compile(r"""\bwsrelay ((?!serve)[a-z-]+(?: (?:"[^"]*"|'[^']*'|[^\s"')|>]+))*)""")

#: Folders of servers in the pages; tests have them in a folder of their own.
SERVER = ("/etc/wsrelay", "/var/log/wsrelay")


def options(words: list[str]) -> None:
    """Check the options of a relay, and the files that they name; nothing is started."""
    here = [re.sub(rf"(?<![\w.])({'|'.join(SERVER)})", r".\1", word) for word in words]
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        try:
            Options().parseOptions(here)
        except UsageError as error:
            raise AssertionError(error) from None
        except SystemExit as end:  # --check-config, --help
            if end.code:
                raise AssertionError(said.getvalue()) from None


def check_relay(command: Command) -> None:
    """Check the options of a relay."""
    found = RELAY.search(command.text)
    assert found is not None
    options(shlex.split(re.sub(r"--reactor \w+", "", found[1].removesuffix("&"))))


def check_command(command: Command) -> None:
    """Let the parser of another command of ``wsrelay`` take its arguments."""
    for line in OTHER.findall(command.text):
        words = shlex.split(line)
        module = import_module(COMMANDS[words[0]].module)
        said = io.StringIO()
        with mock.patch.object(module, "run", return_value=0) as taken, redirect_stderr(said), suppress(SystemExit):
            main(words)
        assert taken.called, f"{line}\n{said.getvalue()}"


def check_script(command: Command) -> None:
    """Check that a program of the repository exists, and knows its options; behind ``--`` they are the relay's."""
    words = shlex.split(re.sub(r"^.*?((?:bench|conformance|fuzz|soak|examples)/)", r"\1", command.text))
    own, _, relays = " ".join(words).partition(" -- ")
    source = (ROOT / words[0]).read_text("utf-8")
    for module in re.findall(r"^from (\w+) import .*\bOptions\b", source, re.MULTILINE):  # a field is an option there
        source += (ROOT / words[0]).with_name(f"{module}.py").read_text("utf-8")
    for name in re.findall(r"(?<= )--([a-z-]+)", own):
        known = re.search(rf'"--{name}"|^    {name.replace("-", "_")}: ', source, re.MULTILINE)
        assert known is not None, f"{words[0]} has no --{name}"
    options(shlex.split(relays))


@cache
def targets() -> dict[str, str]:
    """Return the targets of the Makefile, with their recipes."""
    text = (ROOT / "Makefile").read_text("utf-8")
    return dict(re.findall(r"^([a-z]+):[^\n]*\n((?:\t.*\n|\\\n)*)", text, re.MULTILINE))


def check_make(command: Command) -> None:
    """Check that a target exists, and the options in ARGS: those of the program that it runs."""
    _, *words = shlex.split(command.text)
    for target in (word for word in words if "=" not in word):
        assert target in targets(), target
        program = re.search(r"(?:python|conformance:|exec) ?((?:bench|fuzz|soak|conformance)/\w+)", targets()[target])
        for arguments in (word.removeprefix("ARGS=") for word in words if word.startswith("ARGS=")):
            if target == "relay":
                options(shlex.split(arguments))
            elif program is not None:
                check_script(Command(command.block, f"{program[1]} {arguments}"))


def check_curl(command: Command) -> None:
    """Check that curl's options are among those of :data:`CURL`, and that it asks this machine, or an example."""
    words = shlex.split(command.text.partition(" | ")[0])
    for word in words[1:]:
        assert not word.startswith("-") or word in CURL, f"{word}: is it an option of curl? add it to CURL"
    urls = [word for word in words if "://" in word and not word.startswith("Origin: ")]
    assert urls
    for url in urls:
        assert re.match(r"https?://(127\.0\.0\.1:\d+|relay\.example)/", url), url


def check_python(command: Command) -> None:
    """Parse the code of ``python3 -c``."""
    for code in re.findall(r"python3 -c '([^']+)'", command.text):
        ast.parse(code)


def accept(command: Command) -> None:
    """Do nothing: the row says why."""


@dataclass(frozen=True)
class Rule:
    """One row.

    Attributes:
        pattern: a regular expression for the beginning of the command.
        check: raises ``AssertionError`` if it is wrong.
        why: where else it is run, or why it is only read.
    """

    pattern: str
    check: Callable[[Command], None]
    why: str


RULES = (
    Rule(r".*--validate api-keys:", accept, "needs an installed example: tests/test_packaging.py"),
    Rule(
        r".*(twistd?\b.* wsrelay|wsrelay serve)( |$)",
        check_relay,
        "those of README and quick start: test_commands_live",
    ),
    Rule(
        r"(export \w+=.*|.*\| |.*bin/|hash=.*)?\bwsrelay [a-z]",
        check_command,
        "those of the quick start: test_quickstart",
    ),
    Rule(r"make\b", check_make, "the relay: test_commands_live; the others take minutes"),
    Rule(r"(bench|conformance|soak|fuzz)/\w+", check_script, "minutes each; tests/tools/ run parts"),
    Rule(r"PYTHONHASHSEED=0 valgrind\b.*bench/", check_script, "minutes"),
    Rule(r"RELAY_KEY=\S+ python3 examples/", check_script, "tests/examples/test_clients.py"),
    Rule(r"curl\b", check_curl, "those of one relay: test_commands_live"),
    Rule(r"\w+=\$\(python3 -c|python3 -c", check_python, ""),
    Rule(
        r"(python3|\.venv/bin/python) -m (venv|pip wheel|pytest)|\S*bin/pip install", accept, "tests/test_packaging.py"
    ),
    Rule(r"\.venv/bin/ruff|git clone .*|cd \w", accept, "of developers; .ci/run does it"),
    Rule(r"(\.venv/bin/|python3 -m )?websockets ws://127", accept, "test_commands_live"),
    Rule(r"(websocat|wscat --connect) ws://127\.0\.0\.1:8080/", accept, "clients of others"),
    Rule(r"(redis-server|/usr/sbin/(nginx|haproxy)|kill -9 ) ?", accept, "tests/deploy/test_scaling.py"),
    Rule(
        r"(jq|grep|callgrind_annotate|tcpdump|ngrep|ss) ", accept, "programs of others, on files and ports of a server"
    ),
    Rule(
        r"(apt-get|install|\(umask 077|hash=|sed|echo|systemctl|nginx -t|/opt/wsrelay/bin/twistd --help)",
        accept,
        "a server's: tests/deploy/ runs its files",
    ),
    Rule(r"export PATH=", accept, "the tests have a PATH of their own"),
)


def rule_for(command: Command) -> Rule:
    """Return the rule for a command.

    Raises:
        AssertionError: there is none.
    """
    for rule in RULES:
        if re.match(rule.pattern, command.text):
            return rule
    raise AssertionError(f"{command}\nno rule for this command: add a row to RULES in tests/pages/rules.py")
