"""What zsh offers behind ``twistd wsrelay`` when Tab is pressed; asking it to is Twisted's part, and zsh's."""

from collections.abc import Callable, Iterable

from twisted.python import usage

from wsrelay.cli.option import Option
from wsrelay.cli.options import OPTIONS, REPEATABLE
from wsrelay.cli.reference import default
from wsrelay.validators.plugins import available

__all__ = ["completions"]


class _Choices(usage.Completer):
    """Offers words. One that ends in ":" is a beginning: no space is put behind it."""

    def __init__(self, what: str, words: Iterable[str]) -> None:
        super().__init__(descr=_escaped(what))
        self._words = [_escaped(word) for word in words]

    def _shellCode(self, optName: str, shellType: str) -> str:
        begin = " ".join(word for word in self._words if word.endswith(":"))
        whole = " ".join(word for word in self._words if not word.endswith(":"))
        adding = f'compadd "$expl[@]" -S "" -- {begin}; compadd "$expl[@]" -- {whole}'
        return f"{super()._shellCode(optName, shellType)}{{{adding}}}"


def completions() -> usage.Completions:
    """Return what Twisted is to know about the options for that."""
    valued = [option for option in OPTIONS if option.kind in ("value", "repeatable")]
    return usage.Completions(
        descriptions={option.name: option.help for option in OPTIONS},
        multiUse=list(REPEATABLE),
        optActions={option.name: _action(option) for option in valued},
    )


def _action(option: Option) -> usage.Completer | Callable[[], usage.Completer]:
    what = f"{option.spelling.partition('=')[2]}, {default(option)} by default"
    if option.name == "config":
        return usage.CompleteFiles("*.toml")
    if option.name == "validate":
        # A function, as looking for plugins takes a while and is for nothing else.
        return lambda: _Choices(what, [factory.name + ":" * bool(factory.usage) for factory in available()])
    return _Choices(what, option.choices) if option.choices else usage.Completer(descr=_escaped(what))


def _escaped(text: str) -> str:
    """Escape what would end a part of what zsh's _arguments takes."""
    return text.replace(":", "\\:")
