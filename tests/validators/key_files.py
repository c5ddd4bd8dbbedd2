"""Shared by the tests of tokens and keys: keys of each kind, their files, and the folder of the files."""

import base64
import tempfile
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from .support import ValidatorTestCase

SECRET = b"0123456789abcdef0123456789abcdef"
RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def b64(data: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def public_pem(key: Any) -> bytes:
    """Return the public half of a key as PEM."""
    pem: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return pem


def private_pem(key: Any) -> bytes:
    """Return a private key as PEM."""
    pem: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem


def public_jwk(key: Any, algorithm: str, **members: Any) -> dict[str, Any]:
    """Return the public half of a key as a JWK."""
    jwk = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
    return {**jwk, **members}


def secret_jwk(secret: bytes, **members: Any) -> dict[str, Any]:
    """Return a secret as a JWK."""
    return {"kty": "oct", "k": b64(secret), **members}


class KeyFileTestCase(ValidatorTestCase):
    """A test case with key files."""

    def setUp(self) -> None:
        """Make a folder for the files."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def file(self, content: bytes) -> Path:
        """Write a file and return its path."""
        path = self.folder / "file"
        path.write_bytes(content)
        return path
