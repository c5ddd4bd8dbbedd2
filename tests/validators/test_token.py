"""Tests of wsrelay.validators.token."""

import hashlib
import hmac
import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from tests.harness.support import request_bytes
from wsrelay.errors import Denied
from wsrelay.grant import HISTORY_RIGHTS, Grant
from wsrelay.http.head import parse_head
from wsrelay.request import HandshakeRequest
from wsrelay.validators.token import TokenValidator

from .key_files import EC_KEY, RSA_KEY, SECRET, KeyFileTestCase, b64, private_pem, public_jwk, public_pem, secret_jwk
from .support import GRANT, request

make = TokenValidator.from_arguments

PAST, FUTURE = 1_000_000_000, 4_102_444_800  # the years 2001 and 2100
CLAIMS: dict[str, Any] = {"exp": FUTURE, "aud": "relay", "iss": "https://id.example"}
RIGHT = "audience=relay,issuer=https://id.example"

INVALID = 'Bearer error="invalid_token"'


def forged(header: Any, payload: Any, signature: bytes) -> str:
    """Return a token of three arbitrary parts."""
    return ".".join([b64(json.dumps(header).encode()), b64(json.dumps(payload).encode()), b64(signature)])


def hs256(header: Any, payload: Any, secret: bytes) -> str:
    """Sign with any secret, also one that PyJWT refuses."""
    signed = forged(header, payload, b"").removesuffix(".")
    return f"{signed}.{b64(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


def token(**claims: Any) -> str:
    """Return a valid token of the secret, with other claims, or without those given as ``...``."""
    return jwt.encode({name: value for name, value in {**CLAIMS, **claims}.items() if value is not ...}, SECRET)


def bearing(text: str, **overrides: Any) -> HandshakeRequest:
    """Make a request with a token in the Authorization field."""
    return request(headers={"authorization": f"Bearer {text}"}, **overrides)


class TokenTestCase(KeyFileTestCase):
    """A test case with validators of key files."""

    def secret(self, more: str = "") -> TokenValidator:
        """Make a validator for tokens of the secret."""
        return make(f"key={self.file(SECRET)},algorithm=HS256,{RIGHT}{more}")

    def jwks(self, *keys: Any, algorithms: str = "RS256") -> TokenValidator:
        """Make a validator for tokens of a key set."""
        allowed = ",".join(f"algorithm={name}" for name in algorithms.split())
        return make(f"jwks={self.file(json.dumps({'keys': keys}).encode())},{allowed},{RIGHT}")

    def assertInvalid(self, validator: TokenValidator, text: str) -> None:
        """Assert that a token is refused with the common text."""
        denied = self.assertDenied(401, validator, bearing(text))

        self.assertEqual("the token is not valid", denied.reason)
        self.assertEqual((("WWW-Authenticate", INVALID),), denied.headers)


