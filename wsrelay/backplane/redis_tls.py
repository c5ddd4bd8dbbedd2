"""TLS to the broker: certificate and host name are always checked; the files of ``ca=``, ``cert=`` and ``key=``.

Must not live here: connecting (:mod:`wsrelay.backplane.redis_link`).
"""

import re
from pathlib import Path
from typing import Final

from OpenSSL.crypto import Error as CryptoError
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import Certificate, PrivateCertificate, optionsForClientTLS, trustRootFromCertificates

from wsrelay.backplane.url import Address

__all__ = ["client_options"]

_CERTIFICATE: Final = re.compile(b"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def client_options(address: Address, host: str) -> IOpenSSLClientConnectionCreator:
    """Return what makes TLS connections. The files are read each time, so that renewed ones are used.

    Args:
        address: names the files.
        host: the name or IP address that the broker's certificate must have.

    Raises:
        ValueError: a file cannot be read or used; the text names it.
    """
    roots = trustRootFromCertificates(_certificates("ca", address.ca)) if address.ca else None
    if not address.cert:
        return optionsForClientTLS(host, roots)
    own, *chain = _certificates("cert", address.cert)
    private = _with_key(own, address.key)
    return optionsForClientTLS(
        host, roots, private, extraCertificateOptions={"extraCertChain": [each.original for each in chain]}
    )


def _certificates(option: str, path: str) -> list[Certificate]:
    try:
        found = [Certificate.loadPEM(pem) for pem in _CERTIFICATE.findall(_read(option, path))]
    except CryptoError:
        found = []
    if not found:
        raise ValueError(f"{option}={path}: the file must have a certificate in PEM")
    return found


def _with_key(own: Certificate, path: str) -> PrivateCertificate:
    content = _read("key", path)
    # In both forms: PKCS 8 (RFC 7468 section 11) and the older one (RFC 1421 section 4.6.1.1).
    if b"ENCRYPTED" in content:
        raise ValueError(f"key={path}: the key is encrypted; a passphrase cannot be given")
    try:
        loaded: PrivateCertificate = PrivateCertificate.loadPEM(own.dumpPEM() + content)
    except (CryptoError, ValueError):
        raise ValueError(f"key={path}: the file must have the key of cert= in PEM") from None
    return loaded


def _read(option: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{option}={path}: {error.strerror}") from None
