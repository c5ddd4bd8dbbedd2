"""Tests of wsrelay.tap."""

import builtins
import io
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.logger import formatEvent
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

import wsrelay
from wsrelay import tap
from wsrelay.errors import SettingsError
from wsrelay.net import descriptors, reactor
from wsrelay.process import RelayProcess
from wsrelay.settings import OPTIONS, Settings
from wsrelay.tap import Options, _folders, makeService

#: A value other than the default for each option that is not a number or a flag, or cannot be 1.
TEXTS: dict[str, object] = {
    "listen": ["tcp:1", "unix:/run/a b"],
    "admin": "tcp:9100",
    "validate": ["rooms:a", "host:b"],
    "message-type": ["text", "video/**=binary"],
    "trusted-proxies": ["10.0.0.0/8", "::1", "unix"],
    "slow-policy": ["latest", "a/**=disconnect"],
    "history": ["100", "chat/**=5"],
    "greet": ["news=1"],
    "log-file": "/dev/null",
    "log-format": "json",
    "log-level": "warn",
    "backplane": "redis+unix:///run/redis.sock?shards=2",
    "backplane-password-file": __file__,
    "node-name": "node-1",
    "max-unfinished-bytes-per-address": 2**24,
}


def other(field: str) -> object:
    """Return a value other than the default for a number or a flag."""
    default = getattr(Settings(), field)
    if isinstance(default, bool):
        return not default
    return default + (0.5 if isinstance(default, float) else 1)


class TapTestCase(SynchronousTestCase):
    """Parsing."""

    def setUp(self) -> None:
        #: The signals whose handlers were replaced.
        self.taken: list[int] = []
        self.patch(signal, "signal", lambda number, handler: self.taken.append(number))

    def parse(self, *arguments: str, environ: dict[str, str] | None = None, file: str | None = None) -> Options:
        """Parse a command line, with an environment and, if given, a config file."""
        options = Options()
        options.environ = environ or {}
        if file is not None:
            folder = tempfile.TemporaryDirectory()
            self.addCleanup(folder.cleanup)
            path = Path(folder.name, "relay.toml")
            path.write_text(file, "utf-8")
            self.path = str(path)
            arguments = ("--config", self.path, *arguments)
        options.parseOptions(list(arguments))
        return options

    def problems(self, *arguments: str, **sources: Any) -> list[str]:
        """Return the lines of a usage error, without the file's changing name."""
        error = self.assertRaises(UsageError, self.parse, *arguments, **sources)
        first, *problems = str(error).replace(getattr(self, "path", "no file"), "FILE").splitlines()
        self.assertEqual(first, "wrong options, see --help:")
        return [problem.strip() for problem in problems]


