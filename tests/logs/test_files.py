"""Tests of wsrelay.logs.files."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.errors import SettingsError
from wsrelay.logs import files
from wsrelay.logs.files import LogFile, check_log_file, complain


class FilesTestCase(SynchronousTestCase):
    """A folder, and what is said on stderr."""

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.path = self.folder / "relay.log"
        self.said: list[str] = []
        self.patch(files, "complain", self.said.append)

    def open(self, max_bytes: int = 0, kept: int = 0) -> LogFile:
        """Return an open log file."""
        file = LogFile(str(self.path), max_bytes, kept)
        self.addCleanup(file.close)
        return file

    def write(self, file: LogFile, *texts: str) -> None:
        """Write texts, each as a whole."""
        for text in texts:
            self.assertEqual(file.write(memoryview(text.encode())), len(text))

    def found(self) -> dict[str, str]:
        """Return name → text of all files."""
        return {path.name: path.read_text() for path in self.folder.iterdir()}


class OpenTests(FilesTestCase):
    """Opening."""

    def test_append(self) -> None:
        """An existing file is appended to."""
        self.path.write_text("old\n")
        self.write(self.open(), "new\n")
        self.assertEqual(self.path.read_text(), "old\nnew\n")

    def test_mode(self) -> None:
        """A new file is not readable by others; an existing file keeps its mode."""
        previous = os.umask(0)
        self.addCleanup(os.umask, previous)
        self.open()
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o640)
        self.path.chmod(0o600)
        self.open()
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)

    def test_copytruncate(self) -> None:
        """Behind logrotate's copytruncate the next line is at the beginning, not behind a hole of NULs."""
        file = self.open(max_bytes=10, kept=1)
        self.write(file, "12345\n")
        os.truncate(self.path, 0)
        self.write(file, "67890\n")
        self.assertEqual(self.found(), {"relay.log": "67890\n"})

    def test_reopen(self) -> None:
        """Behind logrotate's rename the next line is in a new file."""
        file = self.open()
        self.write(file, "one\n")
        self.path.rename(self.folder / "moved")
        self.write(file, "two\n")
        file.reopen()
        self.write(file, "three\n")
        self.assertEqual(self.found(), {"moved": "one\ntwo\n", "relay.log": "three\n"})

    def test_reopen_after_chdir(self) -> None:
        """A relative path is that of the start: twistd changes the folder later."""
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)
        file = LogFile("relay.log")
        self.addCleanup(file.close)
        os.chdir("/")
        self.path.unlink()
        file.reopen()
        self.assertTrue(self.path.exists())

    def test_reopen_fails(self) -> None:
        """A path that cannot be opened again leaves the old file open."""
        file = self.open()
        moved = self.path.rename(self.folder / "moved")
        self.path.mkdir()
        self.assertRaises(IsADirectoryError, file.reopen)
        self.write(file, "on\n")
        self.assertEqual(moved.read_text(), "on\n")

    def test_pipe(self) -> None:
        """A named pipe without a reader raises, and one that is full takes nothing; neither blocks."""
        os.mkfifo(self.path)
        self.assertRaises(OSError, self.open)
        reading = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reading)
        file = self.open(max_bytes=1)
        for _ in range(1000):
            written = file.write(memoryview(bytes(4096)))
        self.assertIsNone(written)

    def test_no_folder(self) -> None:
        """A file that cannot be opened raises."""
        shutil.rmtree(self.folder)
        self.assertRaises(FileNotFoundError, self.open)
        self.folder.mkdir()


