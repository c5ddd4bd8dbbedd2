"""The command line of ``twistd wsrelay``: options, environment and config file become one Settings.

The only module that reads argv, the environment and the config file. It and its imports must not import the reactor:
twistd has not chosen one yet (TRAPS 38). Must not live here: ranges and defaults (:mod:`wsrelay.settings`).
"""

import io
import os
import shlex
import shutil
import signal
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from twisted.application.service import IService
from twisted.logger import Logger
from twisted.python import usage

from wsrelay import __version__
from wsrelay.cli.check_config import as_toml, encodable
from wsrelay.cli.completion import completions
from wsrelay.cli.config_file import parse
from wsrelay.cli.hints import nearest, option_names, unknown_option, unknown_variables
from wsrelay.cli.options import FLAGS, PARAMETERS, REPEATABLE
from wsrelay.cli.reference import help_text
from wsrelay.errors import SettingsError
from wsrelay.interfaces import IHandshakeValidator
from wsrelay.logs.files import LogFile, check_log_file
from wsrelay.logs.observers import shape
from wsrelay.net.descriptors import check_limit, most_connections, raise_limit
from wsrelay.settings import OPTIONS, Settings, check_value
from wsrelay.signals import Signals
from wsrelay.text import why_unreadable
from wsrelay.validators.plugins import available, descriptors_of, load
from wsrelay.validators.python import look_in

__all__ = ["Options", "config_file", "makeService"]

_log = Logger(namespace="wsrelay")

#: The syntax of the file, behind what is wrong with it.
_TOML = 'write NAME = VALUE, with text in quotes: log-level = "warn"'

#: One value that was given: option, source for the operator, value, whether its type must match strictly.
_Given = tuple[str, str, object, bool]


def _field(option: str) -> str:
    return option.replace("-", "_")