class FolderTests(TapTestCase):
    """Modules of ``python:`` validators."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(sys, "path", [*sys.path])
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(folder.name)

    def test_beside_config(self) -> None:
        """A module beside the config file is found, also once the file names it at a reload."""
        options = self.parse(file="")
        folder = os.path.dirname(self.path)
        Path(folder, "wsrelay_beside.py").write_text("def f(request, grant): return grant\n")
        self.addCleanup(sys.modules.pop, "wsrelay_beside")
        self.assertNotIn(folder, sys.path)
        Path(self.path).write_text('validate = ["python:wsrelay_beside:f"]\n')
        _, validators = options.read()

        self.assertEqual([type(each).__name__ for each in validators], ["OriginValidator", "PythonValidator"])
        self.assertEqual(sys.path[-2:], [folder, os.getcwd()])

    def test_current_folder(self) -> None:
        """Without a config file, modules are looked for in the current folder; the error says where."""
        [problem] = self.problems("--validate", "python:wsrelay_nowhere:f")

        self.assertTrue(problem.endswith(f", {os.getcwd()}"), problem)

    def test_removed_folder(self) -> None:
        """The current folder may be removed: modules are looked for without it."""
        self.parse(file="")
        os.rmdir(os.getcwd())
        self.assertEqual(_folders(self.path), [os.path.dirname(self.path)])
        self.assertEqual(_folders("relay.toml"), [])

    def test_variable(self) -> None:
        """The config file that WSRELAY_CONFIG names counts, also a relative one."""
        path = os.path.relpath(os.devnull)
        self.assertRaises(
            UsageError, self.parse, "--validate", "python:wsrelay_nowhere:f", environ={"WSRELAY_CONFIG": path}
        )
        self.assertIn(os.path.dirname(os.devnull), sys.path)


class SourcesTests(TapTestCase):
    """The sources of values."""

    def test_defaults(self) -> None:
        """Without options, the settings are the defaults, and the same-host validator is used."""
        options = self.parse()

        self.assertEqual(options.settings, Settings())
        self.assertEqual([type(validator).__name__ for validator in options.validators], ["OriginValidator"])

    def test_every_option(self) -> None:
        """Every option arrives in its setting, from each of the three sources."""
        given = {option.name: TEXTS.get(option.name) or other(field) for field, option in OPTIONS.items()}
        expected = {
            name.replace("-", "_"): tuple(value) if isinstance(value, list) else value for name, value in given.items()
        }
        arguments: list[str] = []
        environ: dict[str, str] = {}
        lines: list[str] = []
        for name, value in given.items():
            variable = "WSRELAY_" + name.upper().replace("-", "_")
            if isinstance(value, list):
                arguments += [word for item in value for word in (f"--{name}", item)]
                environ[variable] = " ".join(f"'{item}'" for item in value)
                lines.append(f"{name} = {value}")
            elif value is True:
                arguments.append(f"--{name}")
                environ[variable] = "1"
                lines.append(f"{name} = true")
            else:
                arguments += [f"--{name}", str(value)]
                environ[variable] = str(value)
                lines.append(f"{name} = {value!r}")

        for options in (self.parse(*arguments), self.parse(environ=environ), self.parse(file="\n".join(lines))):
            self.assertEqual(asdict(options.settings), expected)

    def test_precedence(self) -> None:
        """The command line wins over the environment, that over the file, that over the default."""
        file = "max-rooms = 1\nmax-fragments = 1\nmax-connections = 1\nvalidate = ['rooms:a']\n"
        environ = {"WSRELAY_MAX_ROOMS": "2", "WSRELAY_MAX_FRAGMENTS": "2", "WSRELAY_VALIDATE": "rooms:b"}
        settings = self.parse("--max-rooms", "3", "--validate", "rooms:c", file=file, environ=environ).settings

        self.assertEqual((settings.max_rooms, settings.max_fragments, settings.max_connections), (3, 2, 1))
        self.assertEqual(settings.validate, ("rooms:c",))

    def test_config_from_the_environment(self) -> None:
        """WSRELAY_CONFIG names the file, too; --config wins."""
        self.parse(file="max-rooms = 1")
        self.assertEqual(self.parse(environ={"WSRELAY_CONFIG": self.path}).settings.max_rooms, 1)
        environ = {"WSRELAY_CONFIG": "/nowhere"}
        self.assertEqual(self.parse("--config", self.path, environ=environ).settings.max_rooms, 1)

    def test_the_process_environment(self) -> None:
        """By default the environment is the process's; foreign WSRELAY_ names, as Kubernetes sets them, are ignored."""
        self.assertIs(Options.environ, os.environ)
        self.assertEqual(self.parse(environ={"WSRELAY_PORT": "tcp://10.0.0.1:80"}).settings, Settings())


