"""Tests of wsrelay.commands.check_token."""

import io
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jwt
from twisted.trial.unittest import SynchronousTestCase

from tests.commands.support import Ended, command
from wsrelay.commands import check_token

SECRET = "0123456789abcdef0123456789abcdef"
NOW = 1_000_000.0


class CheckTokenTests(SynchronousTestCase):
    """``wsrelay check-token``."""

    def setUp(self) -> None:
        self.patch(sys, "argv", ["wsrelay"])
        key = Path(self.enterContext(tempfile.TemporaryDirectory()), "relay.key")
        key.write_text(SECRET)
        self.validator = f"token:key={key},algorithm=HS256,audience=relay,issuer=wsrelay,leeway=5"

    def check(self, token: str, *words: str) -> Ended:
        """Run the command."""
        return command("check-token", token, "--validate", self.validator, *words)

    def signed(self, key: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
        """Return a token; a claim of ``None`` is left out."""
        usual = {"aud": "relay", "iss": "wsrelay", "exp": time.time() + 3600.5, **claims}
        return jwt.encode({name: value for name, value in usual.items() if value is not None}, key, algorithm)

    def refused(self, token: str, *words: str) -> str:
        """Return what is said about a token that is refused."""
        ended = self.check(token, *words)
        self.assertEqual((ended.code, ended.stderr), (1, ""))
        return ended.stdout.partition("\nThe relay refuses it: ")[2]

    def test_granted(self) -> None:
        """Claims, and what they grant."""
        token = self.signed(sub="an\nna", rooms=["/chat/*", "news"], can_publish=False, history="resume")
        ended = self.check(token)
        self.assertEqual((ended.code, ended.stderr), (0, ""))
        claims, _, granted = ended.stdout.partition("\nThe relay takes it:\n")
        self.assertEqual(json.loads(claims)["claims"]["sub"], "an\nna")
        for line in (
            r"  identity   an\nna",
            "  rooms      /chat/*, news",
            "  publish    no",
            "  subscribe  yes",
            "  history    resume",
            "  expires    in 60 minutes (",
        ):
            self.assertIn(f"\n{line}", f"\n{granted}")

    def test_rooms(self) -> None:
        """All rooms, one room, the root; and a room that is asked for."""
        for claims, shown in (({}, "all"), ({"room": "a"}, "a"), ({"room": "/"}, "/"), ({"rooms": ["**"]}, "**")):
            self.assertIn(f"  rooms      {shown}\n", self.check(self.signed(**claims)).stdout)
        self.assertEqual(self.check(self.signed(rooms=["a/*"]), "--room=/a/b")[0], 0)
        said = self.refused(self.signed(rooms=["a/*"]), "--room=b")
        self.assertTrue(said.startswith("403 the token does not allow this room\n  Its room is"), said)
        self.refused(self.signed(rooms=[]))

    def test_stdin(self) -> None:
        """``-`` reads the token from standard input."""
        self.patch(sys, "stdin", io.TextIOWrapper(io.BytesIO(f" {self.signed()}\n".encode())))
        self.assertEqual(self.check("-")[0], 0)
        self.patch(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff"), "utf-8"))
        self.assertIn("It is no JWT", self.refused("-"))

    def test_environment(self) -> None:
        """Without a token, the one of the environment is meant, which other users cannot see."""
        self.patch(check_token.os, "environ", {"WSRELAY_TOKEN": self.signed()})
        self.assertEqual(command("check-token", "--validate", self.validator).code, 0)
        self.patch(check_token.os, "environ", {})
        self.assertIn("needed: TOKEN, or WSRELAY_TOKEN", command("check-token", "--validate", self.validator).stderr)

    def test_unusable_rooms(self) -> None:
        """A room that no relay has is named, also where the validator alone would take it; one right room will do."""
        for claims in ({"room": "a/"}, {"rooms": ["a/", "a//*"]}, {"rooms": ["a**b"]}):
            self.assertIn("No room can match 'a", self.check(self.signed(**claims)).stdout)
        self.assertEqual(self.check(self.signed(rooms=["a/", "a/*"])).code, 0)

    def test_wrong_types(self) -> None:
        """A claim of a wrong type is named: the key is right."""
        for claims, why in (
            ({"iss": ["wsrelay"]}, "Its iss is ['wsrelay']"),
            ({"exp": float("nan")}, "Expiration Time claim (exp) must be an integer"),
            ({"exp": "soon"}, "Expiration Time claim (exp) must be an integer"),
            ({"nbf": "x"}, "Not Before claim (nbf) must be an integer"),
            ({"iat": 10**400}, "It is valid only in"),
            ({"aud": ["relay", 3]}, "Its claims are wrong: "),
        ):
            all_claims = {"aud": "relay", "iss": "wsrelay", "exp": time.time() + 60, **claims}
            said = self.refused(jwt.api_jws.encode(json.dumps(all_claims).encode(), SECRET, "HS256"))
            self.assertIn(why, said)
            self.assertNotIn("another key", said)

    def test_refused(self) -> None:
        """Each refusal has the relay's reason, and what is wrong."""
        past, future = time.time() - 7200.5, time.time() + 7200.5
        for token, reason, why in (
            ("a.b", "401 the token is not valid", "It is no JWT: "),
            (self.signed(key="x" * 32), "401 the token is not valid", "signed with another key"),
            (self.signed(algorithm="HS512", key="x" * 64), "401 the token is not valid", "the relay takes HS256"),
            (self.signed(exp=None), "401 the token is not valid", "It has no exp, which the relay needs"),
            (self.signed(aud="b"), "401 the token is not valid", "Its aud is 'b', the relay's audience= is 'relay'"),
            (self.signed(aud=["b"]), "401 the token is not valid", "Its aud is ['b'], the relay's audience="),
            (self.signed(iss="b"), "401 the token is not valid", "Its iss is 'b', the relay's issuer= is 'wsrelay'"),
            (self.signed(exp=past), "401 the token has expired", "It expired 2 hours ago ("),
            (self.signed(nbf=future), "401 the token is not valid", "It is valid only in 2 hours ("),
            (self.signed(rooms=None, can_publish="no"), "403 the token's claims are malformed", "none of them is null"),
            (self.signed(rooms=[3]), "403 the token's claims are malformed", "rooms a list of patterns"),
        ):
            said = self.refused(token)
            self.assertTrue(said.startswith(f"{reason}\n"), said)
            self.assertIn(why, said)

    def test_far_away(self) -> None:
        """A time beyond the calendar is no error."""
        self.assertIn("(a time far away)", self.check(self.signed(exp=9e15)).stdout)

    def test_usage(self) -> None:
        """A validator is needed, and it must be right."""
        self.assertIn("needed: --config FILE", command("check-token", "a").stderr)
        for words in (["--validate=token:key=/nowhere,algorithm=HS256,audience=a,issuer=b"], ["--validate=token:x=1"]):
            self.assertEqual(command("check-token", "a", *words).code, 2)
        self.assertEqual(self.check(self.signed(), "--room=a//b").code, 2)