class ClaimTests(TokenTestCase):
    """Claims."""

    def test_required_claims_only(self) -> None:
        """A token without optional claims only limits the time."""
        validator = self.secret()

        self.assertValidator(validator)
        self.assertEqual(Grant("chat/42", expires_at=FUTURE), validator.validate(bearing(token()), GRANT))

    def test_claims(self) -> None:
        """Identity and rights come from the claims."""
        good = token(sub="ann", rooms=["news", "chat/*"], can_publish=False, can_subscribe=False, exp=FUTURE + 0.5)

        self.assertEqual(
            Grant("chat/42", "ann", can_publish=False, can_subscribe=False, expires_at=FUTURE + 0.5),
            self.secret().validate(bearing(good), GRANT),
        )

    def test_history(self) -> None:
        """The claim history lessens the right to old messages."""
        for history in HISTORY_RIGHTS:
            granted = self.secret().validate(bearing(token(history=history)), Grant("chat/42", history="resume"))
            self.assertEqual(granted.history, "none" if history == "none" else "resume")

    def test_narrows_only(self) -> None:
        """Rights removed by an earlier validator stay removed."""
        earlier = Grant("chat/42", "bob", can_publish=False, expires_at=FUTURE - 1)

        self.assertEqual(earlier, self.secret().validate(bearing(token(can_publish=True)), earlier))

    def test_rooms(self) -> None:
        """A room that matches no pattern is denied; an empty list denies every room."""
        for rooms in (["chat/*/x", "news"], []):
            denied = self.assertDenied(403, self.secret(), bearing(token(rooms=rooms)))

            self.assertEqual("the token does not allow this room", denied.reason)

    def test_room(self) -> None:
        """A room is allowed by its exact name, with * as no wildcard; rooms allow more, an empty list no more."""
        for claims in ({"room": "chat/42"}, {"room": "x", "rooms": ["chat/*"]}, {"room": "chat/42", "rooms": []}):
            self.assertEqual(self.secret().validate(bearing(token(**claims)), GRANT).room, "chat/42")
        for room in ("chat/*", "**", "chat/4", "chat/42/x", "Chat/42", "/chat/42", "chat%2F42", "", "/", "//canary"):
            for claims in ({"room": room}, {"room": room, "rooms": ["news"]}):
                denied = self.assertDenied(403, self.secret(), bearing(token(**claims)))
                self.assertEqual("the token does not allow this room", denied.reason)

    def test_granted_room(self) -> None:
        """The granted room counts, not the path's."""
        self.assertDenied(403, self.secret(), bearing(token(rooms=["chat/*"])), Grant("admin"))

    def test_malformed_claims(self) -> None:
        """A claim of a wrong type denies; it does not count as missing."""
        for claims in (
            {"sub": 1},
            {"sub": None},
            {"sub": "\ud800"},
            {"sub": "x" * 256},
            {"rooms": "chat/42"},
            {"room": None},
            {"room": ["chat/42"]},
            {"room": "chat/42", "rooms": None},
            {"rooms": None},
            {"rooms": [1]},
            {"rooms": [""]},
            {"rooms": ["**/42"]},
            {"rooms": ["chat/*", "a*b*"]},
            {"can_publish": "false"},
            {"can_publish": None},
            {"can_subscribe": 1},
            {"history": None},
            {"history": "some"},
            {"history": ["all"]},
            {"history": True},
            {"exp": str(FUTURE)},
            {"exp": 10**400},
        ):
            good = jwt.encode({**CLAIMS, **claims}, SECRET)
            denied = self.assertDenied(403, self.secret(), bearing(good))

            self.assertEqual("the token's claims are malformed", denied.reason)

    def test_expired(self) -> None:
        """An expired token is refused with a text of its own."""
        denied = self.assertDenied(401, self.secret(), bearing(token(exp=PAST)))

        self.assertEqual("the token has expired", denied.reason)
        self.assertEqual((("WWW-Authenticate", INVALID),), denied.headers)

    def test_leeway_seconds(self) -> None:
        """Token and connection are valid for the leeway longer."""
        exp = int(time.time()) - 60

        grant = self.secret(",leeway=300").validate(bearing(token(exp=exp)), GRANT)
        self.assertEqual(exp + 300, grant.expires_at)
        self.assertDenied(401, self.secret(), bearing(token(exp=exp)))

    def test_invalid_claims(self) -> None:
        """Missing or wrong exp, aud and iss, and a future nbf or iat, are refused."""
        for claims in (
            {"exp": ...},
            {"exp": "soon"},
            {"aud": ...},
            {"aud": "other"},
            {"aud": ["other"]},
            {"aud": {"relay": 1}},
            {"iss": ...},
            {"iss": "https://id.example/"},
            {"nbf": FUTURE},
            {"iat": FUTURE},
        ):
            self.assertInvalid(self.secret(), token(**claims))

    def test_issuer_of_another_type(self) -> None:
        """A list as issuer is refused."""
        self.assertInvalid(self.secret(), hs256({"alg": "HS256"}, {**CLAIMS, "iss": ["https://id.example"]}, SECRET))

    def test_one_of_several_audiences(self) -> None:
        """One matching audience is enough."""
        good = token(aud=["other", "relay"], nbf=PAST, iat=PAST)

        self.assertEqual(FUTURE, self.secret().validate(bearing(good), GRANT).expires_at)


