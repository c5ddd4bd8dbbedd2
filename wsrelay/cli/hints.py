"""What an operator may have meant: near misses of options, and of their variables in the environment. Pure.

Must not live here: reading argv, environment or files (:mod:`wsrelay.tap`).
"""

import difflib
import re
from collections.abc import Iterable
from typing import Final

from wsrelay.cli.options import OPTIONS
from wsrelay.settings import OPTIONS as SETTINGS

__all__ = ["FOREIGN", "nearest", "option_names", "unknown_option", "unknown_variables"]

#: What a variable for an option begins with.
_PREFIX: Final = "WSRELAY_"

#: Variables with our prefix that are no options: of the relay and its commands, its packaging, files in deploy/.
FOREIGN: Final = frozenset(
    f"WSRELAY_{name}"
    for name in ("CONFIG", "PURE", "PYTHON27", "RELAYS", "SITE", "TOKEN", "FUZZ_EXAMPLES", "FUZZ_ENGINE")
)

#: What Kubernetes, and Docker for links, always set for a service; its name begins with "wsrelay".
_SERVICE: Final = re.compile(r"(WSRELAY[A-Z0-9_]*?)_(SERVICE_HOST|PORT_\d+_(TCP|UDP|SCTP))")

#: What they set, behind the name of the service.
_OF_SERVICES: Final = re.compile(
    r"_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|NAME|ENV_.*|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)

#: What other servers call the place to listen at.
_LISTEN: Final = frozenset(["address", "bind", "host", "p", "port"])

#: Texts of getopt.
_NOT_RECOGNIZED: Final = re.compile("option --?(.+) not recognized")
_NOT_UNIQUE: Final = re.compile("option --(.+) not a unique prefix")


def nearest(word: str, words: Iterable[str], prefix: str = "") -> str:
    """Return "; is it …?" with the word that is most like another, or nothing if none is.

    Args:
        word: what was written, without the prefix.
        words: what may have been meant, without it.
        prefix: of all of them.
    """
    near = difflib.get_close_matches(word, list(words), n=1)
    return f"; is it {prefix}{near[0]}?" if near else ""


def unknown_option(problem: str, of_twistd: Iterable[str] = ()) -> str:
    """Return what getopt says about an option, with what to write instead.

    Args:
        problem: the text of getopt; any other is returned as it is.
        of_twistd: names of the options that stand in front of ``wsrelay``.
    """
    names = [option.name for option in OPTIONS]
    if found := _NOT_UNIQUE.fullmatch(problem):
        meant = [f"--{name}" for name in names if name.startswith(found[1])]
        return f"--{found[1]}: which one? {', '.join(meant)}"
    if not (found := _NOT_RECOGNIZED.fullmatch(problem)):
        return problem
    name = problem.split(" ")[1]
    if found[1] in _LISTEN:
        return f"{name}: there is no such option; write --listen PORT, or --listen ADDRESS:PORT"
    if found[1] in of_twistd:
        return f"{name} is an option of twistd, not of the relay: twistd {name} wsrelay"
    return f"{name}: there is no such option{nearest(found[1], names, '--') or ', see --help'}"


def option_names(problem: str) -> str:
    """Return what is wrong between several settings, with the names of options in place of those of fields."""
    names = {field: option.name for field, option in SETTINGS.items()}
    return re.sub("[a-z]+(_[a-z]+)+", lambda found: names.get(found[0], found[0]), problem)


def unknown_variables(names: Iterable[str]) -> list[str]:
    """Return a sentence for each variable with our prefix that is no option and nothing else that we know.

    Args:
        names: the names in the environment.
    """
    options = [field.upper() for field in SETTINGS]
    ours = {name: name.removeprefix(_PREFIX) for name in sorted(names) if name.startswith(_PREFIX)}
    services = {found[1] for name in ours if (found := _SERVICE.fullmatch(name))}
    return [
        f"{name} in the environment is no option, and ignored{nearest(rest, options, _PREFIX)}"
        for name, rest in ours.items()
        if rest not in options and name not in FOREIGN and not _is_of_one(services, name)
    ]


def _is_of_one(services: Iterable[str], name: str) -> bool:
    """Whether a variable is of a service that has others, too: one alone is a mistake, as WSRELAY_NOD_NAME is."""
    return any(name.startswith(each) and _OF_SERVICES.fullmatch(name, len(each)) for each in services)
