"""Validators by name, for ``--validate NAME[:ARGUMENTS]`` and ``--help-validators``.

All names come from ``twisted.plugin``, the built-in ones too. Must not live here: running validators
(:mod:`wsrelay.validators.chain`).
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Final

from twisted.plugin import IPlugin, getPlugins
from twisted.python.reflect import namedAny
from zope.interface import implementer

from wsrelay.errors import SettingsError
from wsrelay.interfaces import IHandshakeValidator, IHandshakeValidatorFactory, UsesDescriptors
from wsrelay.text import why_unreadable

__all__ = ["DEFAULT_ORIGIN", "ValidatorPlugin", "available", "descriptors_of", "load"]

#: Asked first unless an origin validator is given: a page may connect to its own host only.
DEFAULT_ORIGIN: Final = "origin:same-host"


@implementer(IPlugin, IHandshakeValidatorFactory)
class ValidatorPlugin:
    """A validator as one line of data in a ``twisted/plugins/`` file.

    Args:
        name: the NAME in ``--validate``.
        usage: its arguments on one line; may be empty.
        description: its check, in one sentence.
        target: the dotted name of a callable that takes the arguments and returns an
            :class:`~wsrelay.interfaces.IHandshakeValidator`; imported at its first use.
    """

    def __init__(self, name: str, usage: str, description: str, target: str) -> None:
        self.name = name
        self.usage = usage
        self.description = description
        self.target = target

    def validator(self, arguments: str) -> IHandshakeValidator:
        """Import the target and call it. See :class:`~wsrelay.interfaces.IHandshakeValidatorFactory`."""
        made: IHandshakeValidator = namedAny(self.target)(arguments)
        return made


def available() -> list[IHandshakeValidatorFactory]:
    """Return all installed validator factories, sorted by name."""
    return sorted(getPlugins(IHandshakeValidatorFactory), key=lambda factory: factory.name)


def load(strings: Sequence[str]) -> list[IHandshakeValidator]:
    """Make the validators of the ``--validate`` strings.

    Args:
        strings: ``NAME[:ARGUMENTS]`` each. :data:`DEFAULT_ORIGIN` goes first unless one of them is ``origin``.

    Returns:
        Validators in the order of asking.

    Raises:
        SettingsError: names every invalid string; or ``origin`` is given more than once.
    """
    factories = available()
    origins = [string for string in strings if string.partition(":")[0] == "origin"]
    if not origins:
        strings = [DEFAULT_ORIGIN, *strings]
    validators: list[IHandshakeValidator] = []
    problems: list[str] = []
    if len(origins) > 1:  # all validators must allow a request: of two lists, that is mostly none
        problems.append("validate: origin is given more than once; name all origins in one: origin:A,B")
    for string in strings:
        try:
            validators.append(_make(string, factories))
        except OSError as error:
            problems.append(f"validate: {string}: {why_unreadable(error)}")
        except (ValueError, ImportError, AttributeError) as error:
            problems.append(f"validate: {string}: {error}")
        except Exception as error:  # noqa: BLE001 - an imported plugin may raise anything
            problems.append(f"validate: {string}: {type(error).__name__}: {error}")
    if problems:
        raise SettingsError(problems)
    return validators


def descriptors_of(validators: Iterable[IHandshakeValidator]) -> int:
    """Return the number of file descriptors that validators may use together."""
    return sum(each.descriptors for each in validators if isinstance(each, UsesDescriptors))


def _make(string: str, factories: Iterable[IHandshakeValidatorFactory]) -> IHandshakeValidator:
    name, _, arguments = string.partition(":")
    found = [factory for factory in factories if factory.name == name]
    if not found:
        raise ValueError(f"there is no validator of this name; {_remedy(string, [each.name for each in factories])}")
    if len(found) > 1:
        raise ValueError("more than one installed plugin has this name")
    made: IHandshakeValidator = found[0].validator(arguments)
    return made


def _remedy(string: str, names: list[str]) -> str:
    """Return what to write instead of a string with an unknown name."""
    if re.match("https?://", string):
        return f"is it origin:{string}?"
    near = difflib.get_close_matches(string.partition(":")[0], names, n=1)
    return f"is it {near[0]}?" if near else f"installed are {', '.join(names)}"