class WrongTests(TapTestCase):
    """Wrong values."""

    def test_all_at_once(self) -> None:
        """All wrong values of all sources are named at once."""
        self.assertEqual(
            self.problems(
                "--max-message-bytes=-5",
                "--validate=nosuch",
                "--validate=origin:",
                "--listen=nowhere:1",
                "--slow-policy=newest",
                "--log-level=loud",
                file="max-rooms = '7'\nmax-room = 7\n",
                environ={"WSRELAY_ECHO": "maybe", "WSRELAY_LISTEN": "'open"},
            ),
            [
                "FILE: max-rooms: expected a whole number, got '7'; write 7",
                "FILE: max-room: there is no such option; is it max-rooms?",
                'WSRELAY_LISTEN: expected a list, got "\'open"',
                "WSRELAY_ECHO: expected true or false, got 'maybe'",
                "--log-level: expected one of debug, info, warn, error, got 'loud'",
                "--max-message-bytes: expected a whole number >= 1, got '-5'",
                mock_any("--slow-policy: 'newest': write NAME or PATTERN=NAME with one of "),
                mock_any("listen: nowhere:1: there is no such kind of endpoint; write PORT, "),
                mock_any("validate: nosuch: there is no validator of this name; installed are host, http, "),
                mock_any("validate: origin:: "),
            ],
        )

    def test_contradictions(self) -> None:
        """Contradictions between values are named when each value is right."""
        [problem] = self.problems("--room-log-bytes", "1000")

        self.assertIn("room-log-bytes: must be at least 1048832 with max-message-bytes=1048576, ", problem)

    def test_backplane(self) -> None:
        """A wrong URL or password file of the broker is named with all other problems."""
        problems = self.problems(
            "--backplane=http://broker", "--backplane-password-file=/nowhere", "--listen=nowhere:1"
        )
        self.assertEqual(len(problems), 3)
        self.assertRegex(problems[0], "^listen: ")
        self.assertRegex(problems[1], "^backplane: must start with redis://, ")
        self.assertEqual(problems[2], "backplane_password_file: /nowhere: No such file or directory")

    def test_files(self) -> None:
        """A missing file, or a file that is not TOML, is named with the reason."""
        [problem] = self.problems("--config", "/nowhere/relay.toml")
        self.assertIn("/nowhere/relay.toml: ", problem)
        self.assertIn("`wsrelay init` makes a first relay.toml", problem)
        [problem] = self.problems(file="max-rooms = \n")
        self.assertIn("FILE: Invalid value (at line 1", problem)
        self.assertTrue(problem.endswith('; write NAME = VALUE, with text in quotes: log-level = "warn"'), problem)
        [problem] = self.problems(file="[relay]\nmax-rooms = 1\n")
        self.assertEqual(problem, "FILE: [relay]: the file has no sections; remove this line")
        [problem] = self.problems(file="xyzzy = 1\n")
        self.assertEqual(problem, "FILE: xyzzy: there is no such option")

    def test_file_encodings(self) -> None:
        """A byte order mark and Windows' line ends are read over; other encodings are named."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = Path(folder.name, "relay.toml")
        content = "max-rooms = 7\r\n# é\r\n"
        path.write_bytes(content.encode("utf-8-sig"))
        self.assertEqual(self.parse("--config", str(path)).settings.max_rooms, 7)
        for encoding, problem in (
            ("utf-16", "this is UTF-16; save it as UTF-8"),
            ("latin-1", "line 2 is not UTF-8 (byte 0xe9); save it as UTF-8"),
        ):
            path.write_bytes(content.encode(encoding))
            self.assertEqual(self.problems("--config", str(path)), [f"{path}: {problem}"])

    def test_unknown_options(self) -> None:
        """An unknown option is a usage error, which names the nearest one."""
        error = self.assertRaises(UsageError, self.parse, "--max-roms=3")
        self.assertEqual(str(error), "--max-roms: there is no such option; is it --max-rooms?")

    def test_option_of_twistd(self) -> None:
        """An option of twistd behind ``wsrelay`` is told its place."""
        options = Options()
        options.parent = UsageOptions()
        options.parent.update({"pidfile": "twistd.pid"})
        error = self.assertRaises(UsageError, options.parseOptions, ["--pidfile="])
        self.assertIn("--pidfile is an option of twistd", str(error))

    def test_words(self) -> None:
        """A word that is no option is a usage error, which says where a file belongs."""
        for word, hint in (
            ("relay.toml", "a file with options is --config relay.toml"),
            ("x", "options begin with --"),
        ):
            error = self.assertRaises(UsageError, self.parse, word)
            self.assertEqual(str(error), f"{word!r} is no option; {hint}")

    def test_admin(self) -> None:
        """A wrong admin endpoint is named; an empty one means no admin endpoint."""
        [problem] = self.problems("--admin", "nowhere:1")
        self.assertEqual(
            problem, "admin: nowhere:1: must be a port, ADDRESS:PORT, or one of ssl, systemd, tcp, tcp6, unix"
        )
        self.assertEqual(self.parse("--admin", "").settings.admin, "")

    def test_certificates(self) -> None:
        """An unreadable certificate is named before the start."""
        [problem] = self.problems("--listen", "ssl:8443:privateKey=/nowhere/key.pem")

        self.assertIn("listen: ssl:8443:privateKey=/nowhere/key.pem: ", problem)

    def test_usage_is_empty(self) -> None:
        """The usage, which twistd and twist print above an error, is empty."""
        self.assertEqual(str(Options()), "[options]\n")


class mock_any:  # noqa: N801 - reads as a value
    """Equal to any string that starts with the text."""

    def __init__(self, start: str) -> None:
        self.start = start

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and other.startswith(self.start)

    __hash__ = None  # type: ignore[assignment]


class ReadTests(TapTestCase):
    """Reading again, for SIGHUP."""

    def test_file_again(self) -> None:
        """The config file is read again, below the same command line and environment."""
        options = self.parse(
            "--max-fragments", "3", file="max-rooms = 1\nmax-fragments = 1\n", environ={"WSRELAY_ECHO": "1"}
        )
        Path(self.path).write_text("max-rooms = 2\nmax-fragments = 2\nvalidate = ['rooms:a']\n", "utf-8")
        settings, validators = options.read()

        self.assertEqual(settings, Settings(max_rooms=2, max_fragments=3, echo=True, validate=("rooms:a",)))
        self.assertEqual([type(validator).__name__ for validator in validators], ["OriginValidator", "RoomsValidator"])
        self.assertEqual((options.settings.max_rooms, len(options.validators)), (1, 1))

    def test_keys_again(self) -> None:
        """Files of validators are read again."""
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        key = folder / "key"
        key.write_text("a secret of thirty-two characters" * 2)
        options = self.parse("--validate", f"token:key={key},algorithm=HS256,audience=relay,issuer=test")
        key.write_text("too short")
        error = self.assertRaises(SettingsError, options.read)

        self.assertEqual(len(error.problems), 1)
        self.assertIn(str(key), error.problems[0])

    def test_file_of_rundir(self) -> None:
        """A relative name is the file of the folder of the start, also when ``--rundir`` has changed it since."""
        with tempfile.TemporaryDirectory() as folder:
            self.addCleanup(os.chdir, os.getcwd())
            os.chdir(folder)
            Path("relay.toml").write_text("max-rooms = 1\n", "utf-8")
            options = self.parse("--config", "relay.toml")
            Path("relay.toml").write_text("max-rooms = 2\n", "utf-8")
            os.chdir("/")
            self.assertEqual(options.read()[0].max_rooms, 2)

    def test_no_check_of_open_files(self) -> None:
        """The limit on open files is checked at start only: later, connections are among the open files."""
        options = self.parse("--max-connections", "2")
        self.patch(descriptors, "most_connections", lambda reserved, raised: 1)

        self.assertEqual(options.read()[0].max_connections, 2)

    def test_wrong(self) -> None:
        """All wrong values are named; the settings of the start stay."""
        options = self.parse(file="max-rooms = 1")
        Path(self.path).write_text("max-rooms = 'x'\nlisten = ['nowhere:1']\nvalidate = ['nosuch']\n", "utf-8")
        error = self.assertRaises(SettingsError, options.read)

        self.assertEqual(len(error.problems), 3)
        self.assertEqual(options.settings.max_rooms, 1)


class PrintTests(TapTestCase):
    """Options that print and exit."""

    def printed(self, *arguments: str) -> str:
        """Return what is printed before the exit with 0."""
        lines: list[str] = []
        self.patch(builtins, "print", lines.append)
        error = self.assertRaises(SystemExit, self.parse, *arguments)
        self.assertEqual(error.code, 0)
        return "\n".join(lines)

    def test_version(self) -> None:
        """--version prints the version of the relay, not of Twisted."""
        self.assertEqual(self.printed("--version"), f"wsrelay {wsrelay.__version__}")

    def test_help_validators(self) -> None:
        """--help-validators prints each validator with its arguments and its description."""
        text = self.printed("--help-validators")

        for line in ("rooms:PATTERN[,PATTERN…]", "host:HOST[:PORT][,…]", "    Allows these Host values only (421)."):
            self.assertIn(line, text.splitlines())

    def test_validators_without_arguments(self) -> None:
        """A validator that takes no arguments is listed without a colon."""

        class Plain:
            name, usage, description = "plain", "", "Says yes."

        self.patch(tap, "available", lambda: [Plain])
        self.assertEqual(self.printed("--help-validators"), "plain\n    Says yes.")

    def test_help(self) -> None:
        """--help has the synopsis, a description and every option, within the terminal's width and 80 columns."""
        for columns, most in (("", 80), ("70", 70), ("200", 80), ("nonsense", 80)):
            with mock.patch.dict(os.environ, {"COLUMNS": columns}), redirect_stdout(io.StringIO()) as printed:
                self.assertEqual(self.assertRaises(SystemExit, self.parse, "--help").code, 0)
            help_text = printed.getvalue()
            for field in fields(Settings):
                self.assertIn(f"--{field.name.replace('_', '-')}", help_text)
            self.assertIn("[default: 1048576]", help_text)
            self.assertLessEqual(max(map(len, help_text.splitlines())), most)
            self.assertIn("[options]\n\nA WebSocket relay: ", help_text)

    def test_synopsis(self) -> None:
        """The first line has the command that the user has typed, if that is not twistd."""
        self.patch(Options, "command", "wsrelay serve")
        self.assertEqual(Options().getSynopsis(), "Usage: wsrelay serve [options]")


