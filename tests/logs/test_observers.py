"""Tests of wsrelay.logs.observers."""

import io
import json
import re
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

from twisted.application.runner._runner import Runner
from twisted.internet.testing import MemoryReactor
from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    LegacyLogObserverWrapper,
    LogBeginner,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    LogPublisher,
    formatEventAsClassicLogText,
    jsonFileLogObserver,
    textFileLogObserver,
)
from twisted.python.failure import Failure
from twisted.python.log import textFromEventDict
from twisted.trial.unittest import SynchronousTestCase

from wsrelay.logs.files import LogFile
from wsrelay.logs.lines import ASKED, TEXTS, UNCHOSEN
from wsrelay.logs.observers import as_json, as_text, shape


def fields(**event: Any) -> dict[str, Any]:
    """Return the fields of an event with one line."""
    text = as_json(event)
    assert text is not None
    assert text.endswith("\n")
    read: dict[str, Any] = json.loads(text)
    return read


class JsonTests(SynchronousTestCase):
    """Events as JSON."""

    def test_json_fields(self) -> None:
        """An event has its time in UTC, its level, logger and text."""
        event = {"log_time": 1e9 + 0.5, "log_level": LogLevel.warn, "log_namespace": "wsrelay"}

        self.assertEqual(
            fields(**event, log_format="{count} left", count=7),
            {"time": "2001-09-09T01:46:40.500Z", "level": "warn", "logger": "wsrelay", "message": "7 left"},
        )

    def test_json_defaults(self) -> None:
        """Missing fields of an event get defaults."""
        made = fields(log_format="hello")

        self.assertRegex(made.pop("time"), r"^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertEqual(made, {"level": "info", "logger": "", "message": "hello"})

    def test_json_records(self) -> None:
        """An event with records is one line per record; its fields do not replace ours."""
        records = [{"event": "opened", "room": "a\nb"}, {"event": "closed", "time": "x", "peer": object}]
        text = as_json({"log_time": 1.0, "log_namespace": "wsrelay", "log_format": "two lines", "records": records})
        head = {"time": "1970-01-01T00:00:01.000Z", "level": "info", "logger": "wsrelay"}

        self.assertEqual(
            [json.loads(line) for line in (text or "").splitlines()],
            [head | {"event": "opened", "room": "a\nb"}, head | {"event": "closed", "peer": str(object)}],
        )

    def test_other_records(self) -> None:
        """A field of this name in an event of another program, such as a validator, is a field like any other."""
        event = {"log_level": LogLevel.info, "log_namespace": "mysite", "log_format": "{records} read", "records": 7}
        self.assertEqual(fields(**event)["message"], "7 read")
        self.assertTrue((as_text(event) or "").endswith(" [mysite#info] 7 read\n"))

    def test_json_failures(self) -> None:
        """A failure has fields for traceback and incident, and may have no text."""
        failure = Failure(ValueError("broken"))
        made = fields(log_format="it failed [{incident}]", log_failure=failure, incident="0badcafe")
        self.assertEqual((made["message"], made["incident"]), ("it failed [0badcafe]", "0badcafe"))
        self.assertIn("ValueError: broken", made["traceback"])
        self.assertIn("ValueError: broken", fields(log_failure=failure)["traceback"])

    def test_json_empty_event(self) -> None:
        """An empty event is no line."""
        self.assertEqual(as_json({"log_level": LogLevel.info, "log_namespace": "x"}), None)

    def test_json_escaped(self) -> None:
        """Any text becomes one line of printable ASCII."""
        said = "".join(map(chr, range(0x20))) + '"\\\x7f\x80\x85\x9b\u2028\u202e\ud800\U0001f600'
        text = as_json({"log_format": "{said}", "said": said}) or ""

        self.assertTrue(text[:-1].isascii())
        self.assertTrue(text[:-1].isprintable())
        self.assertEqual(json.loads(text)["message"], said)


class TextTests(SynchronousTestCase):
    """Events as text."""

    def test_text_records(self) -> None:
        """Each record is a line with its own timestamp and system, and equal to the only line of a single record."""
        records = [{"event": "left_out", "of": "denied", "peer": "p", "count": count} for count in range(300)]
        event: dict[str, Any] = {"log_time": 1e9, "log_level": LogLevel.info, "log_namespace": "wsrelay"}
        lines = (as_text({**event, "records": records}) or "").splitlines(keepends=True)
        self.assertEqual(len(lines), 300)
        for line, record in zip(lines, records, strict=True):
            text = TEXTS["left_out"].format_map(record)
            self.assertEqual(line, formatEventAsClassicLogText({**event, "log_format": text}))

    def test_text_traceback(self) -> None:
        """A traceback is several lines, of which the first has a timestamp and the others begin with a TAB."""
        failure = Failure(ValueError("a\nb"))
        text = as_text({"log_time": 1e9, "log_format": "it failed", "log_failure": failure}) or ""
        first, *others = text.splitlines()
        self.assertRegex(first, r"^2001-09-0\S+ \[-#?-?\S*\] it failed$")
        self.assertTrue(all(line.startswith("\t") for line in others))

    def test_text_escaped(self) -> None:
        """Text of others cannot forge a line or control a terminal; letters of all languages stay."""
        said = "a\r\x1b[2J\x00\x7f\x85\x9b\u2028\u2029\ud800 é 日本 \U0001f600\tb"
        text = as_text({"log_format": "{said}", "said": said}) or ""
        self.assertEqual(
            text.partition("] ")[2], r"a\r\x1b[2J\x00\x7f\x85\x9b\u2028\u2029\ud800 é 日本 " + "\U0001f600\tb\n"
        )

    def test_text_empty_event(self) -> None:
        """An empty event is no line."""
        self.assertIsNone(as_text({"log_level": LogLevel.info}))


class DocsTests(SynchronousTestCase):
    """docs/logs.md."""

    def test_documented_fields(self) -> None:
        """Each event about connections, each of its fields, and each common field is documented."""
        page = (Path(__file__).parents[2] / "docs" / "logs.md").read_text("utf-8")
        explained: dict[str, set[str]] = {event: set() for event in TEXTS}
        events: list[str] = []
        for first, names in re.findall(r"^\| (`[a-z_`, ]+`|) ?\| ([a-z_`, ]+) \| [^|]* \|$", page, re.MULTILINE):
            events = re.findall("[a-z_]+", first) or events
            for event in events:
                explained[event] |= set(re.findall("[a-z_]+", names))

        self.assertEqual(
            explained,
            {event: set(re.findall(r"{([a-z_]+)", text)) | MORE.get(event, set()) for event, text in TEXTS.items()},
        )
        for field in fields(log_format="hello"):
            self.assertIn(f"| `{field}` |", page)


#: Event → fields that are not in its text.
MORE = {"denied": {"connection", *ASKED}, "opened": {UNCHOSEN}}


class ShapeTests(SynchronousTestCase):
    """Format and level of the log."""

    def setUp(self) -> None:
        self.publisher = LogPublisher()
        self.file = io.StringIO()
        stdio = type("stdio", (), {"stdout": io.StringIO(), "stderr": io.StringIO()})
        self.patch(warnings, "showwarning", warnings.showwarning)
        self.stdio = stdio
        self.beginner = LogBeginner(self.publisher, io.StringIO(), stdio, warnings)
        self.log = Logger(namespace="wsrelay", observer=self.publisher)

    def messages(self) -> list[str]:
        """Return the messages of the file; every line is a JSON object."""
        return [json.loads(line)["message"] for line in self.file.getvalue().splitlines()]

    def test_format_of_buffered_lines(self) -> None:
        """All lines have the format, also those logged before the log began."""
        self.log.info("early")
        shape("json", "info", self.beginner)
        self.log.info("between")
        self.beginner.beginLoggingTo([textFileLogObserver(self.file)])
        self.log.info("late")

        self.assertEqual(self.messages(), ["early", "between", "late"])

    def test_format_of_printed_text(self) -> None:
        """Printed text and Python warnings have the format, too."""
        shape("json", "info", self.beginner)
        self.beginner.beginLoggingTo([textFileLogObserver(self.file)])
        self.stdio.stdout.write("printed\n")
        self.stdio.stderr.write("complained\n")
        warnings.showwarning("beware", UserWarning, "file.py", 7)

        self.assertEqual(self.messages(), ["printed", "complained", "file.py:7: builtins.UserWarning: beware"])

    def test_log_level(self) -> None:
        """Lines below the level are dropped, also those before the log began; failures never are."""
        for least, count in (("debug", 5), ("info", 4), ("warn", 3), ("error", 2)):
            self.setUp()
            shape("json", least, self.beginner)
            self.log.debug("debug")
            self.log.info("info")
            self.beginner.beginLoggingTo([textFileLogObserver(self.file)])
            self.log.warn("warn")
            self.log.error("error")
            self.log.failure("critical", Failure(ValueError()))
            self.assertEqual(self.messages(), ["debug", "info", "warn", "error", "critical"][-count:])

    def test_format_text(self) -> None:
        """The text format is Twisted's, also with an observer that would write JSON."""
        shape("text", "info", self.beginner)
        self.beginner.beginLoggingTo([jsonFileLogObserver(self.file)])
        self.log.info("hello")

        self.assertRegex(self.file.getvalue(), r"^20\S+ \[wsrelay#info\] hello\n$")

    def test_twist_level_ignored(self) -> None:
        """The level of twist's own observer is ignored."""
        shape("json", "debug", self.beginner)
        strict = LogLevelFilterPredicate(defaultLogLevel=LogLevel.critical)
        self.beginner.beginLoggingTo([FilteringLogObserver(textFileLogObserver(self.file), [strict])])
        self.log.debug("hello")

        self.assertEqual(self.messages(), ["hello"])

    def test_observer_without_file(self) -> None:
        """An observer without a file, as for syslog, gets the events of the level."""
        seen: list[str] = []
        shape("json", "warn", self.beginner)
        self.beginner.beginLoggingTo([LegacyLogObserverWrapper(lambda event: seen.append(event["log_format"]))])
        self.log.info("info")
        self.log.warn("warn")

        self.assertEqual(seen, ["warn"])

    def test_syslog_lines(self) -> None:
        """A legacy observer, as for syslog, gets one line per event, without characters that it cannot send."""
        shape("text", "info", self.beginner)
        seen: list[str | None] = []
        self.beginner.beginLoggingTo([LegacyLogObserverWrapper(lambda event: seen.append(textFromEventDict(event)))])
        records = [{"event": "left_out", "of": "denied", "peer": "p", "count": count} for count in (1, 2)]
        self.log.info("two lines", records=records)
        self.log.info("{said}", said="a\0b\ud800é")
        self.log.info("plain")
        self.log.failure("it failed", Failure(ValueError("broken")))
        self.assertEqual(
            seen[:4], ["... and 1 more lines: denied, p", "... and 2 more lines: denied, p", r"a\x00b\ud800é", "plain"]
        )
        self.assertIn("ValueError: broken", seen[4] or "")

    def test_log_file(self) -> None:
        """With a log file, the log goes there and nowhere else."""
        path = Path(self.enterContext(tempfile.TemporaryDirectory()), "log")
        log_file = LogFile(str(path))
        self.addCleanup(log_file.close)
        shape("text", "info", self.beginner, log_file=log_file)
        self.log.info("early")
        self.beginner.beginLoggingTo([textFileLogObserver(self.file)])
        self.log.debug("not this")
        self.stdio.stdout.write("printed\n")
        self.assertRegex(path.read_text(), r"^20\S+ \[wsrelay#info\] early\n20\S+ \[stdout#info\] printed\n$")
        self.assertEqual(self.file.getvalue(), "")

    def test_begin_again(self) -> None:
        """A later beginning is left alone; arguments are passed on."""
        shape("json", "info", self.beginner)
        stdout = self.stdio.stdout
        self.beginner.beginLoggingTo([], redirectStandardIO=False)
        self.assertIs(self.stdio.stdout, stdout)
        self.beginner.beginLoggingTo([textFileLogObserver(self.file)], discardBuffer=True, redirectStandardIO=False)
        self.log.info("hello")

        self.assertRegex(self.file.getvalue(), r"\[wsrelay#info\] hello\n$")


class CanaryTests(SynchronousTestCase):
    """Twisted internals in use (TRAPS 82)."""

    def test_canary_file_observer(self) -> None:
        """A FileLogObserver has its file in _outFile."""
        file = io.StringIO()
        self.assertIs(textFileLogObserver(file)._outFile, file)

    def test_canary_twist(self) -> None:
        """twist begins its log through the global beginner, with a file observer inside a filtering one."""
        begun: list[Any] = []
        self.patch(
            sys.modules["twisted.application.runner._runner"],
            "globalLogBeginner",
            type("Beginner", (), {"beginLoggingTo": lambda _, observers: begun.extend(observers)})(),
        )
        Runner(reactor=MemoryReactor(), logFile=io.StringIO()).startLogging()

        self.assertIsInstance(begun[0], FilteringLogObserver)
        self.assertIsInstance(begun[0]._observer, FileLogObserver)
