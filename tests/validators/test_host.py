"""Tests of wsrelay.validators.host."""

from wsrelay.validators.host import HostValidator

from .support import GRANT, ValidatorTestCase, request

make = HostValidator.from_arguments


class HostValidatorTests(ValidatorTestCase):
    """The ``host:`` validator."""

    def test_any_port(self) -> None:
        """A host without a port is allowed with any port, and without."""
        validator = make("Relay.example,[::1]")

        self.assertValidator(validator)
        for host in ("relay.example", "relay.example:80", "RELAY.example:8443", "[::1]:8080"):
            self.assertIs(GRANT, validator.validate(request(host=host), GRANT), host)

    def test_port(self) -> None:
        """A host with a port is allowed with that port only."""
        validator = make("relay.example:8443")

        self.assertIs(GRANT, validator.validate(request(host="relay.example:8443"), GRANT))
        self.assertDenied(421, validator, request(host="relay.example:443"))
        self.assertDenied(421, validator, request(host="relay.example"))

    def test_denied(self) -> None:
        """Any other host is denied."""
        for host in (
            "evil.example",
            "evilrelay.example",
            "relay.example.evil.example",
            "x.relay.example",
            "relay.example.",
            "127.0.0.1",
            "relay.example:",
            "user@relay.example",
            "",
        ):
            self.assertDenied(421, make("relay.example"), request(host=host))

    def test_reason(self) -> None:
        """The reason names the host, cut, and what to write."""
        for host, shown in (("a.example:8443", "a.example:8443"), ("a" * 5000, "a" * 100)):
            denied = self.assertDenied(421, make("relay.example"), request(host=host))
            self.assertEqual(
                f"the host {shown} is not allowed; to allow it, add it to --validate host:...", denied.reason
            )

    def test_arguments(self) -> None:
        """Missing and invalid hosts are refused."""
        self.assertWrong(make, "", "at least one host")
        for value in ("https://relay.example", "*.relay.example", "::1", "relay.example:https", "relay.example/"):
            self.assertWrong(make, f"relay.example,{value}", f"{value!r} is not a host")
