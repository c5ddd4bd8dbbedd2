"""Key files of the ``token:`` validator: one key, or a JSON Web Key Set.

Texts of exceptions quote nothing of a file but a kid. Must not live here: checking tokens
(:mod:`wsrelay.validators.token`), making keys, fetching them over a network.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from wsrelay.text import without_mark

__all__ = ["ALGORITHMS", "Keys", "read_key", "read_key_set"]

#: Supported algorithm → the required content of a ``key=`` file.
_KEY_FORMS: Final = {
    "HS256": "a secret of at least 32 bytes that is not a PEM, certificate or JWK",
    "RS256": "a PEM public key for RSA with at least 2048 bits",
    "ES256": "a PEM public key for ECDSA on P-256",
}

#: The names of the supported algorithms, as in tokens and key sets.
ALGORITHMS: Final = tuple(_KEY_FORMS)

#: A public key, or a secret.
Key = RSAPublicKey | EllipticCurvePublicKey | bytes

#: (kid, algorithm) → the key, as PyJWT takes it; a kid of ``None`` means any or no kid.
Keys = Mapping[tuple[str | None, str], Key]

_Entry = dict[str, Any]  # Any: JSON, checked by PyJWK


class _KeySet(msgspec.Struct):
    keys: list[_Entry]


def read_key(path: Path, algorithm: str) -> Keys:
    """Read a file with one key, for one algorithm only: a public key must not pass for a secret.

    Args:
        path: a file with a secret (a byte order mark and one line end are cut off), or with a PEM public key.
        algorithm: HS256, RS256 or ES256.

    Raises:
        ValueError: the content does not fit the algorithm.
        OSError: the file cannot be read.
    """
    content = _read(path)
    try:
        key = re.sub(rb"\r?\n\Z", b"", content) if algorithm == "HS256" else load_pem_public_key(content)
        return {(None, algorithm): _checked(key, algorithm)}
    except (ValueError, TypeError, UnsupportedAlgorithm, jwt.PyJWTError):
        raise ValueError(f"{path} must hold {_KEY_FORMS[algorithm]}, to be used with {algorithm}") from None


def read_key_set(path: Path, algorithms: Sequence[str]) -> Keys:
    """Read a JSON Web Key Set (RFC 7517). Keys without a kid, private keys and keys for other uses are skipped.

    Args:
        path: the file.
        algorithms: from HS256, RS256 and ES256; a key's own is its ``alg``, or the default of its type.

    Raises:
        ValueError: not a key set, no key for any of the algorithms, or two keys with one kid and algorithm.
        OSError: the file cannot be read.
    """
    content = _read(path)
    try:
        entries = msgspec.json.decode(content, type=_KeySet).keys
    except ValueError:
        raise ValueError(f"{path} is not a JSON Web Key Set") from None
    keys: dict[tuple[str | None, str], Key] = {}
    for name, key in map(_read_entry, entries):
        if name in keys:
            raise ValueError(f"{path} has two keys with the kid {name[0]!r} for {name[1]}")
        if key is not None and name[1] in algorithms:
            keys[name] = key
    if not keys:
        raise ValueError(f"{path} has no public key or secret with a kid for {', '.join(algorithms)}")
    return keys


def _read(path: Path) -> bytes:
    try:
        return without_mark(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _read_entry(entry: _Entry) -> tuple[tuple[str, str], Key | None]:
    # RFC 7517 section 5: ignore entries of unknown types, with missing members or values out of range. They and
    # private keys get the algorithm "", which is never allowed.
    kid = entry.get("kid")
    if not isinstance(kid, str) or entry.get("use", "sig") != "sig" or "d" in entry:
        return ("", ""), None
    try:
        jwk = jwt.PyJWK(entry)
        return (kid, jwk.algorithm_name), _checked(jwk.key, jwk.algorithm_name)
    except Exception:  # noqa: BLE001 - PyJWK raises KeyError, TypeError, NotImplementedError and more
        return ("", ""), None


def _checked(key: object, algorithm: str) -> Key:
    rules = jwt.get_algorithm_by_name(algorithm)
    prepared: Key = rules.prepare_key(key)
    if problem := rules.check_key_length(prepared):
        raise ValueError(problem)
    return prepared
