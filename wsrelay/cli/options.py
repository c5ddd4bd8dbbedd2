"""All options as one table: those of the settings, and those without a setting, which are declared here.

Must not live here: options with a setting (:mod:`wsrelay.settings`), reading options (:mod:`wsrelay.tap`), showing
them (:mod:`wsrelay.cli.reference`).
"""

from typing import Final

from wsrelay import settings
from wsrelay.option import GROUPS, Option

__all__ = ["FLAGS", "OPTIONS", "PARAMETERS", "REPEATABLE"]

_WITHOUT_SETTING: Final = (
    Option(
        "help-validators",
        "Access control",
        "List the installed validators with their arguments.",
        kind="action",
    ),
    Option(
        "config",
        "Process",
        "TOML file with options.",
        detail="Names are without leading dashes; options that can be repeated are lists.",
        value="FILE",
        default="none",
    ),
    Option(
        "check-config",
        "Process",
        "Print the effective settings, or all that is wrong, and exit.",
        detail="As a file for `--config`, with the source of each value. Checks everything that can be wrong before"
        " listening: values, endpoints, certificates, validators and their keys.",
        kind="action",
    ),
    Option("version", "Process", "Print the version and exit.", kind="action"),
    Option("help", "Process", "Print this help and exit.", kind="action"),
)

#: All options in the order in which they are shown: by heading.
OPTIONS: Final[tuple[Option, ...]] = tuple(
    sorted((*settings.OPTIONS.values(), *_WITHOUT_SETTING), key=lambda option: GROUPS.index(option.group))
)

#: Names of the options with a value.
PARAMETERS: Final = tuple(option.name for option in OPTIONS if option.kind == "value")

#: Names of the options without a value.
FLAGS: Final = tuple(option.name for option in OPTIONS if option.kind == "flag")

#: Names of the options that can be given more than once; in the environment: words in shell quoting.
REPEATABLE: Final = tuple(option.name for option in OPTIONS if option.kind == "repeatable")
