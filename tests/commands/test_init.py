"""Tests of wsrelay.commands.init."""

import os
import sys
import tempfile
import tomllib
from pathlib import Path

from cryptography import x509
from twisted.trial.unittest import SynchronousTestCase

from tests.commands.support import command
from wsrelay import tap


class InitTests(SynchronousTestCase):
    """``wsrelay init``."""

    def setUp(self) -> None:
        self.patch(sys, "argv", ["wsrelay"])
        self.patch(tap.Options, "command", None)
        self.patch(tap.Options, "environ", {})
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()), "a b,c:d=e")

    def test_files(self) -> None:
        """All files are there; secrets are for their owner only, also to replace, and nothing is in git."""
        self.addCleanup(os.umask, os.umask(0))
        self.assertEqual(command("init", str(self.folder)).code, 0)
        modes = {path.name: path.stat().st_mode & 0o777 for path in self.folder.iterdir()}
        self.assertEqual(
            modes, {".gitignore": 0o644, "cert.pem": 0o644, "key.pem": 0o600, "relay.key": 0o600, "relay.toml": 0o644}
        )
        self.assertEqual(self.folder.stat().st_mode & 0o777, 0o700)
        self.assertEqual((self.folder / ".gitignore").read_text(), "*\n")
        self.assertGreaterEqual(len((self.folder / "relay.key").read_text()), 64)

    def test_config(self) -> None:
        """The config file is right as written, from any folder, also after the folder was moved."""
        command("init", str(self.folder))
        moved = self.folder.rename(self.folder.with_name("\\moved"))
        ended = command("check-config", str(moved / "relay.toml"))
        self.assertEqual((ended.code, ended.stderr), (0, ""))
        self.assertIn(str(moved).replace("\\", "\\\\"), tomllib.loads(ended.stdout)["validate"][1])

    def test_tls(self) -> None:
        """The line for TLS in the config file is right, too."""
        command("init", str(self.folder))
        config = self.folder / "relay.toml"
        text = config.read_text()
        line = next(line for line in text.splitlines() if line.startswith("# listen = "))
        config.write_text(text.replace('\nlisten = ["127.0.0.1:8080"]', f"\n{line[2:]}"))
        ended = command("check-config", str(config))
        self.assertEqual((ended.code, ended.stderr), (0, ""))
        self.assertIn("ssl:8443", ended.stdout)
        self.flushWarnings()  # Twisted's use of pyOpenSSL

    def test_hosts(self) -> None:
        """More names for the certificate; a wrong one is wrong usage."""
        command("init", str(self.folder), "--host", "relay.example", "--host", "10.0.0.1")
        made = x509.load_pem_x509_certificate((self.folder / "cert.pem").read_bytes())
        names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual(names.get_values_for_type(x509.DNSName), ["localhost", "relay.example"])
        self.assertEqual(command("init", str(self.folder), "--host", "ü..b").code, 2)

    def test_never_overwrites(self) -> None:
        """A folder with anything in it is left as it is."""
        self.folder.mkdir()
        (self.folder / "mine").write_text("")
        ended = command("init", str(self.folder))
        self.assertEqual((ended.code, ended.stdout), (1, ""))
        self.assertEqual(ended.stderr, f"wsrelay init: {self.folder}: the folder is not empty; nothing was changed\n")
        self.assertEqual([path.name for path in self.folder.iterdir()], ["mine"])

    def test_no_folder(self) -> None:
        """A folder that cannot be made is named; its parents may have been."""
        self.assertEqual(command("init", "/dev/null/relay").code, 1)
        name = "a" * 300
        ended = command("init", str(self.folder / name))
        self.assertEqual((ended.code, ended.stderr), (1, f"wsrelay init: {self.folder / name}: File name too long\n"))

    def test_next_steps(self) -> None:
        """What to do next can be copied, and the default folder is relay."""
        self.addCleanup(os.chdir, os.getcwd())
        self.folder.mkdir()
        os.chdir(self.folder)
        said = command("init").stdout
        for line in (
            "wsrelay serve --config relay/relay.toml",
            "wsrelay tail chat --last 10",
            "wsrelay say chat hello",
        ):
            self.assertIn(f"    {line}\n", said)
        self.assertIn("export WSRELAY_TOKEN=$(wsrelay token --config relay/relay.toml --subject anna)\n", said)
