"""Each command on the pages: its options exist, and are right together; see :mod:`tests.pages.rules`."""

import os
import sys
import tempfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.live import make_certificate
from tests.pages.page import PAGES, Block, Command, blocks, commands
from tests.pages.rules import RULES, rule_for
from wsrelay.tap import Options

#: Deprecated pyOpenSSL functions that Twisted calls.
pytestmark = pytest.mark.filterwarnings("ignore:.*You should use.*cryptography:DeprecationWarning")

#: Folders and files that the commands on the pages name, but for keys and certificates.
FILES = {
    "relay.toml": "max-rooms = 5\n",
    "etc/wsrelay/relay.toml": "max-rooms = 5\n",
    "relay.key": "a secret of at least thirty-two bytes\n",
    "var/log/wsrelay/.keep": "",
    "mysite/__init__.py": "",
    "mysite/gate.py": "def check(request, grant):\n    return grant\n",
}

#: Files with a certificate and its key.
CERTIFICATES = (
    "key.pem",
    "cert.pem",
    "fullchain.pem",
    "relay/key.pem",
    "relay/cert.pem",
    "etc/wsrelay/certificates/a.pem",
)


def make_files(folder: Path) -> None:
    """Make all files that commands on the pages name."""
    pem = make_certificate(folder).read_bytes()
    public = rsa.generate_private_key(65537, 2048).public_key()
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    contents = {name: text.encode() for name, text in FILES.items()} | dict.fromkeys(CERTIFICATES, pem)
    for name, content in (contents | {"jwt.pem": public.public_bytes(*form)}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "relay" / "relay.toml").write_text(
        "validate = ['token:key={here}/../relay.key,algorithm=HS256,audience=relay,issuer=wsrelay']\n"
    )


def all_commands() -> list[Command]:
    """Return all commands of all pages."""
    return [command for page in PAGES for block in blocks(page, "sh") for command in commands(block)]


def problem_of(command: Command) -> str:
    """Return what is wrong with a command; empty: nothing."""
    try:
        rule_for(command).check(command)
    except AssertionError as error:
        return f"{command}\n{error}"
    return ""


class CommandTests(SynchronousTestCase):
    """The commands, in a folder with the files that they name."""

    def setUp(self) -> None:
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        make_files(folder)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(folder)
        self.patch(Options, "environ", {})
        self.patch(sys, "argv", ["wsrelay"])
        self.patch(sys, "path", [str(folder), *sys.path])
        self.addCleanup(lambda: [sys.modules.pop(name, None) for name in ("mysite", "mysite.gate")])

    def test_commands(self) -> None:
        """Each command has a rule, and is right by it."""
        found = all_commands()
        self.assertEqual([], [problem for problem in map(problem_of, found) if problem])
        self.assertGreater(len(found), 120)

    def test_rules(self) -> None:
        """Each rule has a command."""
        used = {rule_for(command) for command in all_commands()}
        self.assertEqual([rule.pattern for rule in RULES if rule not in used], [])

    def test_wrong_commands(self) -> None:
        """A command without a rule, or with an option that its program does not have, is found."""
        for text, problem in (
            ("frobnicate --all", "no rule for this command"),
            ("twistd -n --pidfile= wsrelay --max-roms 5", "no such option"),
            ("wsrelay serve --listen ssl:1:privateKey=nothing.pem", "there is no file"),
            ("soak/crowd --clowns 3", "soak/crowd has no --clowns"),
            ("soak/crowd -- --clowns 3", "no such option"),
            ("make relay ARGS='--clowns 3'", "no such option"),
            ("make coffee", "coffee"),
            ("curl --clowns http://127.0.0.1:8080/", "is it an option of curl?"),
            ("curl http://elsewhere.test/", "elsewhere"),
        ):
            self.assertIn(problem, problem_of(Command(Block(PAGES[0], 1, "sh", text), text)))
