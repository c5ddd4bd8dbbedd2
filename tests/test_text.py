"""Tests of wsrelay.text."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wsrelay.text import decode, why_unreadable, without_mark

MARK = b"\xef\xbb\xbf"

#: ASCII in UTF-16, as PowerShell and editors write it.
UTF16 = ["a\r\n".encode("utf-16"), "a\n".encode("utf-16-be"), "a\n".encode("utf-16-le"), b"\xfe\xff\0a"]


class DecodeTests(SynchronousTestCase):
    """Text."""

    def test_mark(self) -> None:
        """A byte order mark in front is no part of the text; one behind it is."""
        self.assertEqual(decode(MARK + "a = 'é'\n".encode()), "a = 'é'\n")
        self.assertEqual(decode(MARK * 2), "\ufeff")
        self.assertEqual(decode(b"a" + MARK), "a\ufeff")
        self.assertEqual(decode(b""), "")

    def test_line_ends(self) -> None:
        """Line ends of all systems are one."""
        self.assertEqual(decode(b"a\r\nb\rc\nd\r\n"), "a\nb\nc\nd\n")

    def test_utf16(self) -> None:
        """UTF-16 is named as such."""
        for content in (*UTF16, "é\n".encode("utf-16"), "a".encode("utf-32"), b"\xff\xfe"):
            with self.assertRaises(ValueError) as caught:
                decode(content)
            self.assertEqual(str(caught.exception), "this is UTF-16; save it as UTF-8")

    def test_other_encodings(self) -> None:
        """The first line that is not UTF-8 is named."""
        for content, line, byte in (
            ("a = 1\nb = 'é'\n".encode("latin-1"), 2, "e9"),
            (b"\x80", 1, "80"),
            (MARK + b"\n\nab\xc3", 3, "c3"),
        ):
            with self.assertRaises(ValueError) as caught:
                decode(content)
            self.assertEqual(str(caught.exception), f"line {line} is not UTF-8 (byte 0x{byte}); save it as UTF-8")


class WithoutMarkTests(SynchronousTestCase):
    """Bytes."""

    def test_mark(self) -> None:
        """A byte order mark is cut off text, once."""
        self.assertEqual(without_mark(MARK + b"secret\r\n"), b"secret\r\n")
        self.assertEqual(without_mark(MARK * 2), MARK)

    def test_utf16(self) -> None:
        """ASCII in UTF-16 is named as such."""
        for content in UTF16:
            with self.assertRaises(ValueError) as caught:
                without_mark(content)
            self.assertEqual(str(caught.exception), "this is UTF-16; save it as UTF-8")

    @given(st.binary(min_size=32))
    def test_random_bytes(self, content: bytes) -> None:
        """Bytes that are not text are unchanged, whatever they begin with."""
        for start in (b"", MARK, b"\xff\xfe", b"\xfe\xff"):
            secret = start + b"\xc0\x01\x02\x03" + content
            self.assertEqual(without_mark(secret), secret)


class UnreadableTests(SynchronousTestCase):
    """Files that cannot be read."""

    def test_why_unreadable(self) -> None:
        """The text names the file and what to do; an error that is not of a file is shown as it is."""
        for number, text in (
            (2, "there is no file a/key.pem; `wsrelay init` makes a first relay.toml, relay.key, key.pem and cert.pem"),
            (13, "the relay's user may not read a/key.pem; see `ls -l`"),
            (21, "a/key.pem is a folder; name a file in it"),
            (5, "[Errno 5] no: 'a/key.pem'"),
        ):
            self.assertEqual(why_unreadable(OSError(number, "no", "a/key.pem")), text)
        self.assertEqual(why_unreadable(OSError(2, "no")), "[Errno 2] no")
