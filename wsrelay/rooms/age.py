"""How old the messages of a log are, without a time on each of them.

Pure: the time is passed in.
"""

from collections import deque
from typing import Final

__all__ = ["Age"]

#: How many times are noted while a message grows old. More is more exact, and costs memory in rooms that lag.
_MARKS: Final = 16


class Age:
    """Notes now and then where the head of a log was: what is below was there by then.

    Args:
        seconds: from when on a message is old. What is said to be old is; it may be said a sixteenth of this late.
    """

    __slots__ = ("_marks", "_old", "_seconds")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._marks: deque[tuple[float, int]] = deque()
        self._old = 0

    def old_before(self, now: float, head: int) -> int:
        """Return the offset below which all messages are old.

        Args:
            now: seconds on any clock that does not go back.
            head: of the log, now; noted, so that this is to be called now and then.

        Complexity:
            Constant, in time and in memory.
        """
        if not self._marks or now - self._marks[-1][0] >= self._seconds / _MARKS:
            self._marks.append((now, head))
        while self._marks and now - self._marks[0][0] >= self._seconds:
            self._old = self._marks.popleft()[1]
        return self._old
