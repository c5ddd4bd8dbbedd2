"""Tests of wsrelay.validators.keys."""

import json
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from wsrelay.validators.keys import ALGORITHMS, Keys, read_key, read_key_set

from .key_files import EC_KEY, RSA_KEY, SECRET, KeyFileTestCase, private_pem, public_jwk, public_pem, secret_jwk

SHORT_RSA_KEY = rsa.generate_private_key(65537, 1024)  # noqa: S505 - to be refused
OTHER_CURVE_KEY = ec.generate_private_key(ec.SECP384R1())


class ReadKeyTests(KeyFileTestCase):
    """Files with one key."""

    def assertNoKey(self, algorithm: str, needed: str, *contents: bytes) -> None:
        """Assert that files are refused with the required content, and not quoted."""
        for content in contents:
            error = self.assertRaises(ValueError, read_key, self.file(content), algorithm)

            self.assertEqual(f"{self.folder}/file must hold {needed}, to be used with {algorithm}", str(error))

    def test_secret(self) -> None:
        """A secret is the file's bytes, for any kid."""
        self.assertEqual({(None, "HS256"): SECRET}, read_key(self.file(SECRET), "HS256"))

    def test_secret_line_end(self) -> None:
        """One line end behind a secret is cut off, nothing else."""
        for content, key in ((SECRET + b"\n", SECRET), (SECRET + b"\r\n", SECRET), (SECRET + b"\n\n", SECRET + b"\n")):
            self.assertEqual({(None, "HS256"): key}, read_key(self.file(content), "HS256"))

    def test_byte_order_mark(self) -> None:
        """A byte order mark, which editors write, is no part of a secret or key; UTF-16 is refused."""
        mark = b"\xef\xbb\xbf"
        self.assertEqual({(None, "HS256"): b"a" * 32}, read_key(self.file(mark + b"a" * 32 + b"\r\n"), "HS256"))
        pem = public_pem(RSA_KEY)
        self.assertEqual({(None, "RS256"): RSA_KEY.public_key()}, read_key(self.file(mark + pem), "RS256"))
        keys = json.dumps({"keys": [public_jwk(RSA_KEY, "RS256", kid="a")]}).encode()
        self.assertEqual([("a", "RS256")], list(read_key_set(self.file(mark + keys), ["RS256"])))
        for content in (b"a" * 32, pem, keys):
            file = self.file(content.decode().encode("utf-16"))
            for read in (lambda file: read_key(file, "HS256"), lambda file: read_key_set(file, ["RS256"])):
                error = self.assertRaises(ValueError, read, file)
                self.assertEqual(f"{self.folder}/file: this is UTF-16; save it as UTF-8", str(error))

    def test_unusable_secret(self) -> None:
        """A secret has at least 32 bytes without its line end, and is not a key of another kind."""
        self.assertNoKey(
            "HS256",
            "a secret of at least 32 bytes that is not a PEM, certificate or JWK",
            b"",
            SECRET[1:],
            SECRET[1:] + b"\n",
            SECRET[1:] + b"\r\n",
            public_pem(RSA_KEY),
            private_pem(EC_KEY),
            json.dumps(secret_jwk(SECRET)).encode(),
        )

    def test_public_key(self) -> None:
        """A public key is read from PEM."""
        for key, algorithm in ((RSA_KEY, "RS256"), (EC_KEY, "ES256")):
            keys = read_key(self.file(public_pem(key)), algorithm)

            self.assertEqual({(None, algorithm): key.public_key()}, keys)

    def test_unusable_public_key(self) -> None:
        """A public key is PEM, public, of the right type and size."""
        ssh = RSA_KEY.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        self.assertNoKey(
            "RS256",
            "a PEM public key for RSA with at least 2048 bits",
            b"",
            SECRET,
            ssh,
            private_pem(RSA_KEY),
            public_pem(EC_KEY),
            public_pem(SHORT_RSA_KEY),
        )
        self.assertNoKey(
            "ES256",
            "a PEM public key for ECDSA on P-256",
            SECRET,
            private_pem(EC_KEY),
            public_pem(RSA_KEY),
            public_pem(OTHER_CURVE_KEY),
        )

    def test_no_file(self) -> None:
        """An unreadable file is named."""
        self.assertIn("nosuch", str(self.assertRaises(OSError, read_key, self.folder / "nosuch", "HS256")))


