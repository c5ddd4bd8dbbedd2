"""Tests of wsrelay.logs.writer."""

import gc
import io
import os
import tempfile
from pathlib import Path
from typing import IO, Any

from twisted.logger import LogEvent, formatEvent
from twisted.python.logfile import LogFile as TwistedLogFile
from twisted.trial.unittest import SynchronousTestCase

from wsrelay.logs import writer
from wsrelay.logs.files import LogFile
from wsrelay.logs.writer import Writer


def form(event: LogEvent) -> str | None:
    """Return the text of an event, as a line."""
    return f"{formatEvent(event)}\n" if event else None


class WriterTests(SynchronousTestCase):
    """Writing to files of all kinds."""

    def setUp(self) -> None:
        self.path = Path(self.enterContext(tempfile.TemporaryDirectory()), "log")
        self.said: list[str] = []
        self.patch(writer, "complain", self.said.append)

    def opened(self, encoding: str = "utf-8", errors: str = "strict", **options: Any) -> IO[str]:
        """Return an open text file."""
        file = open(self.path, "w", encoding=encoding, errors=errors, **options)  # noqa: SIM115 - closed by the test's end
        self.addCleanup(file.close)
        return file

    def write(self, file: Any, *texts: str) -> None:
        """Write texts as events."""
        observer = Writer(file, form)
        for text in texts:
            observer({"log_format": "{text}", "text": text})

    def test_encodings(self) -> None:
        """Characters that an encoding lacks are escaped; no line is lost, and none waits in a buffer."""
        text = "José 5 € \U0001f600 \udcff"
        for encoding, errors, expected in (
            ("ascii", "strict", r"Jos\xe9 5 \u20ac \U0001f600 \udcff"),
            ("ascii", "surrogateescape", r"Jos\xe9 5 \u20ac \U0001f600 \udcff"),
            ("latin-1", "strict", r"José 5 \u20ac \U0001f600 \udcff"),
            ("cp1252", "strict", r"José 5 € \U0001f600 \udcff"),
            ("utf-8", "strict", "José 5 € \U0001f600 \\udcff"),
        ):
            self.write(self.opened(encoding, errors), "before", text, "behind")
            self.assertEqual(
                self.path.read_text(encoding).splitlines(), ["before", expected, "behind"], (encoding, errors)
            )

    def test_other_files(self) -> None:
        """Twisted's log file, unbuffered and binary files, and files in memory are written, too."""
        twisted = TwistedLogFile.fromFullPath(str(self.path))
        self.addCleanup(twisted.close)
        self.write(twisted, "é \udcff")
        self.assertEqual(self.path.read_text("utf-8"), "é \\udcff\n")
        with io.FileIO(self.path, "w") as raw:
            self.write(raw, "é")
        self.assertEqual(self.path.read_text("utf-8"), "é\n")
        text, binary = io.StringIO(), io.BytesIO()
        self.write(text, "é \udcff")
        self.write(binary, "é \udcff")
        self.assertEqual((text.getvalue(), binary.getvalue().decode()), ("é \\udcff\n", "é \\udcff\n"))

    def test_printed_before(self) -> None:
        """Text that was printed before comes first."""
        file = self.opened()
        file.write("printed\n")
        self.write(file, "logged")
        self.assertEqual(self.path.read_text(), "printed\nlogged\n")

    def test_file_kept(self) -> None:
        """The writer keeps its file open."""
        observer = Writer(open(self.path, "w", encoding="utf-8"), form)  # noqa: SIM115 - kept by the writer alone
        gc.collect()
        self.addCleanup(observer._file.close)
        observer({"log_format": "text"})
        self.assertEqual(self.path.read_text(), "text\n")

    def test_no_file(self) -> None:
        """Without a file, as where stdout was closed at start, nothing happens."""
        self.write(None, "text")
        self.assertEqual(self.said, [])

    def test_empty_event(self) -> None:
        """An event without text writes nothing."""
        Writer(self.opened(), form)({})
        self.assertEqual(self.path.read_text(), "")

    def test_full_disk(self) -> None:
        """A write that fails raises nothing, and is reported once."""
        with open("/dev/full", "w", encoding="utf-8") as full:
            self.write(full, *["text"] * 10_000)
        self.assertEqual(
            self.said, ["the log cannot be written, the relay goes on without: [Errno 28] No space left on device"]
        )

    def test_outage(self) -> None:
        """The first line after an outage is preceded by the number of lost events, and the torn line is ended."""
        disk = Disk(self.path)
        self.addCleanup(disk.close)
        observer = Writer(disk, form)
        for text, free in (("one", 100), ("two", 2), ("three", 0), ("four", 100), ("five", 100)):
            disk.free = free
            observer({"log_format": text})
        self.assertEqual(
            self.path.read_text().splitlines(),
            ["one", "tw", "2 log events before this one were lost: [Errno 28] full", "four", "five"],
        )
        disk.free = 0
        observer({"log_format": "six"})
        self.assertEqual(len(self.said), 1)

    def test_dead_reader(self) -> None:
        """A pipe without a reader raises nothing."""
        reading, writing = os.pipe()
        os.close(reading)
        with open(writing, "w", encoding="utf-8") as pipe:
            self.write(pipe, "text", "text")
        self.assertIn("Broken pipe", self.said[0])

    def test_full_pipe(self) -> None:
        """A full pipe that another process has made non-blocking loses lines; its reader sees no torn line behind."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        os.set_blocking(writing, False)
        with open(writing, "w", encoding="utf-8") as pipe:
            observer = Writer(pipe, form)
            for _ in range(2000):
                observer({"log_format": "x" * 99})
            self.assertIn("Resource temporarily unavailable", self.said[0])
            seen = os.read(reading, 10**6)
            observer({"log_format": "behind"})
            lines = (seen + os.read(reading, 10**6)).decode().splitlines()
        self.assertEqual(set(map(len, lines[:500])), {99})
        self.assertRegex(lines[-2], r"^\d+ log events before this one were lost: \[Errno 11\]")
        self.assertEqual(lines[-1], "behind")

    def test_closed(self) -> None:
        """A closed file raises nothing."""
        file = self.opened()
        file.close()
        self.write(file, "text")
        self.assertEqual(len(self.said), 1)

    def test_log_file(self) -> None:
        """Our log file is written whole."""
        file = LogFile(str(self.path), 20, 1)
        self.addCleanup(file.close)
        self.write(file, "é" * 5, "1" * 12, "é")
        self.assertEqual(self.path.read_text("utf-8"), "1" * 12 + "\né\n")


class Disk(io.FileIO):
    """A file on a disk with little space."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w")
        self.free = 0

    def write(self, data: Any) -> int:
        if not self.free:
            raise OSError(28, "full")
        written = super().write(data[: self.free])
        self.free -= written
        return written