class Options(usage.Options):
    """The options of ``twistd wsrelay``.

    Attributes:
        settings: the result; set when parsing has succeeded.
        validators: the handshake validators of ``settings.validate``.
        sources: field of the settings → source of its value, for the operator; missing fields are defaults.
        environ: the environment.
        signals: keeps the signals that come before the relay runs.
        command: what the user has typed to run the relay, if it is not twistd or twist; set on the class.
    """

    synopsis = "[options]"
    longdesc = (
        "A WebSocket relay: the URL path is the room, and every message a client sends reaches everyone else in its "
        "room. Each option can also stand in the --config file under its name, or in the environment as "
        "WSRELAY_ and its name in capitals with underscores. The command line wins over the environment, "
        "the environment over the file."
    )
    optFlags = [[option, None, None] for option in (*FLAGS, "check-config")]
    optParameters = [[option, None, None, None] for option in PARAMETERS]
    compData = completions()

    command: str | None = None
    environ: Mapping[str, str] = os.environ
    settings: Settings
    validators: list[IHandshakeValidator]
    sources: Mapping[str, str]

    def __init__(self) -> None:
        super().__init__()
        self._repeated: dict[str, list[str]] = {}
        self._folder = _current_folder()  # --rundir changes it before the first reload
        self.signals = Signals()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # we, or twistd, print option values: with LANG=C they may not fit
                stream.reconfigure(errors="backslashreplace")

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse. See :class:`twisted.python.usage.Options`; an unknown option gets a hint."""
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            raise usage.UsageError(unknown_option(str(error), () if self.parent is None else self.parent)) from None

    def parseArgs(self, *words: str) -> None:
        """Refuse words that are no options."""
        if words:
            is_file = words[0].endswith(".toml")
            hint = f"a file with options is --config {words[0]}" if is_file else "options begin with --"
            raise usage.UsageError(f"{words[0]!r} is no option; {hint}")

    def opt_help(self) -> NoReturn:
        """Print the help and exit."""
        text = help_text(self.longdesc, shutil.get_terminal_size().columns)
        print(f"{self.getSynopsis()}\n\n{text}", end="")  # noqa: T201 - asked for
        raise SystemExit(0)

    def getSynopsis(self) -> str:
        """Return the first line of the help."""
        return f"Usage: {self.command} {self.synopsis}" if self.command else super().getSynopsis()

    def opt_help_validators(self) -> NoReturn:
        """List the installed handshake validators."""
        for factory in available():
            print(f"{factory.name}:{factory.usage}" if factory.usage else factory.name)  # noqa: T201 - asked for
            print(f"    {factory.description}")  # noqa: T201
        raise SystemExit(0)

    def opt_version(self) -> NoReturn:
        """Print the version and exit."""  # Twisted would print its own.
        print(f"wsrelay {__version__}")  # noqa: T201 - asked for
        raise SystemExit(0)

    def postOptions(self) -> None:
        """Make the settings and the validators.

        Here, because a UsageError from makeService would be a traceback (TRAPS 40).

        Raises:
            usage.UsageError: names all wrong values, with their sources.
        """
        if self.parent is not None:  # a command's, so that a relay may follow
            self.signals.take(signal.SIGHUP)
        try:
            self.settings, self.validators = self.read()
            # Not when reloading, with connections among the open files, and perhaps as another user.
            reserved = descriptors_of(self.validators)
            check_limit(self.settings.max_connections, reserved)
            check_log_file(self.settings.log_file)
        except SettingsError as error:
            if self["check-config"]:
                # Not in the UsageError: twistd prints that to stdout.
                print("\n".join(error.problems), file=sys.stderr)  # noqa: T201 - asked for
                raise usage.UsageError("wrong options") from None
            raise usage.UsageError("\n    ".join(["wrong options, see --help:", *error.problems])) from None
        if self["check-config"]:
            text = as_toml(self.settings, self.sources, most_connections(reserved, raised=True))
            print(encodable(text, getattr(sys.stdout, "encoding", None)))  # noqa: T201 - asked for
            for warning in unknown_variables(self.environ):
                print(warning, file=sys.stderr)  # noqa: T201 - stdout is the file
            raise SystemExit(0)
        if self.parent is not None:
            _remove_own_pid_file(self.parent.get("pidfile"))

    def read(self) -> tuple[Settings, list[IHandshakeValidator]]:
        """Read environment and file, below the parsed command line; at the start, and again for each reload.

        Returns:
            The settings and their validators.

        Raises:
            SettingsError: names all wrong values, with their sources.
        """
        # Imported late: it is not needed for --help.
        from wsrelay.net.endpoints import admin_endpoint, endpoints  # noqa: PLC0415

        problems: list[str] = []
        chosen, sources = self._chosen(problems)
        settings = None
        with _adding_to(problems, option_names):
            settings = Settings(**chosen)
        with _adding_to(problems):
            endpoints(None, chosen.get("listen", ()))
        with _adding_to(problems):
            if chosen.get("admin"):
                admin_endpoint(None, chosen["admin"])
        with _adding_to(problems):
            if settings is not None and settings.backplane:
                _check_backplane(settings)
        validate = chosen.get("validate", ())
        if any(text.startswith("python:") for text in validate):
            path = self._config_path()
            look_in(_folders(path and os.path.normpath(os.path.join(self._folder, path))))
        with _adding_to(problems):
            validators = load(validate)
        if problems or settings is None:
            raise SettingsError(problems)
        self.sources = sources
        return settings, validators

    def getUsage(self, width: int | None = None) -> str:
        """Return no usage: both commands print it together with the problems, which would be lost in it."""
        return ""

    # Any: each field has its own type, to which check_value has converted the value.
    def _chosen(self, problems: list[str]) -> tuple[dict[str, Any], dict[str, str]]:
        """Return field → value and field → source; a wrong value is named even where a later source hides it."""
        chosen, sources = {}, {}
        for option, label, value, strict in self._given(problems):
            converted, problem = check_value(_field(option), value, strict=strict)
            if problem:
                problems.append(f"{label}: {problem}")
            else:
                chosen[_field(option)] = converted
                sources[_field(option)] = label.removesuffix(f": {option}")
        return chosen, sources

    def _config_path(self) -> str | None:
        path: str | None = self["config"] or self.environ.get("WSRELAY_CONFIG")
        return path

    def _read_file(self, path: str, problems: list[str]) -> dict[str, object]:
        try:
            return config_file(os.path.join(self._folder, path))
        except OSError as error:
            error.filename = path  # as it was typed
            problems.append(f"{path}: {why_unreadable(error)}")
        except tomllib.TOMLDecodeError as error:
            problems.append(f"{path}: {error}; {_TOML}")
        except ValueError as error:
            problems.append(f"{path}: {error}")
        return {}

    def _given(self, problems: list[str]) -> Iterator[_Given]:
        """Yield all values that were given; later sources win: file, environment, command line."""
        options = [option.name for option in OPTIONS.values()]
        path = self._config_path()
        for option, value in self._read_file(path, problems).items() if path else ():
            if option in options:
                yield option, f"{path}: {option}", value, True
            else:
                problems.append(f"{path}: {_unknown(option, value, options)}")
        for option in options:
            variable = f"WSRELAY_{_field(option).upper()}"
            if variable in self.environ:
                text = self.environ[variable]
                yield option, variable, _words(text) if option in REPEATABLE else text, False
        for option in options:
            value = self._repeated.get(option) if option in REPEATABLE else self[option]
            if value not in (None, 0):  # 0: a flag that was not given
                yield option, f"--{option}", value, False


def _repeatable(option: str) -> Callable[[Options, str], None]:
    def collect(self: Options, value: str) -> None:
        self._repeated.setdefault(option, []).append(value)

    return collect


# Twisted asks the class for its opt_ methods.
for _option in REPEATABLE:
    setattr(Options, f"opt_{_field(_option)}", _repeatable(_option))


@contextmanager
def _adding_to(problems: list[str], words: Callable[[str], str] = str) -> Iterator[None]:
    try:
        yield
    except SettingsError as error:
        problems.extend(map(words, error.problems))


def _check_backplane(settings: Settings) -> None:
    from wsrelay.backplane.redis import configured  # noqa: PLC0415 - not without a backplane

    configured(settings)


def config_file(path: str) -> dict[str, object]:
    """Return the options in a config file, unchecked.

    Raises:
        OSError: it cannot be read.
        ValueError: not UTF-8, or not TOML.
    """
    return parse(Path(path).read_bytes(), str(Path(path).absolute().parent))


def _folders(beside: str | None) -> list[str]:
    """Return where modules of ``python:`` are looked for, too: beside the config file, then in the current folder."""
    found = [_current_folder()] if beside is None else [os.path.dirname(beside), _current_folder()]
    return [folder for folder in found if os.path.isabs(folder)]


def _current_folder() -> str:
    """Return the current folder; ``""`` if it was removed since the start."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return ""