class CheckConfigTests(TapTestCase):
    """--check-config."""

    def check(self, *arguments: str, **sources: Any) -> str:
        """Return what is printed on stdout before the exit with 0."""
        with redirect_stdout(io.StringIO()) as printed:
            error = self.assertRaises(SystemExit, self.parse, *arguments, "--check-config", **sources)
        self.assertEqual(error.code, 0)
        return printed.getvalue()

    def test_effective(self) -> None:
        """The effective settings are printed with their sources, as a file that gives the same settings."""
        file = "max-rooms = 1\nmax-fragments = 1\n"
        printed = self.check("--max-fragments", "3", file=file, environ={"WSRELAY_VALIDATE": "rooms:a 'host:b'"})

        for line in (
            f"max-rooms = 1  # {self.path}",
            "max-fragments = 3  # --max-fragments",
            'validate = ["rooms:a", "host:b"]  # WSRELAY_VALIDATE',
            "echo = false  # default",
        ):
            self.assertIn(line, printed.splitlines())
        expected = Settings(max_rooms=1, max_fragments=3, validate=("rooms:a", "host:b"))
        self.assertEqual(self.parse(file=printed).settings, expected)

    def test_unknown_variables(self) -> None:
        """A variable that is no option is named on stderr; stdout has the file only."""
        with redirect_stderr(io.StringIO()) as said:
            printed = self.check(environ={"WSRELAY_MAX_ROMS": "7"})
        self.assertIn("WSRELAY_MAX_ROMS in the environment is no option, and ignored", said.getvalue())
        self.assertNotIn("ROMS", printed)

    def test_stdout_closed(self) -> None:
        """Without stdout the check ends with its exit status, too."""
        self.patch(sys, "stdout", None)
        self.assertEqual(self.assertRaises(SystemExit, self.parse, "--check-config").code, 0)

    def test_connections(self) -> None:
        """The limit on connections is shown as it will be once the limit on open files is raised."""
        self.patch(tap, "most_connections", lambda reserved, raised: 99 - reserved if raised else 5)

        self.assertIn("max-connections = 0  # default; 99 by the limit on open files", self.check())

    def test_wrong(self) -> None:
        """All wrong values are named on stderr; stdout stays empty."""
        with redirect_stdout(io.StringIO()) as printed, redirect_stderr(io.StringIO()) as complaints:
            error = self.assertRaises(
                UsageError, self.parse, "--check-config", "--max-rooms=x", "--validate=python:nosuch:it"
            )
        self.assertEqual((str(error), printed.getvalue()), ("wrong options", ""))
        first, second = complaints.getvalue().splitlines()
        self.assertEqual(first, "--max-rooms: expected a whole number, got 'x'")
        self.assertIn("validate: python:nosuch:it: ", second)

    def test_bytes(self) -> None:
        """Bytes that are not UTF-8 are escaped."""
        self.assertIn(r"/\udcff", self.check("--listen", "unix:/\udcff"))

    def test_command_line_only(self) -> None:
        """It is refused in a file and ignored in the environment."""
        [problem] = self.problems(file="check-config = true\n")
        self.assertIn("there is no such option", problem)
        self.assertEqual(self.parse(environ={"WSRELAY_CHECK_CONFIG": "1"}).settings, Settings())