class SignatureTests(TokenTestCase):
    """Signatures."""

    def test_public_keys(self) -> None:
        """RS256 and ES256 are verified with a public key."""
        for key, algorithm in ((RSA_KEY, "RS256"), (EC_KEY, "ES256")):
            validator = make(f"key={self.file(public_pem(key))},algorithm={algorithm},{RIGHT}")
            good = jwt.encode(CLAIMS, private_pem(key), algorithm, headers={"kid": "ignored"})

            self.assertEqual(FUTURE, validator.validate(bearing(good), GRANT).expires_at)
            self.assertInvalid(validator, token())

    def test_other_secret(self) -> None:
        """A token signed with another secret is refused."""
        self.assertInvalid(self.secret(), jwt.encode(CLAIMS, SECRET[::-1]))

    def test_changed(self) -> None:
        """A token with changed claims is refused."""
        head, _, signature = token().split(".")

        self.assertInvalid(self.secret(), f"{head}.{b64(json.dumps(CLAIMS).encode())}.{signature}")

    def test_algorithm_none(self) -> None:
        """An unsigned token is refused, in any spelling of "none"."""
        for name in ("none", "None", "NONE", "", None, [], {}):
            self.assertInvalid(self.secret(), forged({"alg": name, "typ": "JWT"}, CLAIMS, b""))
        self.assertInvalid(self.secret(), jwt.encode(CLAIMS, "", "none"))
        self.assertInvalid(self.secret(), forged({"typ": "JWT"}, CLAIMS, b""))

    def test_algorithm_not_allowed(self) -> None:
        """The right secret with another algorithm is refused."""
        self.assertInvalid(self.secret(), jwt.encode(CLAIMS, SECRET * 2, "HS512"))
        self.assertInvalid(self.secret(), hs256({"alg": "HS512"}, CLAIMS, SECRET))

    def test_public_key_as_secret(self) -> None:
        """A token signed with the public key as HMAC secret is refused."""
        pem = public_pem(RSA_KEY)
        validators = (
            make(f"key={self.file(pem)},algorithm=RS256,{RIGHT}"),
            self.jwks(public_jwk(RSA_KEY, "RS256", kid="a"), algorithms="RS256 HS256"),
        )

        for validator in validators:
            for secret in (pem, pem.strip(), b""):
                self.assertInvalid(validator, hs256({"alg": "HS256", "kid": "a"}, CLAIMS, secret))

    def test_key_in_the_token(self) -> None:
        """A key inside the token is ignored."""
        mine = rsa.generate_private_key(65537, 2048)
        header = {"kid": "a", "jwk": public_jwk(mine, "RS256", kid="a"), "jku": "https://evil.example"}
        validator = self.jwks(public_jwk(RSA_KEY, "RS256", kid="a"))

        self.assertInvalid(validator, jwt.encode(CLAIMS, private_pem(mine), "RS256", headers=header))

    def test_unencoded_payload(self) -> None:
        """The b64 and crit headers are not honoured."""
        self.assertInvalid(self.secret(), hs256({"alg": "HS256", "b64": False, "crit": ["b64"]}, CLAIMS, SECRET))
        self.assertInvalid(self.secret(), hs256({"alg": "HS256", "crit": ["x"]}, CLAIMS, SECRET))


class KeySetTests(TokenTestCase):
    """JSON Web Key Sets."""

    def test_kid(self) -> None:
        """The kid selects the key, of any type."""
        validator = self.jwks(
            public_jwk(RSA_KEY, "RS256", kid="r", alg="RS256", use="sig"),
            public_jwk(EC_KEY, "ES256", kid="e"),
            secret_jwk(SECRET, kid="s"),
            algorithms="RS256 ES256 HS256",
        )

        for key, algorithm, kid in (
            (private_pem(RSA_KEY), "RS256", "r"),
            (private_pem(EC_KEY), "ES256", "e"),
            (SECRET, "HS256", "s"),
        ):
            good = jwt.encode(CLAIMS, key, algorithm, headers={"kid": kid})
            self.assertEqual(FUTURE, validator.validate(bearing(good), GRANT).expires_at)

    def test_unknown_kid(self) -> None:
        """An unknown, malformed or missing kid is refused."""
        validator = self.jwks(public_jwk(RSA_KEY, "RS256", kid="a"))
        pem = private_pem(RSA_KEY)

        self.assertInvalid(validator, jwt.encode(CLAIMS, pem, "RS256", headers={"kid": "b"}))
        self.assertInvalid(validator, jwt.encode(CLAIMS, pem, "RS256"))
        for kid in (None, 1, [], "caf\u00e9"):
            self.assertInvalid(validator, forged({"alg": "RS256", "kid": kid}, CLAIMS, b"x"))

    def test_algorithm_of_the_key(self) -> None:
        """A key is for its own algorithm only, if that is allowed."""
        validator = self.jwks(
            public_jwk(RSA_KEY, "RS256", kid="r"), public_jwk(EC_KEY, "ES256", kid="e"), algorithms="RS256"
        )

        self.assertInvalid(validator, jwt.encode(CLAIMS, private_pem(EC_KEY), "ES256", headers={"kid": "e"}))
        self.assertInvalid(validator, jwt.encode(CLAIMS, private_pem(RSA_KEY), "RS256", headers={"kid": "e"}))
        self.assertInvalid(validator, jwt.encode(CLAIMS, private_pem(RSA_KEY), "RS512", headers={"kid": "r"}))


