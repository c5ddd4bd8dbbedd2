"""A callable: the ``python:`` validator.

Must not live here: checking the answer (:mod:`wsrelay.validators.chain`), timeouts (:mod:`wsrelay.connection`).
"""

import sys
from collections.abc import Awaitable, Callable, Iterable
from importlib import import_module, invalidate_caches
from types import ModuleType
from typing import Self, cast

from zope.interface import implementer

from wsrelay.grant import Grant
from wsrelay.interfaces import IHandshakeValidator
from wsrelay.request import HandshakeRequest

__all__ = ["PythonValidator", "look_in"]

_Function = Callable[[HandshakeRequest, Grant], Grant | Awaitable[Grant]]


@implementer(IHandshakeValidator)
class PythonValidator:
    """Ask a callable.

    Args:
        function: takes the request and the grant so far; returns a grant or an awaitable of one, or raises
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
        imported = _import(module)
        found: object = imported
        for name in attributes.split("."):
            if not hasattr(found, name):
                where = getattr(imported, "__file__", None) or "built into Python"
                raise ValueError(f"there is no {attributes} in {module} ({where}): {name} was not found")
            found = getattr(found, name)
        if not callable(found):
            raise ValueError(f"{attributes} in {module} cannot be called")
        return cls(cast("_Function", found))

    def validate(self, request: HandshakeRequest, grant: Grant) -> Grant | Awaitable[Grant]:
        """Return the callable's answer. See :class:`~wsrelay.interfaces.IHandshakeValidator`."""
        return self._function(request, grant)


def look_in(folders: Iterable[str]) -> None:
    """Let modules be imported from folders, too: behind all others, so that no file there hides an installed module."""
    sys.path.extend(dict.fromkeys(folder for folder in folders if folder not in sys.path))


def _import(module: str) -> ModuleType:
    invalidate_caches()  # the file may be newer than the last look at its folder
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ValueError(f"{module} cannot be imported: {error}; looked in {', '.join(sys.path)}") from error
    except Exception as error:
        # A module may raise anything at its import; the operator gets one line.
        raise ValueError(f"{module} cannot be imported: {type(error).__name__}: {error}") from error
