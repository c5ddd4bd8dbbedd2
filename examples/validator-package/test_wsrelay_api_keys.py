"""Tests of the ``api-keys`` validator: ``python -m unittest``, with it and wsrelay installed."""

import unittest
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.internet.address import IPv4Address
from wsrelay_api_keys import ApiKeyValidator
from zope.interface.verify import verifyObject

from wsrelay.errors import Denied
from wsrelay.grant import Grant
from wsrelay.interfaces import IHandshakeValidator
from wsrelay.request import HandshakeRequest

GRANT = Grant(room="chat")
ALICE, BOB = "a" * 32, "ü" * 32


def request(**headers: str) -> HandshakeRequest:
    """Return a request with these header fields."""
    return HandshakeRequest(
        path="/chat",
        room="chat",
        query={},
        headers=headers,
        host="relay.example",
        origin=None,
        subprotocols=(),
        bearers=(),
        peer=IPv4Address("TCP", "192.0.2.1", 50000),
    )


class ApiKeyTests(unittest.TestCase):
    """Accepted clients, and valid files."""

    def validator(self, text: str) -> ApiKeyValidator:
        """Make a validator for a file with this text."""
        with TemporaryDirectory() as folder:
            file = Path(folder, "keys")
            file.write_text(text, "utf-8")
            return ApiKeyValidator(str(file))

    def test_interface(self) -> None:
        """The validator has the exact signatures of the interface."""
        self.assertTrue(verifyObject(IHandshakeValidator, self.validator(f"alice {ALICE}")))

    def test_identity(self) -> None:
        """A client with a key has the identity of the file; comments are skipped."""
        validator = self.validator(f"# the clients\n\nalice {ALICE}  # since May\nbob\t{BOB}\n")
        for name, key in [("alice", ALICE), ("bob", BOB)]:
            granted = validator.validate(request(authorization=f"Bearer {key}"), GRANT)
            self.assertEqual(granted, GRANT.narrowed(identity=name))

    def test_denied(self) -> None:
        """Other clients get 401, without a key in the reason."""
        validator = self.validator(f"alice {ALICE}")
        for headers in ({}, {"authorization": f"Basic {ALICE}"}, {"authorization": f"Bearer {ALICE[1:]}"}):
            with self.assertRaises(Denied) as denied:
                validator.validate(request(**headers), GRANT)
            self.assertEqual(denied.exception.status, 401)
            self.assertNotIn(ALICE[1:], denied.exception.reason)
            self.assertEqual(denied.exception.headers[0][0], "WWW-Authenticate")

    def test_wrong_file(self) -> None:
        """An invalid file is refused at start, without a key in the error."""
        for text in ("", "# nobody", ALICE, f"alice {ALICE} {BOB}", "alice short"):
            with self.subTest(text), self.assertRaises(ValueError) as error:
                self.validator(text)
            self.assertNotIn(ALICE, str(error.exception))
        for name in ("", "/no/such/file"):
            with self.assertRaises((ValueError, OSError)):
                ApiKeyValidator(name)


if __name__ == "__main__":
    unittest.main()
