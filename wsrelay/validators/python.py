"""A callable: the ``python:`` validator.

Must not live here: checking the answer (:mod:`wsrelay.validators.chain`), timeouts (:mod:`wsrelay.connection`).
"""

from collections.abc import Awaitable, Callable
from importlib import import_module
from types import ModuleType
from typing import Self, cast

from zope.interface import implementer

from wsrelay.grant import Grant
from wsrelay.interfaces import IHandshakeValidator
from wsrelay.request import HandshakeRequest

__all__ = ["PythonValidator"]

_Function = Callable[[HandshakeRequest, Grant], Grant | Awaitable[Grant]]


@implementer(IHandshakeValidator)
class PythonValidator:
    """Ask a callable.

    Args:
        function: takes the request and the grant so far; returns a grant, a coroutine or a Deferred, or raises
            :class:`~wsrelay.errors.Denied`, as :class:`~wsrelay.interfaces.IHandshakeValidator` says.

    Peer sees:
        The status and reason of its ``Denied``; 500 for any other exception.
    """

    def __init__(self, function: _Function) -> None:
        self._function = function

    @classmethod
    def from_arguments(cls, text: str) -> Self:
        """Import ``PACKAGE.MODULE:CALLABLE``; CALLABLE may have dots.

        Raises:
            ValueError: it cannot be imported, or is not callable.
        """
        module, _, attributes = text.partition(":")
        if not module or not attributes:
            raise ValueError("write PACKAGE.MODULE:CALLABLE")
        found: object = _import(module)
        for name in attributes.split("."):
            if not hasattr(found, name):
                raise ValueError(f"there is no {attributes} in {module}: {name} was not found")
            found = getattr(found, name)
        if not callable(found):
            raise ValueError(f"{attributes} in {module} cannot be called")
        return cls(cast("_Function", found))

    def validate(self, request: HandshakeRequest, grant: Grant) -> Grant | Awaitable[Grant]:
        """Return the callable's answer. See :class:`~wsrelay.interfaces.IHandshakeValidator`."""
        return self._function(request, grant)


def _import(module: str) -> ModuleType:
    try:
        return import_module(module)
    except Exception as error:
        # A module may raise anything at its import; the operator gets one line.
        raise ValueError(f"{module} cannot be imported: {type(error).__name__}: {error}") from error
