"""Tests of wsrelay.backplane.redis_tls."""

import tempfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.live import make_certificate
from wsrelay.backplane.redis_tls import client_options
from wsrelay.backplane.url import parse

#: Deprecated pyOpenSSL functions that Twisted calls.
pytestmark = pytest.mark.filterwarnings("ignore:.*You should use.*cryptography:DeprecationWarning")


class ClientOptionsTests(SynchronousTestCase):
    """Files of the options."""

    def setUp(self) -> None:
        """Make a folder with a certificate and its key, and a file with nothing."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.pem = make_certificate(self.folder)
        self.junk = self.folder / "junk"
        self.junk.write_bytes(b"junk")

    def problem(self, query: str) -> str:
        """Return the text about wrong options."""
        return str(self.assertRaises(ValueError, client_options, parse(f"rediss://a?{query}"), "a"))

    def test_good(self) -> None:
        """No options, a root, a certificate with its key in one file, and one with others behind it."""
        chain = self.folder / "chain"
        chain.write_bytes(self.pem.read_bytes() + self.pem.read_bytes())
        for query in ("", f"ca={self.pem}", f"cert={self.pem}", f"cert={chain}&key={self.pem}"):
            client_options(parse(f"rediss://a?{query}"), "a")
            client_options(parse(f"rediss://a?{query}"), "127.0.0.1")

    def test_wrong_certificates(self) -> None:
        """Missing files, and files without a certificate, are named with their option."""
        broken = self.folder / "broken"
        broken.write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        for option in ("ca", "cert"):
            self.assertEqual(self.problem(f"{option}=/nowhere"), f"{option}=/nowhere: No such file or directory")
            for file in (self.junk, broken):
                text = f"{option}={file}: the file must have a certificate in PEM"
                self.assertEqual(self.problem(f"{option}={file}"), text)

    def test_wrong_keys(self) -> None:
        """Missing, encrypted, broken, and another certificate's keys are refused."""
        key = ec.generate_private_key(ec.SECP256R1())
        encrypted = self.folder / "encrypted"
        encrypted.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")))
        for file, text in [
            (Path("/nowhere"), "No such file or directory"),
            (encrypted, "the key is encrypted; a passphrase cannot be given"),
            (self.junk, "the file must have the key of cert= in PEM"),
        ]:
            self.assertEqual(self.problem(f"cert={self.pem}&key={file}"), f"key={file}: {text}")
