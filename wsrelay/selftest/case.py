"""One row of the tables of cases.

Must not live here: the rows.
"""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from wsrelay.selftest.lab import Lab

__all__ = ["Case"]


@dataclass(frozen=True, slots=True)
class Case:
    """A case.

    Attributes:
        name: for ``--only`` and ``--allow``.
        group: the heading that it stands under.
        expects: what is expected.
        source: who says so.
        means: what it means to an application if the server does otherwise.
        attempt: tries it and returns what was seen, in one line; raises
            :class:`wsrelay.selftest.outcome.Outcome` if that is not as expected.
    """

    name: str
    group: str
    expects: str
    source: str
    means: str
    attempt: Callable[[Lab], Coroutine[Any, Any, str]]