class SourceTests(TokenTestCase):
    """Places of a token."""

    def test_no_token(self) -> None:
        """Without a token the 401 names the scheme."""
        for headers in ({}, {"authorization": "Basic YTpi"}, {"cookie": f"t={token()}"}):
            denied = self.assertDenied(401, self.secret(), request(headers=headers))

            self.assertEqual("a token is needed", denied.reason)
            self.assertEqual((("WWW-Authenticate", "Bearer"),), denied.headers)

    def test_authorization(self) -> None:
        """Letter case and spaces of the scheme are ignored."""
        for value in (f"bearer {token()}", f"BEARER  {token()} "):
            asked = request(headers={"authorization": value})
            self.assertEqual(FUTURE, self.secret().validate(asked, GRANT).expires_at)

    def test_malformed_token(self) -> None:
        """An empty or undecodable token is refused."""
        self.assertInvalid(self.secret(), "")
        for name in ("base64url.bearer.", "base64url.bearer.!", "base64url.bearer.a", "base64url.bearer._w"):
            denied = self.assertDenied(401, self.secret(), request(subprotocols=("v1",), bearers=(name,)))

            self.assertEqual("the token is not valid", denied.reason)

    def test_subprotocol(self) -> None:
        """A token offered as a subprotocol is used, and the first real one is chosen."""
        for prefix in ("base64url.bearer.", "base64url.bearer.authorization.k8s.io."):
            asked = request(subprotocols=("v2", "v1"), bearers=(prefix + b64(token(sub="ann").encode()),))

            self.assertEqual(Grant("chat/42", "ann", "v2", expires_at=FUTURE), self.secret().validate(asked, GRANT))

    def test_subprotocol_chosen_before(self) -> None:
        """An earlier choice is kept."""
        asked = request(subprotocols=("v2", "v1"), bearers=("base64url.bearer." + b64(token().encode()),))

        self.assertEqual("v1", self.secret().validate(asked, Grant("chat/42", subprotocol="v1")).subprotocol)

    def test_subprotocol_alone(self) -> None:
        """A client that offers only its token gets a 400 with advice, valid token or not."""
        for text in (token(), "garbage"):
            asked = request(bearers=("base64url.bearer." + b64(text.encode()),))
            denied = self.assertDenied(400, self.secret(), asked)

            self.assertIn("offer another subprotocol", denied.reason)

    def test_other_subprotocols(self) -> None:
        """Without a token among them, the offers are left to other validators."""
        self.assertIsNone(self.secret().validate(bearing(token(), subprotocols=("v1",)), GRANT).subprotocol)

    def test_cookie_above_ascii(self) -> None:
        """Bytes above 0x7f in other cookies change nothing; in the token's own one they make it invalid."""
        validator = self.secret(",cookie=t")
        for value, valid in (
            (f"name=José; t={token()}", True),
            (f"t={token()}; name=\x85\xa0", True),
            (f"t={token()}\xa0", False),
            (f"\x85t={token()}", False),
        ):
            parsed = parse_head(request_bytes("/chat/42", {"Cookie": value})[:-4], None)
            if valid:
                self.assertEqual(FUTURE, validator.validate(parsed, GRANT).expires_at)
            else:
                self.assertDenied(401, validator, parsed)

    def test_malformed_query(self) -> None:
        """A malformed query is refused only where tokens are read from queries."""
        parsed = parse_head(request_bytes("/chat/42?q=%E9", {"Authorization": f"Bearer {token()}"})[:-4], None)
        self.assertEqual(FUTURE, self.secret("").validate(parsed, GRANT).expires_at)
        self.assertDenied(400, self.secret(",query=t"), parsed)

    def test_cookie(self) -> None:
        """The named cookie is read, among any others."""
        for value in (f"t={token()}", f'a=b; t="{token()}"', f"{{x}};;t2=1;  t = {token()}; t2=2"):
            asked = request(headers={"cookie": value})
            self.assertEqual(FUTURE, self.secret(",cookie=t").validate(asked, GRANT).expires_at)
        self.assertDenied(401, self.secret(",cookie=t"), request(headers={"cookie": f"xt={token()}; T={token()}; t"}))

    def test_query(self) -> None:
        """The query is read only if enabled."""
        asked = request(query={"token": (token(),)})

        self.assertEqual(FUTURE, self.secret(",query=token").validate(asked, GRANT).expires_at)
        for validator in (self.secret(), self.secret(",query=t")):
            self.assertEqual("a token is needed", self.assertDenied(401, validator, asked).reason)

    def test_several_tokens(self) -> None:
        """One token may be given several times; different ones are refused."""
        validator = self.secret(",cookie=t,query=token")
        one, other = token(), token(sub="ann")
        encoded = "base64url.bearer." + b64(other.encode())

        same = bearing(one, query={"token": (one, one)})
        self.assertEqual(FUTURE, validator.validate(same, GRANT).expires_at)
        for asked in (
            bearing(one, query={"token": (other,)}),
            bearing(one, subprotocols=("v1",), bearers=(encoded,)),
            bearing(one, query={"token": ("",)}),
            request(headers={"cookie": f"t={one}; t={other}"}),
            request(query={"token": (one, other)}),
        ):
            self.assertEqual("there is more than one token", self.assertDenied(400, validator, asked).reason)


