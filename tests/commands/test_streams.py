"""Tests of wsrelay.commands.streams."""

import errno
import io
import os
import sys
from contextlib import redirect_stderr
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.commands import streams
from wsrelay.commands.streams import fill_closed, say_failed, silence

DESCRIPTORS = streams._DESCRIPTORS


class StreamsTests(SynchronousTestCase):
    """Standard streams that fail."""

    def opened(self, name: str, descriptor: int) -> Any:
        """Return the stream that takes the place of a closed one; its descriptor stands for that one's."""
        self.patch(streams, "_DESCRIPTORS", {name: (descriptor, DESCRIPTORS[name][1])})
        self.patch(sys, name, None)
        fill_closed()
        return getattr(sys, name)

    def next_descriptor(self) -> int:
        """Return the number that the next file gets."""
        descriptor = os.open(os.devnull, os.O_RDONLY)
        os.close(descriptor)
        return descriptor

    def test_closed(self) -> None:
        """A closed stream has its place taken: output fails, words on standard error are dropped."""
        for name, failed in (("stdout", True), ("stderr", False)):
            descriptor = self.next_descriptor()
            stream = self.opened(name, descriptor)
            self.assertEqual(stream.fileno(), descriptor)
            stream.write("a")
            if failed:
                self.assertEqual(self.assertRaises(OSError, stream.flush).errno, errno.EBADF)
                silence(stream)
            stream.flush()
            os.close(descriptor)

    def test_closed_input(self) -> None:
        """A closed input cannot be read."""
        descriptor = self.next_descriptor()
        stream = self.opened("stdin", descriptor)
        self.assertEqual(self.assertRaises(OSError, stream.read).errno, errno.EBADF)
        os.close(descriptor)

    def test_place_is_taken(self) -> None:
        """What has the place of a closed stream, in a program that runs a command, keeps it."""
        descriptor = self.next_descriptor()
        self.assertIsNone(self.opened("stdout", descriptor + 1000))
        os.close(descriptor)

    def test_open(self) -> None:
        """Open ones stay."""
        before = sys.stdin, sys.stdout, sys.stderr
        fill_closed()
        self.assertEqual((sys.stdin, sys.stdout, sys.stderr), before)

    def test_failed(self) -> None:
        """One line, with the file if it has one; none where nobody reads."""
        self.patch(sys, "stdout", io.StringIO())
        for error, line in (
            (OSError(errno.ENOSPC, "No space"), "wsrelay a: cannot read or write: No space\n"),
            (OSError(errno.EIO, "broken", "b"), "wsrelay a: b: broken\n"),
            (OSError("no number"), "wsrelay a: cannot read or write: no number\n"),
            (BrokenPipeError(errno.EPIPE, "Broken pipe"), ""),
        ):
            with redirect_stderr(io.StringIO()) as said:
                self.assertEqual(say_failed("wsrelay a", error), 1)
            self.assertEqual(said.getvalue(), line)

    def test_silence(self) -> None:
        """What waits in a stream that cannot be written is dropped, also at the exit."""
        with open("/dev/full", "w", encoding="utf-8") as full:
            full.write("a")
            self.assertRaises(OSError, full.flush)
            silence(full)