class OpenFilesTests(TapTestCase):
    """Descriptors."""

    def test_more_connections_than_open_files(self) -> None:
        """More connections than the limit on open files allows are refused at start, with a remedy."""
        self.patch(descriptors, "most_connections", lambda reserved, raised: 99 - reserved if raised else 5)
        self.parse("--max-connections=99")
        [problem] = self.problems("--max-connections=100")

        self.assertIn("leaves room for 99, not for 100; raise it (ulimit -Hn", problem)

    def test_raised(self) -> None:
        """The limit on open files is raised before it is counted."""
        raised: list[bool] = []
        self.patch(tap, "raise_limit", lambda: raised.append(True))
        self.patch(tap, "shape", lambda form, least, log_file: None)
        makeService(self.parse())

        self.assertEqual(raised, [True])


class MakeServiceTests(TapTestCase):
    """The service."""

    def test_service(self) -> None:
        """The parsed options become a RelayProcess."""
        shaped: list[object] = []
        self.patch(tap, "shape", lambda *given, log_file: shaped.append((*given, log_file)))
        options = self.parse("--listen", "tcp:0:interface=127.0.0.1", "--echo", "--log-format=json")
        service = makeService(options)
        self.assertEqual(shaped, [("json", "info", None)])

        self.assertIsInstance(service, RelayProcess)
        self.assertEqual(service._factory.settings, options.settings)  # type: ignore[attr-defined]
        self.assertEqual(service._read, options.read)  # type: ignore[attr-defined]

    def test_unknown_variables(self) -> None:
        """Variables that are no options are warned about in the log, without their values."""
        self.patch(tap, "shape", lambda *_, **__: None)
        lines: list[str] = []
        self.patch(tap._log, "observer", lambda event: lines.append(formatEvent(event)))
        makeService(self.parse(environ={"WSRELAY_MAX_ROMS": "secret", "WSRELAY_MAX_ROOMS": "7"}))
        expected = "WSRELAY_MAX_ROMS in the environment is no option, and ignored; is it WSRELAY_MAX_ROOMS?"
        self.assertEqual(lines, [expected])

    def test_reactor(self) -> None:
        """Our reactor is installed where there is none, but not in place of another; a failure has no effect."""
        self.patch(tap, "shape", lambda *_, **__: None)
        install = mock.Mock(side_effect=[None, ImportError, OSError])
        self.patch(reactor, "install", install)
        for calls in range(1, 4):
            with mock.patch.dict(sys.modules):
                sys.modules.pop("twisted.internet.reactor", None)
                makeService(self.parse())
            self.assertEqual(install.call_count, calls)
        with mock.patch.dict(sys.modules, {"twisted.internet.reactor": sys.modules["twisted.internet.reactor"]}):
            makeService(self.parse())
        self.assertEqual(install.call_count, 3)

    def test_signals(self) -> None:
        """Signals are kept from the start on: SIGHUP as soon as a command's options are read."""
        self.patch(tap, "shape", lambda *_, log_file: None)
        options = self.parse()
        self.assertEqual(self.taken, [])
        service = makeService(options)
        self.assertIs(service._signals, options.signals)  # type: ignore[attr-defined]
        self.assertEqual(self.taken, [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
        self.taken.clear()
        options.parent = UsageOptions()
        options.postOptions()
        self.assertEqual(self.taken, [signal.SIGHUP])

    def test_sigusr1_rotates_twistd_file(self) -> None:
        """SIGUSR1 is left to twistd where twistd writes a file, unless the relay has a log file of its own."""
        self.patch(tap, "shape", lambda *_, log_file: None)
        self.patch(tap, "_log_file", lambda settings: None)
        for given, of_twistd, is_taken in (
            ((), {}, True),  # twist
            ((), {"nodaemon": 1, "logfile": None}, True),
            ((), {"nodaemon": 1, "logfile": "-"}, True),
            ((), {"nodaemon": 0, "logfile": None}, False),
            ((), {"nodaemon": 1, "logfile": "twistd.log"}, False),
            (("--log-file=/dev/null",), {"nodaemon": 0, "logfile": None}, True),
        ):
            options = self.parse(*given)
            options.parent = UsageOptions()
            options.parent.update(of_twistd)
            self.taken.clear()
            makeService(options)
            self.assertEqual(signal.SIGUSR1 in self.taken, is_taken, of_twistd)

    def test_log_file(self) -> None:
        """The log file is opened for the log and for the signals; a failure is one line."""
        given: list[Any] = []
        self.patch(tap, "shape", lambda *_, log_file: given.append(log_file))
        folder = self.enterContext(tempfile.TemporaryDirectory())
        path = Path(folder, "relay.log")
        options = self.parse("--log-file", str(path), "--log-file-bytes=9", "--log-files-kept=2")
        self.assertFalse(path.exists())
        service = makeService(options)
        self.addCleanup(given[0].close)
        self.assertIs(service._log_file, given[0])  # type: ignore[attr-defined]
        self.assertEqual((given[0]._path, given[0]._max_bytes, given[0]._kept), (str(path), 9, 2))
        path.unlink()
        path.mkdir()
        error = self.assertRaises(SystemExit, makeService, options)
        self.assertIn("wsrelay: cannot open the log file: [Errno 21] Is a directory", str(error.code))

    def test_log_file_unwritable(self) -> None:
        """A log file that cannot be written is a wrong option, at the start and with --check-config."""
        problem = "log-file: /nowhere/relay.log: there is no folder /nowhere; make it, or name a file elsewhere"
        self.assertEqual(self.problems("--log-file=/nowhere/relay.log"), [problem])
        with redirect_stderr(io.StringIO()) as said:
            self.assertRaises(UsageError, self.parse, "--log-file=/nowhere/relay.log", "--check-config")
        self.assertEqual(said.getvalue(), f"{problem}\n")
        [problem] = self.problems("--log-file=-")
        self.assertIn("--log-file: not a file; ", problem)
        [problem] = self.problems("--log-file=a\0b")
        self.assertEqual(problem, r"--log-file: expected a path, got 'a\x00b'")

    def test_stdout_escapes(self) -> None:
        """Options make stdout and stderr escape what their encoding lacks: twistd prints our errors."""
        with open(os.devnull, "w", encoding="ascii") as out, open(os.devnull, "w", encoding="ascii") as err:
            self.patch(sys, "stdout", out)
            self.patch(sys, "stderr", err)
            Options()
            self.assertEqual((out.errors, err.errors), ("backslashreplace", "backslashreplace"))

    def test_own_pid_file(self) -> None:
        """A PID file of twistd that names the starting process is stale and removed; any other is left to twistd."""
        path = Path(self.enterContext(tempfile.TemporaryDirectory()), "twistd.pid")
        for text, stays in ((f"{os.getpid()}\n", False), (str(os.getppid()), True), ("x", True), ("", True)):
            path.write_text(text)
            self.parse_behind(pidfile=str(path))
            self.assertEqual(path.exists(), stays, text)
        path.unlink()
        self.parse_behind(pidfile=str(path))
        self.parse_behind(pidfile="")
        self.parse_behind()  # twist has no such option
        path.write_text(str(os.getpid()))
        self.assertRaises(UsageError, self.parse_behind, "--max-rooms=x", pidfile=str(path))
        self.assertTrue(path.exists())

    def parse_behind(self, *arguments: str, **of_twisted: str) -> None:
        """Parse as the sub-command of a program with options of its own."""
        options = Options()
        options.environ = {}
        options.parent = UsageOptions()
        options.parent.update(of_twisted)
        options.parseOptions(list(arguments))

    def test_no_reactor_is_imported(self) -> None:
        """Parsing options installs no reactor: twistd's --reactor must still be able to (TRAPS 38)."""
        code = (
            "import sys\n"
            "from wsrelay import tap\n"
            "options = tap.Options()\n"
            "options.parseOptions(['--listen', 'tcp:0', '--validate', 'rooms:a', '--validate', 'http:http://127.0.0.1/'])\n"
            "sys.exit('twisted.internet.reactor' in sys.modules)\n"
        )
        self.assertEqual(subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode, 0)
