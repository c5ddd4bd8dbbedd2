"""Any callable: the ``python:`` validator.

What the callable decides is its own; it is called as it is and its answer is passed on as it is. Time
limits and the answer's checks are the chain's, as for every validator.
"""

from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any, Self

from zope.interface import implementer

from wsrelay.grant import Grant
from wsrelay.interfaces import IHandshakeValidator
from wsrelay.request import HandshakeRequest

__all__ = ["PythonValidator"]


@implementer(IHandshakeValidator)
class PythonValidator:
    """Ask a callable.

    Args:
        function: any callable; takes the request and the grant so far; returns a grant, a coroutine or a
            Deferred, or raises :class:`~wsrelay.errors.Denied`: :class:`~wsrelay.interfaces.IHandshakeValidator`.

    Peer sees:
        What the callable denies with; 500 when it raises anything else.
    """

    def __init__(self, function: Callable[[HandshakeRequest, Grant], Grant | Awaitable[Grant]]) -> None:
        self._function = function

    @classmethod
    def from_arguments(cls, text: str) -> Self:
        """Import ``PACKAGE.MODULE:CALLABLE``; attributes of attributes are named with dots.

        Raises:
            ValueError: nothing of this name can be imported, or it is not callable.
        """
        module, _, attributes = text.partition(":")
        if not module or not attributes:
            raise ValueError("write PACKAGE.MODULE:CALLABLE")
        found = _import(module)
        for name in attributes.split("."):
            if not hasattr(found, name):
                raise ValueError(f"there is no {attributes} in {module}: {name} was not found")
            found = getattr(found, name)
        if not callable(found):
            raise ValueError(f"{attributes} in {module} cannot be called")
        return cls(found)

    def validate(self, request: HandshakeRequest, grant: Grant) -> Grant | Awaitable[Grant]:
        """Return what the callable returns. See :class:`~wsrelay.interfaces.IHandshakeValidator`."""
        return self._function(request, grant)


def _import(module: str) -> Any:
    try:
        return import_module(module)
    except Exception as error:
        # A module may raise anything when it is run for the first time; the operator reads one line.
        raise ValueError(f"{module} cannot be imported: {type(error).__name__}: {error}") from error
