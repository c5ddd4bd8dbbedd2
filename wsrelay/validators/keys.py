"""The keys that may have signed a token, as the operator's files hold them: one key, or a JSON Web Key Set.

What a token must say beside being signed is :mod:`wsrelay.validators.token`'s. Keys are not made here and not
fetched from a network, and nothing of a file but a kid is quoted, neither in an exception's text nor in a log.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key

__all__ = ["ALGORITHMS", "Keys", "read_key", "read_key_set"]

#: The algorithms that may be allowed, and what a file with one key must hold for each.
_KEY_FORMS: Final = {
    "HS256": "a secret of at least 32 bytes that is no PEM, certificate or JWK",
    "RS256": "a PEM public key for RSA with at least 2048 bits",
    "ES256": "a PEM public key for ECDSA on P-256",
}

#: Their names, as a token and a key set write them.
ALGORITHMS: Final = tuple(_KEY_FORMS)

#: (kid, algorithm) → the key, as PyJWT takes it; the kid is ``None`` where a key is for any kid and none.
Keys = Mapping[tuple[str | None, str], Any]


class _KeySet(msgspec.Struct):
    keys: list[dict[str, Any]]


def read_key(path: Path, algorithm: str) -> Keys:
    """Read a file that holds one key, which is for one algorithm: a public key must not pass for a secret.

    Args:
        path: a secret, without the line end behind it, or a PEM public key.
        algorithm: HS256, RS256 or ES256.

    Raises:
        ValueError: it does not hold what the algorithm needs.
        OSError: it cannot be read.
    """
    content = path.read_bytes()
    try:
        key = re.sub(rb"\r?\n\Z", b"", content) if algorithm == "HS256" else load_pem_public_key(content)
        return {(None, algorithm): _checked(key, algorithm)}
    except (ValueError, TypeError, UnsupportedAlgorithm, jwt.PyJWTError):
        raise ValueError(f"{path} must hold {_KEY_FORMS[algorithm]}, to be used with {algorithm}") from None


def read_key_set(path: Path, algorithms: Sequence[str]) -> Keys:
    """Read a JSON Web Key Set (RFC 7517). Keys without a kid, private keys and keys for anything else are left out.

    Args:
        path: the file.
        algorithms: from HS256, RS256 and ES256; a key's own is its ``alg``, or what its type is made for.

    Raises:
        ValueError: it is no set, has no key for any of the algorithms, or two for one of them with one kid.
        OSError: it cannot be read.
    """
    try:
        entries = msgspec.json.decode(path.read_bytes(), type=_KeySet).keys
    except ValueError:
        raise ValueError(f"{path} is no JSON Web Key Set") from None
    keys: dict[tuple[str | None, str], Any] = {}
    for name, key in map(_read_entry, entries):
        if name in keys:
            raise ValueError(f"{path} has two keys with the kid {name[0]!r} for {name[1]}")
        if name[1] in algorithms:
            keys[name] = key
    if not keys:
        raise ValueError(f"{path} has no public key or secret with a kid for {', '.join(algorithms)}")
    return keys


def _read_entry(entry: dict[str, Any]) -> tuple[tuple[str, str], Any]:
    # RFC 7517 section 5: entries of unknown types, with missing members or values out of range are to be ignored.
    # They come out as for the algorithm "", which nobody allows; so do private keys, which have no business here.
    kid = entry.get("kid")
    if not isinstance(kid, str) or entry.get("use", "sig") != "sig" or "d" in entry:
        return ("", ""), None
    try:
        jwk = jwt.PyJWK(entry)
        return (kid, jwk.algorithm_name), _checked(jwk.key, jwk.algorithm_name)
    except Exception:  # noqa: BLE001 - PyJWK lets KeyError, TypeError, NotImplementedError and more through
        return ("", ""), None


def _checked(key: Any, algorithm: str) -> Any:
    rules = jwt.get_algorithm_by_name(algorithm)
    prepared = rules.prepare_key(key)
    if problem := rules.check_key_length(prepared):
        raise ValueError(problem)
    return prepared
