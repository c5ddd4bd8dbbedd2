"""Tests of wsrelay.validators.plugins."""

import json
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.plugin import IPlugin
from zope.interface.verify import verifyObject

from wsrelay.errors import SettingsError
from wsrelay.interfaces import IHandshakeValidatorFactory
from wsrelay.validators import plugins
from wsrelay.validators.host import HostValidator
from wsrelay.validators.origin import OriginValidator
from wsrelay.validators.plugins import ValidatorPlugin, available, load
from wsrelay.validators.rooms import RoomsValidator

from .support import GRANT, ValidatorTestCase, request

BUILT_IN = ["host", "http", "origin", "python", "rooms", "subprotocol", "token"]


def fail(arguments: str) -> Any:
    """Raise the exception named by the arguments."""
    raise {"os": OSError("no such file"), "import": ImportError("no such package"), "bug": RuntimeError("not today")}[
        arguments
    ]


FAILING = ValidatorPlugin("failing", "", "Fails.", f"{__name__}.fail")
MISSING = ValidatorPlugin("missing", "", "Is not there.", "wsrelay.validators.nosuch.Nosuch")
MISNAMED = ValidatorPlugin("misnamed", "", "Is not there either.", "wsrelay.validators.host.Nosuch")


class AvailableTests(ValidatorTestCase):
    """Installed validators."""

    def test_built_in(self) -> None:
        """The built-in validators are found, sorted, each with description and usage."""
        found = [factory for factory in available() if factory.name in BUILT_IN]

        self.assertEqual(BUILT_IN, [factory.name for factory in found])
        for factory in found:
            self.assertTrue(verifyObject(IHandshakeValidatorFactory, factory))
            self.assertTrue(verifyObject(IPlugin, factory))
            self.assertTrue(factory.usage)
            self.assertTrue(factory.description.endswith("."))

    def test_usage(self) -> None:
        """Each one accepts arguments as in its usage."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        jwks = Path(folder.name, "jwks")
        jwks.write_text(json.dumps({"keys": [{"kty": "oct", "kid": "a", "k": "A" * 43}]}))
        arguments = {
            "host": "relay.example,relay.example:8443",
            "http": "https://backend.example/ask,timeout=2",
            "origin": "same-host,https://app.example,null,none",
            "python": "builtins:id",
            "rooms": "chat/*,news",
            "subprotocol": "v2,v1",
            "token": f"jwks={jwks},algorithm=HS256,audience=a,issuer=i,cookie=c,query=q,leeway=5",
        }

        self.assertEqual(BUILT_IN, sorted(arguments))
        for factory in available():
            if factory.name in arguments:
                self.assertValidator(factory.validator(arguments[factory.name]))


class LoadTests(ValidatorTestCase):
    """``--validate`` strings."""

    def test_default_origin(self) -> None:
        """Without an origin validator, same-host goes first."""
        origin, rooms = load(["rooms:chat/*"])

        self.assertIsInstance(rooms, RoomsValidator)
        self.assertIs(GRANT, origin.validate(request(origin="https://relay.example"), GRANT))
        self.assertDenied(403, origin, request(origin="https://evil.example"))

    def test_no_strings(self) -> None:
        """Without strings there is only the default."""
        (validator,) = load([])

        self.assertIsInstance(validator, OriginValidator)

    def test_order(self) -> None:
        """Validators keep their order, origin included."""
        kinds = [type(validator) for validator in load(["rooms:**", "origin:*", "host:a.example", "rooms:news"])]

        self.assertEqual([RoomsValidator, OriginValidator, HostValidator, RoomsValidator], kinds)

    def test_colons(self) -> None:
        """The first colon ends the name."""
        (validator,) = load(["origin:https://b.example:8443"])

        self.assertIs(GRANT, validator.validate(request(origin="https://b.example:8443"), GRANT))

    def test_all_problems(self) -> None:
        """Every invalid string is named with its problem, in order."""
        error = self.assertRaises(SettingsError, load, ["nosuch:x", "rooms", "origin:*", "host:a b"])

        self.assertEqual(3, len(error.problems))
        self.assertIn("validate: nosuch:x: there is no validator of this name; installed are host, ", error.problems[0])
        self.assertIn("validate: rooms: name at least one pattern", error.problems[1])
        self.assertIn("validate: host:a b: 'a b' is not a host", error.problems[2])

    def test_unknown_names(self) -> None:
        """A similar name, and a URL without ``origin:``, are shown as they must be written; a missing file, too."""
        strings = ["tokens:key=a", "https://app.example", "token:key=/nowhere,algorithm=HS256,audience=a,issuer=b"]
        error = self.assertRaises(SettingsError, load, strings)

        self.assertEqual(error.problems[0], "validate: tokens:key=a: there is no validator of this name; is it token?")
        self.assertTrue(error.problems[1].endswith("; is it origin:https://app.example?"))
        self.assertIn(": there is no file /nowhere; `wsrelay init` makes", error.problems[2])

    def test_origin_twice(self) -> None:
        """Two origin validators are refused: a page would have to be allowed by both."""
        error = self.assertRaises(SettingsError, load, ["origin:https://a.example", "rooms:a", "origin:same-host"])

        self.assertEqual(
            ("validate: origin is given more than once; name all origins in one: origin:A,B",), error.problems
        )

    def test_failing_factories(self) -> None:
        """An unreadable file, a missing package or class, and a bug are one line each."""
        for string, problem in (
            ("failing:os", "validate: failing:os: no such file"),
            ("failing:import", "validate: failing:import: no such package"),
            ("failing:bug", "validate: failing:bug: RuntimeError: not today"),
            ("missing", "validate: missing: "),
            ("misnamed", "validate: misnamed: "),
        ):
            with mock.patch.object(plugins, "getPlugins", return_value=[FAILING, MISSING, MISNAMED]):
                error = self.assertRaises(SettingsError, load, ["origin", string])
            self.assertTrue(error.problems[1].startswith(problem), error.problems)

    def test_ambiguous_name(self) -> None:
        """Two plugins of one name are refused as ambiguous."""
        with mock.patch.object(plugins, "getPlugins", return_value=[FAILING, FAILING]):
            error = self.assertRaises(SettingsError, load, ["failing:os"])

        self.assertIn("validate: failing:os: more than one installed plugin has this name", error.problems)
