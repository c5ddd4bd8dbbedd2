"""Tests of wsrelay.validators.python."""

import sys
import tempfile
from pathlib import Path

from twisted.internet.defer import Deferred, succeed

from wsrelay.errors import Denied
from wsrelay.grant import Grant
from wsrelay.request import HandshakeRequest
from wsrelay.validators.python import PythonValidator, look_in

from .support import GRANT, ValidatorTestCase, request

make = PythonValidator.from_arguments


class Callables:
    """Callables for import."""

    constant = 1

    @staticmethod
    def narrow(request: HandshakeRequest, grant: Grant) -> Grant:
        """Remove the right to publish."""
        return grant.narrowed(identity=request.host, can_publish=False)

    @staticmethod
    def later(request: HandshakeRequest, grant: Grant) -> Deferred[Grant]:
        """Answer with a Deferred."""
        return succeed(grant)

    @staticmethod
    async def coroutine(request: HandshakeRequest, grant: Grant) -> Grant:
        """Answer with a coroutine."""
        return grant

    @staticmethod
    def deny(request: HandshakeRequest, grant: Grant) -> Grant:
        """Deny."""
        raise Denied(418, "short and stout")


class PythonValidatorTests(ValidatorTestCase):
    """The ``python:`` validator."""

    def test_called(self) -> None:
        """The callable gets request and grant; its answer is passed on."""
        validator = make(f"{__name__}:Callables.narrow")

        self.assertValidator(validator)
        self.assertEqual(
            Grant("chat/42", identity="relay.example", can_publish=False), validator.validate(request(), GRANT)
        )

    def test_denied(self) -> None:
        """Its Denied is passed on."""
        self.assertDenied(418, make(f"{__name__}:Callables.deny"), request())

    def test_asynchronous(self) -> None:
        """Deferreds and coroutines are passed on."""
        later = make(f"{__name__}:Callables.later").validate(request(), GRANT)
        coroutine = make(f"{__name__}:Callables.coroutine").validate(request(), GRANT)

        self.assertIs(GRANT, self.successResultOf(later))
        self.assertIs(GRANT, self.successResultOf(Deferred.fromCoroutine(coroutine)))

    def test_syntax(self) -> None:
        """Module and callable are both required."""
        for text in ("", "module", "module:", ":callable"):
            self.assertWrong(make, text, "write PACKAGE.MODULE:CALLABLE")

    def test_no_module(self) -> None:
        """A missing module is named, with the folders that were looked in."""
        self.assertWrong(make, "wsrelay.nosuch:f", f"No module named 'wsrelay.nosuch'; looked in {', '.join(sys.path)}")

    def test_relative_module(self) -> None:
        """A relative module name is refused in one line."""
        self.assertWrong(make, ".support:f", ".support cannot be imported: TypeError")

    def test_look_in(self) -> None:
        """Modules are found in other folders, also new ones, and hide no installed one."""
        with tempfile.TemporaryDirectory() as folder:
            self.patch(sys, "path", [*sys.path])
            look_in([folder, folder, sys.path[0]])
            self.assertEqual(sys.path.count(folder), 1)
            self.assertEqual(sys.path[-1], folder)
            self.assertWrong(make, "wsrelay_new_validator:f", f", {folder}")
            for name in ("wsrelay_new_validator", "json"):
                Path(folder, f"{name}.py").write_text("def f(request, grant): return grant\n")
            self.addCleanup(sys.modules.pop, "wsrelay_new_validator")
            self.assertIs(make("wsrelay_new_validator:f").validate(request(), GRANT), GRANT)
            self.assertWrong(make, "json:f", "f was not found")

    def test_broken_module(self) -> None:
        """A module that fails at import is reported with its error."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        Path(folder.name, "wsrelay_broken_validator.py").write_text("1 / 0\n")
        self.patch(sys, "path", [folder.name, *sys.path])

        self.assertWrong(make, "wsrelay_broken_validator:f", "cannot be imported: ZeroDivisionError: division by zero")

    def test_no_attribute(self) -> None:
        """A missing attribute is named, at any depth, with the file of the module: it may be another one than meant."""
        self.assertWrong(make, f"{__name__}:nosuch", "nosuch was not found")
        self.assertWrong(make, f"{__name__}:Callables.nosuch.x", "there is no Callables.nosuch.x in")
        self.assertWrong(make, f"{__name__}:Callables..narrow", "was not found")
        self.assertWrong(make, f"{__name__}:nosuch", f"({__file__})")
        self.assertWrong(make, "sys:nosuch", "there is no nosuch in sys (built into Python)")

    def test_not_callable(self) -> None:
        """An object that is not callable is refused."""
        self.assertWrong(make, f"{__name__}:Callables.constant", "Callables.constant in")
