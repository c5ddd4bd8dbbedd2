"""Completion: what zsh offers behind ``twistd wsrelay`` when Tab is pressed.

Must not live here: the shell function, which Twisted and zsh have.
"""

from collections.abc import Callable, Iterable

from twisted.python import usage

from wsrelay.cli.options import OPTIONS, REPEATABLE
from wsrelay.option import Option
from wsrelay.validators.plugins import available

__all__ = ["completions"]


class _Choices(usage.Completer):
    """Offers words. A word that ends in ":" is a beginning, and gets no space behind it."""

    def __init__(self, what: str, words: Iterable[str]) -> None:
        super().__init__(descr=_escaped(what))
        self._words = [_escaped(word) for word in words]

    def _shellCode(self, optName: str, shellType: str) -> str:
        begin = " ".join(word for word in self._words if word.endswith(":"))
        whole = " ".join(word for word in self._words if not word.endswith(":"))
        adding = f'compadd "$expl[@]" -S "" -- {begin}; compadd "$expl[@]" -- {whole}'
        return f"{super()._shellCode(optName, shellType)}{{{adding}}}"


def completions() -> usage.Completions:
    """Return descriptions and completions of all options, for Twisted."""
    valued = [option for option in OPTIONS if option.kind in ("value", "repeatable")]
    return usage.Completions(
        descriptions={option.name: option.help for option in OPTIONS},
        multiUse=list(REPEATABLE),
        optActions={option.name: _action(option) for option in valued},
    )


def _action(option: Option) -> usage.Completer | Callable[[], usage.Completer]:
    what = f"{option.spelling.partition('=')[2]}, {option.default} by default"
    if option.value == "FILE":
        return usage.CompleteFiles("*.toml" if option.name == "config" else "*")
    if option.name == "validate":
        # A function, because looking for plugins takes a while and only this needs it.
        return lambda: _Choices(what, [factory.name + ":" * bool(factory.usage) for factory in available()])
    return _Choices(what, option.choices) if option.choices else usage.Completer(descr=_escaped(what))


def _escaped(text: str) -> str:
    """Escape colons, which end a part of an argument of zsh's _arguments."""
    return text.replace(":", "\\:")
