"""Tests of wsrelay.commands.token."""

import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import jwt
from twisted.trial.unittest import SynchronousTestCase

from tests.commands.support import command
from wsrelay.commands import rule
from wsrelay.commands.certificate import LOCAL, self_signed

SECRET = "0123456789abcdef0123456789abcdef"


class TokenTests(SynchronousTestCase):
    """``wsrelay token``."""

    def setUp(self) -> None:
        self.patch(sys, "argv", ["wsrelay"])
        self.patch(rule.os, "environ", {})
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.key, self.config, self.pem = folder / "relay.key", folder / "relay.toml", folder / "key.pem"
        self.key.write_text(SECRET + "\n")
        self.key.chmod(0o600)
        validator = "token:key={here}/relay.key,algorithm=HS256,audience=relay,issuer=wsrelay"
        self.config.write_text(f'validate = ["{validator}"]')

    def signed(self, *words: str) -> dict[str, object]:
        """Return the claims of a token, without its times."""
        ended = command("token", *words)
        self.assertEqual((ended.code, ended.stderr), (0, ""))
        return jwt.decode(ended.stdout.strip(), SECRET, algorithms=["HS256"], audience="relay", issuer="wsrelay")

    def refused(self, *words: str) -> str:
        """Return what is said about wrong usage."""
        ended = command("token", *words)
        self.assertEqual((ended.code, ended.stdout), (2, ""))
        return ended.stderr

    def test_config(self) -> None:
        """Key, algorithm, audience and issuer are those of the config file; it expires after an hour."""
        before = int(time.time())
        claims = self.signed("--config", str(self.config))
        self.assertIn(claims["iat"], range(before, before + 60))
        self.assertEqual(claims, {"aud": "relay", "iss": "wsrelay", "iat": claims["iat"], "exp": claims["iat"] + 3600})

    def test_claims(self) -> None:
        """Each option has its claim."""
        claims = self.signed(
            "--key", str(self.key), "--audience=relay", "--issuer=wsrelay", "--subject=anna", "--room=chat/*",
            "--room=news", "--seconds=60", "--history=resume", "--no-publish", "--no-subscribe",
        )  # fmt: skip
        self.assertEqual(claims["exp"] - claims["iat"], 60)  # type: ignore[operator]
        self.assertEqual((claims["sub"], claims["rooms"], claims["history"]), ("anna", ["chat/*", "news"], "resume"))
        self.assertEqual((claims["can_publish"], claims["can_subscribe"]), (False, False))

    def test_key_set(self) -> None:
        """A private key, and its name in a key set."""
        made = self_signed(LOCAL, datetime.now(UTC))
        self.pem.write_bytes(made.key)
        words = ["--algorithm=ES256", "--audience=a", "--issuer=b", "--kid=k1"]
        ended = command("token", "--key", str(self.pem), *words)
        self.assertEqual(jwt.get_unverified_header(ended.stdout.strip())["kid"], "k1")
        self.pem.write_bytes(made.certificate)
        self.assertIn("is no private key; the relay has the public one", self.refused("--key", str(self.pem), *words))

    def test_missing(self) -> None:
        """What is missing is named, with where it can come from."""
        self.assertIn("needed: --key, --audience, --issuer; or --config FILE", self.refused())

    def test_wrong(self) -> None:
        """A wrong value is wrong usage, and says what is wrong."""
        config = ["--config", str(self.config)]
        self.assertIn("is no whole number of seconds", self.refused(*config, "--seconds=0"))
        self.assertIn("is no whole number of seconds", self.refused(*config, "--seconds=1h"))
        self.assertIn("is not a room pattern", self.refused(*config, "--room=a**b"))
        self.assertIn("no room matches 'chat/'", self.refused(*config, "--room=chat/"))
        self.assertIn("the identity is longer than", self.refused(*config, "--subject", "x" * 300))
        self.assertIn("/nowhere: No such file", self.refused(*config, "--key=/nowhere"))
        self.key.write_text("short")
        self.assertIn("at least 32 bytes", self.refused(*config))
        self.pem.write_text("PRIVATE KEY")
        self.refused(*config, "--algorithm=ES256", "--key", str(self.pem))

    def test_readable_key(self) -> None:
        """A key that others can read gets a warning, on stderr."""
        self.key.chmod(0o640)
        ended = command("token", "--config", str(self.config))
        self.assertEqual(ended.code, 0)
        self.assertEqual(ended.stderr, f"warning: others can read {self.key}; run: chmod 600 {self.key}\n")
