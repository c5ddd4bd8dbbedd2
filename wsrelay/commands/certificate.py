"""A self-signed certificate and its key, for trying ``wss://``.

Must not live here: files (:mod:`wsrelay.commands.init`).
"""

import datetime
import ipaddress
from collections.abc import Sequence
from typing import Final, NamedTuple

import idna
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

__all__ = ["LOCAL", "Certificate", "self_signed"]

#: The names of this machine for itself.
LOCAL: Final = ("localhost", "127.0.0.1", "::1")

#: Days that it is valid.
DAYS: Final = 365


class Certificate(NamedTuple):
    """A certificate with its key, both as PEM."""

    key: bytes
    certificate: bytes


def self_signed(names: Sequence[str], now: datetime.datetime) -> Certificate:
    """Return a new certificate. It is valid from yesterday, because clocks differ, to a year from now.

    Args:
        names: host names and IP addresses.
        now: the time.

    Raises:
        ValueError: neither an IP address nor a host name.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "wsrelay")])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=DAYS))
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Certificate(private, builder.sign(key, hashes.SHA256()).public_bytes(pem))


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name.replace("%", "?")))  # no zone: it is of one machine only
    except ValueError:
        return x509.DNSName(_host_name(name))


def _host_name(name: str) -> str:
    """Return a host name in ASCII; its first label may be ``*``, and others may have ``_``, as those of containers."""
    beyond = name.removeprefix("*.")
    try:
        encoded = idna.encode(beyond.replace("_", "x")).decode()
    except idna.IDNAError:
        raise ValueError(f"{name!r} is neither a host name nor an IP address") from None
    return name if name.isascii() else name.removesuffix(beyond) + encoded