def _unknown(option: str, value: object, options: list[str]) -> str:
    """Return what is wrong with a name of the file that is no option's."""
    hint = nearest(option, options)
    if isinstance(value, dict) and not hint:
        return f"[{option}]: the file has no sections; remove this line"
    return f"{option}: there is no such option{hint}"


def _words(text: str) -> object:
    try:
        return shlex.split(text)
    except ValueError:
        return text  # not a list, so that check_value refuses it


def _remove_own_pid_file(path: str | None) -> None:
    """Remove twistd's PID file if it names this process, which has not written it yet.

    A killed process 1 of a container leaves such a file; twistd would take it for a running relay (TRAPS 101).
    """
    if not path:
        return
    with suppress(OSError, ValueError):  # twistd says what is wrong with the file
        if int(Path(path).read_text(encoding="ascii")) == os.getpid():
            os.remove(path)


def makeService(options: Options) -> IService:
    """Return the relay as a service; ``twistd`` and ``twist`` call this.

    Args:
        options: parsed options.
    """
    _take_signals(options)
    _install_reactor()
    from twisted.internet import reactor  # noqa: PLC0415 - TRAPS 38

    from wsrelay.factory import RelayFactory  # noqa: PLC0415 - it imports Autobahn: not for --help
    from wsrelay.process import RelayProcess  # noqa: PLC0415

    raise_limit()
    log_file = _log_file(options.settings)
    shape(options.settings.log_format, options.settings.log_level, log_file=log_file)
    for warning in unknown_variables(options.environ):
        _log.warn("{warning}", warning=warning)
    return RelayProcess(
        RelayFactory(options.settings, options.validators, reactor), options.read, log_file, options.signals
    )


def _install_reactor() -> None:
    """Install our reactor unless there is one: twistd's ``--reactor`` has installed it by now, and ``twist`` always.

    Where ours cannot be made, the import of the global reactor installs Twisted's choice.
    """
    if "twisted.internet.reactor" in sys.modules:
        return
    with suppress(ImportError, OSError):  # no epoll: not Linux
        from wsrelay.net import reactor  # noqa: PLC0415 - not for --help

        reactor.install()


def _take_signals(options: Options) -> None:
    """Keep signals until the relay runs; leave SIGUSR1 to twistd where it rotates a file (TRAPS 107)."""
    options.signals.take(signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    twistd = {} if options.parent is None else options.parent
    to_stdout = twistd.get("nodaemon", True) if not twistd.get("logfile") else twistd["logfile"] == "-"
    if options.settings.log_file or to_stdout:
        options.signals.take(signal.SIGUSR1)


def _log_file(settings: Settings) -> LogFile | None:
    """Open the log file; a failure that the check of the options has not foreseen ends the process with one line."""
    if not settings.log_file:
        return None
    try:
        return LogFile(settings.log_file, settings.log_file_bytes, settings.log_files_kept)
    except OSError as error:
        raise SystemExit(f"wsrelay: cannot open the log file: {error}") from None
