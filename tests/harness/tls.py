"""A TLS 1.3 client that seals its own records, also those that no TLS library sends: key updates, empty and tiny ones.

OpenSSL makes the handshake and reads the relay's answers; what the client sends after that is sealed here, with the
secret that OpenSSL gives to a key log (RFC 8446 sections 5.2, 7.1, 7.2 and 7.3).
"""

from collections.abc import Callable
from contextlib import suppress
from inspect import getclosurevars
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from OpenSSL import SSL
from twisted.protocols.tls import TLSMemoryBIOFactory

#: Content types. Source: RFC 8446 appendix B.1.
CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA = 20, 21, 22, 23

#: A change_cipher_spec record, which middleboxes want to see in a handshake.
DUMMY: Final = b"\x14\x03\x03\x00\x01\x01"


def certificates(reactor: Any) -> list[Any]:
    """Return Twisted's creators of TLS connections, of all TLS endpoints that listen with a reactor in memory."""
    factories = [server[1] for server in reactor.tcpServers if isinstance(server[1], TLSMemoryBIOFactory)]
    closures = [getclosurevars(each._creatorCallable).nonlocals for each in factories]
    return [closure["baseCallable"].__self__.creator for closure in closures]


class TlsClient:
    """A client.

    Args:
        exchange: gives bytes to the relay and returns its answer, which may be empty.
        version: the version of TLS; records can be sealed in 1.3 only.

    Attributes:
        session: the session of OpenSSL, for what it can send itself.
    """

    def __init__(self, exchange: Callable[[bytes], bytes], version: int = SSL.TLS1_3_VERSION) -> None:
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)
        context.set_keylog_callback(self._take_secret)
        self.session: Any = SSL.Connection(context, None)
        self.session.set_connect_state()
        self._exchange = exchange
        self._is_done = False
        self._secret = b""
        self._key: Any = None

    def flight(self) -> bytes:
        """Go on with the handshake, and return what it sends next."""
        with suppress(SSL.WantReadError):
            self.session.do_handshake()
            self._is_done = True
        return self.pending()

    def shake_hands(self) -> None:
        """Make the handshake; its last turn may have nothing to send."""
        while not self._is_done:
            self.give(self.flight())

    def pending(self) -> bytes:
        """Return what OpenSSL has to send."""
        with suppress(SSL.WantReadError):
            return bytes(self.session.bio_read(2**20))
        return b""

    def give(self, data: bytes) -> None:
        """Send bytes, and let OpenSSL have the answer."""
        answer = self._exchange(data)
        if answer:
            self.session.bio_write(answer)

    def ask(self, data: bytes) -> bytes:
        """Send sealed records, and return the decrypted answer."""
        self.give(data)
        answer = b""
        with suppress(SSL.WantReadError):
            while True:
                answer += self.session.recv(2**20)
        return answer

    def seal(self, content: bytes, kind: int = APPLICATION_DATA, padding: int = 0) -> bytes:
        """Return a record."""
        if self._key is None:
            self._rekey()
        inner = content + bytes([kind]) + bytes(padding)
        header = b"\x17\x03\x03" + (len(inner) + 16).to_bytes(2)
        nonce = (int.from_bytes(self._iv) ^ self._number).to_bytes(12)
        self._number += 1
        return header + bytes(self._key.encrypt(nonce, inner, header))

    def key_update(self, *, wanted: bool = False) -> bytes:
        """Return a record with a KeyUpdate, and use the new key behind it.

        Args:
            wanted: whether the relay must update its key, too.
        """
        record = self.seal(b"\x18\x00\x00\x01" + bytes([wanted]), HANDSHAKE)
        self._secret = self._expand(b"traffic upd", 48)
        self._rekey()
        return record

    def _rekey(self) -> None:
        self._key, self._iv, self._number = AESGCM(self._expand(b"key", 32)), self._expand(b"iv", 12), 0

    def _expand(self, label: bytes, size: int) -> bytes:
        label = b"tls13 " + label
        info = size.to_bytes(2) + bytes([len(label)]) + label + b"\0"
        return HKDFExpand(SHA384(), size, info).derive(self._secret)

    def _take_secret(self, session: object, line: bytes) -> None:
        name, _, secret = line.split()
        if name == b"CLIENT_TRAFFIC_SECRET_0":
            self._secret = bytes.fromhex(secret.decode())
