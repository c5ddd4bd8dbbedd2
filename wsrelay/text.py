"""Text files as editors and shells write them: UTF-8, with or without a byte order mark; and why one cannot be read.

Must not live here: reading files (:mod:`wsrelay.tap`, :mod:`wsrelay.validators.keys`), text of clients.
"""

import errno
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

__all__ = ["decode", "why_unreadable", "without_mark"]

#: The byte order mark that Windows' editors write in front of UTF-8. It is no part of the text (RFC 8259 section 8.1).
_MARK: Final = b"\xef\xbb\xbf"

_UTF16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")

#: PowerShell's ``>`` writes UTF-16.
_UTF16: Final = "this is UTF-16; save it as UTF-8"

#: Error number → what is wrong with a file, for the operator.
_UNREADABLE: Final[Mapping[int | None, str]] = {
    errno.ENOENT: "there is no file {path}; `wsrelay init` makes a first relay.toml, relay.key, key.pem and cert.pem",
    errno.EACCES: "the relay's user may not read {path}; see `ls -l`",
    errno.EISDIR: "{path} is a folder; name a file in it",
}


def decode(content: bytes) -> str:
    """Return the text of a file, without a byte order mark and with one kind of line end.

    Raises:
        ValueError: it is not UTF-8. The text says what to do.
    """
    if content.startswith(_UTF16_MARKS) or _is_ascii_in_utf16(content):
        raise ValueError(_UTF16)
    content = content.removeprefix(_MARK)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line} is not UTF-8 (byte 0x{content[error.start]:02x}); save it as UTF-8") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def without_mark(content: bytes) -> bytes:
    """Return the bytes of a file without a byte order mark. Only text has one: random bytes are not changed.

    Raises:
        ValueError: it is ASCII in UTF-16.
    """
    if _is_ascii_in_utf16(content):
        raise ValueError(_UTF16)
    if content.startswith(_MARK):
        with suppress(UnicodeDecodeError):
            content.decode()
            return content.removeprefix(_MARK)
    return content


def why_unreadable(error: OSError) -> str:
    """Return why a file cannot be read, and what to do."""
    if error.errno not in _UNREADABLE or not isinstance(error.filename, str):
        return str(error)
    return _UNREADABLE[error.errno].format(path=error.filename)


def _is_ascii_in_utf16(content: bytes) -> bool:
    """Whether every other byte is zero, behind the byte order mark."""
    text = content[2:] if content.startswith(_UTF16_MARKS) else content
    return len(text) > 1 and not (any(text[::2]) and any(text[1::2]))