class SecrecyTests(TokenTestCase):
    """No leaks of tokens and keys."""

    def test_denials(self) -> None:
        """A denial has neither the token nor the causing exception."""
        for text in (token(exp=PAST), token(aud="other"), "caf\u00e9", "a.b.c"):
            denied = self.assertDenied(401, self.secret(), bearing(text))

            self.assertNotIn(text, repr((denied, denied.headers)))
            self.assertIsNone(denied.__context__)

    def test_repr(self) -> None:
        """The repr does not show the key."""
        self.assertNotIn(SECRET.decode(), repr(self.secret()))


class ArgumentTests(TokenTestCase):
    """Arguments of ``token:``."""

    def test_required_arguments(self) -> None:
        """Keys, an algorithm, an audience and an issuer are required."""
        key = f"key={self.file(SECRET)}"
        for text, problem in (
            (f"algorithm=HS256,{RIGHT}", "either key= or jwks="),
            (f"{key},jwks=x,algorithm=HS256,{RIGHT}", "either key= or jwks="),
            (f"{key},{RIGHT}", "algorithm= is needed"),
            (f"{key},algorithm=HS256,issuer=i", "audience= is needed"),
            (f"{key},algorithm=HS256,audience=a", "issuer= is needed"),
            (f"{key},algorithm=HS256,{RIGHT},audience=b", "audience= may be given once"),
            (f"{key},algorithm=HS256,{RIGHT},audiance=b", "'audiance=b' is not an argument"),
            ("", "algorithm= is needed"),
        ):
            self.assertWrong(make, text, problem)

    def test_algorithms(self) -> None:
        """Three algorithms are supported; key= is for one of them."""
        pem = self.file(public_pem(RSA_KEY))
        for name in ("none", "HS512", "hs256", "PS256", "RS256,algorithm=none"):
            self.assertWrong(make, f"key={pem},algorithm={name},{RIGHT}", "algorithm= is needed: HS256, RS256, ES256")
        for name in ("HS256", "ES256"):
            self.assertWrong(make, f"key={pem},algorithm=RS256,algorithm={name},{RIGHT}", "for one algorithm=")
        make(f"key={pem},algorithm=RS256,algorithm=RS256,{RIGHT}")

    def test_leeway_argument(self) -> None:
        """The leeway is a whole number of seconds from 0 to 300."""
        self.secret(",leeway=300")
        for value in ("301", "-1", "1.5", "1e2", "soon", "\u0663"):
            problem = f"leeway= must be a whole number of seconds from 0 to 300, not {value!r}"
            self.assertWrong(self.secret, f",leeway={value}", problem)

    def test_key_files(self) -> None:
        """An unreadable or unusable file is named."""
        for kind in ("key", "jwks"):
            error = self.assertRaises(OSError, make, f"{kind}={self.folder}/nosuch,algorithm=HS256,{RIGHT}")
            self.assertIn("nosuch", str(error))
            self.assertWrong(make, f"{kind}={self.file(b'short')},algorithm=HS256,{RIGHT}", f"{self.folder}/file ")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
