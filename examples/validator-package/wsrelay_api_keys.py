"""API keys: the ``api-keys:FILE`` validator.

A line of the file is a client's name, white space and its key; ``#`` begins a comment. The name is the client's
identity in the relay's log. SIGHUP reloads the file. To make a key::

    python3 -c 'import secrets; print(secrets.token_urlsafe(32))'
"""

from hmac import compare_digest
from pathlib import Path

from zope.interface import implementer

from wsrelay.errors import Denied
from wsrelay.grant import Grant
from wsrelay.interfaces import IHandshakeValidator
from wsrelay.request import HandshakeRequest

__all__ = ["ApiKeyValidator"]

#: Shorter keys can be guessed.
MIN_KEY_BYTES = 16


@implementer(IHandshakeValidator)
class ApiKeyValidator:
    """Accept clients with a key of a file.

    Args:
        file: the argument after ``api-keys:``.

    Raises:
        ValueError: no file is given, or its content is invalid; the message never has a key.
        OSError: the file cannot be read.

    Peer sees:
        401 without a key, or with an unknown key.
    """

    def __init__(self, file: str) -> None:
        if not file:
            raise ValueError("say which file: api-keys:FILE")
        self._keys = _read(Path(file))

    def validate(self, request: HandshakeRequest, grant: Grant) -> Grant:
        """Return the grant with the key's name as the client's identity."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise Denied(401, "an API key is needed", [("WWW-Authenticate", "Bearer")])
        name = self._name_of(key.strip().encode())
        if name is None:
            raise Denied(401, "there is no such API key", [("WWW-Authenticate", 'Bearer error="invalid_token"')])
        return grant.narrowed(identity=name)

    def _name_of(self, given: bytes) -> str | None:
        # Compares all keys in constant time, so that timing tells nothing. Bytes, because compare_digest raises for
        # non-ASCII text. For thousands of keys, look up their SHA-256.
        found = None
        for key, name in self._keys:
            if compare_digest(key, given):
                found = name
        return found


def _read(file: Path) -> list[tuple[bytes, str]]:
    keys = []
    for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 2 or len(words[1].encode()) < MIN_KEY_BYTES:
            raise ValueError(f"line {number} is not NAME KEY, with at least {MIN_KEY_BYTES} characters in the key")
        keys.append((words[1].encode(), words[0]))
    if not keys:
        raise ValueError("there is no key in the file")
    return keys
