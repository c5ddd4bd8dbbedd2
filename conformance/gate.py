"""Compare the report of a wstest run with the expected cases and verdicts.

Lives here: the list of cases, the required verdict of each, and the messages about faults. Must not live here:
processes, sockets, printing, any file but the index of the report.

wstest always exits with 0, and its index has only the cases that ran. So the gate compares the exact set of cases and
accepts exactly one verdict for each.

Sequence: ``quick(parse_cases(text))`` or ``select(...)`` gives the expected cases, ``read_index(path)`` the report, and
``check(index, expected)`` a `Result` with ``passed``, ``summary()`` and ``faults()``.
"""

import fnmatch
import json
import textwrap
from dataclasses import dataclass
from pathlib import Path

#: Cases left open by RFC 6455: the suite always gives INFORMATIONAL for both verdicts.
INFORMATIONAL_CASES = frozenset({"7.1.6", "7.13.1", "7.13.2"})

#: Sections on permessage-deflate: most of the time of a run; not in a quick one.
COMPRESSION_SECTIONS = ("12", "13")

OK = "OK"
INFORMATIONAL = "INFORMATIONAL"

#: The index of a report: server name → case id → entry.
Index = dict[str, dict[str, dict[str, object]]]

#: Columns at which a list of cases is wrapped.
WIDTH = 110


@dataclass(frozen=True)
class Verdict:
    """The verdicts on one case.

    Attributes:
        case: the id, such as ``7.1.6``.
        behavior: verdict on the frames.
        behavior_close: verdict on the close.
        report_file: file name of the case's report, in the folder of the index.
    """

    case: str
    behavior: str
    behavior_close: str
    report_file: str

    @property
    def right(self) -> bool:
        """Whether both verdicts are the required ones."""
        wanted = INFORMATIONAL if self.case in INFORMATIONAL_CASES else OK
        return self.behavior == self.behavior_close == wanted


@dataclass(frozen=True)
class Result:
    """The outcome of the gate.

    Attributes:
        expected: number of expected cases.
        right: required verdicts, in the order of the cases.
        wrong: other verdicts, in the order of the cases.
        missing: expected cases without a report.
        extra: unexpected cases in the report.
    """

    expected: int
    right: tuple[Verdict, ...]
    wrong: tuple[Verdict, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the report has exactly the expected cases, at least one, each with its required verdict."""
        return 0 < self.expected == len(self.right) and not (self.wrong or self.missing or self.extra)

    def summary(self) -> str:
        """Return the counts in one line, such as ``514 OK, 3 INFORMATIONAL of 517``."""
        informational = sum(verdict.behavior == INFORMATIONAL for verdict in self.right)
        counts = [(len(self.right) - informational, OK), (informational, INFORMATIONAL)]
        faults = [(len(self.wrong), "wrong"), (len(self.missing), "missing"), (len(self.extra), "extra")]
        parts = counts + [part for part in faults if part[0]]
        return ", ".join(f"{count} {word}" for count, word in parts) + f" of {self.expected}"

    def faults(self, folder: Path) -> list[str]:
        """List all wrong, missing and extra cases.

        Args:
            folder: of the report; prefix of the file names.

        Returns:
            Lines to print: one per wrong case, and wrapped lists of the others. Empty on a pass.
        """
        lines = [
            f"wrong {verdict.case}: behavior {verdict.behavior}, behaviorClose {verdict.behavior_close}, "
            f"see {folder / verdict.report_file}"
            for verdict in self.wrong
        ]
        return lines + _listed("missing", self.missing) + _listed("extra", self.extra)


def _listed(word: str, cases: tuple[str, ...]) -> list[str]:
    """Return a label and the cases, wrapped; empty without cases."""
    text = f"{word}: {' '.join(cases)}"
    return textwrap.wrap(text, WIDTH, subsequent_indent="    ") if cases else []


def parse_cases(text: str) -> list[str]:
    """Parse a list of cases: one id a line; empty lines and ``#`` comments are skipped."""
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def quick(cases: list[str]) -> list[str]:
    """Return the cases without the sections on compression."""
    return [case for case in cases if case.split(".")[0] not in COMPRESSION_SECTIONS]


def select(cases: list[str], pattern: str) -> list[str]:
    """Return the cases whose whole id matches a shell pattern: ``7.*`` is section 7, ``7.1.6`` one case."""
    return [case for case in cases if fnmatch.fnmatchcase(case, pattern)]


def read_index(path: Path) -> Index:
    """Read the index of a report: server name → case id → entry.

    Returns:
        An empty dictionary without such a file.

    Raises:
        ValueError: the file is not JSON, for example because wstest was stopped while writing.
    """
    if not path.exists():
        return {}
    index: Index = json.loads(path.read_text(encoding="utf-8"))
    return index


def verdicts(index: Index) -> dict[str, Verdict]:
    """Return the verdicts of an index by case id.

    Raises:
        ValueError: the index has more than one server.
    """
    if len(index) > 1:
        raise ValueError(f"the report is about {len(index)} servers, not one: {', '.join(sorted(index))}")
    return {case: _verdict(case, entry) for cases in index.values() for case, entry in cases.items()}


def _verdict(case: str, entry: dict[str, object]) -> Verdict:
    """Convert an entry; missing values become ``absent``, which is never right."""
    words = [str(entry.get(key, "absent")) for key in ("behavior", "behaviorClose", "reportfile")]
    return Verdict(case, *words)


def check(index: Index, expected: list[str]) -> Result:
    """Compare a report with the expected cases.

    Raises:
        ValueError: the index has more than one server.
    """
    found = verdicts(index)
    present = [found[case] for case in expected if case in found]
    return Result(
        expected=len(expected),
        right=tuple(verdict for verdict in present if verdict.right),
        wrong=tuple(verdict for verdict in present if not verdict.right),
        missing=tuple(case for case in expected if case not in found),
        extra=tuple(sorted(set(found) - set(expected))),
    )
