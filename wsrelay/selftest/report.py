"""Results as text for people, in 100 columns, and as JSON for machines.

Must not live here: exit codes (:mod:`wsrelay.commands.selftest`).
"""

import json
import textwrap
from collections.abc import Callable, Collection, Sequence
from typing import Final

from wsrelay.selftest.case import Case
from wsrelay.selftest.cases import CASES
from wsrelay.selftest.outcome import Verdict
from wsrelay.selftest.runner import Result

__all__ = ["Table", "as_json", "listed"]

COLUMNS: Final = 100

_NAMES: Final = max(len(case.name) for case in CASES) + 2
_VERDICTS: Final = max(len(verdict.value) for verdict in Verdict) + 2
_LEGEND: Final = """\
differs: otherwise than this relay, in a way that RFC 6455 leaves open
fails: against RFC 6455; or messages lost or changed; or one client disturbs another
promises: docs/reliability.md of wsrelay
"""
_INDENT: Final = " " * (2 + _VERDICTS + _NAMES)

#: SGR colours (ECMA-48) of verdicts.
_COLOURS: Final = {Verdict.PASS: 32, Verdict.DIFFERS: 33, Verdict.FAILS: 31, Verdict.SKIPPED: 36}


class Table:
    """A table that grows row by row.

    Args:
        write: gets each piece of text.
        allowed: names of cases that may differ or fail.
        is_coloured: whether verdicts have colours.
    """

    def __init__(self, write: Callable[[str], object], allowed: Collection[str] = (), *, is_coloured: bool) -> None:
        self._write = write
        self._allowed = allowed
        self._is_coloured = is_coloured
        self._group = ""

    def begin(self, url: str, room: str) -> None:
        """Write what is tried."""
        self._write(f"wsrelay selftest {url}  rooms: {room}\n")

    def add(self, result: Result) -> None:
        """Write the row of a result."""
        case, verdict = result.case, result.verdict
        if case.group != self._group:
            self._group = case.group
            self._write(f"\n{case.group}\n")
        allowed = " (allowed)" if _is_bad(result) and case.name in self._allowed else ""
        self._write(f"  {self._coloured(verdict)}{case.name:{_NAMES}}{_wrapped(result.seen + allowed)}\n")
        if result.means:
            self._write(f"{_INDENT}{_wrapped(f'expected: {case.expects} ({case.source})', 2)}\n")
            self._write(f"{_INDENT}{_wrapped(f'means: {result.means}', 2)}\n")

    def end(self, results: Sequence[Result]) -> None:
        """Write the sums."""
        counts = {verdict: sum(result.verdict is verdict for result in results) for verdict in Verdict}
        seconds = sum(result.seconds for result in results)
        words = ", ".join(f"{count} {verdict.value}" for verdict, count in counts.items())
        self._write(f"\n{len(results)} cases in {seconds:.1f} s: {words}\n")
        if bad(results):
            self._write(_LEGEND)

    def _coloured(self, verdict: Verdict) -> str:
        text = f"{verdict.value:{_VERDICTS}}"
        return f"\x1b[{_COLOURS[verdict]}m{text}\x1b[0m" if self._is_coloured else text


def _is_bad(result: Result) -> bool:
    return result.verdict in (Verdict.DIFFERS, Verdict.FAILS)


def bad(results: Sequence[Result], allowed: Collection[str] = ()) -> list[Result]:
    """Return the results that differ or fail, without those that are allowed to."""
    return [result for result in results if _is_bad(result) and result.case.name not in allowed]


def _wrapped(text: str, hang: int = 0) -> str:
    """Return a text that begins behind the indent, wrapped at the last column."""
    return textwrap.fill(
        text, COLUMNS, initial_indent=_INDENT, subsequent_indent=_INDENT + " " * hang, break_on_hyphens=False
    ).removeprefix(_INDENT)


def listed(cases: Sequence[Case]) -> str:
    """Return names, what is expected, and the sources."""
    lines, group = [], ""
    for case in cases:
        if case.group != group:
            group = case.group
            lines.append(f"{group}\n")
        text = textwrap.fill(f"{case.expects} ({case.source})", COLUMNS - _NAMES - 2)
        lines.append(f"  {case.name:{_NAMES}}" + text.replace("\n", "\n" + " " * (_NAMES + 2)) + "\n")
    return "".join(lines)


def as_json(url: str, results: Sequence[Result]) -> str:
    """Return all results as one JSON object."""
    rows = [
        {
            "name": result.case.name,
            "group": result.case.group,
            "verdict": result.verdict.value,
            "seen": result.seen,
            "expected": result.case.expects,
            "source": result.case.source,
            "means": result.means,
            "seconds": round(result.seconds, 3),
        }
        for result in results
    ]
    return json.dumps({"url": url, "results": rows}, ensure_ascii=False, indent=1) + "\n"