headers = st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64", "zip"]), json_values) | json_values
algorithms = st.sampled_from(["HS256", "RS256", "ES256", "HS512", "none"])
forgeries = st.builds(
    lambda header, algorithm, payload, signature: forged(
        {**header, "alg": algorithm} if isinstance(header, dict) and algorithm else header, payload, signature
    ),
    headers,
    st.none() | algorithms,
    json_values,
    st.binary(max_size=64),
)
garbage = st.text() | st.text("abcDEF-_.=", max_size=40) | forgeries


class GarbageTests(TokenTestCase):
    """Tokens of any content."""

    def setUp(self) -> None:
        """Make a validator of each kind."""
        super().setUp()
        jwk = secret_jwk(SECRET, kid="a")
        rsa_jwk = public_jwk(RSA_KEY, "RS256", kid="a")
        path = self.file(json.dumps({"keys": [jwk, rsa_jwk]}).encode())
        jwks = make(f"jwks={path},algorithm=HS256,algorithm=RS256,{RIGHT},cookie=t,query=t")
        self.validators = (self.secret(",cookie=t,query=t"), jwks)

    @given(garbage)
    def test_unsigned_garbage(self, text: str) -> None:
        """A token signed by others is denied with 400 or 401, in any place."""
        requests = [
            bearing(text),
            request(headers={"cookie": f"t={text}"}),
            request(query={"t": (text,)}),
            request(subprotocols=("v1",), bearers=(f"base64url.bearer.{text}",)),
            request(
                subprotocols=("v1",),
                bearers=("base64url.bearer." + b64(text.encode("utf-8", "surrogatepass")),),
            ),
        ]
        for validator in self.validators:
            for asked in requests:
                denied = self.assertRaises(Denied, validator.validate, asked, GRANT)
                self.assertIn(denied.status, (400, 401))

    @given(st.dictionaries(st.sampled_from(["exp", "nbf", "iat", "aud", "iss", "jti"]), json_values))
    def test_signed_garbage_claims(self, claims: dict[str, Any]) -> None:
        """A token signed by us with malformed registered claims is denied with 401 or 403."""
        self.assertGrantedOrDenied(claims)

    @given(
        st.dictionaries(
            st.sampled_from(["sub", "room", "rooms", "can_publish", "can_subscribe", "history"]),
            json_values | st.sampled_from(HISTORY_RIGHTS),
        ),
    )
    def test_signed_garbage_grants(self, claims: dict[str, Any]) -> None:
        """A token signed by us with malformed claims is denied with 403, and never grants more than it says."""
        self.assertGrantedOrDenied(claims)

    def assertGrantedOrDenied(self, claims: dict[str, Any]) -> None:
        """Assert that the claims are granted exactly, or denied."""
        good = hs256({"alg": "HS256", "kid": "a"}, {**CLAIMS, **claims}, SECRET)
        for validator in self.validators:
            try:
                grant = validator.validate(bearing(good), GRANT)
            except Denied as denied:
                self.assertIn(denied.status, (401, 403))
            else:
                self.assertEqual(claims.get("sub"), grant.identity)
                self.assertIs(claims.get("can_publish", True), grant.can_publish)
                self.assertIs(claims.get("can_subscribe", True), grant.can_subscribe)
                self.assertEqual(claims.get("history", "all"), grant.history)
