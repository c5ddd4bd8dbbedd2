"""Tests of wsrelay.commands.certificate."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from twisted.trial.unittest import SynchronousTestCase

from wsrelay.commands.certificate import LOCAL, self_signed

NOW = datetime(2026, 5, 1, tzinfo=UTC)


class SelfSignedTests(SynchronousTestCase):
    """The certificate."""

    def test_names(self) -> None:
        """It has all names: hosts, international ones, and addresses."""
        made = x509.load_pem_x509_certificate(self_signed([*LOCAL, "grüße.example", "10.0.0.1"], NOW).certificate)
        names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual(names.get_values_for_type(x509.DNSName), ["localhost", "xn--gre-6ka8l.example"])
        addresses = [ip_address(text) for text in ("127.0.0.1", "::1", "10.0.0.1")]
        self.assertEqual(names.get_values_for_type(x509.IPAddress), addresses)

    def test_wrong_name(self) -> None:
        """A text that is no name is refused, with the text."""
        for name in ("ü..b", "a..b", "127.0.0.1:80", "a b", "a\nb", "fe80::1%eth0", "10.0.0.0/8", "a" * 300, "", "-a"):
            error = self.assertRaises(ValueError, self_signed, [name], NOW)
            self.assertEqual(str(error), f"{name!r} is neither a host name nor an IP address")

    def test_unusual_name(self) -> None:
        """All labels below a name, and the names of containers, are names."""
        names = ["*.relay.example", "*.grüße.example", "my_relay", "Relay.Example"]
        made = x509.load_pem_x509_certificate(self_signed(names, NOW).certificate)
        found = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual(
            found.get_values_for_type(x509.DNSName),
            ["*.relay.example", "*.xn--gre-6ka8l.example", "my_relay", "Relay.Example"],
        )

    def test_valid(self) -> None:
        """It is signed by its own key, and valid for a year."""
        made = self_signed(LOCAL, NOW)
        certificate = x509.load_pem_x509_certificate(made.certificate)
        key = load_pem_private_key(made.key, None)
        self.assertEqual(certificate.public_key(), key.public_key())
        certificate.verify_directly_issued_by(certificate)
        self.assertEqual(certificate.not_valid_after_utc - NOW, timedelta(days=365))
        self.assertLess(certificate.not_valid_before_utc, NOW)