class RotateTests(FilesTestCase):
    """Rotation by size."""

    def test_rotation(self) -> None:
        """No file exceeds its bound, no more than the bound of files are kept, and lines stay whole."""
        file = self.open(max_bytes=8, kept=2)
        self.write(file, "1\n", "22222\n", "3\n", "4444\n", "555\n", "66666666666\n", "7\n")
        self.assertEqual(self.found(), {"relay.log": "7\n", "relay.log.1": "66666666666\n", "relay.log.2": "555\n"})
        self.assertEqual(self.said, [])

    def test_rotation_exact(self) -> None:
        """A file may be exactly as large as its bound."""
        file = self.open(max_bytes=4, kept=1)
        self.write(file, "1\n", "2\n", "3\n")
        self.assertEqual(self.found(), {"relay.log": "3\n", "relay.log.1": "1\n2\n"})

    def test_none_kept(self) -> None:
        """Without kept files, a full file is emptied."""
        file = self.open(max_bytes=4)
        self.write(file, "1\n", "2\n", "3\n")
        self.assertEqual(self.found(), {"relay.log": "3\n"})

    def test_no_rotation(self) -> None:
        """Without a bound nothing is rotated."""
        file = self.open(kept=1)
        self.write(file, *["line\n"] * 100)
        self.assertEqual(list(self.found()), ["relay.log"])

    def test_rotation_of_device(self) -> None:
        """A device is never rotated."""
        file = LogFile("/dev/null", 1, 1)
        self.addCleanup(file.close)
        self.write(file, "1\n", "2\n")
        self.assertFalse(Path("/dev/null.1").exists())

    def test_rotation_of_link(self) -> None:
        """A symbolic link, such as /dev/stdout, is not renamed; the file behind it grows."""
        self.path.symlink_to(self.folder / "target")
        file = self.open(max_bytes=4, kept=1)
        self.write(file, "1\n", "2\n", "3\n")
        self.assertTrue(self.path.is_symlink())
        self.assertEqual(self.found(), {"relay.log": "1\n2\n3\n", "target": "1\n2\n3\n"})
        self.assertIn("is a symbolic link", self.said[0])

    def test_rotation_after_move(self) -> None:
        """Where logrotate has moved the file and has not told us yet, a new one is begun."""
        file = self.open(max_bytes=4, kept=1)
        self.write(file, "1\n", "2\n")
        self.path.rename(self.folder / "moved")
        self.write(file, "3\n")
        self.assertEqual(self.found(), {"moved": "1\n2\n", "relay.log": "3\n"})

    def test_rotation_fails(self) -> None:
        """A rotation that fails loses no line, is reported once, and is tried again after as many bytes."""
        blocked = self.folder / "relay.log.1"
        blocked.mkdir()
        (blocked / "in the way").touch()
        file = self.open(max_bytes=4, kept=1)
        self.write(file, *(f"{number}\n" for number in range(8)))
        self.assertEqual(self.path.read_text(), "0\n1\n2\n3\n4\n5\n6\n7\n")
        self.assertEqual(len(self.said), 1)
        self.assertIn("cannot be rotated: ", self.said[0])
        shutil.rmtree(blocked)
        self.write(file, "8\n", "9\n")
        self.assertEqual(blocked.read_text() + self.path.read_text(), "".join(f"{number}\n" for number in range(10)))


class CheckTests(FilesTestCase):
    """The check before the start."""

    def problem(self, path: Path) -> str:
        """Return the problem of a path."""
        [problem] = self.assertRaises(SettingsError, check_log_file, str(path)).problems
        return str(problem).replace(str(self.folder), "FOLDER")

    def test_writable(self) -> None:
        """A file that exists or can be made is right, and is not made; no file is right."""
        check_log_file("")
        check_log_file(str(self.path))
        self.assertEqual(self.found(), {})
        self.path.touch()
        check_log_file(str(self.path))
        check_log_file("/dev/null")

    def test_unwritable(self) -> None:
        """A folder, a missing folder, and missing permission are named."""
        self.assertEqual(self.problem(self.folder), "log-file: FOLDER: it is a folder; name a file in it")
        self.assertIn(
            "log-file: FOLDER/no/x: there is no folder FOLDER/no; make it", self.problem(self.folder / "no" / "x")
        )
        self.patch(os, "access", lambda *_: False)
        self.assertIn("log-file: FOLDER/relay.log: no permission to write to FOLDER; give it", self.problem(self.path))
        self.path.touch()
        self.assertIn(
            ": no permission to write to FOLDER/relay.log; give it to the relay's user (chown)", self.problem(self.path)
        )


class ComplainTests(SynchronousTestCase):
    """The process's own stderr."""

    def test_complain(self) -> None:
        """A complaint is one line; text that is not Unicode is escaped."""
        file = self.enterContext(tempfile.TemporaryFile("w+b"))
        self.patch(sys, "__stderr__", file)
        complain("no log: \udcff")
        file.seek(0)
        self.assertEqual(file.read(), b"wsrelay: no log: \\udcff\n")

    def test_stderr_closed(self) -> None:
        """Without stderr nothing is said: the number 2 may be a client's."""
        self.patch(sys, "__stderr__", None)
        complain("no log")
        file = self.enterContext(tempfile.TemporaryFile("w+b"))
        file.close()
        self.patch(sys, "__stderr__", file)
        complain("no log")