class ReadKeySetTests(KeyFileTestCase):
    """JSON Web Key Sets."""

    def read(self, *entries: dict[str, Any], algorithms: tuple[str, ...] = ALGORITHMS) -> Keys:
        """Write a key set and read it."""
        return read_key_set(self.file(json.dumps({"keys": entries}).encode()), algorithms)

    def test_key_set(self) -> None:
        """Each key has its kid, and its alg or the default of its type."""
        keys = self.read(
            public_jwk(RSA_KEY, "RS256", kid="r", alg="RS256", use="sig"),
            public_jwk(EC_KEY, "ES256", kid="e"),
            secret_jwk(SECRET, kid="s"),
        )

        self.assertEqual(
            {("r", "RS256"): RSA_KEY.public_key(), ("e", "ES256"): EC_KEY.public_key(), ("s", "HS256"): SECRET}, keys
        )

    def test_key_set_algorithms(self) -> None:
        """Keys for other algorithms are skipped; at least one must remain."""
        jwk = public_jwk(EC_KEY, "ES256", kid="e")

        keys = self.read(jwk, secret_jwk(SECRET, kid="s"), algorithms=("HS256",))
        self.assertEqual({("s", "HS256"): SECRET}, keys)
        error = self.assertRaises(ValueError, self.read, jwk, algorithms=("HS256", "RS256"))
        self.assertEqual(f"{self.folder}/file has no public key or secret with a kid for HS256, RS256", str(error))

    def test_unusable_keys_skipped(self) -> None:
        """Unusable entries are skipped."""
        unusable: tuple[dict[str, Any], ...] = (
            public_jwk(RSA_KEY, "RS256"),
            public_jwk(RSA_KEY, "RS256", kid=1),
            public_jwk(RSA_KEY, "RS256", kid="enc", use="enc"),
            public_jwk(RSA_KEY, "RS256", kid="hs", alg="HS256"),
            public_jwk(SHORT_RSA_KEY, "RS256", kid="short"),
            public_jwk(OTHER_CURVE_KEY, "ES384", kid="curve", alg="ES256"),
            {**jwt.get_algorithm_by_name("RS256").to_jwk(RSA_KEY, as_dict=True), "kid": "private"},
            secret_jwk(SECRET[1:], kid="short secret"),
            secret_jwk(SECRET, kid="wrong", alg="RS256"),
            {"kty": "oct", "kid": "no k"},
            secret_jwk(SECRET, kid="none", alg="none"),
            secret_jwk(SECRET, kid="list", alg=["HS256"]),
            {"kty": "?", "kid": "kind"},
            {"kid": "empty"},
            {},
        )

        self.assertEqual({("s", "HS256"): SECRET}, self.read(*unusable, secret_jwk(SECRET, kid="s")))
        for entry in unusable:
            self.assertRaises(ValueError, self.read, entry)

    def test_repeated_kid(self) -> None:
        """Two keys with one kid are refused for one algorithm, and kept apart for two."""
        first, second = public_jwk(RSA_KEY, "RS256", kid="a"), public_jwk(EC_KEY, "ES256", kid="a")

        self.assertEqual({("a", "RS256"), ("a", "ES256")}, set(self.read(first, second)))
        error = self.assertRaises(ValueError, self.read, first, first)
        self.assertIn("two keys with the kid 'a' for RS256", str(error))

    def test_not_a_key_set(self) -> None:
        """A file that is not a key set is refused, and not quoted."""
        for content in (b"", b"secret", b"[]", b"{}", b'{"keys": {}}', b'{"keys": ["secret"]}', b"\xff"):
            error = self.assertRaises(ValueError, read_key_set, self.file(content), ALGORITHMS)
            self.assertEqual(f"{self.folder}/file is not a JSON Web Key Set", str(error))
        self.assertRaises(ValueError, self.read)

    def test_no_file(self) -> None:
        """An unreadable file is named."""
        self.assertIn("nosuch", str(self.assertRaises(OSError, read_key_set, self.folder / "nosuch", ALGORITHMS)))
