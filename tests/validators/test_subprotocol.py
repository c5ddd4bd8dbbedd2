"""Tests of wsrelay.validators.subprotocol."""

from wsrelay.grant import Grant
from wsrelay.validators.subprotocol import SubprotocolValidator, shown_offers

from .support import GRANT, ValidatorTestCase, request

make = SubprotocolValidator.from_arguments

BEARER = "base64url.bearer.authorization.YWJj"


class SubprotocolValidatorTests(ValidatorTestCase):
    """The ``subprotocol:`` validator."""

    def test_preference(self) -> None:
        """Our first name among the offers is chosen."""
        validator = make("v2,v1")

        self.assertValidator(validator)
        self.assertEqual("v2", validator.validate(request(subprotocols=("v1", "v3", "v2")), GRANT).subprotocol)
        self.assertEqual("v1", validator.validate(request(subprotocols=("v1", "v3")), GRANT).subprotocol)

    def test_nothing_offered(self) -> None:
        """A client without offers gets none."""
        self.assertIs(GRANT, make("v1").validate(request(), GRANT))

    def test_only_a_token_offered(self) -> None:
        """A token offered as a subprotocol is not an offer."""
        self.assertIs(GRANT, make("v1").validate(request(bearers=(BEARER,)), GRANT))

    def test_others_offered(self) -> None:
        """A client with other offers only is denied."""
        denied = self.assertDenied(400, make("v1"), request(subprotocols=("v2", "V1")))
        self.assertEqual("none of the offered subprotocols is supported: v2, V1", denied.reason)
        self.assertDenied(400, make("v1"), request(subprotocols=("v2",), bearers=(BEARER,)))

    def test_chosen_before(self) -> None:
        """An earlier choice is kept if it is one of ours, and replaced otherwise."""
        validator = make("v2,v1")
        offer = request(subprotocols=("v0", "v1", "v2"))

        self.assertEqual("v1", validator.validate(offer, Grant("a", subprotocol="v1")).subprotocol)
        self.assertEqual("v2", validator.validate(offer, Grant("a", subprotocol="v0")).subprotocol)
        self.assertDenied(400, validator, request(subprotocols=("v0",)), Grant("a", subprotocol="v0"))

    def test_arguments(self) -> None:
        """Names are required, must be tokens (RFC 9110), and must not carry a token."""
        self.assertWrong(make, "", "at least one subprotocol")
        for value in ("a b", "a/b", "caf\u00e9", "a;b", BEARER):
            self.assertWrong(make, f"v1,{value}", f"{value!r} is not a subprotocol")


class ShownOffersTests(ValidatorTestCase):
    """Offers in log lines and reasons."""

    def test_names(self) -> None:
        """Names are listed in the client's order."""
        self.assertEqual(
            "graphql-transport-ws, v12.stomp", shown_offers(request(subprotocols=("graphql-transport-ws", "v12.stomp")))
        )

    def test_tokens(self) -> None:
        """A token is not shown, nor is a long name, which may be one."""
        secret = "eyJhbGciOiJIUzI1NiJ9.eyJz"
        self.assertEqual("access_token, [25 characters]", shown_offers(request(subprotocols=("access_token", secret))))
        self.assertEqual(
            "chat, base64url.bearer....", shown_offers(request(subprotocols=("chat",), bearers=(BEARER, BEARER)))
        )
        self.assertEqual("base64url.bearer....", shown_offers(request(bearers=(BEARER,))))

    def test_length(self) -> None:
        """Many names are cut."""
        self.assertEqual(80, len(shown_offers(request(subprotocols=tuple(map(str, range(100)))))))
